"""Greedy decoding with a key-value cache, some tokens at a time: in between the host looks whether all rows are done.

B rows, split over (replica, fsdp); P prompt slots (left-padded), S cache slots = P + new tokens; C tokens of a chunk.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mucpt_jax.config import Config
from mucpt_jax.step import model, sharding

BUCKET = 32  # prompts are padded to a multiple of this (long ones: by up to a quarter), so that few shapes are compiled
CHUNK = 16  # tokens at most before the host looks
Stopped = Callable[[list[list[int]]], list[bool]]  # the answers so far -> which of them are done


def greedy(params: dict, prompts: list[list[int]], cfg: Config, mesh: Mesh, *, new: int, ends: tuple[int, ...],
           rows: int = 0, stopped: Stopped | None = None) -> list[list[int]]:  # fmt: skip
    """The most likely `new` tokens after each prompt, cut before the first that is one of `ends`.

    stopped: tells answers that are done for another reason; when all are done, decoding ends early.
    rows: how many are computed at least, whatever the number of prompts: one shape for all batches.
    """
    slots, chunks = prompt_slots(max(map(len, prompts))), -(-new // CHUNK)
    size = -(-new // chunks)
    begin, go_on = compiled(cfg.model, cfg.train.compute_dtype, chunks * size, size, ends, mesh)
    filled = prompts + prompts[-1:] * (rows_for(max(rows, len(prompts)), mesh) - len(prompts))
    inputs = sharding.place(left_padded(filled, slots), mesh)
    token_B, cache = begin(params, inputs["tokens"], inputs["pad"])
    answers: list[list[int]] = [[] for _ in prompts]
    done_B = np.arange(len(filled)) >= len(prompts)
    for chunk in range(chunks):
        placed = sharding.place({"done": done_B}, mesh)["done"]
        out_BC, token_B, cache = go_on(params, token_B, placed, inputs["pad"], np.int32(slots + chunk * size), cache)
        for i, row in enumerate(np.asarray(out_BC)[: len(prompts)].tolist()):
            end = next((n for n, token in enumerate(row) if token in ends), len(row))
            answers[i] += [] if done_B[i] else row[:end]
            done_B[i] |= end < len(row)
        if stopped:
            done_B[: len(prompts)] |= stopped(answers)
        if done_B.all():
            break
    return [answer[:new] for answer in answers]


def prompt_slots(longest: int) -> int:
    step = max(BUCKET, 1 << max(longest.bit_length() - 3, 0))
    return -(-longest // step) * step


def rows_for(rows: int, mesh: Mesh) -> int:
    """As many rows or more, which the mesh splits evenly."""
    ways = sharding.row_ways(mesh)
    return -(-rows // ways) * ways


def left_padded(prompts: list[list[int]], slots: int) -> dict[str, np.ndarray]:
    """tokens [B, P], and pad [B]: slots before each prompt."""
    assert all(prompts), "an empty prompt has nothing to continue"
    tokens_BP = np.zeros((len(prompts), slots), np.int32)
    for row, prompt in zip(tokens_BP, prompts, strict=True):
        row[slots - len(prompt) :] = prompt
    return {"tokens": tokens_BP, "pad": np.array([slots - len(prompt) for prompt in prompts], np.int32)}


def cache_sharding(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Of keys or values [N, B, S, K, E]: rows as those of a batch, heads as those of the layers."""
    wanted = PartitionSpec(None, ("replica", "fsdp"), None, "tensor", None)
    return NamedSharding(mesh, sharding.fit(wanted, shape, mesh))


@functools.cache
def compiled(cfg, dtype: str, new: int, size: int, ends: tuple[int, ...], mesh: Mesh) -> tuple:
    """The two jitted functions below; the cache of one chunk becomes that of the next."""
    everywhere = sharding.replicated(mesh)

    @jax.jit
    def begin(params, prompt_BP, pad_B):
        rows, prompt = prompt_BP.shape
        cache = pinned(model.empty_cache(cfg, rows, prompt + new, dtype), mesh)
        token_B, cache = forward(params, prompt_BP, 0, cache, pad_B, head(params, dtype), cfg, dtype)
        return jax.lax.with_sharding_constraint(token_B, everywhere), pinned(cache, mesh)

    @functools.partial(jax.jit, donate_argnums=5)
    def go_on(params, token_B, done_B, pad_B, start, cache):
        values = chunk(params, token_B, done_B, pad_B, start, cache, cfg=cfg, dtype=dtype, size=size, ends=ends)
        out_BC, token_B, cache = values
        out_BC, token_B = jax.lax.with_sharding_constraint((out_BC, token_B), everywhere)
        return out_BC, token_B, pinned(cache, mesh)

    return begin, go_on


