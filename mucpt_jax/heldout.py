"""Plain loss on held-out rows, per source: for the evaluate job, and for stopping a training run early."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from mucpt_jax import data, losses, records, sharding
from mucpt_jax.config import Config
from mucpt_jax.records import UserError


def evaluator(cfg: Config, mesh: jax.sharding.Mesh) -> Callable[[dict], dict[str, dict]]:
    """params -> {source: {"nll": mean -log p in nats, "tokens": targets}} over the rows of evaluate.rows."""
    if not cfg.evaluate.rows:
        raise UserError(
            "train.evaluate_every needs --config.evaluate.rows=FOLDER, rows that are not trained on; "
            "or train to the last step with --config.train.evaluate_every=None"
        )
    manifest = records.read_manifest(cfg.evaluate.rows)
    data.check_manifest(manifest, cfg.evaluate.rows, cfg)
    step = jax.jit(functools.partial(losses.batch_nll, cfg=cfg), out_shardings=sharding.replicated(mesh))

    def evaluate(params: dict) -> dict[str, dict]:
        sums = {}
        for shard in manifest["shards"]:
            total, tokens = sums.get(shard["source"], (0.0, 0))
            rows = records.read_shard(Path(cfg.evaluate.rows) / shard["name"], cfg.data.sequence_length)
            for batch, count in data.in_batches(rows, cfg.evaluate.batch_rows):
                inputs = {name: batch[name] for name in ("tokens", "segment_ids")}
                nll_BT = np.asarray(step(params, sharding.place(inputs, mesh)), np.float64)[:count]
                mask_BT = records.target_mask(batch["segment_ids"][:count])
                total, tokens = total + nll_BT[mask_BT].sum(), tokens + int(mask_BT.sum())
            sums[shard["source"]] = (total, tokens)
        return {name: {"nll": total / max(n, 1), "tokens": n} for name, (total, n) in sums.items()}

    return evaluate


def overall(by_source: dict[str, dict]) -> float:
    """Mean over all targets, nats."""
    tokens = sum(s["tokens"] for s in by_source.values())
    return sum(s["nll"] * s["tokens"] for s in by_source.values()) / max(tokens, 1)
