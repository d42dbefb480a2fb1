"""Keys of lines: what a line is but for the parts that a template fills in, and whether it may be boilerplate at all.

Two lines have one key if they differ only in case, width, blanks and punctuation, in dates and times, in addresses and
the labels of links ([name](http://...), [name][1]), and in numbers beside an address, a © or a counter (`12 comments`,
`阅读 3021 次`).  Other numbers count: `A village of 70` and `A village of 300` say two things.  In lines made of
fields of a byline (`作者：... 译者：...`, `Posted by ... on ...`) only the names of the fields count.

A line has one of four forms.  STAYS: headings (# and =), turns of a dialogue (`Name: ...`, the same name twice
or more), lines without a word.  TEMPLATE: it holds an address, a link, ©, a counter or a byline, and may be of
one word.  DATED: any other line with a date, which may be what the line is about (`本条例自2010年12月1日起施行`).
TEXT: all else; only its width tells a sentence from a heading, a list entry or an answer.
Keys are arithmetic on arrays over many lines at once, with no Python object per line.
"""

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.text.words import BASE, LONE, PIECE, WORD, characters, folded, mix, powers_of_base, word_hashes

STAYS, TEXT, DATED, TEMPLATE = range(4)
LINE = np.dtype([("key", "u8"), ("width", "u4"), ("form", "u1")])  # width: letters of the key; a Han character is two
TURNS = 2  # lines of one name that make a dialogue
LABEL = 24  # characters before the colon of a turn
NEWLINE = 10

_MONTHS = (
    "jan feb mar apr may jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun am pm "
    "january february march april june july august september october november december "
    "monday tuesday wednesday thursday friday saturday sunday"
)
_COUNTERS = "views comments comment shares likes reads replies tweets retweets"
_COUNTERS_ZH = "阅读 閱讀 浏览 瀏覽 评论 評論 点赞 點贊 收藏 转发 轉發 分享 点击 點擊"

# Fields of a byline.  A line of one of _ALONE is a byline; a field of _OTHERS also heads content (Author: of a
# catalogue), so a byline of it has a second field.
_ALONE = (
    "译者|譯者|校对|校對|审校|选题|選題|责任编辑|責任編輯|责编|責編|编译|排版|原文链接|本文链接|发布时间|发布日期|發佈時間|"
    "上一篇|下一篇|相关阅读|推荐阅读|延伸阅读|via|proofreader|image credit|photo credit|related|"
    "previous post|next post|previous article|next article"
)
_OTHERS = "作者|编辑|編輯|来源|來源|出处|出處|原文|记者|記者|发表于|author|translator|editor|source|date|published"
_FIELD = re.compile(rf"(?<![A-Za-z])({_ALONE}|{_OTHERS}) ?[:：]", re.IGNORECASE)
_POSTED = re.compile(
    r"(?i)(posted|submitted|last (?:updated|modified|edited)) ?(?:by|on|at|:)[^。]{1,80}|(by) [^|·•]{2,60}[|·•].*\d.*"
)
_FIRST = "posted submitted last by"  # words of these lines
_ADDRESS = re.compile(r"\(https?://[^)]*\)|https?://\S+|\]\[\w*\]")


