"""Numbers of people: identity and bank cards, passports, licence plates, phones; and what all kinds share.

Digits and letters are ASCII classes and never \\b or \\w, for which a Chinese character is a letter.  Repeats are
bounded, and none begins in the middle of what it repeats, so time is linear in the text.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

Span = tuple[int, int]

BLANK = "<"  # stands for a value taken out; like the edges of a placeholder, in none of the patterns
EDGES = "<>|{}"

SPACE = r"[ \u00a0\u3000]"
DASH = r"[-‐‑‒–—―−－]"
GAP = rf"(?:{SPACE}?(?:{DASH}|[.·]){SPACE}?|{SPACE}{{1,2}})"  # between groups of digits
# START and END: a number is no part of a longer number or of a code; AMOUNT: it counts nothing.
START = r"(?<![0-9A-Za-z_$€£¥￥#])(?<![0-9][-.–/])(?<![A-Za-z]/)"
END = r"(?![0-9A-Za-z_])(?![-.–][0-9])"
AMOUNT = r"(?!\s?(?:[次人张張首元万萬亿億个個年份円]|copies|views|plays|streams|units|USD|RMB|播放|美元|日元))"
COLON = r"[ \u00a0]?[\"']?[:：=＝#/]?[ \u00a0]?[(（\[\"']??[ \u00a0]?"


def _digits(text: str) -> str:
    return re.sub("[^0-9]", "", text)


def _luhn(number: str) -> bool:
    doubled = "0246813579"
    return sum(int(doubled[int(d)]) if i % 2 else int(d) for i, d in enumerate(reversed(number))) % 10 == 0


def check_digit(digits: str) -> str:
    """Of an identity card's first 17 digits, the 18th (GB 11643)."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11]


def said(words: re.Pattern, line: str, start: int, within: int) -> bool:
    """Whether one of the words stands shortly before `start`, with nothing masked in between."""
    before = line[max(0, start - within) : start]
    return words.search(before[max(before.rfind(edge) for edge in EDGES) + 1 :]) is not None


def quoted(line: str, start: int) -> bool:
    return line[max(0, start - 1) : start] in tuple('"“《「『')


def whole(line: str, match: re.Match) -> Span:
    return match.span("v")


class Kind(NamedTuple):
    name: str  # of the type; "" leaves the value in the text
    hint: re.Pattern  # a line without a match of it is not searched by the pattern
    pattern: re.Pattern
    span: Callable[[str, re.Match], Span | None] = whole  # of the value; None where the match is no private data


SEVEN_DIGITS = re.compile(
    r"[0-9](?<![0-9][0-9])(?![0-9]{3}[–-][0-9]{4}(?![0-9-]))(?:[ \u00a0\u3000()（）./·‐‑‒–—―−－-]{0,3}[0-9]){6}"
)


# Papers

_PROVINCE = r"(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3])"
_DAY = r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_ID = re.compile(
    rf"(?<![0-9])(?<![0-9][-.])(?P<v>{_PROVINCE}[0-9]{{4}}(?:{GAP}?(?:18|19|20)[0-9]{{2}}{GAP}?{_DAY}{GAP}?[0-9]{{3}}[0-9Xx]"
    rf"|[0-9]{{2}}{_DAY}[0-9]{{3}}))(?![0-9A-Za-z])(?![-.][0-9]){AMOUNT}"
)
_ID_WORDS = re.compile(r"(?i:身份|證|证|identity|(?<![a-z])id(?![a-z]))")
_CARD = re.compile(
    rf"(?<![0-9])(?<![0-9][-. ])(?P<v>[0-9]{{12,19}}|[0-9]{{4}}(?:{GAP}[0-9]{{4}}){{2,3}}(?:{GAP}[0-9]{{1,4}})?"
    rf"|[0-9]{{4}}{GAP}[0-9]{{6}}{GAP}[0-9]{{5}}|[0-9]{{6}}{GAP}[0-9]{{10,13}})(?![0-9A-Za-z])(?![-.][0-9]){AMOUNT}"
)
_CARD_WORDS = re.compile(
    r"(?i:银行|銀行|卡号|卡號|储蓄卡|信用卡|借记卡|账号|帐号|帳號|账户|帳戶|汇款|"
    r"(?:credit|debit|bank) ?card|card (?:no|num)|account)[^0-9\n]*$"
)
_ISSUER = re.compile(r"3[47][0-9]{13}|(?:4|5[1-5]|2[2-7]|35|6[05])[0-9]{14,15}|(?:62|955[89])[0-9]{12,17}")
_PASSPORT = re.compile(
    r"(?i:护照|護照|通行证|通行證|passport)[^0-9<>|{}\n]{0,20}?"
    r"(?<![0-9A-Za-z])(?P<v>[A-Za-z]{1,2}[0-9]{6,9}|[0-9]{8,9})(?![0-9A-Za-z])"
)
_PASSPORT_AFTER = re.compile(
    r"(?<![0-9A-Za-z])(?P<v>[A-Za-z]{1,2}[0-9]{7,8})"
    r"(?=[ 是为為()（）,，]{0,3}[我他她的本人is my]{0,6}(?:护照|護照|passport))"
)
_PLATE = re.compile(
    r"(?P<v>[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][ ·•・-]?"
    r"(?:[A-HJK][A-HJ-NP-Z0-9][0-9]{4}|[0-9]{5}[A-HJK]|[A-HJ-NP-Z0-9]{5}|[A-HJ-NP-Z0-9]{4}[挂学警港澳領领]))(?![0-9A-Za-z])"
)


