"""Scored rows: a folder of them, and the same rows scored by two models (the reference model and the start model)."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mucpt_jax.errors import UserError
from mucpt_jax.formats.manifest import Manifest, Shard, read_manifest
from mucpt_jax.formats.rows import Row, read_shard
from mucpt_jax.formats.tokenizer import check_same_tokenizer


def scored_manifest(folder: str | Path) -> Manifest:
    """The manifest of a folder that the score job wrote."""
    manifest = read_manifest(folder)
    if not manifest["scores"] or not manifest["shards"]:
        lacking = "scores" if manifest["shards"] else "rows"
        raise UserError(f"{folder} holds no {lacking}; run launch.py --job=score on rows and name its output")
    return manifest


def check_scored_by_two(scored: str | Path, base: str | Path) -> tuple[Manifest, Manifest]:
    """The two manifests, after checking that they tell of the same rows scored by two models."""
    manifests = scored_manifest(scored), scored_manifest(base)
    check_same_tokenizer(base, scored)
    sizes, other_sizes = (
        [m["sequence_length"], [[s[key] for key in ("name", "source", "records", "targets")] for s in m["shards"]]]
        for m in manifests
    )
    if sizes != other_sizes:
        raise UserError(f"{base} holds other rows than {scored}; score the rows of one folder with both models")
    model, other = (manifest["scores"]["rm_hash"] for manifest in manifests if manifest["scores"])
    if model == other:
        raise UserError(
            f"{base} was scored by the same model as {scored} ({model}); name the rows that the start model scored"
        )
    return manifests


def read_both(
    scored: str | Path, base: str | Path, shard: Shard, sequence_length: int, numbers: Sequence[int] | None = None
) -> Iterator[tuple[Row, Row]]:
    """(row, the same row scored by the start model) of a shard: all in order, or those of these numbers."""
    rows, others = (read_shard(Path(folder) / shard["name"], sequence_length, numbers) for folder in (scored, base))
    wanted = range(shard["records"]) if numbers is None else numbers
    for number, row, other in itertools.zip_longest(wanted, rows, others):
        if number is None or row is None or other is None:
            raise UserError(
                f"{shard['name']} has not the {shard['records']} records of its manifest in {scored} or {base}; "
                "copy manifest and shards from one place"
            )
        same = np.array_equal(row["tokens"], other["tokens"]), np.array_equal(row["segment_ids"], other["segment_ids"])
        if not all(same):
            raise UserError(
                f"{shard['name']} record {number} differs between {scored} and {base}; "
                "score the rows of one folder with both models"
            )
        yield row, other
