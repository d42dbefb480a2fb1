"""Work files: what data_prep.dedup leaves in a work folder that all workers see, and how its tasks read it.

Every input file leaves a few arrays: facts, ids and signatures of its documents, and tables of (hash, row) sorted by
hash.  A task reads one range of hashes out of the tables of all files, so nothing as long as the corpus is ever in one
memory.  A file takes its place when it is whole, and only then is it read.

A document's key is its file's number << 32 | its row.  Files from `first_earlier` on hold stored signatures of earlier
runs; their documents stay whatever happens.
"""

import functools
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import apache_beam as beam
import numpy as np

from data_prep.duplicates import signatures, subjects
from data_prep.jobs.stage import Run
from mucpt_jax.formats.files import replacing

SLICE = 1 << 19  # documents of one task; fewer take less memory, and more reads of every file's tables
PIECE = 1 << 14  # signatures read at once
FACTS = np.dtype([("digest", "u8", 2), ("quality", "f8"), ("length", "i8"), ("priority", "i4"), ("id_end", "i8")])
# Of each input file: dtype and width, a row a document.  But "ids" are all ids in UTF-8, one behind the other, and
# "signature" and "subject" are empty where only exact duplicates are looked for.
COLUMNS = {
    "facts": (FACTS,), "ids": (np.uint8,), "signature": (np.uint8, signatures.SIZE), "subject": (subjects.SUBJECT,),
    "fates": (np.int64,), "settled": (np.int64,),
}  # fmt: skip


class Work(NamedTuple):
    folder: Path
    first_earlier: int  # number of the first file of an earlier run
    similarity: float  # least Jaccard similarity of near-duplicates; 0: exact ones only
    by_subject: bool = False  # whether near-duplicates must agree in subject

    def path(self, number: int, what: str) -> Path:
        return Path(self.folder) / f"{number:05d}.{what}"

    @property
    def band_bytes(self) -> int:
        """32 bands of 8 bytes meet for .997 of pairs at .8; 64 bands of 4 for .984 of pairs at .5."""
        return 8 if self.similarity >= 0.8 else 4


class Plan(NamedTuple):
    """What the tasks of a job know that reads its input twice."""

    folder: Path  # that becomes the output
    columns: Mapping[str, str]  # as in documents.document
    options: Any  # the job's
    work: Work


def plan_of(run: Run, first_earlier: int, similarity: float, by_subject: bool = False) -> Plan:
    """Makes the work folder, under a name of its own: arrays of a run before in this process may still be open."""
    work = Work(run.folder / f"work-{uuid.uuid4().hex}", first_earlier, similarity, by_subject)
    work.folder.mkdir()
    return Plan(*run, work)


class Task(NamedTuple):
    """One of `parts` equal ranges of the hashes of a band."""

    band: int
    part: int
    parts: int


def keys_of(number: int, rows: np.ndarray) -> np.ndarray:
    return rows + np.uint64(number << 32)


def files_of(keys: np.ndarray) -> np.ndarray:
    return keys >> np.uint64(32)


def rows_of(keys: np.ndarray) -> np.ndarray:
    return keys & np.uint64(0xFFFFFFFF)


