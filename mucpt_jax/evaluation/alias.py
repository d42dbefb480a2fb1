"""Is a short answer right?  By normalised alias match: call it alias accuracy, not judge accuracy."""

import functools
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
    given = normalise(prediction)
    for gold in map(normalise, [answer, *aliases]):
        if given and given == gold:
            return True
        if len(gold) >= 3 and not any(c.isdigit() for c in gold) and gold in given:
            return True
    return False


def wilson(k: int, n: int) -> tuple[float, float]:
    """95% Wilson score interval of k successes in n trials (Wilson 1927)."""
    from scipy.stats import binomtest  # a second of imports

    if n == 0:
        return 0.0, 1.0
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    return float(low), float(high)
