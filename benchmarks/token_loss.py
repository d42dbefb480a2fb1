"""losses.token_nll against the loss by all logits at once: memory and time of value and gradients.

    python -m benchmarks.token_loss [--device=gpu]

Qwen2.5's vocabulary (151,936) and the hidden sizes of 0.5B and 1.5B.  "temporaries" are the bytes that the compiled
program needs beside its arguments and results; the naive program is log_softmax of the whole logits.
"""

import argparse
import functools
import time
from collections.abc import Callable

from benchmarks import facts

VOCABULARY = 151_936
MEMORY_BAR, TIME_BARS = 1 / 3, {"cpu": 1.4, "gpu": 1.1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="gpu: bfloat16, 8192 tokens")
    parser.add_argument("--hidden", default="896,1536", help="D, comma-separated")
    parser.add_argument("--tokens", type=int, help="N; default 2048, on the GPU 8192, in rows of a quarter")
    parser.add_argument("--parts", default="4,8,16,32", help="loss.vocab_parts, comma-separated")
    parser.add_argument("--rounds", type=int, default=5, help="measured calls of each, in turn")
    parser.add_argument("--output", help="name of the file in benchmarks/results; default token_loss[_gpu]")
    args = parser.parse_args()
    tokens = args.tokens or {"cpu": 2048, "gpu": 8192}[args.device]
    facts.use(args.device)
    parts = [int(count) for count in args.parts.split(",")]
    rows = [row for d in args.hidden.split(",") for row in sweep(int(d), tokens, parts, args)]
    facts.write(
        args.output or f"token_loss{'_gpu' if args.device == 'gpu' else ''}",
        f"losses.token_nll, value and gradients, {tokens} tokens in 4 rows, vocabulary {VOCABULARY:,}, against all "
        f"logits at once; bars: at most a third of the temporaries, at most {TIME_BARS[args.device]} times the time",
        rows,
    )  # fmt: skip


def sweep(hidden: int, tokens: int, parts: list[int], args) -> list[dict]:
    """One hidden size: a row for every count, each against the naive loss of the same rounds."""
    import jax
    import jax.numpy as jnp

    dtype = jnp.bfloat16 if args.device == "gpu" else jnp.float32
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = (
        jax.random.normal(keys[0], (4, tokens // 4, hidden), dtype),
        jax.random.normal(keys[1], (VOCABULARY, hidden), dtype) * 0.02,
        jax.random.randint(keys[2], (4, tokens // 4), 0, VOCABULARY),
    )
    programs = {"naive": compiled(naive_nll, inputs)}
    programs |= {str(count): compiled(functools.partial(nll_by_parts, count=count), inputs) for count in parts}
    seconds = facts.alternate(
        {name: functools.partial(timed, program, inputs) for name, program in programs.items()}, args.rounds
    )
    memory = {name: program.memory_analysis().temp_size_in_bytes for name, program in programs.items()}
    rows = []
    for count in map(str, parts):
        share = memory[count] / memory["naive"]
        ratio = facts.median(seconds[count]) / facts.median(seconds["naive"])
        rows.append({
            "hidden": hidden,
            "vocab_parts": int(count),
            "ours_GiB": memory[count] / 2**30,
            "naive_GiB": memory["naive"] / 2**30,
            "GiB_ours/naive": share,
            "ours_s": facts.median(seconds[count]),
            "naive_s": facts.median(seconds["naive"]),
            "time_ours/naive": ratio,
            "time_ours/naive_of_minima": min(seconds[count]) / min(seconds["naive"]),
            "bars_hold": share <= MEMORY_BAR and ratio <= TIME_BARS[args.device],
        })  # fmt: skip
    return rows


def compiled(nll: Callable, inputs: tuple):
    """Value and gradients to hidden and embedding of the mean loss."""
    import jax

    mean = lambda hidden_BTD, embedding_VD, targets_BT: nll(hidden_BTD, embedding_VD, targets_BT).mean()  # noqa: E731
    return jax.jit(jax.value_and_grad(mean, argnums=(0, 1))).lower(*inputs).compile()


def nll_by_parts(hidden_BTD, embedding_VD, targets_BT, count: int):
    from mucpt_jax.step import losses

    return losses.token_nll(hidden_BTD, embedding_VD.T, targets_BT, count)  # tied, as model.unembed gives it


def naive_nll(hidden_BTD, embedding_VD, targets_BT):
    import jax
    import jax.numpy as jnp

    logits_BTV = jnp.einsum("BTD,VD->BTV", hidden_BTD, embedding_VD)  # products in the inputs' dtype, as ours
    log_p_BTV = jax.nn.log_softmax(logits_BTV.astype(jnp.float32))
    return -jnp.take_along_axis(log_p_BTV, targets_BT[..., None], -1)[..., 0]


def timed(program, inputs: tuple) -> float:
    import jax

    start = time.perf_counter()
    jax.block_until_ready(program(*inputs))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
