"""The reference model inside a training run: for small runs that need no scored rows (loss.reference)."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from mucpt_jax.config import Config, Model
from mucpt_jax.errors import UserError
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.run import checkpoint, data, lineage, tokenizers
from mucpt_jax.step import losses, sharding
from mucpt_jax.weights import hf


def scorer(cfg: Config, mesh: jax.sharding.Mesh) -> tuple[str, Callable[[dict], dict]]:
    """Hash of the model in loss.reference, and batch -> the batch with rm_nll, float32 [B, T+1], by this model.

    Head and softmax are in float32.
    """
    folder, rows = cfg.loss.reference, data.folders(cfg)
    of_model, manifests = model_of(folder), [read_manifest(f) for f in rows]
    for manifest, source in zip(manifests, rows, strict=True):
        tokenizers.check(source, lineage.folders_behind(folder))
        if manifest["vocab_size"] > of_model.vocab_size:
            raise UserError(
                f"loss.reference={folder} has vocab_size={of_model.vocab_size}, {source} was written with "
                f"{manifest['vocab_size']} token ids; a reference model must know the same tokens"
            )
    rm = dataclasses.replace(cfg, model=of_model, init_from=folder)
    params = lineage.initial_params(rm, mesh)
    name = checkpoint.params_hash(params)
    if cfg.loss.rm_hash not in (None, name):
        raise UserError(f"loss.reference={folder} is {name}, the config names loss.rm_hash={cfg.loss.rm_hash}")

    def score(params: dict, batch: dict) -> jax.Array:
        def nll(part: dict) -> jax.Array:
            return jnp.maximum(losses.batch_nll(params, part, rm, head_dtype="float32"), 0.0)

        # In micro-batches as the step is run, for the same memory.
        parts = jax.tree.map(functools.partial(sharding.split_rows, parts=cfg.train.micro_batches), batch)
        nll_BT = sharding.join_rows(jax.lax.map(nll, parts))
        known_BT = jnp.where(losses.target_mask(batch), nll_BT, jnp.nan)
        return jnp.pad(known_BT, ((0, 0), (1, 0)), constant_values=jnp.nan)

    step = jax.jit(score, out_shardings=sharding.batch_sharding(mesh))
    return name, lambda batch: batch | {"rm_nll": step(params, {k: batch[k] for k in ("tokens", "segment_ids")})}


def model_of(folder: str) -> Model:
    """Sizes of the model in a run's workdir or in a Hugging Face folder."""
    run = lineage.saved_config(folder) if checkpoint.has_checkpoint(Path(folder)) else None
    return run.model if run else hf.read_config(folder)
