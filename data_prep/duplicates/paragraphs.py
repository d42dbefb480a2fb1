"""Paragraphs that repeat: of those that are the same, in one document or in many, the first as read stays.

No command of its own; data_prep.dedup --paragraphs calls it.

A paragraph is a line; the same are those of one digest (case, width, blanks and punctuation aside).  Lines of fewer
characters than asked for stay: headings and answers repeat by right.  Counted are documents that stay without
duplicates of whole documents, and a document of which nothing is left goes as `repeated_paragraphs`.
"""

from collections.abc import Iterator

import numpy as np

from data_prep.duplicates import buckets, signatures, work_files
from data_prep.duplicates.work_files import Work

PARAGRAPH = np.dtype([("digest", "u8", 2), ("row", "u4"), ("place", "u4")])
TABLE = "paragraphs"


class Writer:
    """Leaves digests of the long lines of a file's texts, and their table; nothing where `least` is 0."""

    def __init__(self, work: Work, number: int, least: int):
        self.work, self.number, self.least, self.rows = work, number, least, 0

    def __enter__(self):
        if self.least:
            self.whole = work_files.fresh(self.work.path(self.number, TABLE))
            self.file = self.whole.__enter__()
        return self

    def add(self, texts: list[str]) -> None:
        if self.least:
            self.file.write(long_lines(texts, self.least, self.rows).tobytes())
            self.rows += len(texts)

    def __exit__(self, kind, *error):
        if self.least:
            self.whole.__exit__(kind, *error)
        if self.least and kind is None:
            found = paragraphs(self.work, self.number)
            work_files.write_table(
                self.work, self.number, TABLE, [found["digest"][:, 0]], np.arange(len(found), dtype=np.uint32)
            )


def long_lines(texts: list[str], least: int, start: int) -> np.ndarray:
    """Texts, the first in row `start` -> PARAGRAPH[lines of `least` characters that count]."""
    places = [
        (row, place, line)
        for row, text in enumerate(texts, start)
        for place, line in enumerate(text.split("\n"))
        if len(line) >= least
    ]
    made = np.zeros(len(places), PARAGRAPH)
    digests, lengths, _ = signatures.describe([line for *_, line in places], near=False)
    made["digest"] = digests.view("u8")
    made["row"], made["place"] = [row for row, *_ in places], [place for _, place, _ in places]
    return made[lengths >= least]


def paragraphs(work: Work, number: int) -> np.ndarray:
    return work_files.mapped(work.path(number, TABLE), PARAGRAPH)


def repeats(task: tuple[int, int, int], counts: list[tuple[int, int]], work: Work) -> Iterator[tuple]:
    """One range of digests -> (file number, (row, place) u4[m, 2]) of the paragraphs that go."""
    files = [number for number, _ in sorted(counts) if number < work.first_earlier]
    hashes, keys = work_files.read_slice(work, files, TABLE, 1, task)
    keys = np.sort(keys[buckets.repeated(hashes)])
    numbers = (keys >> np.uint64(32)).astype(np.int64)
    index = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    found = np.zeros(len(keys), PARAGRAPH)
    stays = np.zeros(len(keys), bool)
    for number in np.unique(numbers):
        here = numbers == number
        found[here] = paragraphs(work, int(number))[index[here]]
        stays[here] = work_files.column(work, int(number), "settled")[found["row"][here]] > 0
    yield from _all_but_first(found[stays], numbers[stays])


def _all_but_first(found: np.ndarray, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """PARAGRAPH[n] in the order of reading, and the file of each."""
    if len(found):
        digests = np.ascontiguousarray(found["digest"]).view("V16").ravel()
        gone = np.ones(len(found), bool)
        gone[np.unique(digests, return_index=True)[1]] = False
        for number in np.unique(numbers[gone]):
            here = found[gone & (numbers == number)]
            yield int(number), np.stack([here["row"], here["place"]], axis=1)


def without(texts: list[str], start: int, gone: dict[int, set[int]]) -> list[str]:
    """Texts, the first in row `start`, without the lines {row: places}."""
    return [_without(text, gone[row]) if row in gone else text for row, text in enumerate(texts, start)]


def _without(text: str, gone: set[int]) -> str:
    return "\n".join(line for place, line in enumerate(text.split("\n")) if place not in gone)


def by_row(parts: list[np.ndarray]) -> dict[int, set[int]]:
    """(row, place) u4[m, 2] arrays -> {row: places}"""
    made = {}
    for part in parts:
        for row, place in part.tolist():
            made.setdefault(row, set()).add(place)
    return made
