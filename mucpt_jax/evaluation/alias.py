"""Is a short answer right?  By normalised alias match: call it alias accuracy, not judge accuracy.

A text is compared without case, accents, Chinese variants, quotes and punctuation.  What stays is what tells answers
apart: sharps and flats, minus signs, marks between digits, signs that are the whole of a title.
"""

import functools
import re
import unicodedata
from typing import Any

from mucpt_jax.evaluation import typed
from mucpt_jax.formats.questions import Verdict

# In order.  The text is NFKC and simplified; its case still stands, for it tells the key Bb from a b.
MEANINGS = [
    (r"[‐‑‒–—−]", "-"),
    (r"[升昇]\s?([A-Ga-g])(?![a-z])", r"\1 sharp "),
    (r"降\s?([A-Ga-g])(?![a-z])", r"\1 flat "),
    (r"(?<=[A-Za-z])#|♯", " sharp "),
    (r"♭", " flat "),
    (r"\b([A-Ga-g])b(?=[ -]?(?:major|minor|maj\b|min\b|大调|小调))", r"\1 flat"),
    (r"\s[+&]\s|&", " and "),
    (r"(?:(?<!\w)minus\s|负)(?=\d)", "-"),
    (r"\b(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})(?!\d)日?", r"\1-\2-\3"),
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),
    (r"(?<=\d)\s*[~-]\s*(?=\d)", "-"),
]
BETWEEN_DIGITS = ".:/-,"
DROPPED_SIGNS = set("~<>|`^´¨©®℗")  # brackets, quotes and marks of rights, though Unicode calls them symbols
LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
ACCENTED = ("LATIN", "GREEK")  # scripts whose words stay the same without their accents
SPACED = "0-9a-z\u00df-\u0dff"  # scripts that write blanks between words, lower case

SHORT = 200  # characters of an answer in which a name is looked for: a long one may list them all
FILLERS = "a|an|the|by|from|of|in|sung|made|written|called|named|singer|band|artist|song|album|composer|really"
DENIALS = r"not|\w*n t|never|nor|neither|except|without|isnt|wasnt|(?:rather|other) than|instead of"
DENIED_BEFORE = (
    rf"(?:\b(?:{DENIALS})(?: (?:{FILLERS}))* ?"
    r"|(?:不是|并非|绝非|而非|不叫|不属于|不可能是|除了)(?:由|歌手|乐队|歌曲|专辑|作曲家|作曲|叫|为|来自| )*)$"
)
DENIED_AFTER = (
    r" (?:(?:is|was|are|were|does|did|has|had|can|could) ?(?:not|n t)\b|(?:isnt|wasnt|didnt)\b)|不是|并非|并不|没有"
)
REFUSALS = {"i don t know", "i do not know", "i m not sure", "not sure", "unknown",
            "不知道", "我不知道", "不清楚", "我不清楚", "不确定"}  # fmt: skip


@functools.cache
def simplified() -> Any:
    import opencc  # the checks of a config load this module, also where seqio's tasks run, which have no opencc

    return opencc.OpenCC("t2s")


def normalise(text: str) -> str:
    """Words in lower case with one blank between them; a text of nothing but punctuation stays as it is."""
    plain = simplified().convert(unicodedata.normalize("NFKC", text))
    words = plain
    for pattern, meaning in MEANINGS:
        words = re.sub(pattern, meaning, words)
    words = without_accents(words.casefold()).translate(LETTERS)
    words = "".join(c if is_kept(c, words[i - 1 : i], words[i + 1 : i + 2]) else " " for i, c in enumerate(words))
    return " ".join(words.split()) or "".join(plain.split())


def without_accents(text: str) -> str:
    """Beyoncé -> Beyonce; where a mark makes another letter (が, й, Hindi's vowels) it stays."""
    letters = []
    for c in unicodedata.normalize("NFC", text):
        bare = unicodedata.normalize("NFD", c)
        accented = len(bare) > 1 and unicodedata.name(bare[0], "").startswith(ACCENTED)
        letters.append(bare[0] if accented else c)
    return "".join(letters)


def is_kept(c: str, before: str, after: str) -> bool:
    """Letters, marks, digits; most symbols; marks between digits; the minus and the point that begin a number."""
    if c in BETWEEN_DIGITS and after.isdigit():
        return before.isdigit() or (c in "-." and not before.isalnum() and before not in (")", "]"))
    return c == "%" or (unicodedata.category(c)[0] in "LNMS" and c not in DROPPED_SIGNS)


def closed(text: str) -> str:
    """Without blanks, but for those that hold two numbers apart."""
    return re.sub(r"(?<!\d) | (?!\d)", "", text)


def verdict(question: dict, prediction: str) -> Verdict:
    """Of a question (answer, aliases, margin) and an answer to it."""
    if is_correct(prediction, question["answer"], question.get("aliases") or [], question.get("margin")):
        return "CORRECT"
    given = normalise(prediction)
    return "NOT_ATTEMPTED" if not given or given in REFUSALS else "INCORRECT"


def is_correct(prediction: str, answer: str, aliases: list[str], margin: float | None = None) -> bool:
    """Equal to the answer or an alias, blanks aside, as text, date or number; or it contains one of at least 3 letters
    that is no number, and does not deny it.

    `margin`: how far a number may be off.
    """
    given, golds = normalise(prediction), [normalise(gold) for gold in (answer, *aliases)]
    return bool(given) and any(
        closed(given) == closed(gold) or typed.equal(given, gold, margin) or contains(given, gold) for gold in golds
    )


def contains(given: str, gold: str) -> bool:
    """Does a short text hold the words of the answer, and not only to deny them?

    They neither begin nor end inside another word, but for a plural.
    """
    letters = closed(gold)
    if sum(c.isalpha() for c in letters) < 3 or any(c.isdigit() for c in letters) or len(given) > SHORT:
        return False
    begin = rf"(?<![{SPACED}])" if re.match(f"[{SPACED}]", letters) else ""
    end = rf"(?:e?s)?(?![{SPACED}])" if re.search(f"[{SPACED}]$", letters) else ""
    places = re.finditer(begin + " ?".join(map(re.escape, letters)) + end, given)
    return any(not denied(given[: place.start()], given[place.end() :]) for place in places)


def denied(before: str, after: str) -> bool:
    """not (by the singer) X, X was not, 不是(歌手)X, X不是"""
    return bool(re.search(DENIED_BEFORE, before) or re.match(DENIED_AFTER, after))


def grades(k: int, n: int) -> dict:
    """Accuracy of k right answers of n, with Wilson's 95% interval."""
    low, high = wilson(k, n)
    return {"k": k, "n": n, "accuracy": k / max(n, 1), "low": low, "high": high}


def wilson(k: int, n: int) -> tuple[float, float]:
    """95% Wilson score interval of k successes in n trials (Wilson 1927)."""
    from scipy.stats import binomtest  # a second of imports

    if n == 0:
        return 0.0, 1.0
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    return float(low), float(high)