def lowered(params: dict, slots: int, cfg: Config, mesh: Mesh) -> list[jax.stages.Lowered]:
    """Both for a batch of questions, of abstract parameters: what a plan compiles."""
    ask, rows = cfg.evaluate, rows_for(cfg.evaluate.batch_questions, mesh)
    size = min(ask.max_new_tokens, CHUNK)
    begin, go_on = compiled(cfg.model, cfg.train.compute_dtype, ask.max_new_tokens, size, (0,), mesh)

    def of_rows(kind, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *shape), kind, sharding=sharding.batch_sharding(mesh))

    first = begin.lower(params, of_rows(np.int32, slots), of_rows(np.int32))
    token, cache = first.out_info
    cache = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cache_sharding(x.shape, mesh)) for x in cache)
    return [first, go_on.lower(params, token, of_rows(bool), of_rows(np.int32), np.int32(slots), cache)]


def pinned(cache: tuple[Array, Array], mesh: Mesh) -> tuple[Array, Array]:
    return jax.lax.with_sharding_constraint(cache, cache_sharding(cache[0].shape, mesh))


def head(params: dict, dtype: str) -> Array:
    return model.unembed(params).astype(dtype)


def forward(params: dict, tokens_BT: Array, index: Array | int, cache: tuple, pad_B: Array, unembed_DV: Array,
            cfg, dtype: str) -> tuple[Array, tuple]:  # fmt: skip
    """Tokens for slots index.. -> the likeliest token after the last of them [B], and the cache."""
    slot_S = jnp.arange(cache[0].shape[2])
    query_T = index + jnp.arange(tokens_BT.shape[1])
    position_BT = jnp.maximum(query_T[None] - pad_B[:, None], 0)  # left padding does not count
    causal_TS = slot_S[None] <= query_T[:, None]
    itself_TS = slot_S[None] == query_T[:, None]  # else the softmax of a padding query would be empty
    valid_BS = slot_S[None] >= pad_B[:, None]
    mask_BTS = (valid_BS[:, None] & causal_TS[None]) | itself_TS[None]
    hidden_BTD, cache = model.decode(params, tokens_BT, position_BT, cache, index, mask_BTS, cfg, dtype)
    logits_BV = jnp.einsum("BD,DV->BV", hidden_BTD[:, -1], unembed_DV, preferred_element_type=jnp.float32)
    return logits_BV.argmax(-1).astype(jnp.int32), cache


def chunk(params: dict, token_B: Array, done_B: Array, pad_B: Array, start: Array, cache: tuple, *, cfg, dtype: str,
          size: int, ends: tuple[int, ...]) -> tuple[Array, Array, tuple]:  # fmt: skip
    """-> tokens [B, C], the one after them [B], the cache; where all rows are done, the rest is the first of `ends`."""
    unembed_DV = head(params, dtype)

    def more(carry):
        i, _, done_B, _, _ = carry
        return (i < size) & ~done_B.all()

    def step(carry):
        i, token_B, done_B, out_BC, cache = carry
        out_BC, done_B = out_BC.at[:, i].set(token_B), done_B | jnp.isin(token_B, jnp.array(ends))
        token_B, cache = forward(params, token_B[:, None], start + i, cache, pad_B, unembed_DV, cfg, dtype)
        return i + 1, token_B, done_B, out_BC, cache

    out_BC = jnp.full((token_B.shape[0], size), ends[0], jnp.int32)
    _, token_B, _, out_BC, cache = jax.lax.while_loop(more, step, (0, token_B, done_B, out_BC, cache))
    return out_BC, token_B, cache