def by_number(numbers: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(number, its rows) of each number that occurs, in order; numbers are of files or parts."""
    for number in np.unique(numbers):
        yield int(number), rows[numbers == number]


Signed = tuple[np.ndarray, list[bytes], np.ndarray, np.ndarray]  # facts without id_end, ids, signatures, subjects


def write_signed(work: Work, number: int, batches: Iterable[Signed]) -> int:
    """Writes a file's columns and its table "digests"; returns how many documents."""
    end = count = 0
    with (
        fresh(work.path(number, "facts")) as facts_file,
        fresh(work.path(number, "ids")) as ids_file,
        fresh(work.path(number, "signature")) as signature_file,
        fresh(work.path(number, "subject")) as subject_file,
    ):
        for facts, ids, signature, subject in batches:
            facts["id_end"] = end + np.cumsum([len(name) for name in ids])
            end, count = int(facts["id_end"][-1]), count + len(ids)
            facts_file.write(facts.tobytes())
            ids_file.write(b"".join(ids))
            signature_file.write(signature.tobytes())
            subject_file.write(subject.tobytes())
    digests = mapped(work.path(number, "facts"), FACTS)["digest"][:, 0]
    write_table(work, number, "digests", [digests], np.arange(count, dtype=np.uint32))
    return count


@contextmanager
def fresh(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when it is whole: what a runner does twice never shows half done."""
    with replacing(path) as beside, open(beside, "wb") as f:
        yield f


def mapped(path: Path, dtype, columns: int = 0) -> np.ndarray:
    """The array of a work file, read as it is touched."""
    if not path.stat().st_size:
        return np.zeros((0, columns) if columns else 0, dtype)
    array = np.memmap(path, dtype, mode="r")
    return array.reshape(-1, columns) if columns else array


@functools.lru_cache(256)  # each holds a file open
def column(work: Work, number: int, name: str) -> np.ndarray:
    return mapped(work.path(number, name), *COLUMNS[name])


def stored_signatures(work: Work, number: int) -> Iterator[tuple[slice, np.ndarray]]:
    """A file's (rows, signatures u1[m, SIZE]) in pieces, read and not mapped: what was read leaves memory."""
    start = 0
    with open(work.path(number, "signature"), "rb") as f:
        while data := f.read(PIECE * signatures.SIZE):
            piece = np.frombuffer(data, np.uint8).reshape(-1, signatures.SIZE)
            yield slice(start, start + len(piece)), piece
            start += len(piece)


def settled(work: Work, number: int, changes: Iterable[np.ndarray]) -> np.ndarray:
    """Changes of buckets.settle -> i8[documents] fates.  A later change wins; a document without one has fate 1."""
    fates = np.ones(len(column(work, number, "facts")), np.int64)
    for change in changes:
        fates[change[:, 0].astype(np.int64)] = np.ascontiguousarray(change[:, 1]).view(np.int64)
    return fates


def write_fates(work: Work, number: int, changes: Iterable[np.ndarray], name: str = "fates") -> np.ndarray:
    fates = settled(work, number, changes)
    with fresh(work.path(number, name)) as f:
        f.write(fates.tobytes())
    return fates


def write_table(work: Work, number: int, name: str, hashes: Iterable[np.ndarray], rows: np.ndarray) -> None:
    """hashes: u8[n] of each band, of the documents in rows u4[n].  Bands lie one behind the other, each sorted."""
    with fresh(work.path(number, f"{name}.hash")) as hash_file, fresh(work.path(number, f"{name}.row")) as f:
        for band in hashes:
            order = np.argsort(band, kind="stable")
            hash_file.write(band[order].tobytes())
            f.write(rows[order].tobytes())


def read_slice(work: Work, files: Iterable[int], name: str, bands: int, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """A task's hashes u8[n], sorted, and keys u8[n], out of the tables of all these files."""
    hashes, keys = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for number in files:
        table = mapped(work.path(number, f"{name}.hash"), np.uint64)
        size = len(table) // bands
        begin = task.band * size
        first, last = (begin + place for place in bounds(table[begin : begin + size], task))
        if last > first:
            hashes.append(np.array(table[first:last]))
            keys.append(keys_of(number, mapped(work.path(number, f"{name}.row"), np.uint32)[first:last]))
    hashes, keys = np.concatenate(hashes), np.concatenate(keys)
    order = np.argsort(hashes, kind="stable")
    return hashes[order], keys[order]


def bounds(hashes: np.ndarray, task: Task) -> tuple[int, int]:
    """Where a task's range begins and ends in sorted u8[n]."""
    low, high = (np.uint64(min((p << 64) // task.parts, (1 << 64) - 1)) for p in (task.part, task.part + 1))
    last = len(hashes) if task.part + 1 == task.parts else int(np.searchsorted(hashes, high))
    return int(np.searchsorted(hashes, low)), last


def tasks(counts: Iterable[tuple[int, int]], bands: int) -> list[Task]:
    """(file number, documents) of all files -> tasks of about SLICE documents."""
    parts = -(-sum(count for _, count in counts) // SLICE) or 1
    return [Task(band, part, parts) for band in range(bands) for part in range(parts)]


def gather(work: Work, keys: np.ndarray, what: str) -> np.ndarray:
    """ "facts", "signature", "subject" or "fates" of documents with these keys u8[n], in their order."""
    order = np.argsort(keys)
    numbers, rows, values = files_of(keys), rows_of(keys).astype(np.int64), None
    for here in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        of_file = column(work, int(numbers[here[0]]), what)[rows[here]]
        if values is None:
            values = np.empty((len(keys), *of_file.shape[1:]), of_file.dtype)
        values[here] = of_file
    return values


def ids_of(work: Work, keys: np.ndarray) -> list[bytes]:
    ids = []
    for key in keys.tolist():
        ends, of_file = column(work, key >> 32, "facts")["id_end"], column(work, key >> 32, "ids")
        row = key & 0xFFFFFFFF
        ids.append(of_file[int(ends[row - 1]) if row else 0 : int(ends[row])].tobytes())
    return ids


def bands(work: Work) -> int:
    return signatures.SIZE // work.band_bytes


def spread_tasks(pipeline, name: str, counts, bands: int):
    """The elements of `tasks`, once the counts of all files are there, over all workers."""
    return (
        pipeline
        | f"{name}Start" >> beam.Create([bands])
        | f"{name}Tasks" >> beam.FlatMap(lambda bands, all_: tasks(all_, bands), beam.pvalue.AsList(counts))
        | f"{name}Spread" >> beam.Reshuffle()
    )
