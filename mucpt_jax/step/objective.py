"""The objective: how much every target counts.  All logarithms are natural: nats.

nll = -log p(target | before) of the model in training, r = -log p_RM of the frozen reference model (RM).
A loss is a token-weight function (nll, batch, domain, cfg) -> weights; general text always has weight 1:

    ntp     w = 1
    rho1    w = 1 / share selected, for the `keep` share of the step's domain tokens with the largest nll - r; else 0
    mucpt   w = alpha * raw / mean, capped;  raw = 1 / max(r, rm_floor);  mean by weight_norm:
                none              1
                corpus_mean_one   of raw over the scored corpus
                batch_mean_one    of raw over the step's domain tokens, of all hosts and micro-batches
                loss_match        of raw over the corpus, each token counted by the start model's loss: the domain's
                                  first weighted loss then equals its plain one

    loss = sum(w * nll) / count(targets of the whole optimiser step)

not / sum(w): that would cancel alpha.  The paper (arXiv 2511.14245) prints -alpha log p / log p_RM, whose sign
would raise the loss when minimised; alpha * nll / r is meant.

Not in the paper: loss.smooth takes r over a unit (token or word) and its neighbours in the segment, so that a
surprising token in a sentence that the RM otherwise knows, as a fact that its seed lacked, counts more than noise.

B rows, T tokens; u units of a row, W neighbours.
"""

import jax.numpy as jnp
from jax import Array, lax

from mucpt_jax.config import Loss
from mucpt_jax.formats import rows
from mucpt_jax.step.losses import target_mask


def token_weights(nll_BT: Array, batch: dict, cfg: Loss) -> Array:
    """Weight of every target, float32 [B, T]: 0 where there is none, 1 on general text; no gradient flows."""
    mask_BT = target_mask(batch)
    domain_BT = mask_BT & batch["is_domain"][:, None]
    weight_BT = WEIGHTS[cfg.kind](lax.stop_gradient(nll_BT), batch, domain_BT, cfg)
    return lax.stop_gradient(jnp.where(domain_BT, weight_BT, mask_BT.astype(jnp.float32)))


def ntp_weights(nll_BT: Array, batch: dict, domain_BT: Array, cfg: Loss) -> Array:
    return jnp.ones_like(nll_BT)


def rho1_weights(nll_BT: Array, batch: dict, domain_BT: Array, cfg: Loss) -> Array:
    """The `keep` share of the domain tokens with the largest excess loss (RHO-1, arXiv 2404.07965).

    round(keep * domain tokens) of them, at least one (the product in float32); ties go to the earlier token.
    """
    excess = jnp.where(domain_BT, nll_BT - scores(batch, domain_BT), -jnp.inf).ravel()
    domain = domain_BT.sum()
    selected = jnp.maximum(jnp.round(cfg.keep * domain), 1).astype(jnp.int32)
    order = jnp.argsort(-excess, stable=True)
    chosen = jnp.zeros(excess.size, bool).at[order].set(jnp.arange(excess.size) < selected)
    return jnp.where(chosen.reshape(nll_BT.shape), domain / selected, 0.0)


def mucpt_weights(nll_BT: Array, batch: dict, domain_BT: Array, cfg: Loss) -> Array:
    """alpha / max(r, floor): what the RM finds unlikely counts less (MuCPT, section on the objective)."""
    weight_BT = jnp.zeros(domain_BT.shape, jnp.float32)
    for share, mean, raw_BT in zip(shares(cfg), means(cfg), raw_weights(batch, domain_BT, cfg), strict=True):
        if cfg.weight_norm == "batch_mean_one":
            mean = jnp.where(domain_BT, raw_BT, 0).sum() / jnp.maximum(domain_BT.sum(), 1)
        weight_BT += share * raw_BT / mean
    return cfg.alpha * jnp.clip(weight_BT, cfg.min_weight, cfg.max_weight)


WEIGHTS = {"ntp": ntp_weights, "rho1": rho1_weights, "mucpt": mucpt_weights}


def scores(batch: dict, domain_BT: Array) -> Array:
    """r of every domain target; 0 elsewhere: NaN may stand there, and where() keeps it out of the gradient."""
    return jnp.where(domain_BT, batch["rm_nll"][:, 1:].astype(jnp.float32), 0.0)


def shares(cfg: Loss) -> tuple[float, ...]:
    """Of the parts that a mucpt weight is a sum of: one, or mean and median when they are mixed."""
    return (1 - cfg.smooth_mix, cfg.smooth_mix) if cfg.smooth == "mix" else (1.0,)


def means(cfg: Loss) -> tuple[float, ...]:
    """Mean raw weight of each part; 1 where it is not normalised by a constant."""
    found = (cfg.mean_raw_weight or 1.0, cfg.mean_raw_median or 1.0)
    return found[: len(shares(cfg))]


