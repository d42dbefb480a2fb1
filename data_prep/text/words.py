"""Words: kinds of characters, folding, and a hash of every word of many texts at once.

A text is read as words: a run of letters, digits and marks, or one character of a script that sets no blanks between
words (Han, kana, Thai, Khmer, ...).  Words are arithmetic on arrays over many texts at once, with no Python object per
word.
"""

import functools
import unicodedata
from collections.abc import Sequence

import numpy as np

from mucpt_jax.formats.hashes import GOLDEN as BASE
from mucpt_jax.formats.hashes import mix

PIECE = 1 << 18  # characters hashed at once; a longer text is cut, at the cost of the shingles over the cut
BLANK, WORD, LONE, SYMBOL = range(4)  # kinds of characters
# Scripts that set no blanks between words: Thai and Lao, Myanmar, Khmer, kana and bopomofo, ideographs.
LONE_RANGES = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x312F), (0x31A0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
INVERSE = np.uint64(pow(int(BASE), -1, 1 << 64))


@functools.cache
def characters() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of 0x110000 characters: u1 kind, u4 the character it folds to, and whether it needs its neighbours.

    Characters that fold to several, or join with the one before (ß, ½, accents that stand alone), need str.casefold.
    Characters above plane 3 are SYMBOLs.
    """
    kind, fold = np.full(0x110000, SYMBOL, np.uint8), np.arange(0x110000, dtype=np.uint32)
    joins = np.zeros(0x110000, bool)
    for code in [*range(0xD800), *range(0xE000, 0x20000), *range(0x2F800, 0x2FA20)]:
        mark, same = unicodedata.category(chr(code))[0], _fold(chr(code))
        kind[code] = WORD if chr(code).isalnum() or mark == "M" else SYMBOL if mark == "S" else BLANK
        blank = not any(c.isalnum() or unicodedata.category(c)[0] in "SM" for c in same)
        fold[code] = ord(same) if len(same) == 1 else 0x20 if blank else code
        joins[code] = mark == "M" or (not blank and (len(same) > 1 or 0x1100 <= fold[code] <= 0x11FF))
        joins[code] |= fold[code] in (0x3099, 0x309A)  # of half-width kana
    for first, last in LONE_RANGES:
        part = kind[first : last + 1]
        part[part == WORD] = LONE
    kind[0x20000:0x40000] = LONE
    return kind, fold, joins


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def folded(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts -> u4 codes of their characters, case and width folded, and i8[n + 1] begins of the texts."""
    _, fold, joins = characters()
    codes, begins = codes_of(texts)
    slow = np.searchsorted(begins, np.flatnonzero(joins[codes]), side="right") - 1
    if slow.size:
        slow = set(slow.tolist())
        codes, begins = codes_of([_fold(text) if n in slow else text for n, text in enumerate(texts)])
    return fold[codes], begins


def codes_of(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts -> u4 codes of their characters, and i8[n + 1] begins of each text's."""
    return np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32), np.cumsum([0, *map(len, texts)])


def word_hashes(codes: np.ndarray, kind: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes u4 and kinds u1 of the characters of n texts, i8[n + 1] begins -> u8[words] hashes, i8[words] begins.

    The hash of a run of characters is a difference of two running sums, moved to the run's begin.
    """
    word = kind == WORD
    goes_on = np.zeros(len(codes) + 1, bool)  # a word that began before this character
    goes_on[1:-1] = word[1:] & word[:-1]
    goes_on[np.minimum(begins, len(codes))] = False
    some = word | (kind == LONE)
    starts = np.flatnonzero(some & ~goes_on[:-1])
    ends = np.flatnonzero(some & ~goes_on[1:])
    powers, inverses = powers_of_base(len(codes))
    sums = np.append(np.uint64(0), np.cumsum(mix(codes.astype(np.uint64)) * powers[: len(codes)]))
    return mix((sums[ends + 1] - sums[starts]) * inverses[starts]), starts


_powers = []


def powers_of_base(count: int) -> tuple[np.ndarray, np.ndarray]:
    """BASE**i and BASE**-i modulo 2**64 for i below count or more; kept, since every call needs them."""
    if not _powers or len(_powers[0]) < count:
        steps = np.array([[BASE], [INVERSE]]).repeat(max(count, 2 * PIECE), axis=1)
        steps[:, 0] = 1
        _powers[:] = np.cumprod(steps, axis=1)
    return tuple(_powers)
