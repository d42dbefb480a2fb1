"""Seconds of one optimiser step: ours against Hugging Face transformers on PyTorch (CPU), or alone (GPU).

    python -m benchmarks.train_step                  float32 on all cores, beside torch where it is installed
    python -m benchmarks.train_step --device=gpu     Qwen2.5-0.5B, 1.5B, 3B: tokens/s, MFU, cost of the weights

On the CPU both sides start from the same weights, written by our own Hugging Face export, see the same batch and
take their steps in turn in one process.  Rows hold one document each, because transformers has no packed rows;
"packed" is our step with the mucpt loss on packed rows of the same size.
"""

import argparse
import dataclasses
import functools
import gc
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks import facts
from mucpt_jax import config
from mucpt_jax.errors import UserError

# hidden, MLP, layers, query heads, kv heads, head_dim; tied, as all Qwen2.5 below 7B.
# fmt: off
SIZES = {  # vocab        D    F      layers heads kv head_dim
    "40m":        (32_000,  512, 2048,  8,  8, 2, 64),
    "100m":       (32_000,  768, 3072, 12, 12, 2, 64),
    "true-vocab": (151_936, 256, 1024,  4,  4, 2, 64),  # nearly all of the work is the head, as in no larger Qwen
}
# fmt: on
GPU_MODELS = ("qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b")
BAR = 1.2  # times as fast as PyTorch, CPU
WEIGHTS_BAR = 0.01  # of the step time, for reference-normalised weights against none
MFU_BAR = 0.4  # causal, on one H100 or H200; the target is 0.5
LR = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--models", help=f"comma-separated; cpu: {','.join(SIZES)}; gpu: {','.join(GPU_MODELS)}")
    parser.add_argument("--tokens", type=int, help="T of a row; default 512, on the GPU 4096")
    parser.add_argument("--rows", type=int, default=4, help="B of a step")
    parser.add_argument("--rounds", type=int, default=5, help="measured steps of each side")
    parser.add_argument("--remat", help="default: none on the CPU, full on the GPU")
    parser.add_argument("--attention", default="auto", help="comma-separated backends (GPU)")
    parser.add_argument("--peer", choices=("best", "eager", "compile", "none"), default="best",
                        help="best: whichever of torch eager and torch.compile is faster here")  # fmt: skip
    parser.add_argument("--output", help="name of the file in benchmarks/results; default train_step[_gpu]")
    args = parser.parse_args()
    facts.use(args.device)
    if args.device == "gpu":
        measure_gpu(args)
    else:
        measure_cpu(args)


def measure_cpu(args) -> None:
    rows = []
    for name in (args.models or ",".join(SIZES)).split(","):
        rows.append(compare(name, args))
        print(facts.table(rows[-1:])[-1], flush=True)
        gc.collect()
    facts.write(
        args.output or "train_step",
        f"Seconds of one AdamW step, float32, {args.rows} rows of {args.tokens or 512} tokens, {args.rounds} "
        f"turns of two steps, the second counted: mucpt_jax against transformers on PyTorch; bar: {BAR} times as fast",
        rows,
    )  # fmt: skip


def compare(name: str, args) -> dict:
    """One size: medians of both sides, their ratio, and how far their losses are apart."""
    import jax  # here: --help needs no jax

    vocab, *sizes = SIZES[name]
    sizes = dict(zip(
        ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "head_dim"), sizes, strict=True))  # fmt: skip
    model = config.Model(name, vocab, **sizes, rope_theta=1e6)
    cfg = make_config(model, "ntp", args.rows, args.tokens or 512, "float32", args.remat or "none", "auto")
    packed = dataclasses.replace(cfg, loss=dataclasses.replace(cfg.loss, kind="mucpt", mean_raw_weight=0.5))
    whole_rows, packed_rows = random_batch(cfg, segments=1), random_batch(cfg, segments=4)
    with tempfile.TemporaryDirectory() as folder:
        params = write_weights(cfg, f"{folder}/model")
        peer, steps = torch_side(f"{folder}/model", whole_rows, args) if args.peer != "none" else ("none", {})
    losses = {"ours": [], "torch": []}
    contestants = {side: functools.partial(timed, step, losses[side]) for side, step in steps.items()}
    contestants |= {
        "ours": functools.partial(timed, our_step(cfg, whole_rows, first_state(cfg, params)), losses["ours"]),
        "packed": functools.partial(timed, our_step(packed, packed_rows, first_state(cfg, params)), []),
    }
    seconds = facts.alternate(contestants, args.rounds)
    row = {
        "model": name,
        "parameters_millions": sum(p.size for p in jax.tree.leaves(params)) / 1e6,
        "vocabulary": vocab,
        "ours_s": facts.median(seconds["ours"]),
        "packed_mucpt_s": facts.median(seconds["packed"]),
        "tokens/s": args.rows * cfg.data.sequence_length / facts.median(seconds["ours"]),
    }
    if steps:
        row |= against(seconds, losses) | {"peer": peer}
    return row


