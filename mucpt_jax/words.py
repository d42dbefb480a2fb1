"""Words and names in a run of tokens: the units of loss.smooth and the claims of agreement.py.  No jax here."""

import functools
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mucpt_jax.records import UserError


def load(folder: str):
    from transformers import AutoTokenizer  # a second of imports that training does not need otherwise

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


@functools.cache
def letters(tokenizer_folder: str) -> tuple[np.ndarray, np.ndarray]:
    """bool [ids] each: does a token's text begin, does it end inside a word?

    Letters and digits of scripts with spaces do; so do bytes of a character that no token holds whole.  Where no token
    holds the blank before it, tokens are whole words.
    """
    tokenizer = load(tokenizer_folder)
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    blanks = any(text.startswith(" ") for text in texts)
    begins = np.array([blanks and bool(text) and in_word(text[0]) for text in texts])
    return begins, np.array([bool(text) and in_word(text[-1]) for text in texts])


def in_word(character: str) -> bool:
    """Han and kana are no letters here: a script without spaces has its words in the tokens, if anywhere.  (Thai, Lao,
    Khmer and Burmese, which have none either, are taken for letters: a phrase of them is one word.)"""
    unspaced = (
        "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or character >= "\U00020000"
    )
    letter = unicodedata.category(character)[0] in "LMN"  # with marks: vowel signs stand inside words
    return character == "\N{REPLACEMENT CHARACTER}" or (letter and not unspaced)


class Names(NamedTuple):
    number_of: dict[tuple[int, ...], int]  # tokens -> number of the name, from 0
    lengths: dict[int, list[int]]  # first token -> lengths of the names that begin with it, longest first
    begins: np.ndarray  # bool [ids]: is there a name that begins with the token?


Span = tuple[int, int, int]  # start, end, the name's number


@functools.cache
def names(tokenizer_folder: str, file: str) -> Names:
    """A file of names, one a line, as tokens: as they stand at the start of a text and behind a blank."""
    tokenizer = load(tokenizer_folder)
    try:
        lines = sorted({line.strip() for line in Path(file).read_text(encoding="utf-8").split("\n")} - {""})
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the names in {file} cannot be read ({error}); name a text file, a name a line"
        ) from error
    if not lines:
        raise UserError(f"{file} holds no names; write one a line")
    number_of = {}
    for texts in (lines, [f" {line}" for line in lines]):
        for number, run in enumerate(tokenizer(texts, add_special_tokens=False)["input_ids"]):
            number_of.setdefault(tuple(run), number)
    return index(number_of)


def index(number_of: dict[tuple[int, ...], int]) -> Names:
    lengths = {}
    for run in number_of:
        lengths.setdefault(run[0], set()).add(len(run))
    begins = np.zeros(max(lengths) + 1, bool)
    begins[list(lengths)] = True
    return Names(number_of, {first: sorted(found, reverse=True) for first, found in lengths.items()}, begins)


def goes_on(tokens: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """i4[N] -> bool [N]: a token goes on a word where it begins inside one and the token before ends inside one."""
    return np.concatenate([[False], begins[tokens[1:]] & ends[tokens[:-1]]])


def spans(tokens: np.ndarray, goes_on: np.ndarray, names: Names) -> list[Span]:
    """Where names stand, from left to right, the longest where several begin at a token; whole words only."""
    run, found, until = tokens.tolist(), [], 0
    possible = (
        names.begins[np.minimum(tokens, len(names.begins) - 1)] & (tokens < len(names.begins)) & ~goes_on
    )
    for i in np.flatnonzero(possible).tolist():
        for length in names.lengths[run[i]] if i >= until else ():
            number = names.number_of.get(tuple(run[i : i + length])) if i + length <= len(run) else None
            if number is not None and not goes_on[i + length : i + length + 1].any():
                found.append((i, i + length, number))
                until = i + length
                break
    return found


def starts(
    tokens: np.ndarray, begins: np.ndarray, ends: np.ndarray, names: Names | None = None
) -> np.ndarray:
    """i4[N] -> bool [N]: does a unit, a word or a name, start at the token?"""
    inside = goes_on(tokens, begins, ends)
    found = ~inside
    for start, end, _ in spans(tokens, inside, names) if names else ():
        found[start + 1 : end] = False
    return found
