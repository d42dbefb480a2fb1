"""Subjects: what a document is about, as a few hashes, so that near texts about different things both stay.

Stubs of two songs may share all but a name and a year, and these are their facts.  So two texts are no near-duplicates
where they differ in title (the field of that name) or in the names of their opening (up to the end of the first
sentence, headings before it included), whatever their Jaccard similarity.

Names are numbers, words with a capital, what stands in quotes, what stands before the first verb, bracket or comma,
and words of scripts without capitals; a Chinese or Japanese character is a word, and of such words two count as one
name: one may be misspelt.  Openings differ where each has a name that the other lacks, so a copy in small letters, or
one that adds a date, is still a copy.  Titles differ unless they are the same but for a last part that only one of them
has (a site adds its name behind a bar or a dash).  Case, width, punctuation and traditional characters do not count.
"""

import functools
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import opencc

NAMES = 32  # of an opening; where it has more, those of the smallest hashes, weak ones last
WORDS, LATER = 60, 30  # of an opening that are compared; behind them, that are only looked up
BITS = 256  # of a filter of the later ones: a list must end somewhere, and one word more would move its end
CHARACTERS = 600  # of an opening, at most
WEAK = 1 << 31  # flag of a name: of a script without capitals
# title: all of it, all but its last part; 0: none
SUBJECT = np.dtype([("title", "u4", 2), ("names", "u4", NAMES), ("later", "u4", BITS // 32)])

_LONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"\d+(?:,\d+)*|[{_LONE}]|[^\W\d_{_LONE}]+")
# Not behind an initial or a short form, and not where a number or a small letter goes on.
_END = re.compile(
    r"[。！？]|[.!?](?<![A-Z].)(?<!\b[DS][rt].)(?<!\b[JM]r.)(?<!\bMrs.)(?<!\bfeat.)[\"”’')\]]*\s+(?![a-z0-9(])"
)
_SUBJECT = re.compile(r"\s*(.{1,60}?)(?=\n|[,(:;，（：；]|\s(?:is|was|are|were)\s|是|为)")
_QUOTED = re.compile(r"《[^》]*》|〈[^〉]*〉|「[^」]*」|『[^』]*』|“[^”]*”|\"[^\"]*\"")
_PARTS = re.compile(r"\s+[-–—·:]\s+|\s*[|_]\s*|(?<=[\u4e00-\u9fff])-(?=[\u4e00-\u9fff])")
_SITE = re.compile(r"(?i)wiki|百科|lyrics|歌词|\.(?:com|net|org|cn|fm)\b|genius|discogs|allmusic|豆瓣|音乐网")
_COMMON = set("的是在了和与及之一于位名个也为") | set(
    re.findall(
        r"\w+", "a an and as at by for from he her his i in is it its of on or she the their they this to was we"
    )
)


class Titled(msgspec.Struct):
    title: str = ""


def title_of(meta: str) -> str:
    """Of the JSON object `meta`; "" where it has none."""
    if '"title"' not in meta:
        return ""
    try:
        return msgspec.json.decode(meta, type=Titled).title
    except (msgspec.DecodeError, RecursionError):  # of another type; not JSON
        return ""


def describe(texts: Sequence[str], titles: Iterable[str]) -> np.ndarray:
    """Texts and their titles -> SUBJECT[n]."""
    rows = [(title_hashes(title), *name_hashes(text)) for text, title in zip(texts, titles, strict=True)]
    return np.array(rows, SUBJECT)


def title_hashes(title: str) -> tuple[int, int]:
    parts = [part for part in _PARTS.split(unicodedata.normalize("NFKC", title)) if _WORD.search(part)]
    if len(parts) > 1 and _SITE.search(parts[-1]):
        del parts[-1]
    whole, beginning = (zlib.crc32(str(list(map(_hash, _WORD.findall(" ".join(some))))).encode()) or 1
                        for some in (parts, parts[:-1] or parts))  # fmt: skip
    return (whole, beginning) if parts else (0, 0)


def name_hashes(text: str) -> tuple[list[int], list[int]]:
    """NAMES of them, sorted, 0 behind the last; and the filter of the later ones."""
    text = opening(text)
    words, subject = _WORD.findall(text), _SUBJECT.match(text)
    marked = " ".join([*_QUOTED.findall(text), *([subject[1]] if subject else [])])
    strong = {*map(_hash, _WORD.findall(marked)), *map(_strong, words[:WORDS])}
    weak = {*map(_weak, words[:WORDS])} - strong
    names = [*sorted(strong - {0}), *(WEAK | name for name in sorted(weak - {0}))]
    later = [0] * (BITS // 32)
    for name in map(_hash, words[WORDS : WORDS + LATER]):
        later[name % BITS // 32] |= 1 << name % 32
    return [*names, *[0] * NAMES][:NAMES], later


def opening(text: str) -> str:
    text = text[:CHARACTERS].lstrip()
    text = text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)
    end = _END.search(text)
    return text[: end.start()] if end else text


@functools.lru_cache(1 << 16)
def _hash(word: str) -> int:
    """Below WEAK; 0 for words that are no part of a name."""
    same = unicodedata.normalize("NFKC", word.casefold()).translate(_simplified())
    return 0 if same in _COMMON else zlib.crc32(same.replace(",", "").encode()) % WEAK or 1


@functools.lru_cache(1 << 16)
def _strong(word: str) -> int:
    """Hash of a number or a word with a capital, else 0."""
    return _hash(word) if word != word.lower() or word[0].isdigit() else 0


@functools.lru_cache(1 << 16)
def _weak(word: str) -> int:
    """Hash of a word of a script without capitals, else 0."""
    return _hash(word) if word.upper() == word.lower() and not word[0].isdigit() else 0


@functools.cache
def _simplified() -> dict[int, str]:
    """Traditional characters, each by itself -> simplified ones."""
    lone = list(map(chr, [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000)]))
    simplified = opencc.OpenCC("t2s").convert("\n".join(lone)).split("\n")
    return {ord(one): other for one, other in zip(lone, simplified, strict=True) if one != other}


def order(subjects: np.ndarray) -> np.ndarray:
    """SUBJECT[n] -> u8[n], equal for equal names: sorted by it, copies stand beside each other."""
    return subjects["names"].sum(1, dtype=np.uint64)


def differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """SUBJECT[n] twice -> whether they are about different things."""
    return _titles_differ(one["title"], other["title"]) | ((_lacks(one, other) >= 2) & (_lacks(other, one) >= 2))


def _titles_differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    known = (one[:, 0] > 0) & (other[:, 0] > 0)
    same = (one[:, 0] == other[:, 0]) | (one[:, 0] == other[:, 1]) | (one[:, 1] == other[:, 0])
    return known & ~same


def _lacks(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """SUBJECT[n] twice -> i8[n]: how much of one's names the other lacks; 2 for a name, 1 for a weak one."""
    names, others = one["names"], other["names"]
    last = others[:, -1:]
    known = (names > 0) & ((last == 0) | (names <= last))  # what a full list had no room for is not known to lack
    listed = (names[:, :, None] % WEAK == others[:, None, :] % WEAK).any(2)
    later = np.take_along_axis(other["later"], (names % BITS // 32).astype(np.int64), 1) >> (names % 32) & 1 > 0
    return np.select([~known | listed | later, names >= WEAK], [0, 1], 2).sum(1)
