"""Counts: what the rules of quality.py are made of, for many texts at once.

Words are those of text/words.py: a run of letters and digits, or one character of a script that sets no blanks between
words, so twelve characters of Chinese are twelve words.  All is arithmetic on arrays over about 262,144 characters of
text, with no Python object for a word, line or n-gram.  A longer text is read in pieces of that size whose counts are
added: memory stays bounded, repetition is seen within a piece, and each cut costs about a word and a line.
"""

import functools
import re
from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.text.words import BASE, LONE, PIECE, WORD, characters, codes_of, word_hashes

# Words in a row.  Of TOP_GRAMS the most frequent run counts, of DUP_GRAMS all runs that come again.
TOP_GRAMS, DUP_GRAMS = (2, 4), (5, 10)
HELD = 4096  # texts counted at once
LOW = np.uint64(18)  # bits for the place of a word, of which a piece has at most PIECE

# Kinds of characters
SPACE, NEWLINE, LETTER, OTHER_LETTER, DIGIT, MARK, END, CLOSER, HASH, DOTS, BRACE = range(11)
SPECIAL = {
    END: ".!?:;。！？：；｡",  # a sentence ends, or a list begins
    CLOSER: "\"'”’」』）)】》〉]",  # may follow the end of a sentence
    HASH: "#＃",
    DOTS: "…",
    BRACE: "{}<",
}
BULLETS = np.array([ord(char) for char in "*+•‣▶►●○◆◇■□▪▫★☆※→·◦✓✔➤"], np.uint32)  # a dash opens speech
# Latin and Han, of which STOP_WORDS knows languages.
LETTER_RANGES = ((0x41, 0x5A), (0x61, 0x7A), (0xAA, 0x24F), (0x1E00, 0x1EFF), (0x3400, 0x9FFF), (0x20000, 0x3FFFF))
URL = re.compile(r"(?:https?://|www\.)[!-~]+")

# What prose cannot do without and lists of keywords can: particles, pronouns, prepositions of the commonest languages.
# But 他: a 吉他 is a guitar.
STOP_WORDS = """
the be to of and that have with a in is was for on as by at from it his her he she they you we i this are were or an not
but has had which who its their also my your me so if one when there what all do will can
der die das und ist von mit den dem ein eine im zu auf le la les de des et est un une du dans que qui en pour el los las
y del por con se al es il di che è per della non una o da os e em no não um uma het een van dat och att som är på
av ett i w na z nie się jest że v je ve bir bu için și din cu cea và của là có trong được dan yang untuk dari ini
ja on ei se és
的 了 是 在 和 有 不 我 她 它 这 這 那 们 們 也 就 与 與 及 而 之 为 為 于 於 以 被 由
其 你 都 从 從 到 把 并 並 或 但 很 让 讓 说 說 则 則 着 著 个 個 一 年 月 日 至 曾 任 此 该 該 又 还 還 已
嘅 咗 唔 係 喺 の に は を た が で て と し
"""

# Two words in a row, or two characters of Chinese, that adverts and pages without content are made of.  Any page may
# hold some.
SPAM = """
buy now|order now|click here|free shipping|lowest price|best price|best prices|cheap price|discount code|promo code
limited offer|limited time|special offer|money back|act now|shop now|sign up|call now|risk free|online casino
casino bonus|sports betting|payday loan|payday loans|weight loss|no prescription|online pharmacy|replica watches
for sale|best deals|hot sale|wholesale price|free trial|make money|earn money|download free|free download
lorem ipsum|dolor sit|sit amet|consectetur adipiscing|adipiscing elit|eiusmod tempor|ut labore|dolore magna
enable javascript|javascript is|accept cookies|enable cookies
加微|微信|威信|扫码|掃碼|代开|代開|发票|發票|贷款|貸款|借贷|套现|博彩|彩票|下注|投注|赌场|賭場|百家|家乐|时时|时彩|棋牌|返利
刷单|兼职|日结|办证|刻章|高仿|正品|包邮|秒杀|秒殺|促销|促銷|特价|特價|优惠|優惠|折扣|抢购|搶購|限时|限時|免费|免費|咨询|諮詢
热线|熱線|客服|抵押|到账|低息|加盟|招商|批发|批發|货源|減肥|减肥|瘦身|祛斑|丰胸|壮阳|壯陽|报价|報價|厂家|电联|下单|下單|领取
红包|紅包|首充|开户|開戶|外挂|私服|代练|信誉|信譽|来电|致电|套餐|启用 javascript
"""


# Tables


@functools.cache
def kinds() -> np.ndarray:
    """u1[0x110000]: the kind of each character."""
    table = np.full(0x110000, MARK, np.uint8)
    table[np.isin(characters()[0], (WORD, LONE))] = OTHER_LETTER
    for first, last in LETTER_RANGES:
        part = table[first : last + 1]
        part[part == OTHER_LETTER] = LETTER
    for code in range(0x20000):
        if chr(code).isspace():
            table[code] = NEWLINE if code == 10 else SPACE
        elif chr(code).isdigit():
            table[code] = DIGIT
    for kind, chars in SPECIAL.items():
        table[[ord(char) for char in chars]] = kind
    return table


