"""Is a short answer right?  By normalised alias match: call it alias accuracy, not judge accuracy."""

import functools
import math
import unicodedata

import opencc


@functools.cache
def simplified() -> opencc.OpenCC:
    return opencc.OpenCC("t2s")


def normalise(text: str) -> str:
    """NFKC, traditional to simplified, casefold; letters and digits only (《》, spaces, punctuation go)."""
    text = simplified().convert(unicodedata.normalize("NFKC", text)).casefold()
    return "".join(c for c in text if unicodedata.category(c)[0] in "LN")


def is_correct(prediction: str, answer: str, aliases: list[str]) -> bool:
    """Equal to the answer or an alias; or it contains one of at least 3 characters that is no number."""
    found = normalise(prediction)
    for gold in map(normalise, [answer, *aliases]):
        if found and found == gold:
            return True
        if len(gold) >= 3 and not any(c.isdigit() for c in gold) and gold in found:
            return True
    return False


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of k successes in n trials, 95% by default (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = k / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)
