"""Signatures: 256 bytes that tell how near two texts are, and a digest that tells whether they are the same.

No command of its own; data_prep.dedup writes and compares them.

A text is read as words: a run of letters, digits and marks, or one character of a script that sets no blanks between
words (Han, kana, Thai, Khmer, ...).  A shingle is a hash of 5 words in a row; the Jaccard similarity of two texts is
the share of the shingles of either that both have.  A signature holds one byte of each of 256 MinHashes of the
shingles, so two signatures agree in about that share of their bytes (MinHash: Broder 1997; few bits of each: Li &
Koenig 2010).
Words and shingles are arithmetic on arrays over many texts at once, with no Python object per word; the permutations
are rensa's.
"""

import functools
import hashlib
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import rensa

WORDS = 5  # of a shingle
SIZE = 256  # permutations, and bytes of a signature
SEED = 2026  # of the permutations
# Signatures of two runs compare only where these are the same.
VERSION = f"words {WORDS}, size {SIZE}, seed {SEED}, rensa {rensa.RMinHash.ALGORITHM_VERSION}, ours 1"
PIECE = 1 << 18  # characters hashed at once; a longer text is cut, at the cost of the shingles over the cut
BLANK, WORD, LONE, SYMBOL = range(4)  # kinds of characters

# Scripts that set no blanks between words: Thai and Lao, Myanmar, Khmer, kana and bopomofo, ideographs.
LONE_RANGES = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x312F), (0x31A0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so it has an inverse modulo 2**64
INVERSE = np.uint64(pow(int(BASE), -1, 1 << 64))
PLACES = (BASE ** np.arange(11, 11 + WORDS, dtype=np.uint64)) | np.uint64(1)  # of a word in its shingle


@functools.cache
def characters() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of 0x110000 characters: u1 kind, u4 the character it folds to, and whether it needs its neighbours.

    Those that fold to several or join with the one before (ß, ½, accents that stand alone) need str.casefold; what
    stands above plane 3 is a SYMBOL.
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
    """Texts -> u4 codes of their characters, case and width folded, and i8[n + 1] begins of each text's."""
    _, fold, joins = characters()
    codes, begins = _codes(texts)
    slow = np.searchsorted(begins, np.flatnonzero(joins[codes]), side="right") - 1
    if slow.size:
        slow = set(slow.tolist())
        codes, begins = _codes([_fold(text) if n in slow else text for n, text in enumerate(texts)])
    return fold[codes], begins


def _codes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32), np.cumsum([0, *map(len, texts)])


def digest(text: str) -> bytes:
    """16 bytes, the same for texts that differ in case, width, blanks and punctuation only.

    Symbols and marks count (C♯ is not C, nor is 5€ 5); a text of nothing but punctuation counts as it is.
    """
    return describe([text])[0][0].tobytes()