@functools.cache
def listed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool[1 << 20] by the top bits of a hash, of STOP_WORDS and of SPAM, and u8 hashes of the pairs of SPAM.

    By chance one word in 5,000 passes for a stop word, which does no harm.  A pair that passes for SPAM could drop a
    short text, so pairs are looked up by their whole hashes too.
    """
    words = np.concatenate([words_of([word])[0] for word in STOP_WORDS.split()])
    pairs = np.array([next(grams(words_of([pair])[0]))[1][0] for pair in re.split(r"[|\n]", SPAM.strip())])
    tables = np.zeros((2, 1 << 20), bool)
    tables[0, top_bits(words)] = tables[1, top_bits(pairs)] = True
    return *tables, pairs


def top_bits(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(44)).astype(np.int64)


def spam_places(hashes: np.ndarray) -> np.ndarray:
    """u8[n] hashes of pairs of words -> i8: which of them are of SPAM."""
    _, table, pairs = listed()
    maybe = np.flatnonzero(table[top_bits(hashes)])
    return maybe[np.isin(hashes[maybe], pairs)]


def words_of(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Texts -> u8[words] hashes, i8[words] places where they begin, u4 codes, i8[n + 1] begins of the texts' codes.

    Each text has a newline more at its end, so that nothing reaches into the next.  Case and width are folded
    character by character.
    """
    kind, fold, _ = characters()
    codes, begins = codes_of([text + "\n" for text in texts])
    hashes, starts = word_hashes(fold[codes], kind[codes], begins)
    return hashes, starts, codes, begins


