"""What a run tells: metrics.jsonl, TensorBoard events, the progress line, model FLOPs and MFU."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from tensorboardX import SummaryWriter

from mucpt_jax.config import Model

# Dense bfloat16 FLOP/s of one device, from the makers' data sheets; matched in jax's device_kind.
PEAK_FLOPS = {
    "H20": 148e12,  # before H200, which holds the same letters
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "v5 lite": 197e12,
    "v5p": 459e12,
    "v6 lite": 918e12,
}


def peak_flops(device_kind: str) -> float | None:
    """FLOP/s of one device, None where it is not known (CPUs: MFU is then not shown)."""
    words = device_kind.replace("-", " ").split()
    for name, peak in PEAK_FLOPS.items():
        if name in words or (" " in name and name in device_kind):
            return peak
    return None


def matmul_parameters(cfg: Model) -> int:
    """Weights that multiply every token: all matrices but the embedding, the head included."""
    q, kv = cfg.num_attention_heads * cfg.head_dim, cfg.num_key_value_heads * cfg.head_dim
    attention = cfg.hidden_size * (2 * q + 2 * kv)
    mlp = 3 * cfg.hidden_size * cfg.intermediate_size
    return cfg.num_hidden_layers * (attention + mlp) + cfg.hidden_size * cfg.vocab_size


def flops_per_token(cfg: Model, sequence_length: int) -> float:
    """Model FLOPs of forward and backward per token, causal attention; recomputation does not count."""
    q = cfg.num_attention_heads * cfg.head_dim
    # q.k and p.v: 2 * 2 * q * T forward, three times that with backward, half of it under the causal mask.
    attention = 6 * cfg.num_hidden_layers * q * sequence_length
    return 6 * matmul_parameters(cfg) + attention


def mfu(cfg: Model, sequence_length: int, tokens_per_second: float) -> float | None:
    """Model FLOP/s over the peak of all devices."""
    peak = peak_flops(jax.devices()[0].device_kind)
    if peak is None:
        return None
    return tokens_per_second * flops_per_token(cfg, sequence_length) / (peak * jax.device_count())


@contextlib.contextmanager
def log(workdir: Path, after_step: int) -> Iterator[Callable[[dict], None]]:
    """Gives write(values): one line of metrics.jsonl and TensorBoard scalars.  Only host 0 writes.

    Lines after `after_step` belong to a run that was cut off and will be written again, so they go.
    """
    if jax.process_index() > 0:
        yield lambda values: None
        return
    path = workdir / "metrics.jsonl"
    keep_until(path, after_step)
    board = SummaryWriter(str(workdir / "tensorboard"), purge_step=after_step + 1)
    with open(path, "a", encoding="utf-8") as file:

        def write(values: dict) -> None:
            file.write(json.dumps(values) + "\n")
            file.flush()
            for name, value in flat(values):
                board.add_scalar(name, value, values["step"])

        try:
            yield write
        finally:
            with contextlib.suppress(OSError):  # on a full disk it would hide the error that matters
                board.close()


def keep_until(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a line cut off by a kill
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    beside = path.with_suffix(".writing")
    beside.write_text("".join(kept), encoding="utf-8")
    os.replace(beside, path)


def flat(values: dict, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield prefix + name, value


def progress(values: dict, steps: int) -> str:
    """One line for people: loss, per source weighted and plain, speed, MFU, time left."""
    sources = "  ".join(
        f"{name} {s['nll']:.3f} (weighted {s['weighted_nll']:.3f})" for name, s in values["sources"].items()
    )
    share = "MFU n/a" if values["mfu"] is None else f"MFU {values['mfu']:.1%}"
    minutes, seconds = divmod(round(values["eta_seconds"] or 0), 60)
    return (
        f"step {values['step']}/{steps}  loss {values['loss']:.4f} | {sources} | "
        f"{values['tokens_per_second']:,.0f} tok/s  {share}  ETA {minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    )
