"""Rows: token runs packed into rows and written as one shard; and the index of a shard that was written.

A document's tokens are cut into segments of at most T tokens; a row has T + 1 slots for whole segments.  shard.py makes
rows of documents, select.py of scored rows.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mucpt_jax.formats import manifest
from mucpt_jax.formats import rows as row_shards
from mucpt_jax.formats.manifest import INDEX_SCHEMA
from mucpt_jax.formats.rows import COLUMNS, NO_LOSS, target_mask

TOKENS = np.dtype([("tokens", "<i4"), ("no_loss", "?")])
SCORED = np.dtype([*TOKENS.descr, ("rm_nll", "<f2")])
log = logging.getLogger(__name__)


class Segment(NamedTuple):
    run: np.ndarray  # TOKENS[n], or with scores SCORED[n]
    document: str  # its id
    offset: int  # tokens of the document before


def run_of(tokens: Sequence[int]) -> np.ndarray:
    """Token ids -> TOKENS[n], all of them targets."""
    run = np.zeros(len(tokens), TOKENS)
    run["tokens"] = tokens
    return run


def cut(tokens: np.ndarray, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """(offset, tokens) of runs of `length` tokens and a rest."""
    for offset in range(0, len(tokens), length):
        yield offset, tokens[offset : offset + length]


def pack(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: rows of indices into `lengths`, each row's sum <= capacity; equal input, equal rows.

    Every length must lie in 1..capacity.  One step for a segment is one search in a bit set of `capacity` bits.
    """
    rows, open_rows = [], [[] for _ in range(capacity)]
    spaces = 0  # bit s: a row with s free slots waits
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        assert 0 < length <= capacity, f"segment of {length} tokens, rows of {capacity}"
        if fitting := spaces >> length:
            space = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[space].pop()
            if not open_rows[space]:
                spaces ^= 1 << space
        else:
            space, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        if space > length:
            open_rows[space - length].append(row)
            spaces |= 1 << (space - length)
    return rows


def build_row(runs: list[np.ndarray], slots: int) -> dict[str, np.ndarray]:
    """Runs, one after the other, then padding; rm_nll is NaN where a run brings no scores."""
    row = {name: np.zeros(slots, dtype) for name, dtype in COLUMNS}
    row["rm_nll"][:] = np.nan
    assert len(runs) < NO_LOSS, f"{len(runs)} segments in a row of {slots} slots"
    end = 0
    for number, run in enumerate(runs, 1):
        row["tokens"][end : end + len(run)] = run["tokens"]
        if run.dtype == SCORED:
            row["rm_nll"][end : end + len(run)] = run["rm_nll"]
        row["segment_ids"][end : end + len(run)] = np.where(run["no_loss"], number + NO_LOSS, number)
        end += len(run)
    return row


def index_table(rows: list[list[Segment]]) -> pa.Table:
    """INDEX_SCHEMA for one shard, whose final name is not known yet."""
    lines = [
        ("", row, number, segment.document, segment.offset, len(segment.run))
        for row, segments in enumerate(rows)
        for number, segment in enumerate(segments, 1)
    ]
    return pa.table(list(zip(*lines, strict=True)), schema=INDEX_SCHEMA)


def write_shard(path: Path, packed: list[list[Segment]], sequence_length: int) -> dict:
    """One shard and, beside it, its part of the index; returns its entry in the manifest."""
    facts = {"name": path.name, "segments": 0, "tokens": 0, "targets": 0}

    def built() -> Iterator[dict[str, np.ndarray]]:
        for segments in packed:
            row = build_row([segment.run for segment in segments], sequence_length + 1)
            facts["segments"] += len(segments)
            facts["tokens"] += int((row["segment_ids"] > 0).sum())
            facts["targets"] += int(target_mask(row["segment_ids"]).sum())
            yield row

    written = row_shards.write_shard(path, built())
    pq.write_table(index_table(packed), path.with_suffix(".index"))
    return facts | written


def read_index(folder: str, shard: dict) -> dict:
    """Index of one shard by (row, segment): {"row", "offset", "length" i4[n], "document" [n]}."""
    table = manifest.read_index(folder, shard)
    numbers = {name: table[name].to_numpy() for name in ("row", "offset", "length")}
    return numbers | {"document": table["document"].to_pylist()}


def keys(names: list[str]) -> np.ndarray:
    """u8[n]: 64 bits of each name's hash.  Any two of 40 million names share a key in one of 23,000 corpora."""
    return np.frombuffer(b"".join(hashlib.blake2b(n.encode(), digest_size=8).digest() for n in names), "<u8")


def document_keys(facts: dict, index: dict) -> np.ndarray:
    """u8[n] keys of the documents of a shard's segments.  An id is one document's within a source, not across them."""
    return keys([f"{facts['source']}/{name}" for name in index["document"]])


def numbered(keys: np.ndarray) -> np.ndarray:
    """u8[n] -> i8[n]: equal keys get one number, 0, 1, ... in the order in which they first come."""
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place]


def progress(what: str, shards: list[dict]) -> Iterator[dict]:
    """The shards, one by one; each gets a line in the log when it is done."""
    started, targets = time.monotonic(), 0
    for number, facts in enumerate(shards, 1):
        yield facts
        targets += facts["targets"]
        rate = targets / (time.monotonic() - started)
        log.info("%s: shard %d/%d %s, %s tok/s", what, number, len(shards), facts["name"], f"{rate:,.0f}")
