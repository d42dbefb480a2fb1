"""The objective.  All logarithms are natural: nats.

nll = -log p(target | before) of the model in training, r = -log p_RM of the frozen reference model (RM).
A loss is a token-weight function (nll, r, mask, cfg) -> weights; general text always has weight 1:

    ntp     w = 1
    rho1    w = 1 / share selected, for the `keep` share of the step's domain tokens with the largest nll - r; else 0
    mucpt   w = alpha * 1 / max(r, rm_floor) / mean, capped       (mean: of 1 / max(r, rm_floor) over the corpus)

    loss = sum(w * nll) / count(targets of the whole optimiser step)

not / sum(w): that would cancel alpha.  The paper (arXiv 2511.14245) prints -alpha log p / log p_RM, whose sign
would raise the loss when minimised; alpha * nll / r is meant.

B rows, T tokens, D model, V vocabulary; t tokens of one chunk.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from mucpt_jax import model
from mucpt_jax.config import Config, Loss
from mucpt_jax.sharding import constrain


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def token_nll(hidden_BTD: Array, unembed_DV: Array, targets_BT: Array, chunk: int) -> Array:
    """-log p of each target in nats, float32 [B, T]; at most `chunk` tokens of a row have logits at a time.

    Logits are float32 whatever the inputs' dtype; the backward pass makes them again.
    """
    return nll_forward(hidden_BTD, unembed_DV, targets_BT, chunk)[0]


def nll_forward(hidden_BTD: Array, unembed_DV: Array, targets_BT: Array, chunk: int) -> tuple:
    # Gathered once, before the loop: inside it, every chunk would fetch the head again.
    unembed_DV = constrain(unembed_DV, None, "tensor")

    def one_chunk(_, part):
        hidden_BtD, targets_Bt = part
        logits_BtV = chunk_logits(hidden_BtD, unembed_DV)
        norm_Bt = jax.nn.logsumexp(logits_BtV, -1)
        return None, (norm_Bt - jnp.take_along_axis(logits_BtV, targets_Bt[..., None], -1)[..., 0], norm_Bt)

    parts = (split(hidden_BTD, chunk), split(targets_BT, chunk))
    _, (nll_cBt, norm_cBt) = lax.scan(one_chunk, None, parts)
    return join(nll_cBt, targets_BT.shape[1]), (hidden_BTD, unembed_DV, targets_BT, norm_cBt)


def nll_backward(chunk: int, saved: tuple, grad_BT: Array) -> tuple:
    """d nll / d logits = softmax - one-hot; products in the inputs' dtype, the head's sum over chunks in float32."""
    hidden_BTD, unembed_DV, targets_BT, norm_cBt = saved

    def one_chunk(d_unembed_DV, part):
        hidden_BtD, targets_Bt, norm_Bt, grad_Bt = part
        softmax_BtV = jnp.exp(chunk_logits(hidden_BtD, unembed_DV) - norm_Bt[..., None])
        is_target_BtV = lax.broadcasted_iota(jnp.int32, softmax_BtV.shape, 2) == targets_Bt[..., None]
        grad_BtV = ((softmax_BtV - is_target_BtV) * grad_Bt[..., None]).astype(hidden_BtD.dtype)
        d_unembed_DV += jnp.einsum("BtD,BtV->DV", hidden_BtD, grad_BtV, preferred_element_type=jnp.float32)
        return d_unembed_DV, jnp.einsum("BtV,DV->BtD", grad_BtV, unembed_DV)

    zero_DV = constrain(jnp.zeros(unembed_DV.shape, jnp.float32), None, "tensor")
    parts = (split(hidden_BTD, chunk), split(targets_BT, chunk), norm_cBt, split(grad_BT, chunk))
    d_unembed_DV, d_hidden_cBtD = lax.scan(one_chunk, zero_DV, parts)
    return join(d_hidden_cBtD, targets_BT.shape[1]), d_unembed_DV.astype(unembed_DV.dtype), None


token_nll.defvjp(nll_forward, nll_backward)


def chunk_logits(hidden_BtD: Array, unembed_DV: Array) -> Array:
    return jnp.einsum("BtD,DV->BtV", hidden_BtD, unembed_DV, preferred_element_type=jnp.float32)


def split(x_BT: Array, chunk: int) -> Array:
    """[B, T, ...] -> [chunks, B, t, ...]; the last chunk is filled up with zeros."""
    rows, tokens = x_BT.shape[:2]
    chunk = min(chunk, tokens)
    chunks = -(-tokens // chunk)
    x_BT = jnp.pad(x_BT, [(0, 0), (0, chunks * chunk - tokens)] + [(0, 0)] * (x_BT.ndim - 2))
    return x_BT.reshape(rows, chunks, chunk, *x_BT.shape[2:]).swapaxes(0, 1)


def join(x_cBt: Array, tokens: int) -> Array:
    """The inverse of split: [chunks, B, t, ...] -> [B, T, ...]."""
    chunks, rows, chunk = x_cBt.shape[:3]
    return x_cBt.swapaxes(0, 1).reshape(rows, chunks * chunk, *x_cBt.shape[3:])[:, :tokens]


def target_mask(batch: dict) -> Array:
    """bool [B, T]: is token t + 1 a target?  Not the first of a segment, not padding."""
    segment_ids = batch["segment_ids"]
    return (segment_ids[:, 1:] == segment_ids[:, :-1]) & (segment_ids[:, 1:] > 0)


def batch_nll(params: dict, batch: dict, cfg: Config, head_dtype: str | None = None) -> Array:
    """Plain -log p of every target of packed rows, nats, float32 [B, T]."""
    dtype = cfg.train.compute_dtype
    hidden_BTD = model.hidden(
        params,
        batch["tokens"][:, :-1],
        batch["segment_ids"][:, :-1],
        cfg.model,
        dtype,
        cfg.train.remat,
    )
    head_dtype = head_dtype or dtype
    unembed_DV = model.unembed(params).astype(head_dtype)
    targets_BT = batch["tokens"][:, 1:]
    return token_nll(hidden_BTD.astype(head_dtype), unembed_DV, targets_BT, cfg.loss.chunk)


def ntp_weights(nll_BT: Array, rm_nll_BT: Array, domain_BT: Array, cfg: Loss) -> Array:
    return jnp.ones_like(nll_BT)


def rho1_weights(nll_BT: Array, rm_nll_BT: Array, domain_BT: Array, cfg: Loss) -> Array:
    """The `keep` share of the domain tokens with the largest excess loss (RHO-1, arXiv 2404.07965).

    round(keep * domain tokens) of them, at least one (the product in float32); ties go to the earlier token.
    """
    excess = jnp.where(domain_BT, nll_BT - rm_nll_BT, -jnp.inf).ravel()
    domain = domain_BT.sum()
    selected = jnp.maximum(jnp.round(cfg.keep * domain), 1).astype(jnp.int32)
    order = jnp.argsort(-excess, stable=True)
    chosen = jnp.zeros(excess.size, bool).at[order].set(jnp.arange(excess.size) < selected)
    return jnp.where(chosen.reshape(nll_BT.shape), domain / selected, 0.0)


def mucpt_weights(nll_BT: Array, rm_nll_BT: Array, domain_BT: Array, cfg: Loss) -> Array:
    """alpha / max(r, floor): what the RM finds unlikely counts less (MuCPT, section on the objective)."""
    weight_BT = 1 / jnp.maximum(rm_nll_BT, cfg.rm_floor) / (cfg.mean_raw_weight or 1.0)
    return cfg.alpha * jnp.clip(weight_BT, cfg.min_weight, cfg.max_weight)


WEIGHTS = {"ntp": ntp_weights, "rho1": rho1_weights, "mucpt": mucpt_weights}


def token_weights(nll_BT: Array, batch: dict, cfg: Loss) -> Array:
    """Weight of every target, float32 [B, T]: 0 where there is none, 1 on general text; no gradient flows."""
    mask_BT = target_mask(batch)
    domain_BT = mask_BT & batch["is_domain"][:, None]
    # NaN (unscored) may stand where no weight is taken from it; where() keeps it out of the gradient.
    rm_nll_BT = jnp.where(domain_BT, batch["rm_nll"][:, 1:].astype(jnp.float32), 0.0)
    weight_BT = WEIGHTS[cfg.kind](lax.stop_gradient(nll_BT), rm_nll_BT, domain_BT, cfg)
    return lax.stop_gradient(jnp.where(domain_BT, weight_BT, mask_BT.astype(jnp.float32)))
