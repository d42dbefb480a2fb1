"""Weights that no reference model gives, written as scores, so that they go through mucpt's own loss.

mucpt gives the raw weight 1 / max(r, floor).  A stored pseudo-score r' = 1 / w therefore gives the weight w, as long
as no r' lies under the floor, and the corpus mean in the manifest makes the mean weight one as for any scores.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from data_prep.text import names
from mucpt_jax import config
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.decode import read_lines
from mucpt_jax.formats.files import copy_file, write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import read_shard, segment_numbers, target_mask, write_shard
from mucpt_jax.run import data
from mucpt_jax.step import objective

RATIO = (0.1, 5.0)  # caps of CE_base / CE_RM
MIX = ((0.6, 0.3), (0.4, 0.5))  # of mean and of median: share of the weight, floor in nats
NOTHING = 60_000.0  # as r' of a token that shall not count: near float16's largest
PAD = "-"  # kind of a slot that holds no token of a document's text


def slot_kinds(rows: Path, documents: Path) -> dict[tuple[str, int], np.ndarray]:
    """(shard, row) -> kind of each of the row's T + 1 slots, from the letters of the documents in a folder."""
    length = read_manifest(rows)["sequence_length"]
    files = sorted(documents.glob("*.jsonl"))
    # The end-of-document token belongs to the text.
    kinds = {d["id"]: [*d["kinds"], "t"] for file in files for d in read_lines(file)}
    table = pq.read_table(rows / "index.parquet").sort_by(
        [("shard", "ascending"), ("row", "ascending"), ("segment", "ascending")]
    )
    found, ends = {}, {}
    for item in table.to_pylist():
        place, n = (item["shard"], item["row"]), item["length"]
        slots = found.setdefault(place, np.full(length + 1, PAD))
        end = ends.get(place, 0)
        slots[end : end + n] = kinds[item["document"]][item["offset"] : item["offset"] + n]
        ends[place] = end + n
    return found


def write_oracle(rows: Path, documents: Path, output: Path) -> None:
    """Weight 1 on the text around facts and on right answers, 0 on noise and wrong answers: rm_floor=1."""
    kinds = slot_kinds(rows, documents)

    def scores(shard: str, number: int, row: dict) -> np.ndarray:
        return np.where(np.isin(kinds[shard, number], ("t", "a", "A")), 1.0, NOTHING)

    rewrite(rows, output, scores, "oracle")


def write_ratio(scored: Path, scored_base: Path, output: Path) -> None:
    """Weight CE_base / CE_RM, capped: rm_floor = 1 / the upper cap."""
    low, high = RATIO
    base = {shard: rows_of(scored_base, shard) for shard in shards_of(scored_base)}

    def scores(shard: str, number: int, row: dict) -> np.ndarray:
        nll, base_nll = (r["rm_nll"].astype(np.float64) for r in (row, base[shard][number]))
        return np.clip(nll / np.maximum(base_nll, 1e-6), 1 / high, 1 / low)

    rewrite(scored, output, scores, "ratio")


def write_smoothed(scored: Path, output: Path, kind: str, starts: Callable = np.ones_like) -> None:
    """r over a unit and its two neighbours in the segment, kind: mean | median.  starts(tokens [T+1]) -> where units
    begin; without it every token is one.  Noise is surprising from end to end, an unknown fact stands in a sentence
    that the reference otherwise knows."""

    def scores(shard: str, number: int, row: dict) -> np.ndarray:
        return over_neighbours(row["rm_nll"].astype(float), row["segment_ids"], starts(row["tokens"]), kind)

    rewrite(scored, output, scores, output.name)


def over_neighbours(r: np.ndarray, segment_ids: np.ndarray, starts: np.ndarray, kind: str) -> np.ndarray:
    """r [T+1], NaN where there is none -> of each slot's unit, whose r is its tokens' mean, and the two beside it."""
    segments = segment_numbers(segment_ids).astype(int)
    unit = np.cumsum(starts.astype(bool) | (np.diff(segments, prepend=-1) != 0)) - 1
    known = np.isfinite(r)
    count, total = np.bincount(unit, known), np.bincount(unit, np.where(known, r, 0))
    of_unit = np.pad(np.where(count > 0, total / np.maximum(count, 1), np.nan), 1, constant_values=np.nan)
    segment = np.pad(segments[np.unique(unit, return_index=True)[1]], 1, constant_values=-1)
    places = [slice(i, i + len(count)) for i in range(3)]
    near = np.stack([np.where(segment[at] == segment[places[1]], of_unit[at], np.nan) for at in places])
    near[:, np.isnan(near).all(0)] = 0  # padding
    return (np.nanmean if kind == "mean" else np.nanmedian)(near, axis=0)[unit]


