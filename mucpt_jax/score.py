"""The score job: the reference model writes -log p_RM of every target token, shard by shard.

A shard under its final name is done: a job that was killed goes on with the next one.  Scores are kept, never
weights, so that floor, alpha and caps stay changeable when training.
"""

import functools
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from jax.experimental import multihost_utils

from mucpt_jax import checkpoint, data, losses, records, sharding
from mucpt_jax.config import Config
from mucpt_jax.records import UserError

# nats.  E[1 / max(r, floor)] is stored on this grid, r itself as a histogram over EDGES.
FLOORS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
EDGES = (
    0.0,
    0.001,
    0.003,
    0.01,
    0.03,
    0.1,
    0.3,
    1.0,
    2.0,
    3.0,
    5.0,
    7.0,
    10.0,
    15.0,
    20.0,
    65504.0,
)


def score(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    """Rows in score.input -> scored rows in score.output, with the model of workdir (or init_from)."""
    manifest, output = open_input(cfg), Path(cfg.score.output)
    params = checkpoint.load_params(cfg, mesh, workdir)
    output.mkdir(parents=True, exist_ok=True)
    about = {
        "rm_hash": checkpoint.params_hash(params),
        "input": input_hash(manifest),
        "compute_dtype": cfg.train.compute_dtype,
    }
    claim_folder(output, about)
    step = jax.jit(functools.partial(score_step, cfg=cfg), out_shardings=sharding.replicated(mesh))
    started, tokens = time.monotonic(), 0
    for number, shard in enumerate(manifest["shards"], 1):
        told = f"shard {number}/{len(manifest['shards'])} {shard['name']}"
        if is_done(output / shard["name"], shard["records"]):
            logging.info("%s: scored already", told)
            continue
        rows = records.read_shard(Path(cfg.score.input) / shard["name"], cfg.data.sequence_length)
        scored = scored_rows(rows, step, params, mesh, cfg.score.batch_rows)
        if jax.process_index() == 0:
            records.write_shard(output / shard["name"], scored)
        else:
            for _ in scored:  # all hosts compute, the first one writes
                pass
        tokens += shard["targets"]
        logging.info("%s: %s tok/s", told, f"{tokens / (time.monotonic() - started):,.0f}")
    if jax.process_index() == 0:
        finish(cfg, manifest, about, output)
    multihost_utils.sync_global_devices("score")


def open_input(cfg: Config) -> dict:
    """The manifest of the rows, after checking the job's folders."""
    source, output = cfg.score.input, cfg.score.output
    if not source or not output:
        raise UserError("the score job needs --config.score.input=ROWS and --config.score.output=FOLDER")
    if Path(source).resolve() == Path(output).resolve():
        raise UserError(
            f"score.output is score.input ({source}); name another folder, the rows stay as they are"
        )
    manifest = records.read_manifest(source)
    if not (Path(source) / "index.parquet").is_file():
        raise UserError(f"{source}/index.parquet is missing; copy it or write these rows again")
    data.check_manifest(manifest, source, cfg)
    return manifest


def score_step(params: dict, batch: dict, cfg: Config) -> jax.Array:
    """-log p_RM of every target [B, T], nats: head and softmax in float32, never below 0."""
    return jax.numpy.maximum(losses.batch_nll(params, batch, cfg, head_dtype="float32"), 0.0)


def scored_rows(rows: Iterator[dict], step, params: dict, mesh, batch_rows: int) -> Iterator[dict]:
    for batch, count in data.in_batches(rows, batch_rows):
        inputs = {name: batch[name] for name in ("tokens", "segment_ids")}
        nll_BT = np.asarray(step(params, sharding.place(inputs, mesh)))
        for i in range(count):
            row = {name: batch[name][i] for name in ("tokens", "segment_ids")}
            yield row | {"rm_nll": scores_of_row(nll_BT[i], row["segment_ids"])}


def scores_of_row(nll_T: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
    """f2[T+1], position t belonging to token t; NaN where there is no score (segment starts, padding)."""
    scores = np.full(len(segment_ids), np.nan, np.float16)
    mask_T = records.target_mask(segment_ids)
    scores[1:][mask_T] = nll_T[mask_T]
    return scores


def input_hash(manifest: dict) -> str:
    return records.text_hash(json.dumps([s["sha256"] for s in manifest["shards"]]))


def claim_folder(output: Path, about: dict) -> None:
    """Scores of two models, two corpora or two dtypes never meet in one folder."""
    path = output / "scoring.json"
    if path.is_file():
        found = records.read_json(path)
        for key, value in about.items():
            if found.get(key) != value:
                raise UserError(
                    f"{output} holds scores with {key}={found.get(key)}, this job has {value}; "
                    "choose another --config.score.output"
                )
    elif any(output.glob("*.array_record")):
        raise UserError(
            f"{output} holds shards that no score job wrote; choose another --config.score.output"
        )
    elif jax.process_index() == 0:
        records.write_json(path, about)


def is_done(path: Path, wanted: int) -> bool:
    """A shard gets its final name when it is whole; the count guards against another program's file."""
    if not path.is_file():
        return False
    try:
        reader = ArrayRecordReader(str(path))
        found = reader.num_records()
        reader.close()
    except RuntimeError:  # damaged since: written again
        return False
    return found == wanted


def finish(cfg: Config, manifest: dict, about: dict, output: Path) -> None:
    """Facts about all scored shards -> manifest.json; the index stays as it was."""
    length = cfg.data.sequence_length
    stats, shards = Stats(), []
    for shard in manifest["shards"]:
        path = output / shard["name"]
        for row in records.read_shard(path, length):
            stats.add(row["rm_nll"][1:][records.target_mask(row["segment_ids"])], str(path))
        shards.append(shard | {"bytes": path.stat().st_size, "sha256": records.file_hash(path)})
    scores = {
        "rm_hash": about["rm_hash"],
        "compute_dtype": cfg.train.compute_dtype,
        "head_dtype": "float32",
        "encoding": "float16",
        "tokens": stats.tokens,
        "mean_raw_weight": dict(zip(map(str, FLOORS), stats.mean_raw_weights(), strict=True)),
        "histogram": {"edges": list(EDGES), "counts": stats.counts.tolist()},
    }
    (output / "index.parquet").write_bytes((Path(cfg.score.input) / "index.parquet").read_bytes())
    records.write_json(output / "manifest.json", manifest | {"shards": shards, "scores": scores})
    logging.info(
        "%s: %s tokens scored by %s; mean of 1/max(r, 1 nat) is %.4f",
        output, f"{stats.tokens:,}", about["rm_hash"], scores["mean_raw_weight"]["1.0"],
    )  # fmt: skip


class Stats:
    """Running sums over scores r, nats."""

    def __init__(self):
        self.tokens, self.sums = 0, np.zeros(len(FLOORS))
        self.counts = np.zeros(len(EDGES) - 1, np.int64)

    def add(self, r: np.ndarray, where: str) -> None:
        r = r.astype(np.float64)
        if not np.isfinite(r).all():
            raise UserError(
                f"{where}: the reference model gave a NaN or infinite score; look at its weights, "
                "then delete this shard and score again"
            )
        self.tokens += r.size
        self.sums += [(1 / np.maximum(r, floor)).sum() for floor in FLOORS]
        self.counts += np.histogram(r, EDGES)[0]

    def mean_raw_weights(self) -> list[float]:
        return (self.sums / max(self.tokens, 1)).tolist()
