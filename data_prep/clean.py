"""Clean text: its language, one form per character, no invisible characters, tidy lines, no lines that are no text.

    python -m data_prep.clean --input=raw/ --output=clean/ [--min_chars=20] [--languages=en,zh-Hans] [--simplify]

Repairs text that was read in a wrong encoding (mojibake.py), sets `lang` (language.py; what the source gave stays in
meta as lang_given), and removes lines that are no text (footers.py).  A document in two languages, each with a real
share, says so in meta: {"lang_shares": {"zh-Hans": 0.7, "en": 0.3}}.

Drops documents as `empty` (nothing is left), `mojibake` (much of it is lost), `language` (not one of --languages) or
`too_short` (fewer than --min_chars characters are left).  Ids stay those of the raw text.  A line that survives reads
the same cleaned alone or within its document, so spans that are known in the raw text can be found again.
"""

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import opencc
import pyarrow as pa

from data_prep.jobs import documents, job
from data_prep.jobs.options import option
from data_prep.jobs.stage import Stage, each_batch
from data_prep.text import footers, language, mojibake
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import own_field


def _meaning() -> Iterator[str]:
    """Characters whose meaning NFKC would change: 10², 3½, ①, ™, m²; accents alone; letters of Korean and Thai."""
    yield from "ำຳ"
    yield from map(chr, range(0x3131, 0x318F))
    for code in [*range(0x80, 0x3130), *range(0x3190, 0x3400), *range(0xA640, 0xABFF), *range(0x1D400, 0x1F300)]:
        if re.match("<(super|sub|fraction|circle|compat> 0020|square>.*00B[23])", unicodedata.decomposition(chr(code))):
            yield chr(code)


def _forms() -> Iterator[str]:
    """Characters up to U+FFFF that NFKC may change or join with others, without those of _KEPT."""
    kept = set(_KEPT)
    for character in map(chr, [*range(0x80, 0x3400), *range(0xA000, 0xAC00), *range(0xF900, 0x10000)]):
        joins = unicodedata.category(character)[0] == "M" or "\u1100" <= character <= "\u11ff"
        if (joins or unicodedata.normalize("NFKC", character) != character) and character not in kept:
            yield character


