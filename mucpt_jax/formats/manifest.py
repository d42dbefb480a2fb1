"""Manifest and index of a row folder: which shards it holds, and which documents are in which row.  No jax here.

manifest.json                          T, tokenizer hash, shards with counts and checksums, sources, scores
index.parquet                          shard, row, segment, document, offset, length: from rows to documents
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NotRequired, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Meta

from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.decode import Count, Number, Size, read_json
from mucpt_jax.formats.files import replacing

SCHEMA = 1


class Shard(TypedDict):
    """A shard's entry in the manifest."""

    name: str
    source: str
    records: Count  # rows
    segments: Count
    tokens: Count
    targets: Count
    bytes: Count
    sha256: str


class Source(TypedDict):
    """A source's sums over its shards."""

    documents: Count
    records: Count
    segments: Count
    tokens: Count
    targets: Count


NotNegative = Annotated[float, Meta(ge=0, le=1e30)]
Floor = Annotated[str, Meta(pattern=r"^\d{1,9}(\.\d{1,9})?$")]  # nats
Grid = Annotated[dict[Floor, NotNegative], Meta(min_length=1)]


class Histogram(TypedDict):
    edges: list[Number]  # nats
    counts: list[Count]


class Scores(TypedDict):
    """docs/data_format.md; what selecting, agreement and calibration add is theirs."""

    rm_hash: str
    compute_dtype: str
    encoding: Literal["float16", "uint8_log"]
    tokens: Count
    mean_nll: Number
    mean_raw_weight: Grid
    mean_raw_weight_by_base_nll: NotRequired[Grid]
    ess: Grid
    weight_mass: dict[Floor, list[NotNegative]]
    histogram: Histogram
    recommended_floor: Number


class Schema(TypedDict):
    schema: int


class Manifest(Schema):
    sequence_length: Size  # T
    tokenizer_hash: str
    vocab_size: Size
    shards: list[Shard]
    sources: dict[str, Source]
    scores: Scores | None  # None until scored
    eod: NotRequired[Count | None]  # token id that ends a document


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
    manifest = load_manifest(folder)
    for shard in manifest["shards"]:
        check_shard(Path(folder) / shard["name"], shard)
    return manifest


def load_manifest(folder: str | Path) -> Manifest:
    """The manifest without a look at its shards, which takes long where there are thousands."""
    path, way_out = Path(folder) / "manifest.json", "copy it from where the rows were written, or write the rows again"
    schema = read_json(path, Schema, way_out)["schema"]
    if schema != SCHEMA:
        raise UserError(f"{path} has schema {schema}, this program reads {SCHEMA}; write the rows again")
    manifest: Manifest = read_json(path, Manifest, way_out)
    if unknown := {shard["source"] for shard in manifest["shards"]} - manifest["sources"].keys():
        raise UserError(f"{path} has shards of {min(unknown)}, which is none of its sources; {way_out}")
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
