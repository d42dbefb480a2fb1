"""The Qwen2 decoder (RMSNorm, rotary, grouped-query attention with q/k/v bias, SwiGLU).

Flax NNX describes the layers and stays in this file: outside, parameters are a nested dict of float32
arrays, named as in Hugging Face, with the layers stacked on a leading dim N, and functions are pure.

B rows, T tokens, S cache slots, D model, H query heads, K kv heads, E head dim, N layers, V vocabulary.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

from mucpt_jax.config import Model, Train
from mucpt_jax.formats.rows import segment_numbers
from mucpt_jax.step import attention, sharding

# What stays in memory for the backward pass, in growing order.  full: inputs of the layers; attention: q, k, v and the
# output of attention, so that only the MLP (and inside cuDNN or splash the scores) are computed again; dots: the output
# of every matrix product; none: everything.
REMAT = {
    "full": jax.checkpoint,
    "attention": functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names("attention")),
    "dots": functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable),
    "none": lambda layer: layer,
}


@jax.custom_vjp
def project(x_BTI: Array, kernel_IO: Array) -> Array:
    """x @ kernel with its gradient written out: for autodiff's own gradient XLA on CPUs transposes a copy of every
    activation's gradient, a third of a step's time."""
    return jnp.einsum("BTI,IO->BTO", x_BTI, kernel_IO)


def project_backward(saved: tuple[Array, Array], grad_BTO: Array) -> tuple[Array, Array]:
    x_BTI, kernel_IO = saved
    d_x_BTI = jnp.einsum("BTO,IO->BTI", grad_BTO, kernel_IO)
    return d_x_BTI, jnp.einsum("BTI,BTO->IO", x_BTI, grad_BTO)


def project_forward(x_BTI: Array, kernel_IO: Array) -> tuple:
    # Not project() again: the remat policy `dots` must see the product itself.
    return jnp.einsum("BTI,IO->BTO", x_BTI, kernel_IO), (x_BTI, kernel_IO)


project.defvjp(project_forward, project_backward)


class Attention(nnx.Module):
    def __init__(self, cfg: Model, linear: Callable):
        q, kv = cfg.num_attention_heads * cfg.head_dim, cfg.num_key_value_heads * cfg.head_dim
        self.head_dim = cfg.head_dim
        self.q_proj = linear(cfg.hidden_size, q)
        self.k_proj = linear(cfg.hidden_size, kv)
        self.v_proj = linear(cfg.hidden_size, kv)
        self.o_proj = linear(q, cfg.hidden_size, use_bias=False)

    def __call__(self, x_BTD: Array, rotary: tuple, attend: Callable, cache):
        heads = (*x_BTD.shape[:2], -1, self.head_dim)
        q_BTHE = checkpoint_name(rotate(self.q_proj(x_BTD).reshape(heads), rotary), "attention")
        k_BTKE = checkpoint_name(rotate(self.k_proj(x_BTD).reshape(heads), rotary), "attention")
        v_BTKE = checkpoint_name(self.v_proj(x_BTD).reshape(heads), "attention")
        out_BTHE, cache = attend(q_BTHE, k_BTKE, v_BTKE, cache)
        out_BTHE = checkpoint_name(out_BTHE, "attention")
        return self.o_proj(out_BTHE.reshape(*x_BTD.shape[:2], -1)), cache


class MLP(nnx.Module):
    def __init__(self, cfg: Model, linear: Callable):
        self.gate_proj = linear(cfg.hidden_size, cfg.intermediate_size, use_bias=False)
        self.up_proj = linear(cfg.hidden_size, cfg.intermediate_size, use_bias=False)
        self.down_proj = linear(cfg.intermediate_size, cfg.hidden_size, use_bias=False)

    def __call__(self, x_BTD: Array) -> Array:
        return self.down_proj(jax.nn.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Layer(nnx.Module):
    def __init__(self, cfg: Model, linear: Callable, norm: Callable):
        self.input_layernorm = norm(cfg.hidden_size)
        self.self_attn = Attention(cfg, linear)
        self.post_attention_layernorm = norm(cfg.hidden_size)
        self.mlp = MLP(cfg, linear)

    def __call__(self, x_BTD: Array, rotary: tuple, attend: Callable, cache):
        out_BTD, cache = self.self_attn(self.input_layernorm(x_BTD), rotary, attend, cache)
        x_BTD = x_BTD + out_BTD
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD)), cache


class Qwen2(nnx.Module):
    def __init__(self, cfg: Model, dtype, rngs: nnx.Rngs):
        init = nnx.initializers.normal(0.02)  # initializer_range of the released configs
        linear = functools.partial(
            nnx.Linear, dtype=dtype, kernel_init=init, dot_general=lambda x, kernel, *_, **__: project(x, kernel)
        )
        norm = functools.partial(nnx.RMSNorm, epsilon=cfg.rms_norm_eps, dtype=dtype)

        @functools.partial(nnx.vmap, in_axes=0, out_axes=0)
        def stacked(rngs):
            return Layer(cfg, functools.partial(linear, rngs=rngs), functools.partial(norm, rngs=rngs))

        self.embed_tokens = nnx.Embed(cfg.vocab_size, cfg.hidden_size, dtype=dtype, embedding_init=init, rngs=rngs)
        self.layers = stacked(rngs.split(cfg.num_hidden_layers))
        self.norm = norm(cfg.hidden_size, rngs=rngs)
        if not cfg.tie_word_embeddings:
            self.lm_head = linear(cfg.hidden_size, cfg.vocab_size, use_bias=False, rngs=rngs)

    def __call__(self, tokens_BT: Array, rotary: tuple, attend: Callable, cache, remat: str):
        """-> hidden [B, T, D] before the head, and the cache after these tokens."""
        layer_graph, layers = nnx.split(self.layers)

        def step(x_BTD, layer):
            params, cache = layer
            x_BTD = sharding.constrain(x_BTD, ("replica", "fsdp"), "context", None)
            return nnx.merge(layer_graph, params)(x_BTD, rotary, attend, cache)

        x_BTD = sharding.look_up(self.embed_tokens.embedding[...], tokens_BT, self.norm.dtype)
        x_BTD, cache = lax.scan(REMAT[remat](step), x_BTD, (layers, cache))
        return self.norm(x_BTD), cache


def rotary_angles(positions_BT: Array, cfg: Model) -> tuple[Array, Array]:
    """cos and sin [B, T, 1, E/2] in float32: bfloat16 would round position 257 to 256."""
    frequency_e = cfg.rope_theta ** -(jnp.arange(0, cfg.head_dim, 2, dtype=jnp.float32) / cfg.head_dim)
    # No einsum: matmul units would round the product.
    angle_BT1e = positions_BT.astype(jnp.float32)[:, :, None, None] * frequency_e[None, None, None]
    return jnp.cos(angle_BT1e), jnp.sin(angle_BT1e)


def rotate(x_BTHE: Array, rotary: tuple[Array, Array]) -> Array:
    """Turns each pair (x[i], x[i + E/2]) by its angle."""
    cos, sin = rotary
    a, b = jnp.split(x_BTHE.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x_BTHE.dtype)


def segment_positions(segment_ids_BT: Array) -> Array:
    """Position of each token in its own segment: 0, 1, 2, ... from every change of id."""
    index_BT = jnp.broadcast_to(jnp.arange(segment_ids_BT.shape[1]), segment_ids_BT.shape)
    first_BT = jnp.diff(segment_ids_BT.astype(jnp.int32), axis=1, prepend=-1) != 0
    return index_BT - lax.cummax(jnp.where(first_BT, index_BT, 0), axis=1)


@functools.cache
def graph(cfg: Model, dtype: str) -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(lambda: Qwen2(cfg, jnp.dtype(dtype), nnx.Rngs(0))))[0]


def init(cfg: Model, key: Array) -> dict:
    """Random parameters, float32: normal(0.02) matrices, zero biases, unit norms."""
    return nnx.to_pure_dict(nnx.split(Qwen2(cfg, jnp.float32, nnx.Rngs(key)))[1])


def abstract(cfg: Model) -> dict:
    """The parameters' shapes and dtypes; nothing is allocated."""
    return jax.eval_shape(functools.partial(init, cfg), jax.random.key(0))


