"""Two runs on the same questions: difference, interval, exact test.  Plain Python: no jax here."""

import json
import math

from mucpt_jax import config
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import alias

ANSWERED = {"id", "question", "answer", "aliases", "prediction", "correct"}
MAX_VALUES = 20  # of the field to split by
CELLS = ((True, True), (True, False), (False, True), (False, False))  # right: the run, the baseline


def strata(runs: dict, split: str | None) -> list[tuple[str, str] | None]:
    """None for all questions, then (field, value) for every value of the field to split by."""
    if not split:
        return [None]
    predictions = [p for run in runs.values() for p in (run["answers"] or {}).values()]
    values = sorted({as_text(p[split]) for p in predictions if split in p})
    if not values:
        known = sorted({name for p in predictions for name in p} - ANSWERED) or ["none"]
        raise UserError(f"no question has the field {split!r} to split by; {config.nearest(split, known)}")
    if len(values) > MAX_VALUES:
        raise UserError(f"{split} has {len(values)} values; split by a field with at most {MAX_VALUES}")
    return [None, *((split, value) for value in values)]


def as_text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def where(stratum: tuple[str, str] | None) -> str:
    return "=".join(stratum) if stratum else "all"


def chosen(run: dict | None, stratum: tuple[str, str] | None) -> dict[tuple, bool]:
    """{question: right} of a stratum."""
    answers = (run and run["answers"]) or {}
    return {
        key: p["correct"]
        for key, p in answers.items()
        if not stratum or (stratum[0] in p and as_text(p[stratum[0]]) == stratum[1])
    }


def grade(run: dict, stratum: tuple[str, str] | None) -> dict:
    right = chosen(run, stratum)
    k, n = sum(right.values()), len(right)
    low, high = alias.wilson(k, n) if n else (None, None)
    return {"k": k, "n": n, "accuracy": k / n if n else None, "low": low, "high": high}


def pair(runs: dict, name: str, other: str | None, stratum: tuple[str, str] | None) -> dict:
    """Difference of accuracy (run - baseline) on the questions that both answered, interval, discordant counts, p."""
    mine, base = chosen(runs[name], stratum), chosen(runs.get(other), stratum)
    shared = mine.keys() & base.keys()
    if mine and base and not shared and not stratum:
        raise UserError(
            f"{name} and {other} answered no question in common (same id, text, answer and aliases); "
            "evaluate both with the same evaluate.questions"
        )
    cells = [sum((mine[q], base[q]) == cell for q in shared) for cell in CELLS]
    counts = dict(zip(("both", "only_run", "only_baseline", "neither"), cells, strict=True)) | {"n": len(shared)}
    if not shared:
        return counts | dict.fromkeys(("difference", "low", "high", "p", "p_holm"))
    low, high = newcombe(*cells)
    difference = (counts["only_run"] - counts["only_baseline"]) / len(shared)
    return counts | {"difference": difference, "low": low, "high": high, "p": mcnemar(*cells[1:3])}


def newcombe(both: int, only_run: int, only_baseline: int, neither: int) -> tuple[float, float]:
    """95% interval of the difference of two paired proportions.

    Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10: the Wilson limits of both, put together with the
    correlation of the pairs, which is corrected for continuity.
    """
    n, k1, k2 = both + only_run + only_baseline + neither, both + only_run, both + only_baseline
    (low1, high1), (low2, high2) = alias.wilson(k1, n), alias.wilson(k2, n)
    p1, p2 = k1 / n, k2 / n
    excess = both * neither - only_run * only_baseline
    excess = max(excess - n / 2, 0) if excess > 0 else excess
    margins = k1 * (n - k1) * k2 * (n - k2)
    phi = excess / math.sqrt(margins) if margins else 0.0
    down, up = (p1 - low1, high2 - p2), (high1 - p1, p2 - low2)
    below, above = (math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0)) for x, y in (down, up))
    return p1 - p2 - below, p1 - p2 + above


def mcnemar(only_run: int, only_baseline: int) -> float:
    """Exact two-sided p: were discordant questions thrown by a fair coin (McNemar 1947; binomial)?"""
    from scipy.stats import binomtest  # a second of imports

    n = only_run + only_baseline
    return float(binomtest(only_run, n).pvalue) if n else 1.0


def holm(p: list[float]) -> list[float]:
    """p adjusted for as many tests, in the order given (Holm 1979, Scandinavian Journal of Statistics 6, 65-70)."""
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min((len(p) - rank) * p[i], 1.0))
        adjusted[i] = highest
    return adjusted
