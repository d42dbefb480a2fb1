"""Subjects: what a document is about, as a few hashes, so that near texts about different things both stay.

Stubs of two songs may share all but a name and a year, and these are their facts.  So two texts are no near-duplicates,
whatever their Jaccard similarity, where they differ in one of three, each of which a text may lack:

1. Subject: what the first sentence names before its verb, without brackets.  `Help` is not `Help Me`, nor `John Smith`
   `John Smith Jr.`, nor one volume or part another.  A live version, a remix or a demo is another recording.  Of a
   person with dates, a middle name may be missing.
2. Title: the field of that name, or else the first line above the first sentence.  Its parts, between bars, dashes and
   brackets, are compared: one title may have more of them (a site, an artist), but no number, volume or version.  Known
   sites and full dates do not count.  Where one part is the subject, the others count only if they are a number, volume
   or version; a line above the sentence counts only where one part is the subject, or no subject is known.
3. Names of the first sentence: they differ where each sentence has one that the other lacks, so that a copy in small
   letters, or one that adds a name or a date, is still a copy.  Names are numbers, words with a capital, what stands in
   quotes, and words of scripts without capitals; a Chinese or Japanese character is a word, and of such words two count
   as one name: one may be misspelt, but not in the subject.

Case, width, accents of Latin letters, punctuation, quotes, full dates above the sentence and traditional characters do
not count.  Not told apart: works of one title and year, where one artist's name is the beginning of the other's.
"""

import functools
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import opencc

