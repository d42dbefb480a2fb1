"""Paragraphs that repeat, in one document or in many: the first as read stays (data_prep.dedup --paragraphs).

A paragraph is a line; two are the same if their digests are (case, width, blanks and punctuation aside).  Lines of
fewer characters than asked for stay: headings and answers repeat by right.  Only documents that are no duplicates are
looked at, and a document of which nothing is left goes as `repeated_paragraphs`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from data_prep.duplicates import buckets, signatures, work_files
from data_prep.duplicates.work_files import Task, Work, by_number, files_of, rows_of

PARAGRAPH = np.dtype([("digest", "u8", 2), ("row", "u4"), ("place", "u4")])
TABLE = "paragraphs"


@contextmanager
def writer(work: Work, number: int, min_characters: int) -> Iterator[Callable[[list[str]], None]]:
    """Gives add(texts), for the texts of a file in turn, and writes a table of their long lines; nothing where 0."""
    if not min_characters:
        yield lambda texts: None
        return
    start = 0
    with work_files.fresh(work.path(number, TABLE)) as file:

        def add(texts: list[str]) -> None:
            nonlocal start
            file.write(long_lines(texts, min_characters, start).tobytes())
            start += len(texts)

        yield add
    digests = paragraphs(work, number)["digest"][:, 0]
    work_files.write_table(work, number, TABLE, [digests], np.arange(len(digests), dtype=np.uint32))


def long_lines(texts: list[str], min_characters: int, start: int) -> np.ndarray:
    """Texts, the first in row `start` -> PARAGRAPH[n] of the lines of so many characters that count."""
    places = [
        (row, place, line)
        for row, text in enumerate(texts, start)
        for place, line in enumerate(text.split("\n"))
        if len(line) >= min_characters
    ]
    lines = np.zeros(len(places), PARAGRAPH)
    digests, lengths, _ = signatures.describe([line for *_, line in places], near=False)
    lines["digest"] = digests.view("u8")
    lines["row"], lines["place"] = [row for row, *_ in places], [place for _, place, _ in places]
    return lines[lengths >= min_characters]


def paragraphs(work: Work, number: int) -> np.ndarray:
    return work_files.mapped(work.path(number, TABLE), PARAGRAPH)


def repeats(task: Task, counts: list[tuple[int, int]], work: Work) -> Iterator[tuple]:
    """One range of digests -> (file number, (row, place) u4[m, 2]) of the paragraphs that go."""
    files = [number for number, _ in sorted(counts) if number < work.first_earlier]
    hashes, keys = work_files.read_slice(work, files, TABLE, 1, task)
    keys = np.sort(keys[buckets.repeated(hashes)])
    numbers, index = files_of(keys), rows_of(keys).astype(np.int64)
    lines, stays = np.zeros(len(keys), PARAGRAPH), np.zeros(len(keys), bool)
    for number in np.unique(numbers):
        here = numbers == number
        lines[here] = paragraphs(work, int(number))[index[here]]
        stays[here] = work_files.column(work, int(number), "settled")[lines["row"][here]] > 0
    yield from _all_but_first(lines[stays], numbers[stays])


def _all_but_first(lines: np.ndarray, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """PARAGRAPH[n] in the order of reading, and the file of each -> as `repeats`."""
    if len(lines):
        gone = np.ones(len(lines), bool)
        gone[np.unique(np.ascontiguousarray(lines["digest"]).view("V16").ravel(), return_index=True)[1]] = False
        yield from by_number(numbers[gone], np.stack([lines["row"], lines["place"]], axis=1)[gone])


def without(texts: list[str], start: int, gone: dict[int, set[int]]) -> list[str]:
    """Texts, the first in row `start`, without the lines {row: places}."""
    return [_without(text, gone[row]) if row in gone else text for row, text in enumerate(texts, start)]


def _without(text: str, gone: set[int]) -> str:
    return "\n".join(line for place, line in enumerate(text.split("\n")) if place not in gone)


def by_row(parts: list[np.ndarray]) -> dict[int, set[int]]:
    """(row, place) u4[m, 2] arrays -> {row: places}"""
    places = {}
    for part in parts:
        for row, place in part.tolist():
            places.setdefault(row, set()).add(place)
    return places