def describe(texts: Sequence[str], salts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texts, u8[n] salts of their sources -> LINE[lines], i8[n] ends of each text's lines.

    Equal lines of two sources, or of two forms, have two keys.  A line without a word, or longer than PIECE, has key 0.
    """
    counts = np.array([text.count("\n") + 1 for text in texts], np.int64)
    ends = np.cumsum(counts)
    parts = [(np.zeros(0, LINE), np.zeros(0, np.uint64), np.zeros(0, bool))]
    parts += [_describe_piece(piece) for piece in _pieces("\n".join(texts))] if len(texts) else []
    lines, labels, hints = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert len(lines) == counts.sum()
    rows = np.repeat(np.arange(len(texts)), counts)
    lines["form"][_turns(rows, labels) & (lines["form"] < TEMPLATE)] = STAYS
    hints |= np.isin(labels, _fields())
    _set_bylines(lines, np.flatnonzero(hints), rows, ends - counts, texts)
    some = lines["key"] != 0
    keys_by_form = lines["key"] + lines["form"] * BASE
    lines["key"][some] = mix(keys_by_form ^ salts[rows])[some]
    return lines, ends


def _pieces(text: str) -> Iterator[str]:
    """Whole lines, about PIECE characters at once; a longer line is a piece of its own."""
    start = 0
    while len(text) - start > PIECE:
        cut = text.rfind("\n", start, start + PIECE)
        cut = text.find("\n", start + PIECE) if cut < 0 else cut
        if cut < 0:
            break
        yield text[start:cut]
        start = cut + 1
    yield text[start:]


def _describe_piece(piece: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> LINE[lines] without salt, u8[lines] of what stands before a colon (0: none), bool[lines] maybe bylines."""
    if len(piece) > PIECE:
        return np.zeros(1, LINE), np.zeros(1, np.uint64), np.zeros(1, bool)
    codes, _ = folded([piece])
    kind = characters()[0][codes]
    begins = np.append(0, np.flatnonzero(codes == NEWLINE) + 1)
    words, starts = word_hashes(codes, kind, np.array([0, len(codes)]))
    line = np.searchsorted(begins, starts, side="right") - 1
    filled, marked = _addresses(codes, kind, begins)
    number, date = _numbers(codes, kind, words, starts)
    _mark(marked, begins, np.flatnonzero(codes == 0xA9))
    marked[line[np.isin(words, _hashes("copyright"))]] = True
    _mark_counters(marked, codes, begins, words, line, number)
    left = ~(filled[starts] | date | (number & marked[line]))
    lines = np.zeros(len(begins), LINE)
    sums, bounds = _sums(words[left], line[left], len(begins))
    lines["key"] = np.where(np.diff(bounds) > 0, sums[bounds[1:]] - sums[bounds[:-1]], 0)
    lines["width"] = np.diff(np.append(0, np.cumsum(_lengths(codes, kind, starts[left])))[bounds])
    lines["form"] = TEXT
    lines["form"][line[date]] = DATED
    lines["form"][marked] = TEMPLATE
    lines["form"][_heading(codes, begins) | (lines["key"] == 0)] = STAYS
    labels = _labels(codes, begins, sums, bounds, starts[left])
    hints = np.zeros(len(begins), bool)
    hints[line[np.isin(words, _hashes(_FIRST)) & np.append(True, np.diff(line) > 0)[: len(line)]]] = True
    return lines, labels, hints


def _sums(words: np.ndarray, line: np.ndarray, lines: int) -> tuple[np.ndarray, np.ndarray]:
    """Running sums u8[words + 1] of word hashes, each times a power of its place in its line; bounds i8[lines + 1]."""
    bounds = np.searchsorted(line, np.arange(lines + 1))
    place = np.arange(len(words)) - bounds[line]
    powers, _ = powers_of_base(len(words) + 1)
    return np.append(np.uint64(0), np.cumsum(words * powers[place])), bounds


def _lengths(codes: np.ndarray, kind: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """i8[n]: letters of the words that start there; a character of a LONE script is two."""
    ends = _after(np.flatnonzero(kind != WORD), starts, codes)
    return np.where(kind[starts] == LONE, 2, ends - starts)


def _heading(codes: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Lines whose first character is # or =."""
    padded = np.append(codes, NEWLINE)
    shown = np.append(np.flatnonzero((codes > 32) | (codes == NEWLINE)), len(codes))
    return np.isin(padded[shown[np.searchsorted(shown, begins)]], [ord("#"), ord("=")])


def _labels(codes, begins, sums, bounds, starts) -> np.ndarray:
    """u8[lines]: sum of the words before the first colon, where it stands within LABEL characters; else 0."""
    colons = np.flatnonzero(codes == ord(":"))
    around = codes[np.maximum(colons - 1, 0)], codes[np.minimum(colons + 1, len(codes) - 1)]
    clock = (_digit(around[0]) & _digit(around[1])) | (around[1] == ord("/"))
    colons = np.append(colons[~clock], len(codes) + LABEL + 1)
    colon = colons[np.searchsorted(colons, begins)]
    inside = (colon - begins <= LABEL) & (colon < np.append(begins[1:], len(codes)))
    last = np.clip(np.searchsorted(starts, colon), bounds[:-1], bounds[1:])
    return np.where(inside, sums[last] - sums[bounds[:-1]], np.uint64(0))


def _turns(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Lines whose label stands before TURNS lines of their text."""
    some = np.flatnonzero(labels)
    mixed = mix(labels[some] + rows[some].astype(np.uint64) * BASE)
    _, group, counts = np.unique(mixed, return_inverse=True, return_counts=True)
    turns = np.zeros(len(rows), bool)
    turns[some] = counts[group] >= TURNS
    return turns


# What a template fills in


@functools.cache
def _hashes(words: str) -> np.ndarray:
    """Words, with blanks between -> their hashes u8[n], as word_hashes gives them."""
    codes, _ = folded([words])
    return word_hashes(codes, characters()[0][codes], np.array([0, len(codes)]))[0]


def _mark(marked: np.ndarray, begins: np.ndarray, places: np.ndarray) -> None:
    """Sets the lines that hold these places."""
    marked[np.searchsorted(begins, places, side="right") - 1] = True


def _at(codes: np.ndarray, text: str) -> np.ndarray:
    """Places where a text of two characters or more begins."""
    begins = np.flatnonzero(codes[: max(0, len(codes) - len(text) + 1)] == ord(text[0]))
    for place, character in enumerate(text[1:], 1):
        begins = begins[codes[begins + place] == ord(character)]
    return begins


def _addresses(codes: np.ndarray, kind: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> bool[codes] inside of addresses and links, bool[lines] that hold one, or "]:" as in a reference [1]: ..."""
    stop = (codes <= 32) | (codes > 126) | np.isin(codes, [ord(c) for c in '<>()[]"`|'])
    stops = np.flatnonzero(stop)
    web, bare = _at(codes, "://"), _at(codes, "www.")
    mail = np.flatnonzero(codes[1:-1] == ord("@")) + 1
    mail = mail[(kind[mail - 1] == WORD) & (kind[mail + 1] == WORD)]
    labels, refs = _at(codes, "]("), _at(codes, "][")
    opened, closed = np.flatnonzero(codes == ord("[")), np.flatnonzero(codes == ord("]"))
    spans = [
        (_before(np.flatnonzero(kind != WORD), web), _after(stops, web + 3, codes)),
        (bare, _after(stops, bare, codes)),
        (_before(np.flatnonzero(stop | (codes == ord(":"))), mail), _after(stops, mail, codes)),
        (_before(opened, labels), _after(np.flatnonzero(codes == ord(")")), labels, codes)),
        (_before(opened, refs), _after(closed, refs + 1, codes)),
    ]
    first, last = (np.concatenate(column) for column in zip(*spans, strict=True))
    same = np.searchsorted(begins, first, side="right") == np.searchsorted(begins, last, side="right")
    depth = np.zeros(len(codes) + 1, np.int32)
    np.add.at(depth, first[same], 1)
    np.add.at(depth, last[same], -1)
    marked = np.zeros(len(begins), bool)
    _mark(marked, begins, first[same])
    _mark(marked, begins, _at(codes, "]:"))
    return np.cumsum(depth[:-1]) > 0, marked


def _before(places: np.ndarray, at: np.ndarray) -> np.ndarray:
    """One more than the last of sorted places before each; 0 where there is none."""
    return np.append(-1, places)[np.searchsorted(places, at)] + 1


def _after(places: np.ndarray, at: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The first of sorted places at or after each; the end where there is none."""
    return np.append(places, len(codes))[np.searchsorted(places, at)]


def _digit(codes: np.ndarray) -> np.ndarray:
    return (codes >= ord("0")) & (codes <= ord("9"))


def _numbers(codes, kind, words, starts) -> tuple[np.ndarray, np.ndarray]:
    """-> bool[words] that begin with a digit, bool[words] that are parts of a date or time."""
    first = codes[starts]
    number = _digit(first)
    ends = _after(np.flatnonzero(kind != WORD), starts, codes)
    padded = np.append(codes, [NEWLINE] * 2)
    year = number & (ends - starts == 4) & np.isin(first * 64 + padded[starts + 1], [49 * 64 + 57, 50 * 64 + 48])
    date = year | (number & np.isin(padded[ends], [ord(c) for c in "年月日時时分秒"]))
    clock = (padded[ends] == ord(":")) & (kind[np.minimum(ends + 1, len(kind) - 1)] == WORD)
    date |= number & (clock | ((starts > 0) & (codes[starts - 1] == ord(":")) & np.append(False, number[:-1])))
    beside = np.append(ends[:-1] + 1 == starts[1:], False) if len(starts) else np.zeros(0, bool)  # the next one
    for _ in range(2):  # 2021.03.04 and 03/04/2021
        date[1:] |= date[:-1] & beside[:-1] & number[1:]
        date[:-1] |= date[1:] & beside[:-1] & number[:-1]
    month = np.isin(words, _hashes(_MONTHS))
    near = np.append(False, number[:-1]) | np.append(number[1:], False)
    date |= month & near
    date |= number & (np.append(False, month[:-1]) | np.append(month[1:], False))
    return number, date


def _mark_counters(marked, codes, begins, words, line, number) -> None:
    """Lines with a number and a word for what is counted under an article."""
    counters = np.zeros(len(begins), bool)
    counters[line[np.isin(words, _hashes(_COUNTERS))]] = True
    for word in _COUNTERS_ZH.split():
        _mark(counters, begins, _at(codes, word))
    numbers = np.zeros(len(begins), bool)
    numbers[line[number]] = True
    marked |= counters & numbers


# Bylines


def _set_bylines(lines: np.ndarray, hints: np.ndarray, rows: np.ndarray, firsts: np.ndarray, texts) -> None:
    """Sets the keys of bylines by the names of their fields; hints: the few lines to look at, one by one."""
    row, split = -1, []
    for place in hints.tolist():
        if rows[place] != row:
            row = rows[place]
            split = texts[row].split("\n")
        line = split[place - firsts[row]]
        fields = byline(line) if len(line) < 400 else ""
        if fields:
            key = int.from_bytes(hashlib.sha256(fields.encode()).digest()[:8], "little")
            lines[place] = key, len(fields), TEMPLATE


@functools.cache
def _fields() -> np.ndarray:
    """The labels, as `_describe_piece` gives them, of lines that begin with a field of a byline."""
    names = f"{_ALONE}|{_OTHERS}".split("|")
    return _describe_piece("\n".join(f"{name}: x" for name in names))[1]


def byline(line: str) -> str:
    """The names of a line's fields where it is made of nothing else; "" where it is no byline."""
    line = line.strip(" \t#*>|-—[]()（）【】_")
    if posted := _POSTED.fullmatch(line):
        return (posted[1] or posted[2]).casefold()
    start = _FIELD.match(line)
    if not start:
        return ""
    before, *fields = _FIELD.split(_ADDRESS.sub("", line))
    names, values = [name.casefold() for name in fields[::2]], fields[1::2]
    if len(names) == 1 and not re.fullmatch(_ALONE, names[0]):
        return ""
    fits = all(len(value) <= 40 and not re.search("[。！？!?]", value.strip()) for value in values)
    return " ".join(names) if fits and not before else ""
