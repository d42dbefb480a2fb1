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
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec as P

from mucpt_jax import model
from mucpt_jax.chunks import join, split
from mucpt_jax.config import Config, Loss
from mucpt_jax.sharding import fit


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def token_nll(hidden_BTD: Array, unembed_DV: Array, targets_BT: Array, chunk: int) -> Array:
    """-log p of each target in nats, float32 [B, T]; at most `chunk` tokens of a row have logits at a time.

    Logits are float32 whatever the inputs' dtype; the backward pass makes them again.  On a mesh the head is gathered
    over fsdp once before the chunks, its gradient summed over devices once after them, and tensor splits V.
    """
    return nll_forward(hidden_BTD, unembed_DV, targets_BT, chunk)[0]


def nll_forward(hidden_BTD: Array, unembed_DV: Array, targets_BT: Array, chunk: int) -> tuple:
    local = functools.partial(local_nll, chunk=chunk, vocab=unembed_DV.shape[1])
    nll_BT, norm_BT = on_mesh(local, (hidden_BTD, pad_vocab(unembed_DV), targets_BT), (BY_TOKEN, BY_TOKEN))
    return nll_BT, (hidden_BTD, unembed_DV, targets_BT, norm_BT)


def nll_backward(chunk: int, saved: tuple, grad_BT: Array) -> tuple:
    hidden_BTD, unembed_DV, targets_BT, norm_BT = saved
    local = functools.partial(local_nll_gradients, chunk=chunk)
    arrays = (hidden_BTD, pad_vocab(unembed_DV), targets_BT, norm_BT, grad_BT)
    d_hidden_BTD, d_unembed_DV = on_mesh(local, arrays, (BY_TOKEN, P("fsdp", "tensor")))
    return d_hidden_BTD, d_unembed_DV[:, : unembed_DV.shape[1]].astype(unembed_DV.dtype), None


token_nll.defvjp(nll_forward, nll_backward)
BY_TOKEN = P(("replica", "fsdp"), "context")


