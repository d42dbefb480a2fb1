"""Plain loss on held-out rows, per source: for the evaluate job, and while training (early_stop.py)."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.formats.manifest import check_content, read_manifest
from mucpt_jax.formats.rows import Row, read_shard, target_mask
from mucpt_jax.formats.tokenizer import check_same_tokenizer
from mucpt_jax.run import data
from mucpt_jax.step import losses, sharding


def evaluator(cfg: Config, mesh: jax.sharding.Mesh) -> Callable[[dict], dict[str, dict]]:
    """params -> {source: {"nll": mean -log p in nats, "tokens": targets}} over the rows of evaluate.rows."""
    manifest = read_manifest(cfg.evaluate.rows)
    data.check_manifest(manifest, cfg.evaluate.rows, cfg)
    check_same_tokenizer(cfg.evaluate.rows, *data.folders(cfg))
    if not sum(shard["targets"] for shard in manifest["shards"]):
        raise UserError(f"evaluate.rows={cfg.evaluate.rows} holds no targets; name rows of held-out documents")
    check_content(cfg.evaluate.rows, manifest["shards"])
    step = jax.jit(functools.partial(losses.batch_nll, cfg=cfg), out_shardings=sharding.replicated(mesh))

    def rows_of(source: str) -> Iterator[Row]:
        for shard in manifest["shards"]:
            if shard["source"] == source:
                path, size = Path(cfg.evaluate.rows) / shard["name"], manifest["vocab_size"]
                yield from read_shard(path, cfg.data.sequence_length, vocab_size=size)

    def mean_nll(params: dict, source: str) -> dict:
        total, tokens = 0.0, 0
        for batch, count in data.in_batches(rows_of(source), cfg.evaluate.batch_rows, sharding.row_ways(mesh)):
            inputs = {name: batch[name] for name in ("tokens", "segment_ids")}
            nll_BT = np.asarray(step(params, sharding.place(inputs, mesh)), np.float64)[:count]
            mask_BT = target_mask(batch["segment_ids"][:count])
            total, tokens = total + nll_BT[mask_BT].sum(), tokens + int(mask_BT.sum())
        return {"nll": float(total) / max(tokens, 1), "tokens": tokens}

    sources = list(dict.fromkeys(shard["source"] for shard in manifest["shards"]))
    return lambda params: {source: mean_nll(params, source) for source in sources}


def overall(by_source: dict[str, dict]) -> float:
    """Mean over all targets, nats."""
    tokens = sum(s["tokens"] for s in by_source.values())
    return sum(s["nll"] * s["tokens"] for s in by_source.values()) / max(tokens, 1)
