"""Cutting the token dim of an array, so that what is large exists for one chunk at a time.

B rows, T tokens, c chunks of t tokens.
"""

import jax.numpy as jnp
from jax import Array


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