def cast(params: dict, dtype: str) -> dict:
    """Compute copies: casting before the layers gathers them halves FSDP traffic in bfloat16.

    Not the embedding: its gradient sums over every occurrence of a token, and bfloat16 stops counting at 256.
    """
    table = {"embed_tokens": params["embed_tokens"]}
    return jax.tree.map(lambda p: p.astype(dtype), params) | table


def hidden(params: dict, tokens_BT: Array, segment_ids_BT: Array, cfg: Model, run: Train) -> Array:
    """Packed rows -> hidden [B, T, D]; no token sees another segment."""

    segment_ids_BT = segment_numbers(segment_ids_BT)

    def attend(q, k, v, cache):
        return attention.packed(q, k, v, segment_ids_BT, run.attention), cache

    decoder = nnx.merge(graph(cfg, run.compute_dtype), cast(params, run.compute_dtype))
    rotary = rotary_angles(segment_positions(segment_ids_BT), cfg)
    return decoder(tokens_BT, rotary, attend, None, run.remat)[0]


def decode(params: dict, tokens_BT: Array, positions_BT: Array, cache: tuple, index: Array,
           mask_BTS: Array, cfg: Model, dtype: str) -> tuple[Array, tuple]:  # fmt: skip
    """Writes T tokens into the cache at slot `index` and attends where mask_BTS is true.

    cache: keys and values [N, B, S, K, E].  Returns hidden [B, T, D] and the new cache.
    """

    def attend(q, k, v, cache):
        k_BSKE = lax.dynamic_update_slice_in_dim(cache[0], k, index, 1)
        v_BSKE = lax.dynamic_update_slice_in_dim(cache[1], v, index, 1)
        return attention.masked(q, k_BSKE, v_BSKE, mask_BTS), (k_BSKE, v_BSKE)

    decoder = nnx.merge(graph(cfg, dtype), cast(params, dtype))
    return decoder(tokens_BT, rotary_angles(positions_BT, cfg), attend, cache, "none")


def empty_cache(cfg: Model, rows: int, slots: int, dtype: str) -> tuple[Array, Array]:
    shape = (cfg.num_hidden_layers, rows, slots, cfg.num_key_value_heads, cfg.head_dim)
    return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)


def unembed(params: dict) -> Array:
    """The head as [D, V]: its own matrix, or the embedding's transpose where they are tied."""
    if "lm_head" in params:
        return params["lm_head"]["kernel"]
    return params["embed_tokens"]["embedding"].T
