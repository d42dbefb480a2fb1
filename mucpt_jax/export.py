"""The export job: the newest checkpoint of a run -> a Hugging Face folder, which transformers and vLLM load."""

import logging
from pathlib import Path

import jax

from mucpt_jax import checkpoint, convert
from mucpt_jax.config import Config
from mucpt_jax.records import UserError


def export(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    if jax.process_count() > 1:
        raise UserError("export runs on one host; start it there with a mesh of that host's devices")
    tokenizer = convert.tokenizer_folder(cfg)
    path = cfg.export.path or str(workdir / "hf")
    params = checkpoint.load_params(cfg, mesh, workdir)
    convert.to_hf(params, cfg.model, path, tokenizer, cfg.export.dtype, cfg.export.max_shard_bytes)
    logging.info("wrote %s (%s, %s)", path, cfg.model.name, cfg.export.dtype)
