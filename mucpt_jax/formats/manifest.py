"""Manifest and index of a row folder: which shards it holds, and which documents are in which row.  No jax here.

manifest.json                          T, tokenizer hash, shards with counts and checksums, sources, scores
index.parquet                          shard, row, segment, document, offset, length: from rows to documents
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.files import read_json, replacing

SCHEMA = 1


class Shard(TypedDict):
    """A shard's entry in the manifest."""

    name: str
    source: str
    records: int  # rows
    segments: int
    tokens: int
    targets: int
    bytes: int
    sha256: str


class Manifest(TypedDict):
    schema: int
    sequence_length: int  # T
    tokenizer_hash: str
    vocab_size: int
    shards: list[Shard]
    sources: dict[str, dict]  # documents, segments, tokens, targets, records of each
    scores: Any  # dict, docs/data_format.md; None until scored


MANIFEST_KEYS = Manifest.__required_keys__
INDEX_SCHEMA = pa.schema([
    ("shard", pa.string()), ("row", pa.int32()), ("segment", pa.int32()), ("document", pa.string()),
    ("offset", pa.int32()), ("length", pa.int32()),  # tokens, the offset from the start of the document
])  # fmt: skip


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a row folder, after checking that its shards are all there and whole (by size)."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise UserError(
            f"{path} is missing; write rows there with python -m data_prep.shard (or launch.py --job=score)"
        )
    manifest: Manifest = read_json(path)
    if not isinstance(manifest, dict) or not manifest.keys() >= MANIFEST_KEYS:
        raise UserError(
            f"{path} is no manifest of rows (it lacks some of {sorted(MANIFEST_KEYS)}); write the rows again"
        )
    if manifest["schema"] != SCHEMA:
        raise UserError(f"{path} has schema {manifest['schema']}, this program reads {SCHEMA}; write the rows again")
    for shard in manifest["shards"]:
        check_shard(Path(folder) / shard["name"], shard)
    return manifest


def check_shard(path: Path, facts: Shard) -> None:
    if not path.is_file():
        raise UserError(
            f"{path} is missing, its manifest lists {facts['records']} records there; copy or write it again"
        )
    size = path.stat().st_size
    if size != facts["bytes"]:
        raise UserError(
            f"{path} is cut short or damaged: {size} bytes instead of {facts['bytes']}, so records "
            f"0..{facts['records'] - 1} cannot be trusted; copy or write this shard again"
        )


def write_index(folder: str | Path, tables: Iterable[pa.Table]) -> None:
    with (
        replacing(Path(folder) / "index.parquet") as beside,
        pq.ParquetWriter(beside, INDEX_SCHEMA, compression="zstd") as writer,
    ):
        for table in tables:
            writer.write_table(table)


def read_index(folder: str | Path, shard: Shard) -> pa.Table:
    """Segments of one shard (its entry in the manifest) by row and segment, in INDEX_SCHEMA."""
    path = Path(folder) / "index.parquet"
    try:
        table = pq.read_table(path, filters=[("shard", "==", shard["name"])])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); copy it again") from error
    if len(table) != shard["segments"]:
        raise UserError(
            f"{path} has {len(table)} segments of {shard['name']}, the manifest {shard['segments']}; "
            "copy index and manifest from one place"
        )
    return table.sort_by([("row", "ascending"), ("segment", "ascending")])


def documents_of(folder: str, rows: list[tuple[str, int]]) -> list[list[str]]:
    """Document ids of each (shard, row), in the row's order."""
    wanted = [("shard", "in", {shard for shard, _ in rows}), ("row", "in", {row for _, row in rows})]
    table = pq.read_table(Path(folder) / "index.parquet", filters=wanted).sort_by("segment")
    documents: dict[tuple[str, int], list[str]] = {place: [] for place in rows}
    for shard, row, document in zip(*(table[c].to_pylist() for c in ("shard", "row", "document")), strict=True):
        documents.get((shard, row), []).append(document)
    return [documents[place] for place in rows]


def shared_documents(seed: str, corpus: str) -> list[str]:
    """Ids of documents that stand in both row folders, in the corpus's order; the seed's ids must fit in memory."""
    shared: list[str] = []
    try:
        known = pc.unique(pq.read_table(Path(seed) / "index.parquet", columns=["document"])["document"])
        for batch in pq.ParquetFile(Path(corpus) / "index.parquet").iter_batches(columns=["document"]):
            shared += batch["document"].filter(pc.is_in(batch["document"], known)).to_pylist()
    except pa.ArrowException as error:
        raise UserError(
            f"index.parquet of {seed} or {corpus} cannot be read ({one_line(error)}); copy it again"
        ) from error
    return list(dict.fromkeys(shared))
