"""Names of a list in a run of tokens.

A name is found where its own tokens stand.  Those of the Qwen2 tokenizer do at 99% of the English names in an
encyclopaedia and at 96% of the Chinese ones in text on music; the others share a token with their neighbours, two
characters most often, and common words that are names too (13% of such names in Chinese text on other things).
"""

import functools
import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mucpt_jax.errors import UserError
from mucpt_jax.formats.tokenizer import load_tokenizer, vocab_size


@functools.cache
def letters(tokenizer_folder: str) -> tuple[np.ndarray, np.ndarray]:
    """bool [ids] each: does a token's text begin, does it end inside a word?

    Letters and digits of scripts with spaces do; so do bytes of a character that no token holds whole.  Where no token
    holds the blank before it, tokens are whole words.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    texts = tokenizer.batch_decode([[i] for i in range(vocab_size(tokenizer))])
    blanks = any(text.startswith(" ") for text in texts)
    begins = np.array([blanks and bool(text) and in_word(text[0]) for text in texts])
    return begins, np.array([bool(text) and in_word(text[-1]) for text in texts])


def in_word(character: str) -> bool:
    """Han and kana are no letters here: a script without spaces has its words in the tokens, if anywhere.  (Thai, Lao,
    Khmer and Burmese, which have none either, are taken for letters: a phrase of them is one word.)"""
    unspaced = "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or character >= "\U00020000"
    letter = unicodedata.category(character)[0] in "LMN"  # with marks: vowel signs stand inside words
    return character == "\N{REPLACEMENT CHARACTER}" or (letter and not unspaced)


class Names(NamedTuple):
    number_of: dict[bytes, int]  # i4 tokens (a third of a tuple's memory) -> number of the name, from 0
    lengths: dict[int, list[int]]  # first token -> lengths of the names that begin with it, longest first
    begins: np.ndarray  # bool [ids]: is there a name that begins with the token?


Span = tuple[int, int, int]  # start, end, the name's number


@functools.cache
def read(tokenizer_folder: str, file: str) -> Names:
    """A file of names, one a line, as tokens: as they stand at the start of a text and behind a blank."""
    tokenizer = load_tokenizer(tokenizer_folder)
    try:  # utf-8-sig: utf-8 with a byte order mark or without
        lines = sorted({line.strip() for line in Path(file).read_text(encoding="utf-8-sig").split("\n")} - {""})
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the names in {file} cannot be read ({error}); name a text file, a name a line") from error
    texts = ((before + line, number) for before in ("", " ") for number, line in enumerate(lines))
    names = index(in_tokens(texts, tokenizer))
    if not names.number_of:
        raise UserError(f"{file} holds no names; write one a line")
    return names


def in_tokens(texts: Iterable[tuple[str, int]], tokenizer) -> Iterator[tuple[list[int], int]]:
    """10,000 texts at a time: the library's answers are large."""
    texts = iter(texts)
    while held := list(itertools.islice(texts, 10_000)):
        runs = tokenizer([text for text, _ in held], add_special_tokens=False)["input_ids"]
        yield from zip(runs, (number for _, number in held), strict=True)


def index(runs: Iterable[tuple[Sequence[int], int]]) -> Names:
    """Tokens of names and their numbers; the first of equal runs has it."""
    number_of, lengths = {}, {}
    for run, number in runs:
        if run:
            number_of.setdefault(np.array(run, np.int32).tobytes(), number)
            lengths.setdefault(run[0], set()).add(len(run))
    begins = np.zeros(max(lengths, default=0) + 2, bool)  # the last one is for all ids beyond
    begins[list(lengths)] = True
    return Names(number_of, {first: sorted(sizes, reverse=True) for first, sizes in lengths.items()}, begins)


def goes_on(tokens: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """i4[N] -> bool [N]: a token goes on a word where it begins inside one and the token before ends inside one."""
    known = tokens < len(begins)
    at = np.where(known, tokens, 0)
    return np.concatenate([[False], begins[at[1:]] & ends[at[:-1]] & known[1:] & known[:-1]])


def spans(tokens: np.ndarray, goes_on: np.ndarray, names: Names) -> list[Span]:
    """Where names stand, from left to right, the longest where several begin at a token; whole words only."""
    run, first, places, until = tokens.astype(np.int32).tobytes(), tokens.tolist(), [], 0
    possible = names.begins[np.minimum(tokens, len(names.begins) - 1)] & ~goes_on
    for i in np.flatnonzero(possible).tolist():
        for length in names.lengths[first[i]] if i >= until else ():
            number = names.number_of.get(run[4 * i : 4 * (i + length)]) if i + length <= len(first) else None
            if number is not None and not goes_on[i + length : i + length + 1].any():
                places.append((i, i + length, number))
                until = i + length
                break
    return places
