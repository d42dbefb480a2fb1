"""-log p of every target, without ever holding all logits.  Nats.

B rows, T tokens, D model, V vocabulary; v ids of one of p parts of it.  What a target counts stands in objective.py.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec as P

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.formats import rows
from mucpt_jax.step.sharding import fit


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def token_nll(hidden_BTD: Array, unembed_DV: Array, targets_BT: Array, parts: int) -> Array:
    """-log p of each target, nats, float32 [B, T]; logits exist for one of `parts` parts of the vocabulary at a time.

    hidden_BTD    float [B, T, D]: the last hidden states, after the final norm
    unembed_DV    float [D, V]: the head, or the transposed embedding where the two are tied
    targets_BT    int [B, T]: token t + 1, in 0..V-1; a place that is no target may hold any of them, its weight is 0
    parts         a Python int >= 1, which need not divide V; peak memory is that of float32 [B, T, V / parts]

    Logits are float32 whatever the inputs' dtype; the backward pass makes them again.  Gradients flow to hidden_BTD and
    unembed_DV, in their dtypes, by reverse mode only.  Without a mesh it is plain JAX.  On one (jax.set_mesh) it needs
    the axes of sharding.make_mesh: rows are split over replica and fsdp, tokens over context; the head is gathered over
    fsdp once before the parts, its gradient summed over devices once after them, and tensor splits V.  Raises
    UserError where shapes do not fit together or parts is below 1.
    """
    return nll_forward(hidden_BTD, unembed_DV, targets_BT, parts)[0]


def nll_forward(hidden_BTD: Array, unembed_DV: Array, targets_BT: Array, parts: int) -> tuple:
    fits = hidden_BTD.shape[:-1] == targets_BT.shape and hidden_BTD.shape[-1:] == unembed_DV.shape[:1]
    if not fits or hidden_BTD.ndim != 3 or unembed_DV.ndim != 2 or parts < 1:
        raise UserError(
            f"token_nll takes hidden [B, T, D], unembed [D, V], targets [B, T] and parts >= 1, not {hidden_BTD.shape}, "
            f"{unembed_DV.shape}, {targets_BT.shape} and {parts}; transpose a head of [V, D]"
        )
    local = functools.partial(local_nll, parts=parts, vocab=unembed_DV.shape[1])
    arrays = (hidden_BTD, pad_vocab(unembed_DV, parts), targets_BT)
    nll_BT, norm_BT = on_mesh(local, arrays, (BY_TOKEN, BY_TOKEN))
    return nll_BT, (hidden_BTD, unembed_DV, targets_BT, norm_BT)


def nll_backward(parts: int, saved: tuple, grad_BT: Array) -> tuple:
    hidden_BTD, unembed_DV, targets_BT, norm_BT = saved
    local = functools.partial(local_nll_gradients, parts=parts)
    arrays = (hidden_BTD, pad_vocab(unembed_DV, parts), targets_BT, norm_BT, grad_BT)
    d_hidden_BTD, d_unembed_VD = on_mesh(local, arrays, (BY_TOKEN, P("tensor", "fsdp")))
    d_unembed_DV = d_unembed_VD[: unembed_DV.shape[1]].T
    return d_hidden_BTD.astype(hidden_BTD.dtype), d_unembed_DV.astype(unembed_DV.dtype), None


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
    specs = tuple(fit(spec, x.shape, mesh) for spec, x in zip(wanted, arrays, strict=True))
    tokens = specs[2]  # as the rows divide: few of them lie whole on every device
    axes = {"tokens": tuple(jax.tree.leaves(tuple(tokens))), "vocab": ("tensor",)}
    out_specs = tuple(tokens if spec == BY_TOKEN else spec for spec in out_specs)
    return jax.shard_map(functools.partial(local, axes=axes), in_specs=specs, out_specs=out_specs, check_vma=False)(
        *arrays
    )


def parts_of(unembed_DV: Array, parts: int, axes: dict) -> tuple[Array, Array, int]:
    """Of this device's part of the vocabulary: first column and first id of each part, and its width."""
    width = unembed_DV.shape[1] // parts
    columns_p = width * jnp.arange(parts)
    first = lax.axis_index(axes["vocab"]) * unembed_DV.shape[1] if axes["vocab"] else 0
    return columns_p, first + columns_p, width


def local_nll(hidden_BTD, unembed_DV, targets_BT, *, parts: int, vocab: int, axes: dict) -> tuple[Array, Array]:
    """-log p and the log of the softmax's denominator, [B, T], by a running maximum and sum over the parts."""
    columns_p, ids_p, width = parts_of(unembed_DV, parts, axes)

    def one_part(carry, part):
        top_BT, total_BT, target_BT = carry
        column, first = part
        logits_BTv = part_logits(hidden_BTD, unembed_DV, column, width)
        real_v = first + jnp.arange(width) < vocab  # the rest is padding
        logits_BTv = jnp.where(real_v[None, None], logits_BTv, -jnp.inf)
        new_top_BT = jnp.maximum(top_BT, logits_BTv.max(-1))
        total_BT = total_BT * jnp.exp(top_BT - new_top_BT) + jnp.exp(logits_BTv - new_top_BT[..., None]).sum(-1)
        own_BT = targets_BT - first
        here_BT = (own_BT >= 0) & (own_BT < width)
        logit_BT = jnp.take_along_axis(logits_BTv, jnp.where(here_BT, own_BT, 0)[..., None], -1)[..., 0]
        return (new_top_BT, total_BT, jnp.where(here_BT, logit_BT, target_BT)), None

    zero_BT = jnp.zeros(targets_BT.shape, jnp.float32)
    lowest_BT = jnp.full(targets_BT.shape, jnp.finfo(jnp.float32).min)  # not -inf: its difference to itself is NaN
    (top_BT, total_BT, target_BT), _ = lax.scan(one_part, (lowest_BT, zero_BT, zero_BT), (columns_p, ids_p))
    highest_BT = lax.pmax(top_BT, axes["vocab"])
    norm_BT = highest_BT + jnp.log(lax.psum(total_BT * jnp.exp(top_BT - highest_BT), axes["vocab"]))
    return norm_BT - lax.psum(target_BT, axes["vocab"]), norm_BT


