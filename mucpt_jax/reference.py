"""The reference model inside a training run: for small runs that need no scored rows (loss.reference)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from mucpt_jax import checkpoint, convert, losses, records, sharding
from mucpt_jax.config import Config, Model
from mucpt_jax.records import UserError


def scorer(cfg: Config, mesh: jax.sharding.Mesh) -> Callable[[dict], dict]:
    """batch -> the batch with rm_nll, float32 [B, T+1], by the model in loss.reference; head and softmax in float32."""
    of_model = model_of(cfg.loss.reference)
    if of_model.vocab_size < cfg.model.vocab_size:
        raise UserError(
            f"loss.reference={cfg.loss.reference} has vocab_size={of_model.vocab_size}, {cfg.model.name} has "
            f"{cfg.model.vocab_size}; a reference model must know the same tokens"
        )
    rm = dataclasses.replace(cfg, model=of_model, init_from=cfg.loss.reference)
    params = checkpoint.initial_params(rm, mesh)

    def score(params: dict, batch: dict) -> jax.Array:
        nll_BT = jnp.maximum(losses.batch_nll(params, batch, rm, head_dtype="float32"), 0.0)
        return jnp.pad(
            jnp.where(losses.target_mask(batch), nll_BT, jnp.nan), ((0, 0), (1, 0)), constant_values=jnp.nan
        )

    step = jax.jit(score, out_shardings=sharding.batch_sharding(mesh))
    return lambda batch: batch | {"rm_nll": step(params, {k: batch[k] for k in ("tokens", "segment_ids")})}


def model_of(folder: str) -> Model:
    """Sizes of the model in a run's workdir or in a Hugging Face folder."""
    if checkpoint.has_checkpoint(Path(folder)):
        return Model(**records.read_json(Path(folder) / "config.json")["model"])
    return convert.read_config(folder)