def describe(texts: Sequence[str], near: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts -> digests u1[n, 16], lengths i8[n] (characters that count), signatures u1[n, SIZE] (if near, else none).

    The signature of a text without a word is zeros.
    """
    parts = [_describe(group, near) for group in _groups(texts)]
    empty = (np.zeros((0, 16), np.uint8), np.zeros(0, np.int64), np.zeros((0, SIZE), np.uint8))
    return tuple(np.concatenate(column) for column in zip(empty, *parts, strict=True))


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    held, size = [], 0
    for text in texts:
        if held and (size + len(text) > PIECE or len(held) >= 4096):
            yield held
            held, size = [], 0
        held.append(text)
        size += len(text)
    if held:
        yield held


def _describe(texts: list[str], near: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    codes, begins = folded(texts)
    kind = characters()[0][codes]
    counted = kind != BLANK
    same, ends = codes[counted], np.append(0, np.cumsum(counted))[begins]
    digests = np.empty((len(texts), 16), np.uint8)
    for number in range(len(texts)):
        found = same[ends[number] : ends[number + 1]]
        data = found if found.size else texts[number].encode()
        digests[number] = np.frombuffer(hashlib.sha256(data).digest()[:16], np.uint8)
    signature = minhash(*shingles(codes, kind, begins)) if near else np.zeros((0, SIZE), np.uint8)
    return digests, np.diff(ends), signature


def shingles(codes: np.ndarray, kind: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes u4 and kinds u1 of the characters of n texts -> u8[shingles] below 2**32, and i8[n + 1] begins.

    A text of fewer than WORDS words has one shingle of all its words, and one without a word none.
    """
    if len(begins) == 2 and len(codes) > PIECE:  # one long text
        cuts = range(0, len(codes), PIECE)
        pieces = [_shingles(codes[c : c + PIECE], kind[c : c + PIECE], np.array([0, PIECE]))[0] for c in cuts]
        made = np.concatenate(pieces)
        return made, np.array([0, len(made)])
    return _shingles(codes, kind, begins)


def _shingles(codes: np.ndarray, kind: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    words, starts = word_hashes(codes, kind, begins)
    of_text = np.searchsorted(starts, begins)  # words before each text
    counts = np.diff(of_text)
    left = np.repeat(of_text[1:], counts) - np.arange(len(words))  # words from here to the end of the text
    padded = np.append(words, np.zeros(WORDS - 1, np.uint64))
    mixed = words * PLACES[0]
    for place in range(1, WORDS):
        mixed += np.where(left > place, padded[place : place + len(words)], np.uint64(0)) * PLACES[place]
    taken = left >= WORDS
    taken[of_text[:-1][(counts > 0) & (counts < WORDS)]] = True
    return _mix(mixed[taken]) >> np.uint64(32), np.append(0, np.cumsum(taken))[of_text]


def word_hashes(codes: np.ndarray, kind: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `shingles` -> u8[words] hashes, and i8[words] the place in codes where each begins.

    The hash of a run of characters is a difference of two running sums, moved to the run's begin.
    """
    word = kind == WORD
    goes_on = np.zeros(len(codes) + 1, bool)  # a word that began before this character
    goes_on[1:-1] = word[1:] & word[:-1]
    goes_on[np.minimum(begins, len(codes))] = False
    some = word | (kind == LONE)
    starts = np.flatnonzero(some & ~goes_on[:-1])
    ends = np.flatnonzero(some & ~goes_on[1:])
    powers, inverses = _powers(len(codes))
    sums = np.append(np.uint64(0), np.cumsum(_mix(codes.astype(np.uint64)) * powers[: len(codes)]))
    return _mix((sums[ends + 1] - sums[starts]) * inverses[starts]), starts


def _mix(value: np.ndarray) -> np.ndarray:
    """splitmix64's finish: every bit of the u8 value reaches every bit of the result."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


_tables = {}


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """BASE**i and BASE**-i modulo 2**64 for i below count or more; kept, since every call needs them."""
    if "powers" not in _tables or len(_tables["powers"][0]) < count:
        steps = np.array([[BASE], [INVERSE]]).repeat(max(count, 2 * PIECE), axis=1)
        steps[:, 0] = 1
        _tables["powers"] = tuple(np.cumprod(steps, axis=1))
    return _tables["powers"]


def minhash(hashes: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """u8[shingles] below 2**32 and i8[n + 1] begins -> signatures u1[n, SIZE]."""
    made = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, begins.astype(np.uint64), SIZE, SEED)
    least = np.array(made.to_rows(), np.uint32).reshape(-1, SIZE)
    signatures = ((least ^ (least >> np.uint32(15))) * np.uint32(0x9E3779B1) >> np.uint32(24)).astype(
        np.uint8
    )
    signatures[np.diff(begins) == 0] = 0
    return signatures


def similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Signatures u1[..., SIZE] twice -> f8[...] estimated Jaccard similarity; what agrees by chance is taken off."""
    agree = (one == other).mean(-1)
    return np.maximum(0.0, (agree - 1 / 256) / (1 - 1 / 256))
