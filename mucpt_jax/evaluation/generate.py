"""Greedy decoding with a key-value cache.

B rows, P prompt slots (left-padded), S cache slots = P + new tokens.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mucpt_jax.config import Config
from mucpt_jax.step import model, sharding

BUCKET = 32  # prompts are padded to a multiple of this, so that few shapes are compiled


def greedy(params: dict, prompts: list[list[int]], cfg: Config, mesh, *, new: int,
           ends: tuple[int, ...]) -> list[list[int]]:  # fmt: skip
    """The most likely `new` tokens after each prompt, cut before the first that is one of `ends`."""
    slots = -(-max(map(len, prompts)) // BUCKET) * BUCKET
    tokens = np.zeros((len(prompts), slots), np.int32)
    valid = np.zeros((len(prompts), slots), bool)
    for i, prompt in enumerate(prompts):
        assert prompt, "an empty prompt has nothing to continue"
        tokens[i, slots - len(prompt) :] = prompt
        valid[i, slots - len(prompt) :] = True
    inputs = sharding.place({"tokens": tokens, "valid": valid}, mesh)
    run = compiled(cfg.model, cfg.train.compute_dtype, new, ends, sharding.replicated(mesh))
    outputs = np.asarray(run(params, inputs["tokens"], inputs["valid"])).tolist()
    return [list(itertools.takewhile(lambda token: token not in ends, row)) for row in outputs]


@functools.cache
def compiled(cfg, dtype: str, new: int, ends: tuple[int, ...], out):
    return jax.jit(functools.partial(loop, cfg=cfg, dtype=dtype, new=new, ends=ends), out_shardings=out)


def loop(params: dict, prompt_BP: Array, valid_BP: Array, *, cfg, dtype: str, new: int, ends: tuple[int, ...]) -> Array:
    """-> tokens [B, new]; stops early when every row has one of `ends`, and the rest is the first of them."""
    rows, prompt = prompt_BP.shape
    unembed_DV = model.unembed(params).astype(dtype)
    slot_S = jnp.arange(prompt + new)
    valid_BS = jnp.pad(valid_BP, ((0, 0), (0, new)), constant_values=True)
    position_BS = jnp.maximum(jnp.cumsum(valid_BS, 1) - 1, 0)  # left padding does not count

    def forward(tokens_BT, index, cache):
        """Tokens for slots index.. -> the likeliest token after the last of them."""
        query_T = index + jnp.arange(tokens_BT.shape[1])
        causal_TS = slot_S[None] <= query_T[:, None]
        itself_TS = slot_S[None] == query_T[:, None]  # else the softmax of a padding query would be empty
        mask_BTS = (valid_BS[:, None] & causal_TS[None]) | itself_TS[None]
        position_BT = jax.lax.dynamic_slice_in_dim(position_BS, index, tokens_BT.shape[1], 1)
        hidden_BTD, cache = model.decode(params, tokens_BT, position_BT, cache, index, mask_BTS, cfg, dtype)
        logits_BV = jnp.einsum("BD,DV->BV", hidden_BTD[:, -1], unembed_DV, preferred_element_type=jnp.float32)
        return logits_BV.argmax(-1).astype(jnp.int32), cache

    def go_on(carry):
        i, _, out_BN, _ = carry
        ended_B = (jnp.isin(out_BN, jnp.array(ends)) & (jnp.arange(new)[None] < i)).any(1)
        return (i < new) & ~ended_B.all()

    def step(carry):
        i, token_B, out_BN, cache = carry
        out_BN = out_BN.at[:, i].set(token_B)
        token_B, cache = forward(token_B[:, None], prompt + i, cache)
        return i + 1, token_B, out_BN, cache

    cache = model.empty_cache(cfg, rows, prompt + new, dtype)
    token_B, cache = forward(prompt_BP, 0, cache)
    out_BN = jnp.full((rows, new), ends[0], jnp.int32)
    return jax.lax.while_loop(go_on, step, (0, token_B, out_BN, cache))[2]