# NFKC would turn these into ASCII.  It leaves 。、“”《》— alone and never makes one of these or of _meaning(), so the
# pieces between them can be normalised one by one, again and again, with the same result.
_KEPT = "，！？：；（）…～" + "".join(_meaning())
_PIECE = re.compile(f"[^{_KEPT}\n]+")
# Without one of these a line is in its normal form.  One range above U+FFFF: `re` is slow with single ones there.
_FORMS = re.compile(f"[{''.join(_forms())}\U00010000-\U0010ffff]")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Joiners shape words of Arabic and Indic scripts, and join emoji (without forms that NFKC opens with a blank).
_JOINED = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\ufb50-\ufc5d\ufc64-\ufdf9\ufe80-\ufefc"
_EMOJI = "\u2600-\u27bf\ufe0f\U0001f300-\U0001faff"
_JOINER = re.compile(f"(?<![{_JOINED}{_EMOJI}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}{_EMOJI}])")
_INVISIBLE = re.compile(  # controls but tab and newline; zero-width, direction and byte-order marks, soft hyphen
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_BLANK, _SPACES = re.compile(r"[^\S\n ]"), re.compile("  +")


class Cleaned(NamedTuple):
    text: str
    lines: Counter  # lines removed, by reason
    repaired: bool


# Characters and lines


def clean_text(text: str) -> str:
    """Each step but the last works within lines; clean_text(clean_text(text)) == clean_text(text)."""
    return clean(text).text


def clean(text: str) -> Cleaned:
    fixed = mojibake.repair(text)  # first of all: controls and blanks are part of it
    tidied, removed = _tidy(fixed)
    while tidied != text and (again := mojibake.repair(tidied)) != tidied:  # what invisible characters kept apart
        tidied, more = _tidy(again)
        removed += more
    return Cleaned(tidied, removed, fixed != text)


def _tidy(text: str) -> tuple[str, Counter]:
    if not text.replace("\n", "").isprintable():  # other line ends and blanks, controls and the like
        text = _INVISIBLE.sub("", _LINE_END.sub("\n", text))  # before NFKC: what they kept apart may combine
        text = _JOINER.sub("", text) if "\u200c" in text or "\u200d" in text else text
        text = _BLANK.sub(" ", text)
    if not text.isascii() and _FORMS.search(text):
        text = "\n".join(_normal(line) for line in text.split("\n"))
    lines = [_SPACES.sub(" ", line).strip() if "  " in line else line.strip() for line in text.split("\n")]
    rules = footers.rules_for(lines)
    reasons = [footers.reason(line, rules) if line else None for line in lines]
    kept = [line for line, reason in zip(lines, reasons, strict=True) if not reason]
    return _joined(kept), Counter(filter(None, reasons))


def _normal(line: str) -> str:
    if not _FORMS.search(line):
        return line
    return _PIECE.sub(lambda piece: unicodedata.normalize("NFKC", piece[0]), line)


def _joined(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    return (re.sub("\n{3,}", "\n\n", text) if "\n\n\n" in text else text).strip("\n")


# Languages


def simplify(text: str, detection: language.Detection) -> tuple[str, language.Detection]:
    """Chinese lines in simplified characters; zh-Hant becomes zh-Hans."""
    if not any(lang.startswith("zh") for lang in detection.shares):
        return text, detection
    lines = text.split("\n")
    chinese = [place for place, lang in enumerate(detection.lines) if lang.startswith("zh")]
    simplified = _converter().convert("\n".join(lines[place] for place in chinese)).split("\n")
    for place, line in zip(chinese, simplified, strict=True):
        lines[place] = line
    return "\n".join(lines), language.renamed(detection, "zh-Hant", "zh-Hans")


@functools.cache
def _converter() -> opencc.OpenCC:
    return opencc.OpenCC("t2s")


def without_others(
    text: str, detection: language.Detection, languages: Sequence[str]
) -> tuple[str, language.Detection, int]:
    """A mixed document without its lines in languages that were not asked for, and their number."""
    foreign = sum(share for lang, share in detection.shares.items() if lang not in languages)
    if foreign < language.MIXED:
        return text, detection, 0
    lines = list(zip(text.split("\n"), detection.lines, strict=True))
    kept = [line for line, lang in lines if not line or lang in languages]
    return _joined(kept), language.only(detection, languages), len(lines) - len(kept)


def meta_with(meta: str, lang_given: str, shares: dict[str, float] | None) -> str:
    """The JSON object `meta` with both; lang_given of an earlier run stays, lang_shares of an earlier run go."""
    if not (lang_given or shares or '"lang_shares"' in meta):
        return meta
    try:
        fields = own_field(meta)
    except ValueError:
        fields = meta
    fields = fields if isinstance(fields, dict) else {"meta": fields}
    fields = ({"lang_given": lang_given} if lang_given else {}) | fields
    fields.pop("lang_shares", None)
    return json.dumps(fields | ({"lang_shares": shares} if shares else {}), ensure_ascii=False)


@dataclass(frozen=True)
class Options:
    min_chars: int = option(20, "shorter documents go as too_short")
    languages: tuple[str, ...] = option(
        (), f"of {','.join(language.LANGUAGES)}; others go, of mixed documents by line; none: all stay"
    )
    simplify: bool = option(False, "write traditional Chinese in simplified characters")


def drop_reason(text: str, lang: str, options: Options) -> str | None:
    """Why a cleaned text goes; None where it stays."""
    if not text:
        return "empty"
    if mojibake.is_broken(text):
        return "mojibake"
    if options.languages and lang not in options.languages:
        return "language"
    return "too_short" if len(text) < options.min_chars else None


def clean_batch(batch: pa.RecordBatch, folder: Path, options: Options) -> pa.RecordBatch:
    cleaned = [clean(text) for text in batch["text"].to_pylist()]
    texts = [one.text for one in cleaned]
    removed, changed = sum((one.lines for one in cleaned), Counter()), Counter()
    changed["mojibake"] = sum(one.repaired for one in cleaned)
    detections = language.detect(texts)
    if options.simplify:
        before = texts
        texts, detections = _columns(map(simplify, texts, detections))
        changed["simplified"] = sum(map(str.__ne__, before, texts))
    if options.languages:
        asked = [
            without_others(*one, options.languages) if one[1].lang in options.languages else (*one, 0)
            for one in zip(texts, detections, strict=True)
        ]
        texts, detections, lines = _columns(asked)
        removed["other_language"] = sum(lines)
    _count(removed, "lines")
    _count(changed, "changed")
    reasons = [drop_reason(text, one.lang, options) for text, one in zip(texts, detections, strict=True)]
    return documents.keep(described(batch, texts, detections), reasons, folder)


def _columns(rows: Iterable[tuple]) -> list[tuple]:
    return list(zip(*rows, strict=True))


def _count(numbers: Counter, namespace: str) -> None:
    for name, number in numbers.items():
        documents.count(name, number, namespace)


def described(batch: pa.RecordBatch, texts: Sequence[str], detections: Sequence[language.Detection]) -> pa.RecordBatch:
    """The batch with new texts, their languages, and what meta says of them."""
    rows = zip(batch["meta"].to_pylist(), batch["lang"].to_pylist(), detections, strict=True)
    meta = [
        meta_with(meta, given if given != one.lang else "", language.mixed_shares(one)) for meta, given, one in rows
    ]
    columns = {"text": texts, "lang": [one.lang for one in detections], "meta": meta}
    for name, values in columns.items():
        batch = documents.replace(batch, name, values)
    return batch


def check(options: Options) -> None:
    if options.min_chars < 0:
        raise UserError(f"--min_chars={options.min_chars} is negative; 0 keeps short documents")
    if unknown := set(options.languages) - set(language.LANGUAGES):
        raise UserError(
            f"--languages={','.join(options.languages)} names {min(unknown)}; "
            f"name some of {', '.join(language.LANGUAGES)}, or none for all"
        )


STAGE = Stage(
    "clean", "Unicode, language and script", __doc__, Options, each_batch(clean_batch), check=check,
    counts={"empty": "min_chars", "mojibake": "", "language": "languages", "too_short": "min_chars"},
)  # fmt: skip
run = STAGE.run

if __name__ == "__main__":
    job.main(run)
