"""Evaluation questions, and where they stand in text: whole, or 13 words in a row and an answer beside them.

See decontaminate.py for what counts.  Questions are JSONL or CSV: `question` (or `problem`), `answer`, `aliases`, `id`.
"""

import csv
import functools
import glob
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.text.words import BASE, characters, folded, word_hashes
from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.decode import read_lines

GRAM, WHOLE, NEAR = 13, 6, 100  # words
QUESTIONS = "use JSONL, or CSV with a header"
MAYBE_BITS = 24  # of a hash: 16 MB that tell most grams apart from those of questions, before any search
PLACES = BASE ** np.arange(1, GRAM + 1, dtype=np.uint64)  # of a word in its gram


class Question(NamedTuple):
    name: str
    words: np.ndarray  # u8 hashes
    answers: tuple[np.ndarray, ...]


class Table(NamedTuple):
    questions: list[Question]
    # Size in words -> sorted hashes of the grams of that size; (question, place of the gram in it) of each.
    grams: dict[int, tuple[np.ndarray, np.ndarray]]
    maybe: np.ndarray  # bool: does a gram's hash begin with these bits?


@functools.cache
def load(patterns: tuple[str, ...]) -> Table:
    """Files, or globs of them -> the table that documents are looked up in; UserError where there is no question."""
    files = sorted({file for pattern in patterns for file in glob.glob(pattern, recursive=True)})
    missing = [pattern for pattern in patterns if not glob.glob(pattern, recursive=True)]
    if missing:
        raise UserError(f"--questions={missing[0]} names no file; name a JSONL or CSV file or a glob")
    questions = [question for file in files for question in read_questions(file)]
    if not questions:
        raise UserError(f"--questions={patterns[0]} holds no question; each line needs `question` and `answer`")
    grams = {}
    for number, question in enumerate(questions):
        *_, (size, longest) = [(0, question.words), *grams_of(question.words)]  # 0: a question without words
        for place, value in enumerate(longest.tolist()):
            grams.setdefault(size, {}).setdefault(value, []).append((number, place))
    table = {size: by_hash(of) for size, of in grams.items()}
    maybe = np.zeros(1 << MAYBE_BITS, bool)
    for hashes, _ in table.values():
        maybe[hashes >> np.uint64(64 - MAYBE_BITS)] = True
    return Table(questions, table, maybe)


def by_hash(places: dict[int, list]) -> tuple[np.ndarray, np.ndarray]:
    """{hash: [(question, place)]} -> hashes u8[n], sorted, one for each pair, and the pairs i8[n, 2]."""
    flat = sorted((value, *place) for value, pairs in places.items() for place in pairs)
    return np.array([one[0] for one in flat], np.uint64), np.array([one[1:] for one in flat], np.int64)


def read_questions(file: str) -> Iterator[Question]:
    for number, row in enumerate(csv_rows(file) if file.endswith(".csv") else read_lines(file, dict, QUESTIONS), 1):
        yield question_of({str(key).lower(): value for key, value in row.items()}, f"{file} {number}")


def csv_rows(file: str, way_out: str = QUESTIONS) -> Iterator[dict]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            yield from csv.DictReader(lines)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as questions ({one_line(error)}); {way_out}") from error


def question_of(row: dict, where: str) -> Question:
    text = row.get("question") or row.get("problem")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where} has no `question` (or `problem`); add it or leave the line out")
    answers = [words for words in words_of(answers_of(row)) if len(words)]
    return Question(str(row.get("id") or where), words_of([text])[0], tuple(answers))


def answers_of(row: dict) -> list[str]:
    """Answer and aliases, each a text, a number or a list of them."""
    answer = row.get("answer")
    answer = row.get(str(answer).lower(), answer) if len(str(answer)) == 1 else answer  # the text of a choice
    given = [one if isinstance(one, list) else [one] for one in (answer, row.get("aliases"))]
    return [str(one) for one in itertools.chain(*given) if one is not None]


def words_of(texts: Sequence[str]) -> list[np.ndarray]:
    """Hashes of the words of each text, u8."""
    codes, begins = folded(texts)
    words, starts = word_hashes(codes, characters()[0][codes], begins)
    return np.split(words, np.searchsorted(starts, begins[1:-1]))


def grams_of(words: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """u8[n] -> (size, u8[n - size + 1]) for each size up to GRAM: a hash of each run of so many words."""
    hashes = np.zeros(len(words), np.uint64)
    for size in range(1, min(GRAM, len(words)) + 1):
        hashes = hashes[: len(words) - size + 1] + words[size - 1 :] * PLACES[size - 1]
        yield size, hashes


def find(words: np.ndarray, table: Table) -> tuple[str, str] | None:
    """(question's id, whole | near) of the first question that stands among the words; None of a clean document."""
    return next(hits(words, table), None)


def hits(words: np.ndarray, table: Table) -> Iterator[tuple[str, str]]:
    """(question's id, whole | near) of the questions that stand among the words; some may come several times."""
    for size, grams in grams_of(words):
        if size not in table.grams:
            continue
        hashes, pairs = table.grams[size]
        some = np.flatnonzero(table.maybe[grams >> np.uint64(64 - MAYBE_BITS)])
        first, last = (np.searchsorted(hashes, grams[some], side) for side in ("left", "right"))
        for n in np.flatnonzero(last > first).tolist():
            at = int(some[n])
            for number, place in pairs[first[n] : last[n]].tolist():
                kind = kind_of(words, at, size, table.questions[number], place)
                if kind:
                    yield table.questions[number].name, kind


def kind_of(words: np.ndarray, at: int, size: int, question: Question, place: int) -> str | None:
    """How a document holds the question (None: not at all), of which `size` words, from `place` on, stand at `at`."""
    begin, length = at - place, len(question.words)
    if length >= WHOLE and begin >= 0 and np.array_equal(words[begin : begin + length], question.words):
        return "whole"
    sides = words[max(0, at - NEAR) : at], words[at + size : at + size + NEAR]
    return "near" if any(holds(side, answer) for side in sides for answer in question.answers) else None


def holds(words: np.ndarray, run: np.ndarray) -> bool:
    starts = np.flatnonzero(words[: max(0, len(words) - len(run) + 1)] == run[0])
    return any(np.array_equal(words[start : start + len(run)], run) for start in starts)
