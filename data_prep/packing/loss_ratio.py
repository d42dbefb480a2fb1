"""rho = sum(-log p_start) / sum(-log p_RM) of documents and segments, from the same rows scored by two models.

A ratio of sums over the targets, never a mean of ratios: the few tokens that the reference model (RM) is sure of would
rule it.  High where the RM knows the text better than the start model does.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.packing import pack
from mucpt_jax.errors import UserError
from mucpt_jax.formats import rows
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import read_shard, target_mask


def open_folders(scored: str, base: str) -> tuple[dict, dict]:
    """The two manifests, after checking that they are of the same rows scored by two models."""
    manifests = [read_manifest(folder) for folder in (scored, base)]
    for folder, manifest in zip((scored, base), manifests, strict=True):
        if not manifest["scores"] or not manifest["shards"]:
            lacking = "scores" if manifest["shards"] else "rows"
            raise UserError(f"{folder} holds no {lacking}; run launch.py --job=score on rows first")
    for name in ("sequence_length", "tokenizer_hash"):
        one, other = (manifest[name] for manifest in manifests)
        if one != other:
            raise UserError(
                f"{scored} has {name}={one}, {base} has {other}; score the rows of one folder with both models"
            )
    shards, others = ([(s["name"], s["source"], s["records"]) for s in m["shards"]] for m in manifests)
    if shards != others:
        raise UserError(f"{scored} and {base} hold different shards; score the rows of one folder with both models")
    models = [manifest["scores"]["rm_hash"] for manifest in manifests]
    if models[0] == models[1]:
        raise UserError(
            f"{scored} and {base} were scored by the same model ({models[0]}), so every ratio is 1; "
            "name as --base the rows that the start model scored"
        )
    return manifests[0], manifests[1]


def in_order(manifest: dict) -> list[dict]:
    """Shards by source, then name: both passes and all arrays of segments keep to this order."""
    return sorted(manifest["shards"], key=lambda facts: (facts["source"], facts["name"]))


def walk(scored: str, base: str, facts: dict, index: dict, length: int) -> Iterator[tuple[dict, dict, slice]]:
    """(row, the start model's row, its segments' places in the index) of one shard; UserError where they differ."""
    places = np.searchsorted(index["row"], np.arange(facts["records"] + 1)).tolist()
    both = (read_shard(Path(folder) / facts["name"], length) for folder in (scored, base))
    for number, row, start in itertools.zip_longest(range(facts["records"]), *both):
        if None in (number, row, start):
            raise UserError(
                f"{facts['name']} has not the {facts['records']} records of its manifest in {scored} or {base}; "
                "copy manifest and shards from one place"
            )
        own = slice(places[number], places[number + 1])
        check_rows(row, start, index["length"][own], f"{facts['name']} record {number}", scored, base)
        yield row, start, own


def check_rows(row: dict, start: dict, lengths: np.ndarray, where: str, scored: str, base: str) -> None:
    if any((row[name] != start[name]).any() for name in ("tokens", "segment_ids")):
        raise UserError(f"{where} differs between {scored} and {base}; score the rows of one folder with both models")
    indexed, ids = np.repeat(np.arange(1, len(lengths) + 1), lengths), row["segment_ids"]
    if len(indexed) != (ids > 0).sum() or (rows.segment_numbers(ids[: len(indexed)]) != indexed).any():
        raise UserError(
            f"{where}: its segments are not those in {scored}/index.parquet; copy index and shards from one place"
        )
    mask_T = target_mask(ids)
    for folder, scores in ((scored, row["rm_nll"]), (base, start["rm_nll"])):
        r = scores[1:][mask_T]
        if not (np.isfinite(r) & (r >= 0)).all():
            raise UserError(
                f"{folder}/{where} has a score that is NaN, infinite or negative; run launch.py --job=score on it again"
            )


def read_sums(scored: str, base: str, manifest: dict) -> dict[str, np.ndarray]:
    """Of every segment: source and offset i4, document and targets i8, and sums of nats: base and rm f8."""
    sources = sorted({facts["source"] for facts in manifest["shards"]})
    parts = []
    for facts in pack.progress("read", in_order(manifest)):
        index = pack.read_index(scored, facts)
        sums = np.zeros((3, len(index["row"])))
        for row, start, place in walk(scored, base, facts, index, manifest["sequence_length"]):
            sums[:, place] = sums_of_row(row, start, place.stop - place.start)
        # Ids are unique within a source; two sources may number their documents alike.
        names = [f"{facts['source']}/{name}" for name in index["document"]]
        parts.append(
            {
                "source": np.full(len(names), sources.index(facts["source"]), np.int32),
                "document": pack.keys(names),
                "offset": index["offset"],
                "targets": sums[0].astype(np.int64),
                "base": sums[1],
                "rm": sums[2],
            }
        )
    segments = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return segments | {"document": pack.numbered(segments["document"])}


def sums_of_row(row: dict, start: dict, segments: int) -> np.ndarray:
    """f8[3, segments]: targets, and the two models' sums of -log p over them, nats."""
    mask_T = target_mask(row["segment_ids"])
    segment = row["segment_ids"][1:][mask_T]
    weights = (None, start["rm_nll"][1:][mask_T], row["rm_nll"][1:][mask_T])
    return np.stack([np.bincount(segment, w, segments + 1)[1:] for w in weights])


def sums_of_units(segments: dict[str, np.ndarray], level: str) -> dict[str, np.ndarray]:
    """of_segment i8[segments]: the unit of each segment; targets i8 and rho f8 (NaN without targets) of each unit."""
    unit = segments["document"] if level == "document" else np.arange(len(segments["document"]))
    targets, base, rm = (np.bincount(unit, segments[name]) for name in ("targets", "base", "rm"))
    return {"of_segment": unit, "targets": targets.astype(np.int64), "rho": ratio(base, rm, targets)}


def ratio(base: np.ndarray, rm: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """base / rm; inf where only the RM is certain, 1 where both are, NaN where there is nothing to predict."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = base / rm
    rho[(base == 0) & (rm == 0)] = 1.0
    rho[targets == 0] = np.nan
    return rho
