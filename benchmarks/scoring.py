"""The score job against a training step of the same model on the same rows: tokens/s.

    python -m benchmarks.scoring [--device=gpu]

Scoring is the forward pass alone, a third of a step's work, with the head in float32; what is timed is the job's own
loop from rows to rows with scores, the host's part included.  The step is ntp with the same precision.
"""

import argparse
import functools
import time
from collections.abc import Callable

from benchmarks import facts
from benchmarks.train_step import SIZES, first_state, make_config, our_step, random_batch, timed
from mucpt_jax import config

BAR = 2.7  # times the tokens/s of the train step; 3 is the limit
BATCHES = 2  # of one measured scoring call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--models", help=f"comma-separated; cpu: {','.join(SIZES)}; gpu: qwen2.5-0.5b, ...")
    parser.add_argument("--tokens", type=int, help="T of a row; default 512, on the GPU 4096")
    parser.add_argument("--rows", type=int, default=4, help="rows of a step and of a forward pass")
    parser.add_argument("--rounds", type=int, default=5, help="measured turns of each side")
    parser.add_argument("--output", help="name of the file in benchmarks/results; default scoring[_gpu]")
    args = parser.parse_args()
    facts.use(args.device)
    names = args.models or {"cpu": "40m,true-vocab", "gpu": "qwen2.5-0.5b,qwen2.5-1.5b"}[args.device]
    rows = [compare(name, args) for name in names.split(",")]
    facts.write(
        args.output or f"scoring{'_gpu' if args.device == 'gpu' else ''}",
        f"Tokens/s of the score job's loop and of an ntp step, {args.rows} packed rows; bar: {BAR} times the step",
        rows,
    )


def compare(name: str, args) -> dict:
    cpu = args.device == "cpu"
    model = of_size(name) if cpu else config.MODELS[name]
    dtype, remat, tokens = ("float32", "none", 512) if cpu else ("bfloat16", "full", 4096)
    cfg = make_config(model, "ntp", args.rows, args.tokens or tokens, dtype, remat, "auto")
    batch, state = random_batch(cfg, segments=4), first_state(cfg, None)
    contestants = {
        "train": functools.partial(timed, our_step(cfg, batch, state), []),
        "score": scoring(cfg, batch, state),
    }
    seconds = {side: facts.median(values) for side, values in facts.alternate(contestants, args.rounds).items()}
    per_call = args.rows * cfg.data.sequence_length
    speed = {"train": per_call / seconds["train"], "score": BATCHES * per_call / seconds["score"]}
    row = {
        "model": name,
        "train_tokens/s": speed["train"],
        "score_tokens/s": speed["score"],
        "score/train": speed["score"] / speed["train"],
        "bar_holds": speed["score"] / speed["train"] >= BAR,
    }
    print(facts.table([row])[-1], flush=True)
    return row


def of_size(name: str) -> config.Model:
    vocab, hidden, mlp, layers, heads, kv, head_dim = SIZES[name]
    return config.Model(name, vocab, hidden, mlp, layers, heads, kv, head_dim, rope_theta=1e6)


def scoring(cfg: config.Config, batch: dict, state: list) -> Callable[[], float]:
    """Seconds of the score job's loop over BATCHES batches, with the parameters that the training side holds."""
    import jax

    from mucpt_jax import score
    from mucpt_jax.step import sharding

    mesh = sharding.make_mesh(cfg)
    step = jax.jit(functools.partial(score.score_step, cfg=cfg), out_shardings=sharding.replicated(mesh))
    rows = [{name: batch[name][i] for name in ("tokens", "segment_ids")} for i in range(cfg.data.batch_rows)]

    def take() -> float:
        start = time.perf_counter()
        with jax.set_mesh(mesh):
            scored = score.scored_rows(iter(rows * BATCHES), step, state[0].params, mesh, len(rows))
            assert sum(1 for _ in scored) == BATCHES * len(rows)
        return time.perf_counter() - start

    return take


if __name__ == "__main__":
    main()
