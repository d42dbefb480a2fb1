"""A judge against human labels: how often it agrees, and what its accuracy would be without its errors."""

import math

from mucpt_jax.evaluation import alias
from mucpt_jax.formats.questions import Verdict

Z = 1.959964  # of a 95% interval


def calibration(pairs: list[tuple[Verdict, Verdict]], k: int, n: int) -> dict:
    """`pairs`: (human, judge) of each label; `k` of the `n` answers under test are CORRECT by the judge.

    sensitivity: share of the right answers that the judge calls CORRECT; specificity: share of the others that it does
    not.  {"n", "confusion": {human: {judge: count}}, "agreement", "kappa", "sensitivity", "specificity", "corrected"},
    each with low and high; None where it cannot be known.
    """
    right = [judge == "CORRECT" for human, judge in pairs if human == "CORRECT"]
    wrong = [judge != "CORRECT" for human, judge in pairs if human != "CORRECT"]
    confusion: dict[str, dict[str, int]] = {}
    for human, judge in pairs:
        row = confusion.setdefault(human, {})
        row[judge] = row.get(judge, 0) + 1
    return {
        "n": len(pairs),
        "confusion": confusion,
        "agreement": share(sum(human == judge for human, judge in pairs), len(pairs)),
        "kappa": kappa(pairs),
        "sensitivity": share(sum(right), len(right)),
        "specificity": share(sum(wrong), len(wrong)),
        "corrected": corrected(k, n, sum(right), len(right), sum(wrong), len(wrong)),
    }


def share(k: int, n: int) -> dict | None:
    """{"k", "n", "share", "low", "high"}, 95% Wilson; None of nothing."""
    if not n:
        return None
    low, high = alias.wilson(k, n)
    return {"k": k, "n": n, "share": k / n, "low": low, "high": high}


def kappa(pairs: list[tuple[Verdict, Verdict]]) -> dict | None:
    """Agreement beyond chance (Cohen 1960), with his large-sample error; None where chance alone would agree always."""
    n = len(pairs)
    seen = sum(human == judge for human, judge in pairs) / max(n, 1)
    by_human, by_judge = ([pair[side] for pair in pairs] for side in (0, 1))
    chance = sum(by_human.count(v) * by_judge.count(v) for v in set(by_human)) / max(n, 1) ** 2
    if not n or chance == 1:
        return None
    value, error = (seen - chance) / (1 - chance), math.sqrt(seen * (1 - seen) / n) / (1 - chance)
    return {"kappa": value, "low": max(value - Z * error, -1.0), "high": min(value + Z * error, 1.0)}


def corrected(k: int, n: int, hits: int, right: int, passes: int, wrong: int) -> dict | None:
    """{"accuracy", "low", "high"} of n answers, k of them CORRECT by a judge of known errors.

    (p + q0 - 1) / (q0 + q1 - 1), p = k / n, sensitivity q1 = hits / right, specificity q0 = passes / wrong (Rogan and
    Gladen 1978).  The interval counts the chance of both the test and the calibration set: Lang and Reiczigel 2014,
    as in Lee et al. 2511.21140.  None for a judge that is no better than chance, or labels of one kind alone.
    """
    if not (n and right and wrong) or hits / right + passes / wrong <= 1:
        return None
    point = (k / n + passes / wrong - 1) / (hits / right + passes / wrong - 1)
    p, q1, q0 = (k + Z * Z / 2) / (n + Z * Z), (hits + 1) / (right + 2), (passes + 1) / (wrong + 2)
    slope = q0 + q1 - 1
    if slope <= 0:
        return None
    middle = (p + q0 - 1) / slope
    of_right, of_wrong = q1 * (1 - q1) / (right + 2), q0 * (1 - q0) / (wrong + 2)
    shift = 2 * Z * Z * (middle * of_right - (1 - middle) * of_wrong)
    variance = p * (1 - p) / (n + Z * Z) + middle**2 * of_right + (1 - middle) ** 2 * of_wrong
    half = Z * math.sqrt(variance) / slope
    bounds = {"accuracy": point, "low": middle + shift - half, "high": middle + shift + half}
    return {name: min(max(value, 0.0), 1.0) for name, value in bounds.items()}
