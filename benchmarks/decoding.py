"""Tokens a second of greedy decoding: with the key-value cache, without it, and by transformers' generate.

    python -m benchmarks.decoding                    float32, CPU, beside torch where it is installed

All sides have the same weights and prompts of one length, take turns in one process, and must give the same tokens.
Bars: the cache is 8 times as fast as computing everything again for each token, and 0.8 times as fast as transformers.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks import facts
from benchmarks.train_step import SIZES, write_weights
from mucpt_jax import config
from mucpt_jax.errors import UserError

TOY = {"6m": (8_000, 256, 1024, 6, 4, 2, 64)}  # fields as in SIZES
CACHE_BAR, PEER_BAR = 8.0, 0.8  # times as fast
PROMPT = 128  # tokens
FIELDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
          "head_dim")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="6m,40m", help=f"comma-separated, of {','.join(TOY | SIZES)}")
    parser.add_argument("--rows", type=int, default=8, help="prompts that are decoded together")
    parser.add_argument("--new", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", default="decoding", help="name of the file in benchmarks/results")
    args = parser.parse_args()
    facts.use("cpu")
    rows = []
    for name in args.models.split(","):
        rows.append(compare(name, args))
        print(facts.table(rows[-1:])[-1], flush=True)
    facts.write(
        args.output,
        f"Greedy decoding, float32, {args.rows} prompts of {PROMPT} tokens, {args.new} new ones each: with the cache, "
        f"without it, and transformers on PyTorch; bars: {CACHE_BAR:g} and {PEER_BAR:g} times as fast",
        rows,
    )  # fmt: skip


def compare(name: str, args) -> dict:
    import jax

    from mucpt_jax.evaluation import generate
    from mucpt_jax.step import sharding

    vocab, *sizes = (TOY | SIZES)[name]
    model = config.Model(name, vocab, **dict(zip(FIELDS, sizes, strict=True)), rope_theta=1e6)
    cfg = config.Config(model=model, train=config.Train(compute_dtype="float32", remat="none"))
    prompts = np.random.default_rng(0).integers(0, vocab, (args.rows, PROMPT)).tolist()
    mesh = sharding.make_mesh(cfg, jax.devices()[:1])
    outputs: dict[str, list] = {}
    with tempfile.TemporaryDirectory() as folder:
        params = jax.device_put(write_weights(cfg, f"{folder}/model"), sharding.replicated(mesh))
        theirs = torch_side(f"{folder}/model", prompts, args.new)
    sides: dict[str, Callable[[], list]] = {
        "cached": lambda: generate.greedy(params, prompts, cfg, mesh, new=args.new, ends=(-1,)),
        "recomputed": functools.partial(recomputed, params, np.array(prompts), cfg, args.new),
        **theirs,
    }
    contestants = {side: functools.partial(timed, run, outputs, side) for side, run in sides.items()}
    seconds = {side: facts.median(values) for side, values in facts.alternate(contestants, args.rounds).items()}
    if any(output != outputs["cached"] for output in outputs.values()):
        raise UserError(f"the sides do not give the same tokens for {name}: they do not do the same work")
    tokens = args.rows * args.new
    row = {"model": name, "parameters_millions": sum(p.size for p in jax.tree.leaves(params)) / 1e6}
    row |= {f"{side}_tokens/s": tokens / s for side, s in seconds.items()}
    row |= {f"cached/{side}": s / seconds["cached"] for side, s in seconds.items() if side != "cached"}
    holds = row["cached/recomputed"] >= CACHE_BAR and row.get("cached/transformers", PEER_BAR) >= PEER_BAR
    return row | {"same_tokens": True, "bar_holds": holds}


def timed(run: Callable[[], list], outputs: dict, side: str) -> float:
    started = time.monotonic()
    outputs[side] = run()
    return time.monotonic() - started


def recomputed(params: dict, prompts_BP: np.ndarray, cfg: config.Config, new: int) -> list:
    """Every token by a pass over all before it; one program for all lengths."""
    rows, length = prompts_BP.shape
    tokens_BT = np.zeros((rows, length + new), np.int32)
    tokens_BT[:, :length] = prompts_BP
    step = next_token(cfg)
    for at in range(length, length + new):
        tokens_BT[:, at] = np.asarray(step(params, tokens_BT, at - 1))
    return tokens_BT[:, length:].tolist()


@functools.cache
def next_token(cfg: config.Config) -> Callable:
    import jax
    import jax.numpy as jnp

    from mucpt_jax.step import model

    @jax.jit
    def step(params, tokens_BT, last):
        hidden_BTD = model.hidden(params, tokens_BT, jnp.ones_like(tokens_BT), cfg.model, cfg.train)
        hidden_BD = jax.lax.dynamic_index_in_dim(hidden_BTD, last, 1, keepdims=False)
        return (hidden_BD @ model.unembed(params)).argmax(-1)

    return step


def torch_side(folder: str, prompts: list, new: int) -> dict[str, Callable[[], list]]:
    """{"transformers": a call of generate}, or nothing where torch is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(facts.cores())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None  # all tokens, as on the other sides
    inputs = torch.tensor(prompts)

    @torch.no_grad()
    def run() -> list:
        mask = torch.ones_like(inputs)
        out = model.generate(inputs, attention_mask=mask, do_sample=False, max_new_tokens=new, pad_token_id=0)
        return out[:, inputs.shape[1] :].tolist()

    return {"transformers": run}


if __name__ == "__main__":
    main()
