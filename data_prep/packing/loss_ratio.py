"""rho = sum(-log p_start) / sum(-log p_RM) of documents and segments, from the same rows scored by two models.

A ratio of sums over the targets, never a mean of ratios: the few tokens that the reference model (RM) is sure of would
rule it.  High where the RM knows the text better than the start model does.
"""

from collections.abc import Iterator

import numpy as np

from data_prep.packing import pack
from mucpt_jax.errors import UserError
from mucpt_jax.formats.manifest import Manifest, Shard
from mucpt_jax.formats.rows import Row, segment_numbers, target_mask, target_scores
from mucpt_jax.formats.scored import read_both


def in_order(manifest: Manifest) -> list[Shard]:
    """Shards by source, then name: both passes and all arrays of segments keep to this order."""
    return sorted(manifest["shards"], key=lambda facts: (facts["source"], facts["name"]))


def walk(scored: str, base: str, facts: Shard, index: dict, length: int) -> Iterator[tuple[Row, Row, slice]]:
    """(row, the start model's row, its segments' places in the index) of one shard; UserError where they differ."""
    places = np.searchsorted(index["row"], np.arange(facts["records"] + 1)).tolist()
    for number, (row, start) in enumerate(read_both(scored, base, facts, length)):
        where, own = f"{facts['name']} record {number}", slice(places[number], places[number + 1])
        check_segments(row, index["length"][own], where, scored)
        for folder, one in ((scored, row), (base, start)):
            target_scores(one, f"{folder}/{where}")
        yield row, start, own


def check_segments(row: Row, lengths: np.ndarray, where: str, scored: str) -> None:
    numbers, ids = np.repeat(np.arange(1, len(lengths) + 1), lengths), row["segment_ids"]
    if len(numbers) != (ids > 0).sum() or (segment_numbers(ids[: len(numbers)]) != numbers).any():
        raise UserError(
            f"{where}: its segments are not those in {scored}/index.parquet; copy index and shards from one place"
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
        source, document = sources.index(facts["source"]), pack.document_keys(facts, index)
        numbers = {"source": np.full(len(document), source, np.int32), "document": document, "offset": index["offset"]}
        parts.append(numbers | {"targets": sums[0].astype(np.int64), "base": sums[1], "rm": sums[2]})
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
