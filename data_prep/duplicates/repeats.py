"""Repeats: which keys of lines stand in many documents of a source, counted on disk.

No command of its own; data_prep.boilerplate calls it.

Of every input file stay its lines (LINE) and documents in order, and runs of (key, documents) sorted by key.  A task
reads one range of keys out of the runs of all files, so nothing as long as the corpus is ever in one memory; only keys
that repeat are handed on, and the rows of copies.

Of documents of the same lines one counts.  When it is known which keys repeat, each file is counted again without the
documents that are hardly more than such lines: copies of one page that are not quite the same.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.duplicates import signatures, work_files
from data_prep.duplicates.work_files import Work
from data_prep.jobs import documents
from data_prep.text import line_keys
from data_prep.text.line_keys import LINE
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.hashes import mix

OWN_LETTERS = 0.1  # least share of a document's letters in lines of its own, for it to count
RUN = 1 << 20  # lines whose keys are sorted at once
PIECE = 1 << 10  # documents whose lines are looked at together
DOCUMENT = np.dtype([("end", "i8"), ("source", "u4")])  # of its lines; its source's place in the file's list
COUNT = np.dtype([("source", "u4"), ("documents", "u4")])
# `share` of its source's documents is known when all is counted.
REPEATED = np.dtype([("key", "u8"), ("source", "u4"), ("documents", "i8"), ("share", "f8")])


class Options(NamedTuple):
    folder: Path  # that becomes the output
    columns: dict[str, str]
    work: Work
    min_documents: int
    min_share: float
    min_letters: int


class Counted(NamedTuple):
    """What is known of a file when its keys are counted."""

    number: int
    runs: int  # sorted tables of its keys
    lines: int
    sources: dict[str, int]  # documents of each, copies aside, in the order of DOCUMENT's `source`


# First reading: keys of lines


def scan(file: tuple[int, str], options: Options) -> tuple[int, int]:
    """(number, path) -> (number, documents); leaves its lines, its documents and the table of what they are made of."""
    number, path = file
    work, sources, lines, made_of = options.work, {}, 0, [np.zeros(0, np.uint64)]
    note = options.folder / f"scan-{number:05d}.progress"
    with (
        work_files.fresh(work.path(number, "lines")) as line_file,
        work_files.fresh(work.path(number, "documents")) as document_file,
    ):
        for batch, _ in documents.read_batches(path, options.columns, note):
            names = batch["source"].to_pylist()
            source = [sources.setdefault(name, len(sources)) for name in names]
            found, ends = line_keys.describe(batch["text"].to_pylist(), salts(names))
            line_file.write(found.tobytes())
            document_file.write(_documents(ends + lines, source).tobytes())
            made_of.append(_sums(found["key"], ends))
            lines += len(found)
    made_of = np.concatenate(made_of)
    work_files.write_table(work, number, "texts", [made_of], np.arange(len(made_of), dtype=np.uint32))
    write_json(work.path(number, "sources"), list(sources))
    return number, len(made_of)


def _sums(keys: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """u8[documents]: the same for those of the same lines."""
    sums = np.append(np.uint64(0), np.cumsum(mix(keys)))[np.append(0, ends)]
    return mix(sums[1:] - sums[:-1])


def salts(sources: list[str]) -> np.ndarray:
    made = {name: int.from_bytes(signatures.digest(name)[:8], "little") for name in set(sources)}
    return np.array([made[name] for name in sources], np.uint64)


def _documents(ends: np.ndarray, source: list[int]) -> np.ndarray:
    made = np.zeros(len(ends), DOCUMENT)
    made["end"], made["source"] = ends, source
    return made


# Between: which keys repeat


def copies(task: tuple[int, int, int], counts: list[tuple[int, int]], work: Work) -> Iterator[tuple[int, np.ndarray]]:
    """One range of texts -> (file number, rows u8[m]) of documents whose lines all stood in one before."""
    hashes, keys = work_files.read_slice(work, sorted(dict(counts)), "texts", 1, task)
    again = keys[1:][hashes[1:] == hashes[:-1]]
    numbers = again >> np.uint64(32)
    for number in np.unique(numbers):
        yield int(number), again[numbers == number] & np.uint64(0xFFFFFFFF)


def count(joined: tuple[int, dict], work: Work) -> Counted:
    """(number, {"documents": [n], "copies": rows}) -> the file's runs of (key, source, documents), without copies."""
    number, groups = joined
    single = np.ones(groups["documents"][0], bool)
    for rows in groups["copies"]:
        single[rows.astype(np.int64)] = False
    with work_files.fresh(work.path(number, "single")) as f:
        f.write(single.tobytes())
    names = json.loads(work.path(number, "sources").read_text(encoding="utf-8"))
    of_source, lines, runs, held = np.zeros(len(names), np.int64), 0, 0, []
    for found, docs, taken in _pieces(work, number):
        of_source += np.bincount(docs["source"][taken], minlength=len(names))
        held.append(_once(found["key"], docs, taken))
        lines += len(held[-1])
        if sum(map(len, held)) >= RUN:
            runs, held = _write_run(work, number, runs, held), []
    runs = _write_run(work, number, runs, held)
    return Counted(number, runs, lines, dict(zip(names, of_source.tolist(), strict=True)))


