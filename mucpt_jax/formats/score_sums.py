"""Sums over scores: what the scores of a corpus say about the weights that they give.

r = -log p_RM of a target in nats, c = -log p of the start model; the raw weight is 1 / max(r, floor).  Plain numpy.
"""

import functools
import itertools
from typing import Annotated, TypedDict

import numpy as np
from msgspec import Meta

from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import Count, Number

# Nats.  Sums over the corpus are kept for each of these floors, apart for the r between two EDGES.
FLOORS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 65504.0)
# A gradient of weighted tokens is as noisy as that of ess * N plain ones.  On a toy world the best floor had an ess of
# 0.57 and one of 0.32 lost to rho1 (docs/objective.md).
WANTED_ESS = 0.5


class Facts(TypedDict):
    records: Count
    bytes: Count
    sha256: str


OF_BUCKETS, OF_FLOORS = (Meta(min_length=n, max_length=n) for n in (len(EDGES) - 1, len(FLOORS)))


class Sums(TypedDict):
    """Of stats_of."""

    tokens: Count
    nll: Number
    counts: Annotated[list[Count], OF_BUCKETS]
    weight: Annotated[list[Annotated[list[Number], OF_BUCKETS]], OF_FLOORS]
    weight_squared: Annotated[list[Number], OF_FLOORS]


class Note(TypedDict):
    """parts/SHARD.json of a score job"""

    facts: Facts
    stats: Sums


def stats_of(r: np.ndarray, where: str, base_nll: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Sums over scores r [N], nats, and the start model's loss of the same targets where it is known.

    counts [buckets] of r between EDGES; weight [floors, buckets] and weight_squared [floors] of raw weights;
    base [1 + floors]: sums of c, and of c times the raw weight.  Sums of several corpora may be added.
    """
    r = r.astype(np.float64)
    if not (np.isfinite(r) & (r >= 0)).all():
        raise UserError(
            f"{where}: the model gave a score that is NaN, infinite or negative; look at its weights, "
            "then delete this shard and score again"
        )
    buckets = np.clip(np.searchsorted(EDGES, r, "right") - 1, 0, len(EDGES) - 2)
    raw = [1 / np.maximum(r, floor) for floor in FLOORS]
    sums = {
        "tokens": np.int64(r.size),
        "nll": r.sum(),
        "counts": np.bincount(buckets, minlength=len(EDGES) - 1),
        "weight": np.stack([np.bincount(buckets, w, len(EDGES) - 1) for w in raw]),
        "weight_squared": np.array([(w**2).sum() for w in raw]),
    }
    if base_nll is not None:
        c = base_nll.astype(np.float64)
        sums["base"] = np.array([c.sum(), *((c * w).sum() for w in raw)])
    return sums


def add(a: dict, b: dict) -> dict:
    return {name: a[name] + b[name] for name in a}


def summary(stats: dict) -> dict:
    """Sums -> what a manifest tells about its scores (docs/data_format.md); all per target."""
    n, weight = max(int(stats["tokens"]), 1), np.asarray(stats["weight"])
    by_floor = {
        "mean_raw_weight": weight.sum(1) / n,
        "ess": weight.sum(1) ** 2 / (n * np.maximum(stats["weight_squared"], 1e-300)),
    }
    if "base" in stats:
        base = np.asarray(stats["base"])
        by_floor["mean_raw_weight_by_base_nll"] = base[1:] / max(base[0], 1e-300)
    grids = {name: dict(zip(map(str, FLOORS), values.tolist(), strict=True)) for name, values in by_floor.items()}
    mass = weight / np.maximum(weight.sum(1, keepdims=True), 1e-300)
    return {
        "tokens": int(stats["tokens"]),
        "mean_nll": float(stats["nll"]) / n,
        **grids,
        "histogram": {"edges": list(EDGES), "counts": np.asarray(stats["counts"]).tolist()},
        "weight_mass": dict(zip(map(str, FLOORS), mass.round(6).tolist(), strict=True)),
        "recommended_floor": recommended_floor(grids["ess"]),
    }


def of_shards(sources: list[str], stats: list[dict]) -> dict:
    """Source and sums of each shard -> summary of all, and under "sources" the main figures of each source."""
    by_source: dict[str, dict] = {}
    for source, sums in zip(sources, stats, strict=True):
        by_source[source] = add(by_source[source], sums) if source in by_source else sums
    keys = ("tokens", "mean_nll", "mean_raw_weight")
    of_source = {source: {key: summary(sums)[key] for key in keys} for source, sums in by_source.items()}
    return summary(functools.reduce(add, stats)) | {"sources": of_source}


def recommended_floor(ess: dict[str, float]) -> float:
    """The smallest floor that leaves an effective sample of WANTED_ESS; the largest there is where none does."""
    return next((float(floor) for floor, value in ess.items() if value >= WANTED_ESS), FLOORS[-1])


def at_floor(grid: dict[str, float], floor: float) -> float:
    """Value of a grid at any floor: between its points the means are smooth and falling, straight in log-log."""
    floors, values = np.array([float(f) for f in grid]), np.array(list(grid.values()))
    if not floors[0] <= floor <= floors[-1]:
        raise UserError(
            f"loss.rm_floor={floor} is off the scored grid {floors[0]}..{floors[-1]} nats; "
            "choose a floor on it or set loss.mean_raw_weight"
        )
    return float(np.exp(np.interp(np.log(floor), np.log(floors), np.log(values))))


def as_text(scores: dict) -> str:
    """A manifest's scores as two tables: what each floor does, and which tokens get the weight."""
    alike = max(scores["ess"].values()) - min(scores["ess"].values()) < 0.01
    known = scores["mean_raw_weight"].keys() & scores["ess"].keys() & scores["weight_mass"].keys()
    shown = sorted({0.001, 0.01, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, scores["recommended_floor"]} & set(map(float, known)))
    lines = [
        f"{scores['tokens']:,} targets scored by {scores['rm_hash']}, mean r {scores['mean_nll']:.3f} nats",
        f"{'floor':>8}{'mean 1/max(r, floor)':>24}{'ess':>8}   share of the weight by r: "
        + " ".join(f"{name:>8}" for name, _, _ in COARSE),
    ]
    for floor in map(str, shown):
        shares = " ".join(f"{share:8.3f}" for share in coarse(scores["weight_mass"][floor]))
        smallest = float(floor) == scores["recommended_floor"] and not alike
        mark = " <- smallest with ess >= 0.5" if smallest else ""
        lines.append(
            f"{floor:>8}{scores['mean_raw_weight'][floor]:24.4f}{scores['ess'][floor]:8.3f}{'':28}{shares}{mark}"
        )
    counts = np.array(scores["histogram"]["counts"])
    shares = " ".join(f"{share:8.3f}" for share in coarse((counts / max(counts.sum(), 1)).tolist()))
    lines.append(f"{'':40}{'share of the tokens':<28}{shares}")
    lines.append(
        "recommended: none, all floors give nearly the same weights: r hardly differs between these tokens"
        if alike
        else f"recommended: --config.loss.rm_floor={scores['recommended_floor']}"
    )
    return "\n".join(lines)


COARSE = tuple((f"{low:g}-{high:g}" if high < 60000 else f">{low:g}", low, high)
               for low, high in itertools.pairwise((0, 0.01, 0.1, 1, 3, 7, 65504)))  # fmt: skip


def coarse(shares: list[float]) -> list[float]:
    """Shares by EDGES -> by the few buckets that a table has room for."""
    return [sum(s for s, edge in zip(shares, EDGES, strict=False) if low <= edge < high) for _, low, high in COARSE]
