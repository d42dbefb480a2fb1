"""Repeats: which keys of lines stand in many documents of a source, counted on disk for data_prep.boilerplate.

The work folder keeps every input file's lines (LINE) and documents in order, and runs of (key, documents) sorted by
key.  A task reads one range of keys out of the runs of all files, so nothing as long as the corpus is ever in one
memory; only keys that repeat are handed on, and the rows of copies.

A page that was crawled many times counts once.  Documents whose lines are the same are copies: only the first counts.
Once it is known which keys repeat, each file is counted again without near copies: the documents that have less than
OWN_LETTERS of their letters in lines that do not repeat.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_prep.duplicates import signatures, work_files
from data_prep.duplicates.work_files import Plan, Task, Work, by_number, files_of, rows_of
from data_prep.jobs import documents
from data_prep.jobs.documents import File
from data_prep.jobs.options import option
from data_prep.text import line_keys
from data_prep.text.line_keys import LINE
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.hashes import mix

OWN_LETTERS = 0.1  # least share of a document's letters in lines that do not repeat, for it to count
RUN = 1 << 20  # lines whose keys are sorted at once
PIECE = 1 << 10  # documents whose lines are looked at together
DOCUMENT = np.dtype([("end", "i8"), ("source", "u4")])  # end of its lines; place of its source in the file's list
COUNT = np.dtype([("source", "u4"), ("documents", "u4")])
# share: of the source's documents, known when all are counted.
REPEATED = np.dtype([("key", "u8"), ("source", "u4"), ("documents", "i8"), ("share", "f8")])


@dataclass(frozen=True)
class Options:
    """Of data_prep.boilerplate."""

    min_documents: int = option(20, "a line goes where it stands in so many documents of its source")
    min_share: float = option(0.02, "and in this share of its source's documents")
    min_letters: int = option(30, "of a line of plain text; a Chinese character counts two")


class Counted(NamedTuple):
    """What is known of a file when its keys are counted."""

    number: int
    runs: int  # sorted tables of its keys
    lines: int
    sources: dict[str, int]  # documents of each without copies, in the order of DOCUMENT's `source`


class Piece(NamedTuple):
    """PIECE documents of a file, or fewer, with their lines."""

    lines: np.ndarray  # LINE[m]
    docs: np.ndarray  # DOCUMENT[n]; ends count from the piece's first line
    single: np.ndarray  # bool[n]: no copies

    @property
    def rows(self) -> np.ndarray:
        """i8[m]: the document of each line."""
        return np.repeat(np.arange(len(self.docs)), np.diff(self.docs["end"], prepend=0))


# First reading: keys of lines


def scan(file: File, plan: Plan) -> tuple[int, int]:
    """-> (number, documents); leaves the file's lines, its documents and the table "texts" of them."""
    number, path = file
    work, sources, count, sums = plan.work, {}, 0, [np.zeros(0, np.uint64)]
    note = plan.folder / f"scan-{number:05d}.progress"
    with (
        work_files.fresh(work.path(number, "lines")) as line_file,
        work_files.fresh(work.path(number, "documents")) as document_file,
    ):
        for batch, _ in documents.read_batches(path, plan.columns, note):
            names = batch["source"].to_pylist()
            lines, ends = line_keys.describe(batch["text"].to_pylist(), salts(names))
            docs = np.zeros(len(ends), DOCUMENT)
            docs["end"], docs["source"] = ends + count, [sources.setdefault(name, len(sources)) for name in names]
            line_file.write(lines.tobytes())
            document_file.write(docs.tobytes())
            sums.append(_sums(lines["key"], ends))
            count += len(lines)
    sums = np.concatenate(sums)
    work_files.write_table(work, number, "texts", [sums], np.arange(len(sums), dtype=np.uint32))
    write_json(work.path(number, "sources"), list(sources))
    return number, len(sums)