def against(seconds: dict, losses: dict) -> dict:
    apart = max(abs(a - b) for a, b in zip(losses["ours"], losses["torch"], strict=True))
    if apart > 1e-4:
        raise UserError(f"the losses of the two sides are {apart:.1e} nats apart: they do not do the same work")
    ratio = facts.median(seconds["torch"]) / facts.median(seconds["ours"])
    return {
        "torch_s": facts.median(seconds["torch"]),
        "torch/ours": ratio,
        "torch/ours_of_minima": min(seconds["torch"]) / min(seconds["ours"]),
        "losses_apart_nats": apart,
        "bar_holds": ratio >= BAR,
    }


def measure_gpu(args) -> None:
    """Our step alone, bfloat16, packed rows: ntp and mucpt in turn on one state."""
    tokens, rows = args.tokens or 4096, []
    for name in (args.models or ",".join(GPU_MODELS)).split(","):
        for attention in args.attention.split(","):
            rows.append(cost_of_weights(name, attention, tokens, args))
            print(facts.table(rows[-1:])[-1], flush=True)
            gc.collect()
    facts.write(
        args.output or "train_step_gpu",
        f"One AdamW step on one device, bfloat16, {args.rows} packed rows of {tokens} tokens, {args.rounds} "
        f"alternating steps of mucpt and ntp; MFU: causal model FLOPs over the peak; bars: MFU of {MFU_BAR:.0%}, "
        f"weights cost less than {WEIGHTS_BAR:.0%}",
        rows,
    )  # fmt: skip


def cost_of_weights(name: str, attention: str, tokens: int, args) -> dict:
    import jax

    from mucpt_jax.run import metrics
    from mucpt_jax.step.attention import of_device

    ntp = make_config(config.MODELS[name], "ntp", args.rows, tokens, "bfloat16", args.remat or "full", attention)
    ntp = dataclasses.replace(ntp, train=dataclasses.replace(ntp.train, attention=of_device(ntp)))
    mucpt = dataclasses.replace(ntp, loss=dataclasses.replace(ntp.loss, kind="mucpt", mean_raw_weight=0.5))
    batch, state = random_batch(ntp, segments=8), first_state(ntp, None)
    contestants = {
        kind: functools.partial(timed, our_step(cfg, batch, state), [])
        for kind, cfg in (("ntp", ntp), ("mucpt", mucpt))
    }
    seconds = facts.alternate(contestants, args.rounds)
    medians = {kind: facts.median(values) for kind, values in seconds.items()}
    peak = metrics.peak_flops(jax.devices()[0].device_kind)
    speed, cost = args.rows * tokens / medians["mucpt"], medians["mucpt"] / medians["ntp"] - 1
    mfu = speed * metrics.flops_per_token(ntp.model, tokens) / (peak * jax.device_count()) if peak else None
    return {
        "model": name,
        "attention": ntp.train.attention,
        "remat": ntp.train.remat,
        "mucpt_s": medians["mucpt"],
        "ntp_s": medians["ntp"],
        "tokens/s": speed / jax.device_count(),
        "MFU": mfu,
        "cost_of_weights": cost,
        "bar_holds": cost < WEIGHTS_BAR and mfu is not None and mfu >= MFU_BAR,
    }


def make_config(model: config.Model, kind: str, rows: int, tokens: int, dtype: str, remat: str,
                attention: str) -> config.Config:  # fmt: skip
    return config.Config(
        model=model,
        loss=config.Loss(kind=kind),
        data=config.Data(sequence_length=tokens, batch_rows=rows),
        # A constant rate from the first update on: what torch is given too.
        optimizer=config.Optimizer(steps=1000, peak_lr=LR, final_lr=LR, warmup_fraction=0.0),
        train=config.Train(compute_dtype=dtype, remat=remat, attention=attention),
    )


