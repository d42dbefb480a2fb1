"""Tables: what data_prep.dedup leaves in a work folder that all workers see, and how its tasks read it.

No command of its own.

Every input file leaves a few arrays: facts, ids and signatures of its documents, and tables of (hash, row) sorted by
hash.  A task reads one range of hashes out of the tables of all files, so nothing as long as the corpus is ever in one
memory.  Only files that were closed are read, and each takes its place when it is whole.

A document's key is its file's number << 32 | its row.  Files from `first_earlier` on hold stored signatures of earlier
runs; their documents stay whatever happens.
"""

import functools
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import apache_beam as beam
import numpy as np

from data_prep.duplicates import signatures
from data_prep.jobs.stage import Run

SLICE = 1 << 19  # documents of one task; fewer take less memory, and more reads of every file's tables
PIECE = 1 << 14  # signatures read at once
FACTS = np.dtype([("digest", "u8", 2), ("quality", "f8"), ("length", "i8"), ("priority", "i4"), ("id_end", "i8")])
# Of each input file: dtype and width.  "ids" are all ids in UTF-8, one behind the other, the others a row a document;
# "signature" has none where only exact duplicates are looked for.
COLUMNS = {
    "facts": (FACTS,),
    "ids": (np.uint8,),
    "signature": (np.uint8, signatures.SIZE),
    "fates": (np.int64,),
    "settled": (np.int64,),
}


class Work(NamedTuple):
    folder: Path
    first_earlier: int  # number of the first file of an earlier run
    similarity: float  # least Jaccard similarity of near-duplicates; 0: exact ones only

    def path(self, number: int, what: str) -> Path:
        return Path(self.folder) / f"{number:05d}.{what}"

    @property
    def rows(self) -> int:
        """Bytes of a band.  32 bands of 8 meet for .997 of pairs at .8; 64 of 4 for .984 at .5."""
        return 8 if self.similarity >= 0.8 else 4


class Plan(NamedTuple):
    """What the tasks of a job know that reads its input twice."""

    folder: Path  # that becomes the output
    columns: Mapping[str, str]  # as in documents.document
    options: Any  # the job's
    work: Work


def plan_of(run: Run, first_earlier: int, similarity: float) -> Plan:
    """Makes the work folder, under a name of its own: arrays of a run before in this process may still be open."""
    work = Work(run.folder / f"work-{uuid.uuid4().hex}", first_earlier, similarity)
    work.folder.mkdir()
    return Plan(*run, work)


# Files


def write_signed(work: Work, number: int, batches: Iterable[tuple[np.ndarray, list[bytes], np.ndarray]]) -> int:
    """(facts without id_end, ids, signatures) of a file's batches -> work files and the table of digests; documents."""
    end = count = 0
    with (
        fresh(work.path(number, "facts")) as facts_file,
        fresh(work.path(number, "ids")) as ids_file,
        fresh(work.path(number, "signature")) as signature_file,
    ):
        for facts, ids, signature in batches:
            facts["id_end"] = end + np.cumsum([len(name) for name in ids])
            end, count = int(facts["id_end"][-1]), count + len(ids)
            facts_file.write(facts.tobytes())
            ids_file.write(b"".join(ids))
            signature_file.write(signature.tobytes())
    digests = mapped(work.path(number, "facts"), FACTS)["digest"][:, 0]
    write_table(work, number, "digests", [digests], np.arange(count, dtype=np.uint32))
    return count


