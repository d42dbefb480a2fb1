"""Signatures: 256 bytes that tell how near two texts are, and a digest that tells whether they are the same.

A text is read as words (text/words.py).  A shingle is a hash of 5 words in a row; the Jaccard similarity of two texts
is the share of their shingles that both have.  A signature holds one byte of each of 256 MinHashes of the
shingles, so two signatures agree in about that share of their bytes (MinHash: Broder 1997; few bits of each: Li &
Koenig 2010).  Shingles are arithmetic on arrays over many texts at once; the permutations are rensa's.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import rensa

from data_prep.text.words import BASE, BLANK, PIECE, characters, folded, word_hashes
from mucpt_jax.formats.hashes import mix

WORDS = 5  # of a shingle
SIZE = 256  # permutations, and bytes of a signature
SEED = 2026  # of the permutations
# Signatures of two runs compare only where these are the same.
VERSION = f"words {WORDS}, size {SIZE}, seed {SEED}, rensa {rensa.RMinHash.ALGORITHM_VERSION}, ours 1"

PLACES = (BASE ** np.arange(11, 11 + WORDS, dtype=np.uint64)) | np.uint64(1)  # of a word in its shingle


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
        letters = same[ends[number] : ends[number + 1]]
        data = letters if letters.size else texts[number].encode()
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
        hashes = np.concatenate(pieces)
        return hashes, np.array([0, len(hashes)])
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
    return mix(mixed[taken]) >> np.uint64(32), np.append(0, np.cumsum(taken))[of_text]


def minhash(hashes: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """u8[shingles] below 2**32 and i8[n + 1] begins -> signatures u1[n, SIZE]."""
    digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, begins.astype(np.uint64), SIZE, SEED)
    minima = np.array(digests.to_rows(), np.uint32).reshape(-1, SIZE)
    signatures = ((minima ^ (minima >> np.uint32(15))) * np.uint32(0x9E3779B1) >> np.uint32(24)).astype(np.uint8)
    signatures[np.diff(begins) == 0] = 0
    return signatures


def similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Signatures u1[..., SIZE] twice -> f8[...] estimated Jaccard similarity, less what agrees by chance."""
    agree = (one == other).mean(-1)
    return np.maximum(0.0, (agree - 1 / 256) / (1 - 1 / 256))