def random_batch(cfg: config.Config, segments: int) -> dict[str, np.ndarray]:
    """Full rows of equally long segments, domain text, with scores; one source."""
    rng = np.random.default_rng(0)
    rows, slots = cfg.data.batch_rows, cfg.data.sequence_length + 1
    segment_ids = np.arange(slots) * segments // slots + 1
    return {
        "tokens": rng.integers(0, cfg.model.vocab_size, (rows, slots), np.int32),
        "segment_ids": np.tile(segment_ids.astype(np.uint16), (rows, 1)),
        "rm_nll": rng.gamma(1.0, 3.0, (rows, slots)).astype(np.float16),
        "source": np.zeros(rows, np.int32),
        "is_domain": np.ones(rows, bool),
    }


def write_weights(cfg: config.Config, folder: str) -> dict:
    """Random parameters, biases too -> a Hugging Face folder; returns them as {path: array}."""
    import jax

    from mucpt_jax.step import model
    from mucpt_jax.weights import hf_write, transfer

    params = model.init(cfg.model, jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 100))
    params = jax.tree_util.tree_map_with_path(
        lambda path, p: jax.random.normal(next(keys), p.shape) * 0.02 if "bias" in str(path[-1]) else p, params
    )
    transfer.to_hf(params, cfg.model, hf_write.About(folder, "float32"))
    return params


def first_state(cfg: config.Config, params: dict | None) -> list:
    """[state] on the mesh, from the given parameters or at random; steps replace what the list holds."""
    import jax

    from mucpt_jax import train
    from mucpt_jax.run import checkpoint
    from mucpt_jax.step import model, optimizer, sharding

    mesh, tx = sharding.make_mesh(cfg), optimizer.make(cfg)
    placed = jax.tree.map(lambda leaf: leaf.sharding, train.abstract_state(cfg, tx, mesh))

    def make():
        start = model.init(cfg.model, jax.random.key(0)) if params is None else params
        return checkpoint.State(start, tx.init(start))

    with jax.set_mesh(mesh):
        return [jax.jit(make, out_shardings=placed)()]


def our_step(cfg: config.Config, batch: dict, state: list) -> Callable[[], float]:
    """Our compiled step on one batch -> a function that takes a step and returns its loss."""
    import jax

    from mucpt_jax import train
    from mucpt_jax.step import optimizer, sharding

    mesh = sharding.make_mesh(cfg)
    with jax.set_mesh(mesh):
        step = train.jitted_step(cfg, optimizer.make(cfg), mesh, 1)
        batch = sharding.to_global(batch, mesh, cfg.data.batch_rows)

    def take() -> float:
        with jax.set_mesh(mesh):
            state[0], values = step(state[0], batch)
            jax.block_until_ready(state[0])
            return float(values["loss"])

    return take


def timed(take: Callable[[], float], losses: list[float]) -> float:
    start = time.perf_counter()
    losses.append(take())
    return time.perf_counter() - start


def torch_side(folder: str, batch: dict, args) -> tuple[str, dict]:
    """(how it runs, {"torch": step}); nothing where torch is not installed."""
    try:
        import torch
    except ImportError:
        print("torch is not installed: our side alone")
        return "not installed", {}
    torch.set_num_threads(facts.cores())
    ways = ("eager", "compile") if args.peer == "best" else (args.peer,)
    sides, take = {}, None
    for way in ways if len(ways) > 1 else ():
        try:
            take = torch_step(folder, batch, way)
            take()  # compiles
            sides[way] = functools.partial(timed, take, [])
        except Exception as error:  # torch.compile needs a C++ compiler, and knows many ways to fail
            print(f"torch {way} does not run here: {str(error).splitlines()[0]}")
    trial = {way: facts.median(seconds) for way, seconds in facts.alternate(sides, 2).items()}
    print(f"torch trial, seconds of a step: {trial}")
    way = min(trial, key=trial.get) if trial else ways[0]
    del sides, take
    gc.collect()  # two models and their moments
    return f"torch {way}", {"torch": torch_step(folder, batch, way)}


def torch_step(folder: str, batch: dict, way: str) -> Callable[[], float]:
    import torch
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32).train()
    cfg = config.Optimizer()
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": cfg.weight_decay},
        {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    kinds = {"lr": LR, "betas": (cfg.b1, cfg.b2), "eps": cfg.eps}
    adam = torch.optim.AdamW(groups, fused=True, **kinds)
    tokens = torch.tensor(batch["tokens"], dtype=torch.long)
    inputs, targets = tokens[:, :-1], tokens[:, 1:].contiguous()
    forward = torch.compile(net) if way == "compile" else net

    def take() -> float:
        # shift_labels: the targets as they are, so that both sides make exactly T logits a row.
        loss = forward(input_ids=inputs, labels=targets, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), cfg.clip_norm)
        adam.step()
        adam.zero_grad()
        return loss.item()

    return take


if __name__ == "__main__":
    main()
