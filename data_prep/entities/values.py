"""Typed values: when two of them say the same, and in which other ways one can be written.

A date is (year, month, day); 0 is a part that is not known.
"""

import functools
import re
import unicodedata

import opencc

Date = tuple[int, int, int]
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
MONTH = f"(?:{'|'.join(MONTHS)})"
DATE_EN = rf"(?:\d{{1,2}} {MONTH},? \d{{4}}|{MONTH} \d{{1,2}}, \d{{4}})"
DATE_ZH = r"\d{4}年\d{1,2}月\d{1,2}日"
DIGITS_ZH = "零一二三四五六七八九"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
            "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
            "twentieth")  # fmt: skip
COUNTRIES_ZH = [
    "中华人民共和国", "中国大陆", "中国台湾", "中国香港", "中国", "台湾", "香港", "日本", "韩国", "大韩民国",
    "美国", "英国", "英格兰", "加拿大", "澳大利亚", "马来西亚", "新加坡", "法国", "德国", "意大利",
]  # fmt: skip


@functools.cache
def converter(way: str) -> opencc.OpenCC:
    return opencc.OpenCC(way)


def simplified(text: str) -> str:
    return converter("t2s").convert(text)


@functools.lru_cache(maxsize=1 << 16)
def key_of(name: str) -> str:
    """What names of one thing have in common: no case, accents, Chinese variants, blanks, signs, nor a first "The"."""
    plain = simplified(unicodedata.normalize("NFKC", name)).casefold()
    plain = "".join(c for c in unicodedata.normalize("NFD", plain) if not unicodedata.combining(c))
    plain = re.sub(r"^the (?=\w)", "", re.sub(r"\s?&\s?", " and ", plain))
    return re.sub(r"[\W_]+", "", plain) or "".join(name.split())


def parse_date(text: str) -> Date | None:
    """A date in English or Chinese, or as 2001-02-03; the first one that stands there."""
    for pattern, order in (
        (r"(\d{4})(?:年|-|/|\.)(\d{1,2})(?:月|-|/|\.)(\d{1,2})", "ymd"),
        (rf"(\d{{1,2}}) ({MONTH}),? (\d{{4}})", "dmy"),
        (rf"({MONTH}) (\d{{1,2}}), (\d{{4}})", "mdy"),
        (rf"({MONTH}),? (\d{{4}})", "my"),
        (r"(\d{4})年(\d{1,2})月", "ym"),
        (r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)", "y"),
    ):  # fmt: skip
        if match := re.search(pattern, text):
            parts = dict(zip(order, match.groups(), strict=True))
            month = parts.get("m", "0")
            number = MONTHS.index(month) + 1 if month in MONTHS else int(month)
            date = int(parts["y"]), number, int(parts.get("d", 0))
            return date if date[1] <= 12 and date[2] <= 31 else None
    return None


def date_forms(date: Date, lang: str) -> list[str]:
    """The forms of a whole date; that of the language first."""
    year, month, day = date
    english = [f"{MONTHS[month - 1]} {day}, {year}", f"{day} {MONTHS[month - 1]} {year}"]
    chinese = [f"{year}年{month}月{day}日"]
    forms = english + chinese if lang == "en" else chinese + english
    return [*forms, f"{year}-{month:02d}-{day:02d}"]


def agree(one: str, other: str, kind: str) -> bool:
    """Whether two values of an answer type can both be right."""
    if kind in ("date", "year"):
        a, b = parse_date(one), parse_date(other)
        return a is None or b is None or all(x == y or not (x and y) for x, y in zip(a, b, strict=True))
    if kind == "number":
        return number_of(one) == number_of(other)
    a, b = key_of(one), key_of(other)
    if kind == "work":
        return a == b
    return a in b or b in a


def number_of(text: str) -> int | None:
    """19, 十九, 二十一, 首 (the first), third"""
    if digits := re.search(r"\d+", text):
        return int(digits[0])
    for word in re.findall("[a-z]+", text.lower()):
        if word in ("debut", *ORDINALS):
            return 1 if word == "debut" else ORDINALS.index(word) + 1
    if "首" in text:
        return 1
    if match := re.search(
        "([一二三四五六七八九]?)(十?)([一二三四五六七八九]?)", "".join(c for c in text if c in DIGITS_ZH + "十")
    ):
        tens, ten, ones = match.groups()
        units = DIGITS_ZH.index(ones) if ones else 0
        return (
            (10 * (DIGITS_ZH.index(tens) if tens else 1) + units)
            if ten
            else DIGITS_ZH.index(tens or ones or "零") or None
        )
    return None


def in_chinese(number: int) -> str:
    """Below 100."""
    tens, ones = divmod(number, 10)
    head = "" if not tens else "十" if tens == 1 else f"{DIGITS_ZH[tens]}十"
    return head + (DIGITS_ZH[ones] if ones or not tens else "")


def forms(value: str, kind: str, lang: str) -> list[str]:
    """An answer as it is asked for, then the other ways to write it; empty where the value is not of the type."""
    if kind in ("date", "year"):
        date = parse_date(value)
        if date is None or (kind == "date" and not (date[1] and date[2])):
            return []
        return date_forms(date, lang) if kind == "date" else [str(date[0]), f"{date[0]}年"]
    if kind == "number":
        return number_forms(number_of(value), lang)
    return place_forms(value, lang) if kind == "place" else name_forms(value)


def number_forms(number: int | None, lang: str) -> list[str]:
    if number is None:
        return []
    words = [ORDINALS[number - 1]] if lang == "en" and 0 < number <= 20 else []
    return [
        str(number),
        *words,
        *([f"第{number}", in_chinese(number), f"第{in_chinese(number)}"] if number < 100 else []),
    ]


def place_forms(place: str, lang: str) -> list[str]:
    """Boston, Massachusetts -> Boston; 日本长野县中野市 -> 长野县中野市, 中野市, 中野"""
    if lang == "en":
        return list(dict.fromkeys([place, place.split(",")[0].strip()]))
    place = re.sub(r"^(..+?)\1", r"\1", place)  # 韩国韩国江原道春川市
    shorter = [place.removeprefix(country) for country in COUNTRIES_ZH if place.startswith(country)][:1]
    last = re.split("(?<=[省州县道])(?=..)", shorter[0] if shorter else place)[-1]
    bare = [re.sub("(?:特别|广域)?[市县]$", "", last)] if len(last) > 2 and last[-1] in "市县" else []
    return list(dict.fromkeys(form for form in (place, *shorter, last, *bare) if len(form) > 1 and form[0] != "省"))


def name_forms(name: str) -> list[str]:
    """The Beatles -> Beatles; 周杰伦 -> 周杰倫; a name in brackets behind it stands by itself too."""
    inside = re.fullmatch(r"(.{2,}?)\s?[（(]([^（()）]{2,})[)）]", name)
    names = [name, *(inside.groups() if inside else ()), re.sub("^(?:Sir|Dame|Lord|Lady) (?=.* )", "", name)]
    names += [re.sub("^The ", "", one) for one in names]
    return list(dict.fromkeys([*names, *(converter("s2t").convert(one) for one in names)]))


def beside(name: str, quote: str) -> list[str]:
    """The name in other letters that stands in brackets behind it: 《紅色》（"Red"）"""
    inside = r"(?:[^（），；：:]{1,3}[：:])?[\"“]?([A-Za-z][^（）()，；\"”]*)[\"”]?[）)，；]"
    pattern = rf"{re.escape(simplified(name))}[》\"”]?\s?[（(]{inside}"
    match = re.search(pattern, simplified(quote))
    return [match[1].strip()] if match and len(match[1].strip()) > 1 else []