def on_mesh(local: Callable, arrays: tuple, out_specs: tuple):
    """Runs `local(*arrays, axes)` on what each device holds: tokens split, the head whole but for tensor.

    axes: the mesh axes that split tokens and those that split the vocabulary.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return local(*arrays, axes={"tokens": (), "vocab": ()})
    wanted = [BY_TOKEN, P(None, "tensor")] + [BY_TOKEN] * (len(arrays) - 2)
    specs = tuple(fit(found, x.shape, mesh) for found, x in zip(wanted, arrays, strict=True))
    tokens = specs[2]  # as the rows divide: few of them lie whole on every device
    axes = {"tokens": tuple(jax.tree.leaves(tuple(tokens))), "vocab": ("tensor",)}
    out_specs = tuple(tokens if found == BY_TOKEN else found for found in out_specs)
    return jax.shard_map(
        functools.partial(local, axes=axes), in_specs=specs, out_specs=out_specs, check_vma=False
    )(*arrays)


def local_nll(
    hidden_BTD, unembed_DV, targets_BT, *, chunk: int, vocab: int, axes: dict
) -> tuple[Array, Array]:
    """-log p and the log of the softmax's denominator, [B, T]; unembed_DV: this device's part of the vocabulary."""
    first = lax.axis_index(axes["vocab"]) * unembed_DV.shape[1] if axes["vocab"] else 0
    real_V = first + jnp.arange(unembed_DV.shape[1]) < vocab  # the rest is padding

    def one_chunk(_, part):
        hidden_BtD, targets_Bt = part
        logits_BtV = jnp.where(real_V[None, None], chunk_logits(hidden_BtD, unembed_DV), -jnp.inf)
        top_Bt = lax.pmax(logits_BtV.max(-1), axes["vocab"])
        total_Bt = lax.psum(jnp.exp(logits_BtV - top_Bt[..., None]).sum(-1), axes["vocab"])
        own_Bt = targets_Bt - first
        here_Bt = (own_Bt >= 0) & (own_Bt < unembed_DV.shape[1])
        target_Bt = jnp.take_along_axis(logits_BtV, jnp.where(here_Bt, own_Bt, 0)[..., None], -1)[..., 0]
        norm_Bt = top_Bt + jnp.log(total_Bt)
        return None, (norm_Bt - lax.psum(jnp.where(here_Bt, target_Bt, 0), axes["vocab"]), norm_Bt)

    _, (nll_cBt, norm_cBt) = lax.scan(one_chunk, None, (split(hidden_BTD, chunk), split(targets_BT, chunk)))
    return join(nll_cBt, targets_BT.shape[1]), join(norm_cBt, targets_BT.shape[1])


def local_nll_gradients(
    hidden_BTD, unembed_DV, targets_BT, norm_BT, grad_BT, *, chunk: int, axes: dict
) -> tuple:
    """d nll / d logits = softmax - one-hot; products in the inputs' dtype, the head's sum over tokens in float32."""
    first = lax.axis_index(axes["vocab"]) * unembed_DV.shape[1] if axes["vocab"] else 0

    def one_chunk(d_unembed_DV, part):
        hidden_BtD, targets_Bt, norm_Bt, grad_Bt = part
        softmax_BtV = jnp.exp(chunk_logits(hidden_BtD, unembed_DV) - norm_Bt[..., None])
        is_target_BtV = (
            lax.broadcasted_iota(jnp.int32, softmax_BtV.shape, 2) == (targets_Bt - first)[..., None]
        )
        grad_BtV = ((softmax_BtV - is_target_BtV) * grad_Bt[..., None]).astype(hidden_BtD.dtype)
        d_unembed_DV += jnp.einsum("BtD,BtV->DV", hidden_BtD, grad_BtV, preferred_element_type=jnp.float32)
        return d_unembed_DV, jnp.einsum("BtV,DV->BtD", grad_BtV, unembed_DV)

    parts = tuple(split(x, chunk) for x in (hidden_BTD, targets_BT, norm_BT, grad_BT))
    d_unembed_DV, d_hidden_cBtD = lax.scan(one_chunk, jnp.zeros(unembed_DV.shape, jnp.float32), parts)
    d_hidden_BTD = lax.psum(join(d_hidden_cBtD, targets_BT.shape[1]), axes["vocab"])
    return d_hidden_BTD, summed(d_unembed_DV, axes)


def summed(d_unembed_DV: Array, axes: dict) -> Array:
    """Over all tokens of the mesh; every device keeps the rows of its place along fsdp (a reduce-scatter)."""
    if not axes["vocab"]:  # no mesh
        return d_unembed_DV
    if "fsdp" not in axes["tokens"]:  # every device along fsdp has seen all tokens
        rows = d_unembed_DV.shape[0] // lax.axis_size("fsdp")
        own_DV = lax.dynamic_slice_in_dim(d_unembed_DV, lax.axis_index("fsdp") * rows, rows)
        return lax.psum(own_DV, axes["tokens"])
    d_unembed_DV = lax.psum(d_unembed_DV, tuple(axis for axis in axes["tokens"] if axis != "fsdp"))
    return lax.psum_scatter(d_unembed_DV, "fsdp", scatter_dimension=0, tiled=True)


def chunk_logits(hidden_BtD: Array, unembed_DV: Array) -> Array:
    return jnp.einsum("BtD,DV->BtV", hidden_BtD, unembed_DV, preferred_element_type=jnp.float32)


def pad_vocab(unembed_DV: Array) -> Array:
    """Columns of zeros until tensor divides the vocabulary; the released sizes need none."""
    mesh = jax.sharding.get_abstract_mesh()
    missing = 0 if mesh.empty else -unembed_DV.shape[1] % mesh.shape["tensor"]
    return jnp.pad(unembed_DV, ((0, 0), (0, missing))) if missing else unembed_DV


def target_mask(batch: dict) -> Array:
    """bool [B, T]: is token t + 1 a target?  Not the first of a segment, not padding."""
    segment_ids = batch["segment_ids"]
    return (segment_ids[:, 1:] == segment_ids[:, :-1]) & (segment_ids[:, 1:] > 0)


def batch_nll(params: dict, batch: dict, cfg: Config, head_dtype: str | None = None) -> Array:
    """Plain -log p of every target of packed rows, nats, float32 [B, T]."""
    tokens_BT, segment_ids_BT = batch["tokens"][:, :-1], batch["segment_ids"][:, :-1]
    hidden_BTD = model.hidden(params, tokens_BT, segment_ids_BT, cfg.model, cfg.train)
    head_dtype = head_dtype or cfg.train.compute_dtype
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