def _sums(keys: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """u8[documents]: the same for documents whose lines are the same."""
    sums = np.append(np.uint64(0), np.cumsum(mix(keys)))[np.append(0, ends)]
    return mix(sums[1:] - sums[:-1])


def salts(sources: list[str]) -> np.ndarray:
    """u8[n]: what sets the keys of one source apart from those of others."""
    salt = {name: int.from_bytes(signatures.digest(name)[:8], "little") for name in set(sources)}
    return np.array([salt[name] for name in sources], np.uint64)


# Between: which keys repeat


def copies(task: Task, counts: list[tuple[int, int]], work: Work) -> Iterator[tuple[int, np.ndarray]]:
    """One range of texts -> (file number, rows u8[m]) of documents with the same lines as a document before."""
    hashes, keys = work_files.read_slice(work, sorted(dict(counts)), "texts", 1, task)
    again = keys[1:][hashes[1:] == hashes[:-1]]
    yield from by_number(files_of(again), rows_of(again))


def count(file: tuple[int, dict], work: Work) -> Counted:
    """(number, {"documents": [n], "copies": rows}) -> the file's runs of (key, source, documents), without copies."""
    number, groups = file
    single = np.ones(groups["documents"][0], bool)
    for rows in groups["copies"]:
        single[rows.astype(np.int64)] = False
    with work_files.fresh(work.path(number, "single")) as f:
        f.write(single.tobytes())
    names = read_json(work.path(number, "sources"), list[str])
    of_source, lines, runs, held = np.zeros(len(names), np.int64), 0, 0, []
    for piece in pieces(work, number):
        of_source += np.bincount(piece.docs["source"][piece.single], minlength=len(names))
        held.append(keys_by_document(piece))
        lines += len(held[-1])
        if sum(map(len, held)) >= RUN:
            runs, held = _write_run(work, number, runs, held), []
    runs = _write_run(work, number, runs, held)
    return Counted(number, runs, lines, dict(zip(names, of_source.tolist(), strict=True)))


def keys_by_document(piece: Piece) -> np.ndarray:
    """REPEATED: one for each key of each document that is no copy."""
    keys, rows = piece.lines["key"], piece.rows
    some = piece.single[rows] & (keys != 0)
    keys, rows = keys[some], rows[some]
    order = np.lexsort((keys, rows))
    keys, rows = keys[order], rows[order]
    first = (np.diff(keys, prepend=np.uint64(0)) != 0) | (np.diff(rows, prepend=-1) != 0)
    distinct = np.ones(int(first.sum()), REPEATED)
    distinct["key"], distinct["source"] = keys[first], piece.docs["source"][rows[first]]
    return distinct


def _write_run(work: Work, number: int, run: int, held: list[np.ndarray]) -> int:
    total = summed(held)
    with work_files.fresh(work.path(number, f"key-{run}")) as f:
        f.write(np.ascontiguousarray(total["key"]).tobytes())
    with work_files.fresh(work.path(number, f"count-{run}")) as f:
        f.write(total[["source", "documents"]].astype(COUNT).tobytes())
    return run + 1


def summed(parts: list[np.ndarray]) -> np.ndarray:
    """REPEATED arrays -> one, sorted by key, with the documents of each key added up."""
    counts = np.concatenate([np.zeros(0, REPEATED), *parts])
    keys, first, place = np.unique(counts["key"], return_index=True, return_inverse=True)
    total = counts[first]
    total["documents"] = np.bincount(place, counts["documents"], len(keys)).astype(np.int64)
    return total


def candidates(task: Task, counted: list[Counted], plan: Plan) -> np.ndarray:
    """One range of keys -> REPEATED of those in enough documents; sources are numbered over all files."""
    number_of = {name: n for n, name in enumerate(documents_of(counted))}
    parts = []
    for file in sorted(counted):
        numbers = np.array([number_of[name] for name in file.sources], np.uint32)
        for run in range(file.runs):
            part = _read_run(plan.work, file.number, run, task)
            part["source"] = numbers[part["source"]]
            parts.append(part)
    return frequent(summed(parts), documents_of(counted), plan)


def _read_run(work: Work, number: int, run: int, task: Task) -> np.ndarray:
    keys = work_files.mapped(work.path(number, f"key-{run}"), np.uint64)
    first, last = work_files.bounds(keys, task)
    counts = work_files.mapped(work.path(number, f"count-{run}"), COUNT)[first:last]
    repeated = np.zeros(last - first, REPEATED)
    repeated["key"], repeated["source"], repeated["documents"] = keys[first:last], counts["source"], counts["documents"]
    return repeated


def documents_of(counted: Iterable[Counted]) -> dict[str, int]:
    """Documents of each source, by name."""
    total = Counter()
    for file in counted:
        total.update(file.sources)
    return dict(sorted(total.items()))


def frequent(keys: np.ndarray, of_source: dict[str, int], plan: Plan) -> np.ndarray:
    """REPEATED keys that are in enough documents of their source."""
    total = np.array(list(of_source.values()), np.int64)[keys["source"]]
    of_all = keys["documents"] / np.maximum(total, 1)  # not times: .07 * 100 is more than 7
    return keys[(keys["documents"] >= plan.options.min_documents) & (of_all >= plan.options.min_share)]


def recount(file: Counted, by_task: list[np.ndarray], counted: list[Counted], plan: Plan) -> np.ndarray:
    """One file -> i8[candidates + sources]: documents that count, with each candidate and of each source."""
    known, names = sorted_by_key(by_task), {name: n for n, name in enumerate(documents_of(counted))}
    numbers = np.array([names[name] for name in file.sources], np.int64)
    by_key, by_source = np.zeros(len(known), np.int64), np.zeros(len(names), np.int64)
    for piece in pieces(plan.work, file.number):
        rows, place, width = piece.rows, places(piece.lines["key"], known), piece.lines["width"]
        total, shared = (np.bincount(rows, letters, len(piece.docs)) for letters in (width, width * (place >= 0)))
        counts = piece.single & (total - shared > OWN_LETTERS * total)
        by_source += np.bincount(numbers[piece.docs["source"][counts]], minlength=len(names))
        here = counts[rows] & (place >= 0)
        once_a_document = np.unique(rows[here] * np.int64(len(known)) + place[here]) % max(1, len(known))
        by_key += np.bincount(once_a_document, minlength=len(known))
    return np.concatenate([by_key, by_source])


def sorted_by_key(by_task: Iterable[np.ndarray]) -> np.ndarray:
    """REPEATED of all tasks as one array, in whatever order the tasks end."""
    return np.sort(np.concatenate([np.zeros(0, REPEATED), *by_task]), order="key")


def places(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """i8[n]: where in REPEATED each key stands, -1 where it does not."""
    if not len(known):
        return np.full(len(keys), -1)
    names = np.ascontiguousarray(known["key"])
    place = np.minimum(np.searchsorted(names, keys), len(names) - 1)
    return np.where(names[place] == keys, place, -1)


def pieces(work: Work, number: int) -> Iterator[Piece]:
    """A file's pieces, read and not mapped: what was read leaves memory."""
    begin = 0
    with (
        open(work.path(number, "lines"), "rb") as lines,
        open(work.path(number, "documents"), "rb") as docs,
        open(work.path(number, "single"), "rb") as single,
    ):
        while data := docs.read(PIECE * DOCUMENT.itemsize):
            piece = np.frombuffer(data, DOCUMENT).copy()
            piece["end"] -= begin
            size = int(piece["end"][-1])
            line = np.frombuffer(lines.read(size * LINE.itemsize), LINE)
            yield Piece(line, piece, np.frombuffer(single.read(len(piece)), bool))
            begin += size


def settle(sums: np.ndarray, by_task: list[np.ndarray], counted: list[Counted], plan: Plan) -> np.ndarray:
    """Sums of recount -> REPEATED that go; leaves them and the names of sources for `finish`."""
    known, names = sorted_by_key(by_task), list(documents_of(counted))
    of_source = sums[len(known) :]
    known["documents"] = sums[: len(known)]
    known["share"] = known["documents"] / np.maximum(of_source, 1)[known["source"]]
    repeated = frequent(known, dict(zip(names, of_source.tolist(), strict=True)), plan)
    with work_files.fresh(plan.work.folder / "repeated") as f:
        f.write(repeated.tobytes())
    write_json(plan.work.folder / "sources.json", names)
    return repeated