@contextmanager
def fresh(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when it is whole: what a runner does twice never shows half done."""
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with open(beside, "wb") as f:
        yield f
    os.replace(beside, path)


def mapped(path: Path, dtype, columns: int = 0) -> np.ndarray:
    """The array of a work file, read as it is touched."""
    if not path.stat().st_size:
        return np.zeros((0, columns) if columns else 0, dtype)
    made = np.memmap(path, dtype, mode="r")
    return made.reshape(-1, columns) if columns else made


@functools.lru_cache(256)  # each holds a file open
def column(work: Work, number: int, name: str) -> np.ndarray:
    return mapped(work.path(number, name), *COLUMNS[name])


def stored_signatures(work: Work, number: int) -> Iterator[tuple[slice, np.ndarray]]:
    """A file's (rows, signatures u1[m, SIZE]) in pieces, read and not mapped: what was read leaves memory."""
    start = 0
    with open(work.path(number, "signature"), "rb") as f:
        while data := f.read(PIECE * signatures.SIZE):
            made = np.frombuffer(data, np.uint8).reshape(-1, signatures.SIZE)
            yield slice(start, start + len(made)), made
            start += len(made)


def settled(work: Work, number: int, changes: Iterable[np.ndarray]) -> np.ndarray:
    """Changes as of `settle`, the later ones count -> i8[documents] fates, 1 where there is no change."""
    made = np.ones(len(column(work, number, "facts")), np.int64)
    for change in changes:
        made[change[:, 0].astype(np.int64)] = np.ascontiguousarray(change[:, 1]).view(np.int64)
    return made


def write_fates(work: Work, number: int, changes: Iterable[np.ndarray], name: str = "fates") -> np.ndarray:
    made = settled(work, number, changes)
    with fresh(work.path(number, name)) as f:
        f.write(made.tobytes())
    return made


def write_table(work: Work, number: int, name: str, hashes: Iterable[np.ndarray], rows: np.ndarray) -> None:
    """Each band's u8[n] hashes of these rows u4[n], sorted, one band behind the other."""
    with fresh(work.path(number, f"{name}.hash")) as hash_file, fresh(work.path(number, f"{name}.row")) as f:
        for band in hashes:
            order = np.argsort(band, kind="stable")
            hash_file.write(band[order].tobytes())
            f.write(rows[order].tobytes())


def read_slice(
    work: Work, files: Iterable[int], name: str, bands: int, task: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(band, part, parts) -> that part's hashes u8[n], sorted, and keys u8[n], over the tables of all these files."""
    band = task[0]
    hashes, keys = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for number in files:
        table = mapped(work.path(number, f"{name}.hash"), np.uint64)
        size = len(table) // bands
        column = table[band * size : (band + 1) * size]
        first, last = bounds(column, task)
        if last > first:
            rows = mapped(work.path(number, f"{name}.row"), np.uint32)[band * size + first : band * size + last]
            hashes.append(np.array(column[first:last]))
            keys.append(rows + (np.uint64(number) << np.uint64(32)))
    hashes, keys = np.concatenate(hashes), np.concatenate(keys)
    order = np.argsort(hashes, kind="stable")
    return hashes[order], keys[order]


def bounds(hashes: np.ndarray, task: tuple[int, int, int]) -> tuple[int, int]:
    """Where the part of (band, part, parts) begins and ends in sorted u8[n]."""
    _, part, parts = task
    low, high = (np.uint64(min((p << 64) // parts, (1 << 64) - 1)) for p in (part, part + 1))
    last = len(hashes) if part + 1 == parts else int(np.searchsorted(hashes, high))
    return int(np.searchsorted(hashes, low)), last


def tasks(counts: Iterable[tuple[int, int]], bands: int) -> list[tuple[int, int, int]]:
    """(file number, documents) of all files -> (band, part, parts) of tasks of about SLICE documents."""
    parts = -(-sum(count for _, count in counts) // SLICE) or 1
    return [(band, part, parts) for band in range(bands) for part in range(parts)]


def gather(work: Work, keys: np.ndarray, what: str) -> np.ndarray:
    """ "facts", "signature" or "fates" of documents with these keys u8[n], in their order."""
    order = np.argsort(keys)
    rows, made = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64), None
    for here in np.split(order, np.flatnonzero(np.diff(keys[order] >> np.uint64(32))) + 1):
        found = column(work, int(keys[here[0]] >> np.uint64(32)), what)[rows[here]]
        if made is None:
            made = np.empty((len(keys), *found.shape[1:]), found.dtype)
        made[here] = found
    return made


def names(work: Work, keys: np.ndarray) -> list[bytes]:
    """The ids of documents with these keys."""
    made = []
    for key in keys.tolist():
        facts, ids = (column(work, key >> 32, name) for name in ("facts", "ids"))
        row = key & 0xFFFFFFFF
        begin = int(facts["id_end"][row - 1]) if row else 0
        made.append(ids[begin : int(facts["id_end"][row])].tobytes())
    return made


def bands(work: Work) -> int:
    return signatures.SIZE // work.rows


def spread_tasks(pipeline, name: str, counts, bands: int):
    """The elements of `tasks`, once the counts of all files are there, over all workers."""
    return (
        pipeline
        | f"{name}Start" >> beam.Create([bands])
        | f"{name}Tasks" >> beam.FlatMap(lambda bands, all_: tasks(all_, bands), beam.pvalue.AsList(counts))
        | f"{name}Spread" >> beam.Reshuffle()
    )
