"""AdamW with clipping, warm-up, then cosine down to a floor, which stays; steps that went wrong change nothing."""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from mucpt_jax.config import Config, Optimizer
from mucpt_jax.errors import UserError
from mucpt_jax.step.sharding import path_name

WINDOW = 32  # steps whose mean loss a spike is measured against


def schedule(cfg: Optimizer) -> optax.Schedule:
    """Learning rate of update 0, 1, ...: linear from 0 to peak_lr, cosine to final_lr, which stays to the end."""
    length = cfg.schedule_steps or cfg.steps
    warmup = round(cfg.warmup_fraction * length)
    curve = optax.warmup_cosine_decay_schedule(0.0, cfg.peak_lr, warmup, max(length, warmup + 1), cfg.final_lr)
    return lambda update: curve(update + 1)  # update 0 would have lr 0 and be lost


def decays(params: dict) -> dict:
    """True for matrices: norms and biases are not pulled to zero."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path_name(path).endswith(("kernel", "embedding")), params)


def trained(params: dict, pattern: str) -> dict:
    """True for parameters whose path, such as layers/mlp/up_proj/kernel, holds a match of the regex."""
    matches = jax.tree_util.tree_map_with_path(lambda path, _: bool(re.search(pattern, path_name(path))), params)
    if not any(jax.tree.leaves(matches)):
        paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise UserError(f"optimizer.trainable={pattern!r} matches no parameter; there are {', '.join(paths)}")
    return matches


def without_frozen(params: dict, pattern: str | None) -> dict:
    """The same parameters; no gradient is computed for those that are not trained."""
    if not pattern:
        return params
    return jax.tree.map(lambda p, train: p if train else lax.stop_gradient(p), params, trained(params, pattern))


def make(cfg: Config) -> optax.GradientTransformationExtraArgs:
    """update(grads, state, params, loss=loss) -> updates, state; where state.bad_steps > 0 the step was left out."""
    opt = cfg.optimizer
    adamw = optax.adamw(schedule(opt), opt.b1, opt.b2, opt.eps, weight_decay=opt.weight_decay, mask=decays)
    clipped = optax.chain(optax.clip_by_global_norm(opt.clip_norm), adamw)
    if opt.trainable:
        labels = functools.partial(trained, pattern=opt.trainable)
        clipped = optax.partition({True: clipped, False: optax.set_to_zero()}, labels)
    return leave_out_bad_steps(with_moments_in(opt.moments_dtype, clipped), cfg.train.spike)


def cast_moments(state, dtype: str):
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)


def with_moments_in(dtype: str, tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Keeps the moments in `dtype` between steps; the update itself is float32."""

    def update(grads, state, params=None):
        updates, state = tx.update(grads, cast_moments(state, "float32"), params)
        return updates, cast_moments(state, dtype)

    return optax.GradientTransformation(lambda params: cast_moments(tx.init(params), dtype), update)


class Guarded(NamedTuple):
    inner: tuple  # AdamW's own state
    bad_steps: Array  # int32: how many steps in a row were left out just now; 0 after a good step
    good_steps: Array  # int32
    mean_loss: Array  # float32, of about the last WINDOW good steps, nats


def leave_out_bad_steps(tx: optax.GradientTransformation, spike: float | None) -> optax.GradientTransformationExtraArgs:
    """No update, and no change of the moments, where loss or gradient is not finite or the loss jumps up.

    A spike lies more than `spike` nats above the mean loss of the last good steps, once there are WINDOW of them.  Mean
    and counts are in the state, so that a run that goes on from a checkpoint judges as if it had never been cut.
    """

    def init(params):
        return Guarded(tx.init(params), jnp.array(0, jnp.int32), jnp.array(0, jnp.int32), jnp.array(0.0))

    def update(grads, state, params=None, *, loss, **_):
        bad = ~(jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads)))
        if spike is not None:
            bad |= (loss > state.mean_loss + spike) & (state.good_steps >= WINDOW)
        updates, inner = tx.update(grads, state.inner, params)
        updates = jax.tree.map(lambda u: jnp.where(bad, 0, u), updates)
        # Step counts go on: the learning rate belongs to the step of the run.
        inner = jax.tree.map(
            lambda new, old: new if jnp.issubdtype(new.dtype, jnp.integer) else jnp.where(bad, old, new),
            inner,
            state.inner,
        )
        seen = state.good_steps + ~bad
        step = (loss - state.mean_loss) / jnp.clip(seen, 1, WINDOW)
        mean = jnp.where(bad, state.mean_loss, state.mean_loss + step)
        return updates, Guarded(inner, jnp.where(bad, state.bad_steps + 1, 0), seen, mean)

    return optax.GradientTransformationExtraArgs(init, update)
