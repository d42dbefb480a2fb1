"""Shards of a row folder: full ones as segments come, and their final names and index when all are written."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.jobs import notes
from data_prep.packing.pack import Segment, pack, write_shard
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import Count, read_json
from mucpt_jax.formats.manifest import INDEX_SCHEMA, write_index
from mucpt_jax.formats.rows import shard_name

MAX_SOURCES = 1000  # each makes shards of its own
ROW_FILES = ("*.array_record", "manifest.json", "index.parquet", *notes.FILES)


def write_full(
    segments: list[Segment], shards: list[dict], stem: Path, size: tuple[int, int], last: bool
) -> list[Segment]:
    """Packs segments and writes full shards, of size[1] rows of T = size[0]; returns the segments that wait for more.

    Rows past the last full shard are opened again: together with later segments they pack better.  last: none waits.
    """
    length, limit = size
    lengths = [len(segment.run) for segment in segments]
    if not last and sum(lengths) < limit * (length + 1):
        return segments
    rows = pack(lengths, length + 1)
    end = len(rows) if last else len(rows) - len(rows) % limit
    for start in range(0, end, limit):
        chosen = [[segments[i] for i in row] for row in rows[start : min(end, start + limit)]]
        shards.append(write_shard(stem.with_name(f"{stem.name}-{len(shards):05d}.shard"), chosen, length))
    return [segments[i] for row in rows[end:] for i in row]


def check_sources(where: str, sources: dict) -> None:
    if len(sources) > MAX_SOURCES:
        raise UserError(
            f"{where} has more than {MAX_SOURCES:,} sources, for example {next(iter(sources))}; `source` (without one "
            "the file's name) must name a corpus, not a page or a part, so write it anew"
        )


class ShardFacts(TypedDict):
    name: str
    records: Count
    segments: Count
    tokens: Count
    targets: Count
    bytes: Count
    sha256: str


class Facts(TypedDict):
    """What an input file gave of a source, in <number>.facts."""

    documents: Count
    shards: list[ShardFacts]


def number_shards(folder: Path) -> tuple[list[dict], dict[str, dict[str, int]]]:
    """Renames the shards of all input files to <source>-<i>-of-<n> and writes the index.

    Returns the manifest's shards in the order of their names, and {source: its documents, and sums over its shards}.
    """
    by_source, kept = {}, {}
    for path in sorted(folder.glob("*.facts")):
        for source, facts in read_json(path, dict[str, Facts]).items():
            by_source.setdefault(source, []).extend(facts["shards"])
            kept[source] = kept.get(source, 0) + facts["documents"]
        path.unlink()
    check_sources("--input", by_source)
    shards, provisional = [], {}
    for source, own in by_source.items():
        for i, facts in enumerate(own):
            name = shard_name(source, i, len(own))
            provisional[name] = folder / facts["name"]
            shards.append({**facts, "name": name, "source": source})
            (folder / facts["name"]).rename(folder / name)
    shards.sort(key=lambda facts: facts["name"])

    def tables() -> Iterator[pa.Table]:
        for shard in shards:
            path = provisional[shard["name"]].with_suffix(".index")
            table = pq.read_table(path, schema=INDEX_SCHEMA)
            yield table.set_column(0, "shard", pa.array([shard["name"]] * len(table), pa.string()))
            path.unlink()

    write_index(str(folder), tables())
    sums = ("segments", "tokens", "targets", "records")
    sources = {
        source: {"documents": kept[source], **{name: sum(facts[name] for facts in by_source[source]) for name in sums}}
        for source in sorted(kept)
    }
    return shards, sources


def fill_of(parts: Iterable[dict], sequence_length: int) -> float:
    """Share of the slots that hold tokens, of shards or sources."""
    parts = list(parts)
    slots = sum(facts["records"] for facts in parts) * (sequence_length + 1)
    return sum(facts["tokens"] for facts in parts) / slots