def _once(keys: np.ndarray, docs: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Keys of lines -> REPEATED, one for each key of each document that is taken."""
    rows = np.repeat(np.arange(len(docs)), np.diff(docs["end"], prepend=0))
    some = taken[rows] & (keys != 0)
    keys, rows = keys[some], rows[some]
    order = np.lexsort((keys, rows))
    keys, rows = keys[order], rows[order]
    first = (np.diff(keys, prepend=np.uint64(0)) != 0) | (np.diff(rows, prepend=-1) != 0)
    made = np.ones(int(first.sum()), REPEATED)
    made["key"], made["source"] = keys[first], docs["source"][rows[first]]
    return made


def _write_run(work: Work, number: int, run: int, held: list[np.ndarray]) -> int:
    found = _total(np.concatenate([np.zeros(0, REPEATED), *held]))
    with work_files.fresh(work.path(number, f"key-{run}")) as f:
        f.write(np.ascontiguousarray(found["key"]).tobytes())
    with work_files.fresh(work.path(number, f"count-{run}")) as f:
        f.write(found[["source", "documents"]].astype(COUNT).tobytes())
    return run + 1


def _total(found: np.ndarray) -> np.ndarray:
    """REPEATED -> the same, sorted, each key once."""
    keys, first, place = np.unique(found["key"], return_index=True, return_inverse=True)
    made = found[first]
    made["documents"] = np.bincount(place, found["documents"], len(keys)).astype(np.int64)
    return made


def candidates(task: tuple[int, int, int], counted: list[Counted], options: Options) -> np.ndarray:
    """One range of keys -> REPEATED of those in enough documents; sources are numbered over all files."""
    number_of = {name: n for n, name in enumerate(documents_of(counted))}
    parts = [np.zeros(0, REPEATED)]
    for file in sorted(counted):
        numbers = np.array([number_of[name] for name in file.sources], np.uint32)
        for run in range(file.runs):
            part = _read_run(options.work, file.number, run, task)
            part["source"] = numbers[part["source"]]
            parts.append(part)
    return enough(_total(np.concatenate(parts)), documents_of(counted), options)


def _read_run(work: Work, number: int, run: int, task: tuple[int, int, int]) -> np.ndarray:
    keys = work_files.mapped(work.path(number, f"key-{run}"), np.uint64)
    first, last = work_files.bounds(keys, task)
    counts = work_files.mapped(work.path(number, f"count-{run}"), COUNT)[first:last]
    made = np.zeros(last - first, REPEATED)
    made["key"], made["source"], made["documents"] = keys[first:last], counts["source"], counts["documents"]
    return made


def documents_of(counted: Iterable[Counted]) -> dict[str, int]:
    """Documents of each source, by name."""
    made = {}
    for file in counted:
        for name, count in file.sources.items():
            made[name] = made.get(name, 0) + count
    return dict(sorted(made.items()))


def enough(found: np.ndarray, of_source: dict[str, int], options: Options) -> np.ndarray:
    total = np.array(list(of_source.values()), np.int64)[found["source"]]
    of_all = found["documents"] / np.maximum(total, 1)  # not times: .07 * 100 is more than 7
    return found[(found["documents"] >= options.min_documents) & (of_all >= options.min_share)]


def recount(file: Counted, found: list[np.ndarray], counted: list[Counted], options: Options) -> np.ndarray:
    """One file -> i8[candidates + sources]: documents that count, with each candidate and of each source."""
    known, names = joined(found), {name: n for n, name in enumerate(documents_of(counted))}
    numbers = np.array([names[name] for name in file.sources], np.int64)
    made = np.zeros(len(known) + len(names), np.int64)
    for lines, docs, taken in _pieces(options.work, file.number):
        rows = np.repeat(np.arange(len(docs)), np.diff(docs["end"], prepend=0))
        place = places(lines["key"], known)
        total, shared = (np.bincount(rows, w, len(docs)) for w in (lines["width"], lines["width"] * (place >= 0)))
        counts = taken & (total - shared > OWN_LETTERS * total)
        made[len(known) :] += np.bincount(numbers[docs["source"][counts]], minlength=len(names))
        here = counts[rows] & (place >= 0)
        once = np.unique(rows[here] * np.int64(len(known)) + place[here]) % max(1, len(known))
        made[: len(known)] += np.bincount(once, minlength=len(known))
    return made


def joined(found: Iterable[np.ndarray]) -> np.ndarray:
    """REPEATED of all tasks, sorted by key: whatever the order in which they come."""
    return np.sort(np.concatenate([np.zeros(0, REPEATED), *found]), order="key")


def places(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """i8[n]: where in REPEATED each key stands, -1 where it does not."""
    if not len(known):
        return np.full(len(keys), -1)
    names = np.ascontiguousarray(known["key"])
    place = np.minimum(np.searchsorted(names, keys), len(names) - 1)
    return np.where(names[place] == keys, place, -1)


def _pieces(work: Work, number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A file's (LINE[m], DOCUMENT[n] with ends in these, bool[n] not copies) of PIECE documents at once.

    They are read and not mapped: what was read leaves memory.
    """
    begin = 0
    with (
        open(work.path(number, "lines"), "rb") as lines,
        open(work.path(number, "documents"), "rb") as docs,
        open(work.path(number, "single"), "rb") as single,
    ):
        while data := docs.read(PIECE * DOCUMENT.itemsize):
            found = np.frombuffer(data, DOCUMENT).copy()
            found["end"] -= begin
            size = int(found["end"][-1])
            taken = np.frombuffer(single.read(len(found)), bool)
            yield np.frombuffer(lines.read(size * LINE.itemsize), LINE), found, taken
            begin += size


def settle(counts: np.ndarray, found: list[np.ndarray], counted: list[Counted], options: Options) -> np.ndarray:
    """Sums of recount -> REPEATED that go; leaves them and the names of sources for `finish`."""
    known, names = joined(found), list(documents_of(counted))
    of_source = counts[len(known) :]
    known["documents"] = counts[: len(known)]
    known["share"] = known["documents"] / np.maximum(of_source, 1)[known["source"]]
    made = enough(known, dict(zip(names, of_source.tolist(), strict=True)), options)
    with work_files.fresh(options.work.folder / "repeated") as f:
        f.write(made.tobytes())
    write_json(options.work.folder / "sources.json", names)
    return made
