"""AdamW with clipping, cosine to a floor, warm-up by a share of the steps."""

import jax
import optax

from mucpt_jax.config import Optimizer
from mucpt_jax.sharding import path_name


def schedule(cfg: Optimizer) -> optax.Schedule:
    """Learning rate of update 0, 1, ...: linear from 0 to peak_lr, then cosine to final_lr at the last one."""
    warmup = round(cfg.warmup_fraction * cfg.steps)
    curve = optax.warmup_cosine_decay_schedule(
        0.0, cfg.peak_lr, warmup, max(cfg.steps, warmup + 1), cfg.final_lr
    )
    return lambda update: curve(update + 1)  # update 0 would have lr 0 and be lost


def decays(params: dict) -> dict:
    """True for matrices: norms and biases are not pulled to zero."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path_name(path).endswith(("kernel", "embedding")), params
    )


def make(cfg: Optimizer) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(cfg.clip_norm),
        optax.adamw(schedule(cfg), cfg.b1, cfg.b2, cfg.eps, weight_decay=cfg.weight_decay, mask=decays),
    )
