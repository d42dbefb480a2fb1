"""The objective: how much every target counts.  All logarithms are natural: nats.

nll = -log p(target | before) of the model in training, r = -log p_RM of the frozen reference model (RM).
An objective is a token-weight function and an entry of OBJECTIVES, the one place that knows it; general text always
has weight 1:

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

Functions import jax themselves: config, compare and the audit page read the table without it.  B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mucpt_jax.config import Loss, check_choice
from mucpt_jax.errors import UserError
from mucpt_jax.formats.rows import target_mask

if TYPE_CHECKING:
    from jax import Array


class Objective(NamedTuple):
    weights: Callable[[Array, dict, Array, Loss], Array]  # (nll_BT, batch, domain_BT, cfg) -> weights [B, T]
    needs_nll: bool  # of the whole step before any weight is known: one forward pass more with micro-batches
    needs_scores: bool  # r of domain rows
    knobs: tuple[str, ...]  # of Loss, that the weights depend on
    sentence: str  # of the model card; {knob} is replaced
    colour: str  # in plots and pages


def token_weights(nll_BT: Array, batch: dict, cfg: Loss) -> Array:
    """Weight of every target, float32 [B, T]; the loss is (weights * nll_BT).sum() / count of targets.

    0 where token t + 1 is no target (padding, the first token of a segment), 1 on general text, the objective's weight
    on domain text.  No gradient flows through the weights.  rho1 and batch_mean_one look at all rows that they are
    given: give them those of the whole optimiser step.

    nll_BT   float [B, T], nats: -log p of token t + 1 by the model in training; only read where needs_nll
    batch    arrays of numpy or jax:
                 segment_ids   uint16 [B, T + 1]: 1, 2, ... for the segments of a row, 0 is padding
                 is_domain     bool [B]
                 rm_nll        float [B, T + 1], nats: r of token t; NaN where there is none.  Only where needs_scores
    cfg      the objective's knobs; vocab_parts, reference and rm_hash are not read

    Raises UserError for an unknown kind or weight_norm, a missing key of the batch, and where weight_norm divides by a
    mean over the corpus that mean_raw_weight does not give.
    """
    import jax.numpy as jnp
    from jax import lax

    check(batch, cfg)
    mask_BT = target_mask(batch["segment_ids"])
    domain_BT = mask_BT & batch["is_domain"][:, None]
    weight_BT = OBJECTIVES[cfg.kind].weights(lax.stop_gradient(nll_BT), batch, domain_BT, cfg)
    return lax.stop_gradient(jnp.where(domain_BT, weight_BT, mask_BT.astype(jnp.float32)))


def check(batch: dict, cfg: Loss) -> None:
    check_choice("loss.kind", cfg.kind)
    check_choice("loss.weight_norm", cfg.weight_norm)
    needed = ("segment_ids", "is_domain") + ("rm_nll",) * OBJECTIVES[cfg.kind].needs_scores
    if missing := [name for name in needed if name not in batch]:
        raise UserError(
            f"the batch has no {' and no '.join(missing)}, which loss.kind={cfg.kind} needs; the docstring of "
            "objective.token_weights says what to add"
        )
    if wants_corpus_mean(cfg) and not cfg.mean_raw_weight:
        raise UserError(
            f"weight_norm={cfg.weight_norm} divides by a mean over the corpus, and mean_raw_weight is empty; set it "
            'to the mean of 1 / max(r, rm_floor), or use weight_norm="batch_mean_one" or "none"'
        )


def ntp_weights(nll_BT: Array, batch: dict, domain_BT: Array, cfg: Loss) -> Array:
    import jax.numpy as jnp

    return jnp.ones_like(nll_BT)


def rho1_weights(nll_BT: Array, batch: dict, domain_BT: Array, cfg: Loss) -> Array:
    """The `keep` share of the domain tokens with the largest excess loss (RHO-1, arXiv 2404.07965).

    round(keep * domain tokens) of them, at least one (the product in float32); ties go to the earlier token.
    """
    import jax.numpy as jnp

    excess = jnp.where(domain_BT, nll_BT - scores(batch, domain_BT), -jnp.inf).ravel()
    domain = domain_BT.sum()
    selected = jnp.maximum(jnp.round(cfg.keep * domain), 1).astype(jnp.int32)
    order = jnp.argsort(-excess, stable=True)
    chosen = jnp.zeros(excess.size, bool).at[order].set(jnp.arange(excess.size) < selected)
    return jnp.where(chosen.reshape(nll_BT.shape), domain / selected, 0.0)


def mucpt_weights(nll_BT: Array, batch: dict, domain_BT: Array, cfg: Loss) -> Array:
    """alpha / max(r, floor): what the RM finds unlikely counts less (MuCPT, section on the objective)."""
    import jax.numpy as jnp

    raw_BT = 1 / jnp.maximum(scores(batch, domain_BT), cfg.rm_floor)
    mean = cfg.mean_raw_weight if wants_corpus_mean(cfg) else 1.0
    if cfg.weight_norm == "batch_mean_one":
        mean = jnp.where(domain_BT, raw_BT, 0).sum() / jnp.maximum(domain_BT.sum(), 1)
    return cfg.alpha * jnp.clip(raw_BT / mean, cfg.min_weight, cfg.max_weight)


OBJECTIVES = {
    "ntp": Objective(
        ntp_weights, needs_nll=False, needs_scores=False, knobs=(), colour="#7a8290",
        sentence="The plain loss, on domain and general text.",
    ),
    "rho1": Objective(
        rho1_weights, needs_nll=True, needs_scores=True, knobs=("keep",), colour="#d9722e",
        sentence="RHO-1: of the domain tokens the {keep:.0%} with the largest excess loss over a reference model.",
    ),
    "mucpt": Objective(
        mucpt_weights, needs_nll=False, needs_scores=True, colour="#1f77b4",
        knobs=("alpha", "rm_floor", "weight_norm", "mean_raw_weight", "min_weight", "max_weight"),
        sentence="MuCPT (arXiv 2511.14245): the loss of a domain token counts alpha / max(-log p of a reference model, "
        "floor), alpha={alpha:g}, floor={rm_floor:g} nats, weights divided by {weight_norm}; general text counts "
        "plainly.",
    ),
}  # fmt: skip


def wants_corpus_mean(cfg: Loss) -> bool:
    """Are the weights divided by a mean over the corpus, mean_raw_weight?"""
    return "weight_norm" in OBJECTIVES[cfg.kind].knobs and cfg.weight_norm in ("corpus_mean_one", "loss_match")


def scores(batch: dict, domain_BT: Array) -> Array:
    """r of every domain target; 0 elsewhere: NaN may stand there, and where() keeps it out of the gradient."""
    import jax.numpy as jnp

    return jnp.where(domain_BT, batch["rm_nll"][:, 1:].astype(jnp.float32), 0.0)


def limits(weight_BT: Array, batch: dict, cfg: Loss) -> dict[str, Array]:
    """Which domain targets have r at the floor, which a weight at a cap: bool [B, T]; none where no knob says so."""
    import jax.numpy as jnp

    domain_BT = target_mask(batch["segment_ids"]) & batch["is_domain"][:, None]
    floored_BT = capped_BT = jnp.zeros_like(domain_BT)
    knobs = OBJECTIVES[cfg.kind].knobs
    if "rm_floor" in knobs:
        floored_BT = domain_BT & (scores(batch, domain_BT) <= jnp.float32(cfg.rm_floor))
    if "max_weight" in knobs:
        highest = jnp.inf if cfg.max_weight is None else jnp.float32(cfg.max_weight)
        lowest, highest = (jnp.float32(cfg.alpha) * cap for cap in (jnp.float32(cfg.min_weight), highest))
        capped_BT = domain_BT & ((weight_BT <= lowest) | (weight_BT >= highest))
    return {"floored": floored_BT, "capped": capped_BT}