def raw_weights(batch: dict, domain_BT: Array, cfg: Loss) -> tuple[Array, ...]:
    """1 / max(r, floor) of each part, [B, T]; r as it is stored or smoothed."""
    r_BT = scores(batch, domain_BT)
    if cfg.smooth == "none":
        return (1 / jnp.maximum(r_BT, cfg.rm_floor),)
    parts = []
    for kind in ("mean", "median"):
        if cfg.smooth in (kind, "mix"):
            floor = cfg.smooth_median_floor if (cfg.smooth, kind) == ("mix", "median") else cfg.rm_floor
            parts.append(1 / jnp.maximum(smoothed(r_BT, batch, domain_BT, kind, cfg.smooth_window), floor))
    return tuple(parts)


def smoothed(r_BT: Array, batch: dict, domain_BT: Array, kind: str, window: int) -> Array:
    """Mean or median of r over a target's unit and (window - 1) / 2 units to each side, never across segments.

    Units are tokens, or words where the batch has `word_starts` (bool [B, T+1]); a word's r is its tokens' mean.
    At the ends of a segment fewer neighbours count.
    """
    ids = rows.segment_numbers(batch["segment_ids"]).astype(jnp.int32)
    before_BT, segments_BT = ids[:, :-1], ids[:, 1:]
    if "word_starts" not in batch:
        return over_neighbours(jnp.where(domain_BT, r_BT, jnp.nan), segments_BT, kind, window)
    starts_BT = jnp.asarray(batch["word_starts"][:, 1:]) | (segments_BT != before_BT)
    unit_BT = jnp.cumsum(starts_BT.at[:, 0].set(True), axis=1) - 1  # a row's first target begins its first unit
    at = jnp.arange(r_BT.shape[0])[:, None], unit_BT
    total_Bu = jnp.zeros(r_BT.shape).at[at].add(jnp.where(domain_BT, r_BT, 0.0))
    count_Bu = jnp.zeros(r_BT.shape).at[at].add(domain_BT)
    segment_Bu = jnp.zeros(segments_BT.shape, jnp.int32).at[at].max(segments_BT)
    word_Bu = jnp.where(count_Bu > 0, total_Bu / jnp.maximum(count_Bu, 1), jnp.nan)
    return jnp.take_along_axis(over_neighbours(word_Bu, segment_Bu, kind, window), unit_BT, 1)


def over_neighbours(r_Bu: Array, segment_Bu: Array, kind: str, window: int) -> Array:
    """Mean or median over neighbours of the same segment that have a score; NaN has none.  0 where none has."""
    half = window // 2
    padded = jnp.pad(r_Bu, ((0, 0), (half, half)), constant_values=jnp.nan)
    segments = jnp.pad(segment_Bu, ((0, 0), (half, half)), constant_values=-1)
    length = r_Bu.shape[1]
    near_WBu = jnp.stack([
        jnp.where(segments[:, i : i + length] == segment_Bu, padded[:, i : i + length], jnp.nan)
        for i in range(window)
    ])  # fmt: skip
    known_Bu = jnp.isfinite(near_WBu).sum(0)
    if kind == "mean":
        return jnp.where(known_Bu > 0, jnp.nansum(near_WBu, 0) / jnp.maximum(known_Bu, 1), 0.0)
    sorted_WBu, place = jnp.sort(near_WBu, 0), jnp.arange(window)[:, None, None]  # NaN last
    middle = [jnp.where(place == at[None], sorted_WBu, 0).sum(0) for at in ((known_Bu - 1) // 2, known_Bu // 2)]
    return jnp.where(known_Bu > 0, (middle[0] + middle[1]) / 2, 0.0)


def limits(weight_BT: Array, batch: dict, cfg: Loss) -> dict[str, Array]:
    """Which domain targets have r (smoothed, where weights are) at the floor, which a weight at a cap: bool [B, T]."""
    domain_BT = target_mask(batch) & batch["is_domain"][:, None]
    if cfg.kind != "mucpt":
        return {"floored": jnp.zeros_like(domain_BT), "capped": jnp.zeros_like(domain_BT)}
    highest = jnp.inf if cfg.max_weight is None else jnp.float32(cfg.max_weight)
    lowest, highest = (jnp.float32(cfg.alpha) * cap for cap in (jnp.float32(cfg.min_weight), highest))
    floored_BT = raw_weights(batch, domain_BT, cfg)[0] >= 1 / jnp.float32(cfg.rm_floor)
    capped_BT = (weight_BT <= lowest) | (weight_BT >= highest)
    return {"floored": domain_BT & floored_BT, "capped": domain_BT & capped_BT}