NAMES = 32  # of a sentence; where it has more, those of the smallest hashes, weak ones last
PARTS = 4  # of a title
WORDS, LATER = 60, 30  # of a sentence that are compared; behind them, that are only looked up
BITS = 256  # of a filter of the later ones: a list must end somewhere, and one word more would move its end
CHARACTERS = 600  # of a text that are read
LONGEST = 8  # words of a subject; a longer one (16 Chinese characters) is a clause
PLAIN, LONE, STRONG = range(3)  # kinds of words
WEAK = BOUND = 1 << 31  # flag of a name without capitals; of a part of a title: it tells works apart
# 0: none
SUBJECT = np.dtype(
    [("subject", "u4", 2), ("title", "u4", PARTS), ("names", "u4", NAMES), ("later", "u4", BITS // 32)]
)  # fmt: skip

_LONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_LETTER = re.compile(f"[{_LONE}]")
_WORD = re.compile(rf"\d+(?:,\d+)*|[{_LONE}]|[^\W\d_{_LONE}]+")
# Not behind an initial or a short form, and not where a number or a small letter goes on.
_END = re.compile(
    r"[。！？]|[.!?](?<!\b[A-Z].)(?<!\b(?:[Vv]ol|Mrs|Inc|Rev).)(?<!\b[JSDM][rts].)(?<!\b[NO][orp].)"
    r"(?<!\b[PpFfM]t.)(?<!\bvs.)(?<!\b(?:feat|Bros|Prof).)[\"”’')\]]*\s+(?![a-z0-9(])"
)
_ENDS = re.compile(r"[.。!?！？…][\"”’」』)）]*$")
_IS_A = re.compile(r"\s(?:is|was|are|were)\s(?=(?:an?|the|one)\s)|(?<=.)是")  # before other verbs, which titles hold
_VERB = re.compile(r"\s(?:is|was|are|were)\s")
_VERB_TOO = re.compile("(?<=.)[为為](?!.{0,2}[,，（(、])")  # of names, too
_LIFE = re.compile(r"\bborn\b|\b[0-9]{4}\)?\s?[-–]")
_STOP = re.compile("[][,(:;，（：；、)）【】]")
_QUOTED = re.compile(r"《[^》]*》|〈[^〉]*〉|「[^」]*」|『[^』]*』|“[^”]*”|\"[^\"]*\"")
_PARTS = re.compile(r"\s+[-–—·:•>»/]\s+|\s*[|｜_()（）\[\]【】]\s*|(?<=[\u4e00-\u9fff])[-—]+(?=[\u4e00-\u9fff])")
_SITE = re.compile(r"(?i)wiki|百科|歌词网|\.(?:com|net|org|cn|fm)\b|genius|discogs|allmusic|豆瓣|音乐网")
_LYRICS = re.compile(r"(?i)\blyrics\b|歌词|歌詞")
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[a-z]*\.?"
_DAY = (
    r"(?:\b\d{4}[-/.]\d\d?[-/.]\d\d?\b|\b\d\d?[./]\d\d?[./]\d{4}\b"
    rf"|\b\d\d? {_MONTH},? \d{{4}}\b|\b{_MONTH} \d\d?,? \d{{4}}\b"
    r"|\d{4}\s?年\d\d?\s?月\d\d?\s?日)(?:[T ,]*\d\d?:\d\d(?::\d\d)?Z?)?"
)
_DATE = re.compile(rf"(?i)(?:(?:posted|updated|published|发布于|更新于)\s*(?:on|:|：)?\s*)?{_DAY}")
_STAMPED = re.compile(
    rf"(?i)(?:retrieved|accessed|updated|查阅于|更新于)\s*(?:on|:|：)?\s*{_DAY}"
)  # in a sentence, too
# What tells works and persons of one name apart: volumes, generations, versions.
_VOLUME = re.compile(r"(?i)vol(?:ume)?|part|pt|book|disc|cd|act|season|series|op(?:us)?|no|nr|bwv|kv?|hob|rv")
_NUMERAL = "[0-9]{1,3}|[IVX]+|(?i:one|two|three|four|five|six|seven|eight|nine|ten)"
_NUMBER = re.compile(rf"\W*(?:{_NUMERAL}|[零一二三四五六七八九十上中下]+)\W*")
_EDITION = re.compile(
    rf"\b(?i:{_VOLUME.pattern[4:]})\b\W*(?:{_NUMERAL})\b|(?i:\b(?:jr|sr|junior|senior|elder|younger|live|unplugged"
    r"|acoustic|demo|instrumental|karaoke|remix|mix|edit|version|cover|reprise|remaster(?:ed)?|deluxe)\b)"
    r"|第.{1,3}[辑輯集部卷张張季册冊首号號]|[上中下续續][集卷部篇册冊]|版|现场|現場|混音|伴奏|翻唱"
)
_COMMON = set("的是在了和與及之一于位名个也为") | set(
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
    return np.array([_row(text, title) for text, title in zip(texts, titles, strict=True)], SUBJECT)


def _row(text: str, title: str) -> tuple[tuple[int, int], list[int], list[int], list[int]]:
    head, sentence = opening(text)
    subject, short = subject_hashes(sentence)
    parts = title_parts(title, subject)
    if not parts and head and (subject in (read := title_parts(head[0], subject)) or not subject):
        parts = read
    return (subject, short), [*parts, *[0] * PARTS][:PARTS], *name_hashes(head, sentence)


# The first sentence, and lines above it


def opening(text: str) -> tuple[list[str], str]:
    """-> lines above the first sentence, and the sentence; all up to an end is one where no line is a sentence."""
    text = text[:CHARACTERS]
    text = text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    first = next((n for n, line in enumerate(lines) if _is_sentence(line)), 0)
    rest = "\n".join(lines[first:])
    if stamp := _DATE.match(rest):
        rest = rest[stamp.end() :].lstrip(" \t\n-–—:|,.")
    ends = (one for one in _END.finditer(rest) if rest.count("《", 0, one.start()) <= rest.count("》", 0, one.start()))
    end = next(ends, None)
    head = [line for line in (_DATE.sub(" ", line) for line in lines[:first]) if _WORD.search(line)]
    sentence = _STAMPED.sub(" ", rest[: end.start()] if end else rest)
    shouts = sentence.isupper() and not _LETTER.search(sentence)
    return head, sentence.lower() if shouts else sentence


def _is_sentence(line: str) -> bool:
    """With a verb and an end, or long and with one of them; a Chinese character counts as three."""
    length = len(line) + 2 * len(_LETTER.findall(line[:40]))
    if _ENDS.search(line):
        return length >= (16 if _verb(line) else 40)
    return length >= 24 and _verb(line) is not None


def _verb(text: str) -> re.Match | None:
    return _IS_A.search(text) or _VERB.search(text) or _VERB_TOO.search(text)


def subject_hashes(sentence: str) -> tuple[int, int]:
    """Of the words before the verb, or before the first stop of a sentence without one; (0, 0) for none, or a clause.

    Without what follows in brackets and behind commas, but with an edition there.  The second is of a person with dates
    without middle names and nicknames, else that of all words.
    """
    line = sentence.split("\n", 1)[0][:160]
    verb = _verb(line)
    if not (verb or _STOP.search(line)):
        return 0, 0
    phrase = line[: verb.start()] if verb else line
    if quoted := _QUOTED.match(phrase) or re.search("《.*》", phrase):  # whole, with commas and brackets
        name, rest = quoted[0], phrase[quoted.end() :]
    else:
        name, rest = phrase, ""
        if stop := _STOP.search(phrase):
            name, rest = phrase[: stop.start()], phrase[stop.start() :]
    editions = [piece for piece in _STOP.split(rest) if _is_edition(piece)]
    words = _WORD.findall(" ".join([name, *editions[:1]]))
    if sum(1 if len(word) > 1 else 0.5 for word in words) > LONGEST:
        return 0, 0
    if not any(map(_hash, words)) and (quoted or len(words) > 1):  # a title of common words
        return (zlib.crc32(str(words).casefold().encode()) % WEAK or 1,) * 2
    is_person = len(words) > 2 and not quoted and _kind(words[0])[1] != LONE and _LIFE.search(sentence)
    return _hash_all(words), _hash_all([words[0], words[-1]] if is_person else words)


def _is_edition(piece: str) -> bool:
    """Whether what stands behind a comma belongs to a name: ", Jr." ", Vol. 2", ", Op. 5", ", III"."""
    words = _WORD.findall(piece)
    return len(words) <= 4 and bool(_EDITION.search(piece) or _NUMBER.fullmatch(piece))


# Titles


def title_parts(title: str, subject: int) -> list[int]:
    """Hashes of the parts of a title, at most PARTS; of the subject and what tells it apart, where a part names it."""
    title = _DATE.sub(" ", unicodedata.normalize("NFKC", title[:CHARACTERS]))
    parts = [part for part in _PARTS.split(title) if _WORD.search(part)]
    for end in (-1, 0):
        if len(parts) > 1 and _SITE.search(parts[end]):
            del parts[end]
    parts = [_LYRICS.sub(" ", part) for part in parts]
    hashes = {_hash_all(_WORD.findall(part)): bool(_EDITION.search(part) or _NUMBER.fullmatch(part)) for part in parts}
    hashes.pop(0, None)
    if subject in hashes:
        hashes = {one: bound for one, bound in hashes.items() if bound or one == subject}
    return [one | BOUND * (bound and one != subject) for one, bound in hashes.items()][:PARTS]


# Names


def name_hashes(head: Sequence[str], sentence: str) -> tuple[list[int], list[int]]:
    """NAMES of them, sorted, 0 behind the last; and the filter of those that are only looked up."""
    words = _WORD.findall(sentence)
    ends = [one.start() for one in (_verb(sentence), _STOP.search(sentence)) if one and one.start() < 60]
    marked = [*_QUOTED.findall(sentence), sentence[: min(ends, default=0)]]
    kinds = list(map(_kind, words[:WORDS]))
    lone = [name for name, kind in kinds if kind == LONE]
    strong = {name for name, kind in kinds if kind == STRONG}
    strong.update(map(_hash, _WORD.findall(" ".join(marked))))
    if 2 * len(lone) > len(kinds):  # Chinese: Latin words of any case are names
        lone += [name for name, kind in kinds if kind == PLAIN]
    names = [*sorted(strong - {0}), *(WEAK | name for name in sorted({*lone} - strong - {0}))]
    later = 0
    for name in map(_hash, [*words[WORDS : WORDS + LATER], *_WORD.findall(" ".join(head)[: CHARACTERS // 4])]):
        later |= 1 << name % BITS
    return [*names, *[0] * NAMES][:NAMES], [later >> start & 0xFFFFFFFF for start in range(0, BITS, 32)]


@functools.lru_cache(1 << 17)
def _kind(word: str) -> tuple[int, int]:
    """Hash of a word, and STRONG for a number or a word with a capital, LONE for one of a script without capitals."""
    if word[0].isdigit():
        return _hash(word), STRONG
    if word.upper() == word.lower():
        return _hash(word), LONE
    # The unit of a number is none: No. 5 and no. 5 are one.
    return _hash(word), STRONG if word != word.lower() and not _VOLUME.fullmatch(word) else PLAIN


def _hash_all(words: Sequence[str]) -> int:
    """Below WEAK, of the words that are not common; 0 where there are none."""
    hashes = [one for one in map(_hash, words) if one]
    if len(hashes) == 1:
        return hashes[0]
    return zlib.crc32(str(hashes).encode()) % WEAK or 1 if hashes else 0


@functools.lru_cache(1 << 17)
def _hash(word: str) -> int:
    """Below WEAK; 0 for words that are no part of a name."""
    same = word.lower() if word.isascii() else unicodedata.normalize("NFKC", word.casefold()).translate(_simplified())
    if not same.isascii() and not _LETTER.search(same):  # é is e, but not が か
        same = re.sub("(?<=[a-z])[\u0300-\u036f]+", "", unicodedata.normalize("NFKD", same).translate(_LETTERS))
    return 0 if same in _COMMON else zlib.crc32(same.replace(",", "").encode()) % WEAK or 1


_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})


@functools.cache
def _simplified() -> dict[int, str]:
    """Traditional characters, each by itself -> simplified ones."""
    lone = list(map(chr, [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000)]))
    simplified = opencc.OpenCC("t2s").convert("\n".join(lone)).split("\n")
    return {ord(one): other for one, other in zip(lone, simplified, strict=True) if one != other}


# Comparison


def order(subjects: np.ndarray) -> np.ndarray:
    """SUBJECT[n] -> u8[n], equal for equal subjects, then names: sorted by it, copies stand beside each other."""
    return (subjects["subject"][:, 1].astype(np.uint64) << np.uint64(32)) + (
        subjects["names"].sum(1, dtype=np.uint64) & np.uint64(0xFFFFFFFF)
    )


def differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """SUBJECT[n] twice -> whether they are about different things."""
    return (
        _subjects_differ(one, other)
        | _titles_differ(one["title"], other["title"])
        | ((_lacks(one, other) >= 2) & (_lacks(other, one) >= 2))
    )


def _subjects_differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    (whole, short), (whole_too, short_too) = one["subject"].T, other["subject"].T
    return (whole > 0) & (whole_too > 0) & (whole != whole_too) & (short != whole_too) & (whole != short_too)


def _titles_differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    known = (one[:, 0] > 0) & (other[:, 0] > 0)
    more, bound = _more(one, other)
    less, bound_too = _more(other, one)
    return known & ((more & less) | bound | bound_too)


def _more(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """u4[n, PARTS] twice -> whether one has parts that the other lacks, and such that tell works apart."""
    lacking = (one > 0) & ~(one[:, :, None] % BOUND == other[:, None, :] % BOUND).any(2)
    return lacking.any(1), (lacking & (one >= BOUND)).any(1)


def _lacks(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """SUBJECT[n] twice -> i8[n]: how much of one's names the other lacks; 2 for a name, 1 for a weak one."""
    names, others = one["names"], other["names"]
    last = others[:, -1:]
    full = np.where(last >= WEAK, names | WEAK, names) > last  # what a full list had no room for is not known to lack
    known = (names > 0) & ~((last > 0) & full)
    listed = (names[:, :, None] % WEAK == others[:, None, :] % WEAK).any(2)
    later = np.take_along_axis(other["later"], (names % BITS // 32).astype(np.int64), 1) >> (names % 32) & 1 > 0
    return np.select([~known | listed | later, names >= WEAK], [0, 1], 2).sum(1)