def local_nll_gradients(hidden_BTD, unembed_DV, targets_BT, norm_BT, grad_BT, *, parts: int, axes: dict) -> tuple:
    """d nll / d logits = softmax - one-hot; products in the inputs' dtype, sums in float32 -> [B, T, D], [V, D]."""
    columns_p, ids_p, width = parts_of(unembed_DV, parts, axes)

    def one_part(d_hidden_BTD, part):
        column, first = part
        softmax_BTv = jnp.exp(part_logits(hidden_BTD, unembed_DV, column, width) - norm_BT[..., None])
        is_target_BTv = lax.broadcasted_iota(jnp.int32, softmax_BTv.shape, 2) == (targets_BT - first)[..., None]
        grad_BTv = ((softmax_BTv - is_target_BTv) * grad_BT[..., None]).astype(hidden_BTD.dtype)
        unembed_Dv = lax.dynamic_slice_in_dim(unembed_DV, column, width, 1)
        exact = {"preferred_element_type": jnp.float32}
        d_hidden_BTD += jnp.einsum("BTv,Dv->BTD", grad_BTv, unembed_Dv, **exact)
        return d_hidden_BTD, jnp.einsum("BTv,BTD->vD", grad_BTv, hidden_BTD, **exact)

    zero_BTD = jnp.zeros(hidden_BTD.shape, jnp.float32)
    d_hidden_BTD, d_unembed_pvD = lax.scan(one_part, zero_BTD, (columns_p, ids_p))
    d_unembed_VD = d_unembed_pvD.reshape(-1, hidden_BTD.shape[2])
    return lax.psum(d_hidden_BTD, axes["vocab"]), summed(d_unembed_VD, axes)


def part_logits(hidden_BTD: Array, unembed_DV: Array, column: Array, width: int) -> Array:
    unembed_Dv = lax.dynamic_slice_in_dim(unembed_DV, column, width, 1)
    return jnp.einsum("BTD,Dv->BTv", hidden_BTD, unembed_Dv, preferred_element_type=jnp.float32)


def summed(d_unembed_VD: Array, axes: dict) -> Array:
    """Over all tokens of the mesh; every device keeps its place of D along fsdp (a reduce-scatter)."""
    if not axes["vocab"]:  # no mesh
        return d_unembed_VD
    if "fsdp" not in axes["tokens"]:  # every device along fsdp has seen all tokens
        size = d_unembed_VD.shape[1] // lax.axis_size("fsdp")
        own_VD = lax.dynamic_slice_in_dim(d_unembed_VD, lax.axis_index("fsdp") * size, size, 1)
        return lax.psum(own_VD, axes["tokens"])
    d_unembed_VD = lax.psum(d_unembed_VD, tuple(axis for axis in axes["tokens"] if axis != "fsdp"))
    return lax.psum_scatter(d_unembed_VD, "fsdp", scatter_dimension=1, tiled=True)


def pad_vocab(unembed_DV: Array, parts: int) -> Array:
    """Columns of zeros until tensor and the parts divide the vocabulary; the released sizes need none for 16 parts."""
    mesh = jax.sharding.get_abstract_mesh()
    ways = parts * (1 if mesh.empty else mesh.shape["tensor"])
    missing = -unembed_DV.shape[1] % ways
    return jnp.pad(unembed_DV, ((0, 0), (0, missing))) if missing else unembed_DV


def target_mask(batch: dict) -> Array:
    """bool [B, T]: is token t + 1 a target?"""
    return rows.target_mask(batch["segment_ids"])


def batch_nll(params: dict, batch: dict, cfg: Config, head_dtype: str | None = None) -> Array:
    """Plain -log p of every target of packed rows, nats, float32 [B, T]."""
    from mucpt_jax.step import model  # flax, which who takes token_nll alone does not need

    tokens_BT, segment_ids_BT = batch["tokens"][:, :-1], batch["segment_ids"][:, :-1]
    hidden_BTD = model.hidden(params, tokens_BT, segment_ids_BT, cfg.model, cfg.train)
    head_dtype = head_dtype or cfg.train.compute_dtype
    unembed_DV = model.unembed(params).astype(head_dtype)
    targets_BT = batch["tokens"][:, 1:]
    return token_nll(hidden_BTD.astype(head_dtype), unembed_DV, targets_BT, cfg.loss.vocab_parts)
