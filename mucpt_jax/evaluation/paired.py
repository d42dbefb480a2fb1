"""Two runs on the same questions: difference, intervals, exact test.  Plain Python and numpy: no jax here."""

import json
import math
import zlib

from mucpt_jax import config
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import alias

OWN = {"id", "question", "answer", "aliases", "prediction", "correct", "verdict", "reply", "evidence"}  # no parts
MAX_VALUES = 20  # of the field to split by
CELLS = ((True, True), (True, False), (False, True), (False, False))  # right: the run, the baseline
RESAMPLES = 10_000  # of a bootstrap
Z_ALPHA, Z_POWER = 1.959964, 0.841621  # two-sided 5%, power 80%
MEASURES = ("difference", "low", "high", "p", "p_holm", "boot_low", "boot_high", "cluster_low", "cluster_high",
            "clusters", "smallest")  # fmt: skip


def strata(records: list[dict], fields: list[str]) -> list[tuple[str, str] | None]:
    """None for all questions, then (field, value) for every value of the fields to split by."""
    return [None, *((field, value) for field in fields for value in values_of(records, field))]


def values_of(records: list[dict], field: str) -> list[str]:
    values = distinct(records, field)
    if not values:
        known = sorted({name for record in records for name in record} - OWN) or ["none"]
        raise UserError(f"no question has the field {field!r} to split by; {config.nearest(field, known)}")
    if len(values) > MAX_VALUES:
        raise UserError(f"{field} has {len(values)} values; split by a field with at most {MAX_VALUES}")
    return values


def distinct(records: list[dict], field: str) -> list[str]:
    return sorted({as_text(record[field]) for record in records if record.get(field) is not None})


def as_text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def where(stratum: tuple[str, str] | None) -> str:
    return "=".join(stratum) if stratum else "all"


def chosen(answers: dict[tuple, dict], stratum: tuple[str, str] | None) -> dict[tuple, dict]:
    """The answers of a stratum."""
    if not stratum:
        return answers
    field, value = stratum
    return {key: p for key, p in answers.items() if p.get(field) is not None and as_text(p[field]) == value}


def grade(answers: dict[tuple, dict]) -> dict:
    """Errors are answers without a verdict; they count as not right, and are said."""
    k, n = sum(p["correct"] for p in answers.values()), len(answers)
    low, high = alias.wilson(k, n) if n else (None, None)
    verdicts = [p.get("verdict") for p in answers.values()]
    attempted = n - verdicts.count("NOT_ATTEMPTED") - verdicts.count("ERROR")
    return {
        "k": k,
        "n": n,
        "accuracy": k / n if n else None,
        "low": low,
        "high": high,
        "not_attempted": verdicts.count("NOT_ATTEMPTED"),
        "errors": verdicts.count("ERROR"),
        "f": 2 * k / (n + attempted) if n else None,  # harmonic mean of k / n and k / attempted (SimpleQA)
    }


def pair(mine: dict[tuple, dict], base: dict[tuple, dict]) -> dict:
    """Difference of accuracy (mine - base) on the same questions, its intervals, discordant counts, exact p.

    low, high: Newcombe's 95%; boot_*: bootstrap over questions; cluster_*: over entities, where questions share some;
    smallest: the difference that a paired test of as many questions, as discordant, sees with power 80%.
    """
    assert mine.keys() == base.keys() or not (mine and base), "other questions"
    keys = list(mine) if base else []
    cells = [sum((mine[q]["correct"], base[q]["correct"]) == cell for q in keys) for cell in CELLS]
    counts = dict(zip(("both", "only_run", "only_baseline", "neither"), cells, strict=True)) | {"n": len(keys)}
    if not keys:
        return counts | dict.fromkeys(MEASURES)
    differences = [int(mine[q]["correct"]) - int(base[q]["correct"]) for q in keys]
    low, high = newcombe(*cells)
    boot_low, boot_high = bootstrap(differences, list(range(len(keys))))
    entities = [mine[q].get("entity") or "/".join(map(str, q)) for q in keys]
    clustered = len(set(entities)) < len(entities)
    cluster_low, cluster_high = bootstrap(differences, entities) if clustered else (None, None)
    return counts | {
        "difference": sum(differences) / len(keys),
        "low": low,
        "high": high,
        "p": mcnemar(*cells[1:3]),
        "boot_low": boot_low,
        "boot_high": boot_high,
        "cluster_low": cluster_low,
        "cluster_high": cluster_high,
        "clusters": len(set(entities)) if clustered else None,
        "smallest": smallest_difference(len(keys), (cells[1] + cells[2]) / len(keys)),
    }


def bootstrap(differences: list[int], clusters: list) -> tuple[float, float]:
    """95% percentile interval of the mean difference; whole clusters are drawn, with replacement (Efron 1979).

    Which clusters a draw takes follows from how many there are alone, so every pair of runs sees the same draws.
    """
    import numpy as np

    _, cluster = np.unique(np.array(list(map(str, clusters))), return_inverse=True)
    sums, sizes = np.bincount(cluster, differences), np.bincount(cluster)
    count = len(sizes)
    rng, means = np.random.default_rng(zlib.crc32(b"%d" % count)), []
    block = max(1, 2_000_000 // count)  # draws in memory at once
    for start in range(0, RESAMPLES, block):
        drawn = rng.multinomial(count, np.full(count, 1 / count), min(block, RESAMPLES - start))
        means.append(drawn @ sums / (drawn @ sizes))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)


def smallest_difference(n: int, discordant: float) -> float | None:
    """Of two accuracies that a paired test sees with 80% power at 5%: n questions, a share of them discordant.

    Normal approximation (Connor 1987, Biometrics 43, 207-211): (1.96 sqrt(d) + .84 sqrt(d - x^2)) / sqrt(n) = x.
    None where no difference of that discordance would be seen.
    """
    x = 0.0
    for _ in range(100):  # a contraction: the second term falls as x rises
        x = (Z_ALPHA * math.sqrt(discordant) + Z_POWER * math.sqrt(max(discordant - x * x, 0))) / math.sqrt(n)
    return x if 0 < x <= discordant else None


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


def agreement(first: dict[tuple, dict], second: dict[tuple, dict]) -> dict:
    """Of two judges on the same answers: {"n", "agree", "kappa", "differ": keys}; kappa: Cohen 1960.

    Other answers to the same questions, as of an earlier step, do not count.
    """
    keys = [q for q in first if q in second and first[q].get("prediction") == second[q].get("prediction")]
    a, b = ([side[q]["correct"] for q in keys] for side in (first, second))
    differ = [q for q, x, y in zip(keys, a, b, strict=True) if x != y]
    n = len(keys)
    agree = (n - len(differ)) / n if n else None
    chance = (sum(a) * sum(b) + (n - sum(a)) * (n - sum(b))) / (n * n) if n else 1.0
    kappa = (agree - chance) / (1 - chance) if chance < 1 else None
    return {"n": n, "agree": agree, "kappa": kappa, "differ": differ}
