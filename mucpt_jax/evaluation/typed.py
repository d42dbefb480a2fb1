"""Dates and numbers that are a whole short answer, as values: May 3, 1998 is 1998年5月3日, 三张 is 3.

Texts are normalised (see alias.py): lower case, simplified, one blank between words.
"""

import datetime
import math
import re

MONTHS = [f"{name[:3]}(?:{name[3:]}|t)?" for name in (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)]  # fmt: skip
MONTH = "(" + "|".join(MONTHS) + ")"
DAY, YEAR = r"(\d{1,2})(?:st|nd|rd|th)?", r"([12]\d{3})"
DATES = [  # pattern, what its groups are
    (rf"{YEAR}年?", "y"), (rf"{YEAR}(?:-|年)(\d\d?)月?", "ym"), (rf"{YEAR}-(\d\d?)-(\d\d?)", "ymd"),
    (rf"{MONTH} {YEAR}", "my"), (rf"{MONTH} {DAY} {YEAR}", "mdy"), (rf"(?:the )?{DAY}(?: of)? {MONTH} {YEAR}", "dmy"),
]  # fmt: skip
ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
MANY = {
    "hundred": 1e2,
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "百": 1e2,
    "千": 1e3,
    "万": 1e4,
    "亿": 1e8,
    "": 1,
}
DIGITS = {digit: value for value, digits in enumerate(("零〇", "一", "二两", *"三四五六七八九")) for digit in digits}
STEPS = {"十": 10, "百": 100, "千": 1000}
LONGEST = 60  # characters of a number: a model may repeat 亿 without end
COUNTED = "[年首张部个次岁人周种座项位名期集场届天支枚]"  # measure words, which an answer may have or lack
WORDS = rf"(?:{'|'.join(TENS)})(?: (?:{'|'.join(ONES[1:10])}))?|{'|'.join(ONES[::-1])}"
NUMBER = rf"(-?\d+(?:\.\d+)?|[{''.join(DIGITS)}十百千万亿]+|{WORDS}) ?({'|'.join(MANY)}) ?{COUNTED}?( [a-z]+|%)?"


def date(text: str) -> tuple[int, ...] | None:
    """(year), (year, month) or (year, month, day)."""
    for pattern, letters in DATES:
        if match := re.fullmatch(pattern, text):
            parts = dict(zip(letters, map(month_or_number, match.groups()), strict=True))
            try:
                datetime.date(parts["y"], parts.get("m", 1), parts.get("d", 1))
            except ValueError:
                return None
            return tuple(parts[letter] for letter in "ymd" if letter in parts)
    return None


def month_or_number(text: str) -> int:
    return int(text) if text.isdigit() else 1 + [m[:3] for m in MONTHS].index(text[:3])


def number(text: str) -> tuple[float, str] | None:
    """(value, unit): the unit is an English word behind the number or %, measure words are none."""
    match = re.fullmatch(NUMBER, text) if len(text) <= LONGEST else None
    value = match and value_of(match[1])
    return None if value is None else (value * MANY[match[2]], (match[3] or "").strip())


def value_of(text: str) -> float | None:
    if re.match(r"-?\d", text):
        return float(text)
    if not text.isascii():
        return chinese(text)
    return float(sum(ONES.index(word) if word in ONES else 20 + 10 * TENS.index(word) for word in text.split()))


def chinese(text: str) -> float | None:
    """一九九八 -> 1998, 二百零五 -> 205, 二百五 -> 250, 三亿二千万 -> 320000000."""
    if all(c in DIGITS for c in text):
        return float("".join(str(DIGITS[c]) for c in text))
    for name, size in (("亿", 1e8), ("万", 1e4)):
        before, point, after = text.partition(name)
        if point:
            high, low = chinese(before) if before else None, chinese(after) if after else 0.0
            low = low * size / 10 if after in DIGITS and low else low
            return None if high is None or low is None else high * size + low
    total, digit, last, ones = 0.0, None, 10_000, 0.1  # ones: of the last step, what a digit behind it counts
    for c in text:
        if c in DIGITS:
            digit, ones = DIGITS[c] or None, ones if DIGITS[c] else 1 / last  # behind a zero come ones
        elif STEPS[c] >= last or (digit is None and c != "十"):
            return None
        else:
            total, last, digit, ones = total + (digit or 1) * STEPS[c], STEPS[c], None, 0.1
    return total + round((digit or 0) * last * ones)


def equal(given: str, gold: str, margin: float | None = None) -> bool:
    """Is the answer the same date, or a day of the month or year that the gold names; or the same number?

    `margin`: how far a number may be off.  A unit that the gold lacks may stand in the answer.
    """
    given_date, gold_date = date(given), date(gold)
    if given_date and gold_date and margin is None:
        return given_date[: len(gold_date)] == gold_date
    given_number, gold_number = number(given), number(gold)
    if not given_number or not gold_number:
        return False
    (value, unit), (right, wanted) = given_number, gold_number
    close = math.isclose(value, right, rel_tol=1e-9, abs_tol=margin or 0.0)
    return close and (unit == wanted or (not wanted and unit != "%"))