def _id_card(line: str, match: re.Match) -> Span | None:
    """Of 18 digits the last is a check digit; where it is wrong, words must say that it is an identity card."""
    number = re.sub("[^0-9Xx]", "", match["v"]).upper()
    wrong = len(number) == 18 and number[-1] != check_digit(number[:-1])
    return None if wrong and not said(_ID_WORDS, line, match.start("v"), 14) else match.span("v")


def _bank_card(line: str, match: re.Match) -> Span | None:
    """By issuer, length and check digit; any account number where a bank is spoken of."""
    number = _digits(match["v"])
    if (_ISSUER.fullmatch(number) and _luhn(number)) or said(_CARD_WORDS, line, match.start("v"), 20):
        return match.span("v")
    return None


def _plate(line: str, match: re.Match) -> Span | None:
    """At least three digits; 新EP2021 is a new record."""
    value = match["v"]
    record = re.match("(?:EP|CD|LP|BD|MV|PV|TV)(?:19|20)[0-9]{2}$", value[1:])
    return match.span("v") if len(_digits(value)) >= 3 and not record else None


# Phones

_MOBILE = re.compile(
    rf"{START}(?P<v>(?:(?:\+|00)?86{GAP}?|[(（](?:\+|00)86[)）]{GAP}?)?1[3-9][0-9](?:[0-9]{{8}}|{GAP}[0-9]{{4}}{GAP}[0-9]{{4}}"
    rf"|{GAP}[0-9]{{3}}{GAP}[0-9]{{5}}|{GAP}[0-9]{{8}}|[0-9]{DASH}[0-9]{{3}}{DASH}[0-9]{{4}})){END}{AMOUNT}"
)
_AREA = r"(?:10|2[0-57-9]|(?:3[1-79]|4[1-8]|5[1-9]|6[369]|7[0-79]|8[1-9]|9[0-13579])[0-9])"
_LANDLINE = re.compile(
    rf"{START}(?P<v>(?:(?:(?:\+|00)86{GAP}?)?[(（]0{_AREA}[)）]{GAP}?|(?:\+|00)86{GAP}?0?{_AREA}{GAP}?|0{_AREA}{GAP})"
    rf"(?:[2-8][0-9]{{6,7}}|[2-8][0-9]{{2,3}}{GAP}[0-9]{{3,4}})(?:{GAP}?(?:转|轉|分机|(?i:ext?\.?)){GAP}?[0-9]{{1,6}})?){END}{AMOUNT}"
)
_COUNTRY = (
    r"(?:[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|"
    r"(?:2[1-689]|3[578]|42|5[09]|6[789]|8[058]|9[679])[0-9])"
)
_ABROAD = re.compile(
    rf"{START}(?<!\+)(?P<v>(?:\+[ ]?{_COUNTRY}|00{_COUNTRY}{GAP})(?:[ \u00a0()（）./‐‑–-]{{0,3}}[0-9]){{6,13}}){END}"
)
_NATIONAL = re.compile(
    rf"{START}(?P<v>(?:1[-. ])?\([2-9][0-9]{{2}}\)[ ]?[2-9][0-9]{{2}}[-. ][0-9]{{4}}"
    r"|(?:1[-.])?[2-9][0-9]{2}(?P<dash>[-.])[2-9][0-9]{2}(?P=dash)[0-9]{4}"  # North America
    r"|020 [378][0-9]{3} [0-9]{4}|07[0-9]{3} [0-9]{6}|01[0-9]{3} [0-9]{6}|01[0-9]1 [0-9]{3} [0-9]{4}"  # Britain
    r"|09[0-9]{2}[- ][0-9]{3}[- ]?[0-9]{3}|"
    r"[(（]0[2-8][)）][ ]?[0-9]{3,4}[- ]?[0-9]{4}|0[2-8]-[0-9]{4}-[0-9]{4}"  # Taiwan
    rf"){END}(?!{SPACE}[0-9])"
)
_NUMBER = r"[+(（]{0,2}[0-9](?:[ \u00a0()（）.‐‑–—－-]{0,2}[0-9]){6,14}"
_LABELLED = re.compile(
    r"(?i:电话|電話|手机|手機|传真|傳真|热线|熱線|座机|(?<![a-z])(?:tel|telephone|phone|mobile|cell|cellphone|fax|whatsapp)(?![a-z]))"
    r"(?:号码?|號碼?|(?i:[ ]?(?:number|no\.?|#)(?![a-z])))?(?:[ ]?(?:是|为|為|(?i:is)(?![a-z])))?[.]?"
    rf"{COLON}(?P<v>{_NUMBER})(?!-?[0-9A-Za-z]){AMOUNT}"
)
_ASKED = re.compile(
    r"(?i:致电|致電|拨打|撥打|联系|聯絡|联络|咨询|打给|号码|號碼|短信|(?<![a-z])(?:call|dial|text|contact|reach|ring)(?![a-z]))"
    rf"[^0-9<>|{{}}\n]{{0,16}}?(?<![0-9A-Za-z])(?P<v>{_NUMBER})(?![0-9A-Za-z]){AMOUNT}"
)
_YEARS = re.compile(
    rf"(?<![0-9])(?:1[89]|20)[0-9]{{2}}{GAP}(?:(?:1[89]|20)[0-9]{{2}}|[0-9]{{1,2}}{GAP}[0-9]{{1,2}})(?![0-9])"
)