def name_starts(tokenizer: Path, file: Path) -> Callable:
    """tokens [T+1] -> where a word or one of the names in the file begins."""
    begins, ends = names.letters(str(tokenizer))
    listed = names.read(str(tokenizer), str(file))

    def starts(tokens: np.ndarray) -> np.ndarray:
        inside = names.goes_on(tokens, begins, ends)
        first = ~inside
        for start, end, _ in names.spans(tokens, inside, listed):
            first[start + 1 : end] = False
        return first

    return starts


def write_mix(mean: Path, median: Path, output: Path) -> None:
    """The sum of both weights by MIX, each over its mean of the corpus: rm_floor below 1 / the largest sum."""
    grids = [read_manifest(folder)["scores"]["mean_raw_weight"] for folder in (mean, median)]
    other = {shard: rows_of(median, shard) for shard in shards_of(median)}

    def scores(shard: str, number: int, row: dict) -> np.ndarray:
        weight = 0.0
        for (share, floor), grid, part in zip(MIX, grids, (row, other[shard][number]), strict=True):
            weight = weight + share / np.maximum(part["rm_nll"].astype(float), floor) / grid[str(floor)]
        return 1 / weight

    rewrite(mean, output, scores, output.name)


def rewrite(source: Path, output: Path, scores: Callable, name: str) -> None:
    """The rows of `source` with scores(shard, number, row) [T+1] where targets are, NaN elsewhere, in a new folder."""
    manifest = read_manifest(source)
    output.mkdir(parents=True, exist_ok=True)
    shards, sums = [], None
    for shard in manifest["shards"]:
        rows, found = [], []
        for number, row in enumerate(rows_of(source, shard["name"])):
            mask = np.concatenate([[False], target_mask(row["segment_ids"])])
            new = np.where(mask, scores(shard["name"], number, row), np.nan).astype(np.float16)
            rows.append(row | {"rm_nll": new})
            found.append(new[mask])
        shards.append(shard | write_shard(output / shard["name"], rows))
        stats = score_sums.stats_of(np.concatenate(found), str(output / shard["name"]))
        sums = score_sums.add(sums, stats) if sums else stats
    about = {"rm_hash": name, "compute_dtype": "float32", "head_dtype": "float32", "encoding": "float16"}
    copy_file(source / "index.parquet", output / "index.parquet")
    scores = about | score_sums.summary(sums)
    write_json(output / "manifest.json", manifest | {"shards": shards, "scores": scores})


def mean_weights(scored: Path, documents: Path, cfg: config.Config) -> dict[str, float]:
    """Mean training weight of the tokens of each kind (a letter of world.KINDS); not for rho1, which asks the model."""
    kinds, sums, loss = slot_kinds(scored, documents), {}, data.resolved_loss(cfg)
    for shard in shards_of(scored):
        rows = rows_of(scored, shard)
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        batch["is_domain"] = np.ones(len(rows), bool)
        nll_BT = np.zeros((len(rows), rows[0]["tokens"].size - 1), np.float32)
        weight_BT = np.asarray(objective.token_weights(nll_BT, batch, loss))
        mask_BT = target_mask(batch["segment_ids"])
        kind_BT = np.stack([kinds[shard, number][1:] for number in range(len(rows))])
        for kind in np.unique(kind_BT[mask_BT]).tolist():
            found = weight_BT[mask_BT & (kind_BT == kind)].astype(np.float64)
            total, count = sums.get(kind, (0.0, 0))
            sums[kind] = total + found.sum(), count + found.size
    return {kind: total / count for kind, (total, count) in sums.items()}


def shards_of(folder: Path) -> list[str]:
    return [shard["name"] for shard in read_manifest(folder)["shards"]]


def rows_of(folder: Path, shard: str) -> list[dict]:
    return list(read_shard(folder / shard, read_manifest(folder)["sequence_length"]))