def grams(words: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """u8[words] -> (size, u8[words] hash of the `size` words from each on), of each size; the array is reused."""
    powers, held = BASE ** np.arange(1, max(DUP_GRAMS) + 1, dtype=np.uint64), words * BASE
    for size in range(2, max(DUP_GRAMS) + 1):
        held[: 1 - size] += words[size - 1 :] * powers[size - 1]
        if size in TOP_GRAMS or size in DUP_GRAMS:
            yield size, held


# Counting


def count(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Texts -> {name: i8[n]}.  Characters, without blanks:

    characters, letters, known_letters (Latin and Han), digits, braces (and < but not <br>), url_characters, hashes
    (# and ellipses)

    words, also those in certain lines and runs of words:

    words, lone_words (one character each), letter_words (not numbers), stop_words, spam_pairs (pairs of words),
    ended_words (in lines that end in punctuation), top_2gram, top_4gram (in the most frequent run of so many words,
    without its first time), dup_5gram, dup_10gram (in all runs that stood in the text before)

    and lines that are not blank: lines, bullet_lines, ellipsis_lines (end in one), dup_lines (stood before).
    """
    counts = {name: np.zeros(len(texts), np.int64) for name in _count([""])}
    for numbers, pieces in groups(texts):
        for name, values in _count(pieces).items():
            np.add.at(counts[name], numbers, values)
    return counts


def groups(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Pieces of about PIECE characters together, and the number of the text that each is of."""
    numbers, pieces, size = [], [], 0
    for number, text in enumerate(texts):
        for begin in range(0, len(text), PIECE):
            piece = text[begin : begin + PIECE]
            if pieces and (size + len(piece) > PIECE or len(pieces) >= HELD):
                yield numbers, pieces
                numbers, pieces, size = [], [], 0
            numbers.append(number)
            pieces.append(piece)
            size += len(piece)
    if pieces:
        yield numbers, pieces


def _count(texts: list[str]) -> dict[str, np.ndarray]:
    words, starts, codes, begins = words_of(texts)
    kind, text_of = kinds()[codes], np.repeat(np.arange(len(texts)), np.diff(begins))
    counts = _of_characters(texts, codes, kind, text_of)
    counts |= _of_words(words, codes[starts], kind[starts], text_of[starts], len(texts))
    return counts | _of_lines(words, starts, codes, kind, begins, text_of)


def _of_characters(texts: list[str], codes: np.ndarray, kind: np.ndarray, text_of: np.ndarray) -> dict:
    size = len(texts)
    table = np.bincount(text_of * (BRACE + 1) + kind, minlength=size * (BRACE + 1)).reshape(size, BRACE + 1)
    dot = codes == ord(".")
    dots = np.flatnonzero(dot[:-2] & dot[1:-1] & dot[2:])
    dots = dots[(dots == 0) | ~dot[dots - 1]]  # the first of a run
    less = np.flatnonzero(codes[:-2] == ord("<"))
    breaks = less[(codes[less + 1] == ord("b")) & (codes[less + 2] == ord("r"))]  # <br> of lists and verse
    hashes = np.flatnonzero(kind == HASH)
    hashes = hashes[kind[hashes + 1] != DIGIT]  # #1 is a place in the charts
    return {
        "characters": table[:, LETTER:].sum(1),
        "letters": table[:, LETTER] + table[:, OTHER_LETTER],
        "known_letters": table[:, LETTER],
        "digits": table[:, DIGIT],
        "hashes": _per_text(text_of[hashes], size) + table[:, DOTS] + _per_text(text_of[dots], size),
        "braces": table[:, BRACE] - _per_text(text_of[breaks], size),
        # The test for a part of an address is much faster than the pattern.
        "url_characters": np.array(
            [sum(map(len, URL.findall(t))) if "://" in t or "www." in t else 0 for t in texts], np.int64
        ),
    }


def _per_text(text_of: np.ndarray, texts: int) -> np.ndarray:
    return np.bincount(text_of, minlength=texts)


def _of_words(words: np.ndarray, codes: np.ndarray, kind: np.ndarray, text_of: np.ndarray, texts: int) -> dict:
    """`codes`, `kind` and `text_of` are those of the first character of each word."""
    lone = characters()[0][codes] == LONE
    known = kind == LETTER
    counts = {
        "words": _per_text(text_of, texts),
        "lone_words": _per_text(text_of[lone], texts),
        "letter_words": _per_text(text_of[kind <= OTHER_LETTER], texts),
        "stop_words": _per_text(text_of[known & listed()[0][top_bits(words)]], texts),
    }
    left = np.cumsum(counts["words"])[text_of] - np.arange(len(words))  # words from here to the end of the text
    for size, hashes in grams(words):
        if size == 2:
            spam = spam_places(hashes)
            counts["spam_pairs"] = _per_text(text_of[spam[left[spam] > 1]], texts)
        whole = np.flatnonzero(left >= size)
        again, first, times = repeated(hashes[whole], whole, text_of[whole])
        if size in TOP_GRAMS:
            best = np.zeros(texts, np.int64)
            np.maximum.at(best, text_of[first], (times - 1) * size)
            counts[f"top_{size}gram"] = np.minimum(best, counts["words"])
        else:
            counts[f"dup_{size}gram"] = _per_text(text_of[covered(again, size, len(words))], texts)
    return counts


def repeated(hashes: np.ndarray, places: np.ndarray, text_of: np.ndarray) -> tuple[np.ndarray, ...]:
    """Hashes of runs or lines, their places (rising, below 2**18) and texts -> what stands in a text more than once:

    i8 places of all but the first of each; for each different run or line, i8 place of the first and i8 times.
    """
    low = (np.uint64(1) << LOW) - np.uint64(1)
    keys = np.sort((hashes + text_of.astype(np.uint64) * BASE & ~low) | places.astype(np.uint64))
    same = np.zeros(len(keys) + 1, bool)
    same[1:-1] = (keys[1:] ^ keys[:-1]) <= low
    again = np.flatnonzero(same)
    first = np.flatnonzero(~same[:-1] & same[1:])
    ends = np.flatnonzero(same[:-1] & ~same[1:])
    sorted_places = (keys & low).astype(np.int64)
    return sorted_places[again], sorted_places[first], ends - first + 1


def covered(places: np.ndarray, size: int, words: int) -> np.ndarray:
    """i8: the words, each once, that the runs of `size` words from these places on cover."""
    cover = np.zeros(words + size, bool)
    for offset in range(size):
        cover[places + offset] = True
    return np.flatnonzero(cover)


def _of_lines(words, starts, codes, kind, begins, text_of) -> dict:
    """Counts of lines as in `count`; a blank line does not count, and lines of the same words are the same."""
    texts = len(begins) - 1
    solid = np.flatnonzero(kind > NEWLINE)
    line = np.sort(np.concatenate([begins[:-1], np.flatnonzero(kind == NEWLINE) + 1]))
    before = np.searchsorted(solid, np.append(line, len(codes)))
    some = np.flatnonzero(before[1:] > before[:-1])
    first, last = solid[before[some]], solid[before[some + 1] - 1]  # characters that are not blank
    owner = text_of[first]
    end = last
    for _ in range(2):  # closing brackets and quotes
        end = np.maximum(first, end - (kind[end] == CLOSER))
    dot = [codes[np.maximum(first, last - back)] == ord(".") for back in range(3)]
    dots = (kind[last] == DOTS) | (dot[0] & dot[1] & dot[2] & (last - first > 1))
    ended = (kind[end] == END) | (kind[end] == DOTS)
    at = np.searchsorted(starts, np.append(first, len(codes)))  # words before each line
    length = np.diff(at)
    sums = np.append(np.uint64(0), np.cumsum(words))[at]
    has = np.flatnonzero(length)  # lines with a word
    again, _, _ = repeated(sums[has + 1] - sums[has], has, owner[has])
    return {
        "lines": _per_text(owner, texts),
        "bullet_lines": _per_text(owner[np.isin(codes[first], BULLETS)], texts),
        "ellipsis_lines": _per_text(owner[dots], texts),
        "ended_words": np.bincount(owner[ended], length[ended], texts).astype(np.int64),
        "dup_lines": _per_text(owner[again], texts),
    }