def _phone(line: str, match: re.Match) -> Span | None:
    """7 to 15 digits, not a date or a span of years within."""
    value = match["v"]
    years = _YEARS.search(value)
    return None if years or not 7 <= len(_digits(value)) <= 15 else match.span("v")


def _national(line: str, match: re.Match) -> Span | None:
    """Not in quotes: "1-800-273-8255" is a song."""
    start, end = match.span("v")
    return None if quoted(line, start) and line[end : end + 1] in tuple('"”》」』') else (start, end)


def _asked(line: str, match: re.Match) -> Span | None:
    return _phone(line, match) if 10 <= len(_digits(match["v"])) <= 14 else None


_PASSPORT_HINT = re.compile("[护護通Pp](?:照|行[证證]|(?i:assport))")
NUMBERS = (
    Kind("passport", _PASSPORT_HINT, _PASSPORT),
    Kind("passport", _PASSPORT_HINT, _PASSPORT_AFTER),
    Kind("plate", re.compile("[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z]"), _PLATE, _plate),
    Kind("id_card", SEVEN_DIGITS, _ID, _id_card),
    Kind("bank_card", SEVEN_DIGITS, _CARD, _bank_card),
    Kind("phone", SEVEN_DIGITS, _MOBILE, _phone),
    Kind("phone", SEVEN_DIGITS, _LANDLINE),
    Kind("phone", SEVEN_DIGITS, _ABROAD, _phone),
    Kind("phone", SEVEN_DIGITS, _NATIONAL, _national),
    Kind("phone", SEVEN_DIGITS, _LABELLED, _phone),
    Kind("phone", SEVEN_DIGITS, _ASKED, _asked),
)
