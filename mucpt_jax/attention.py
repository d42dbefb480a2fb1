"""Attention with documents kept apart.

B rows, T queries, S keys, H query heads, K kv heads, E head dim.
"""

import jax
import jax.numpy as jnp
from jax import Array


def packed(q_BTHE: Array, k_BTKE: Array, v_BTKE: Array, segment_ids_BT: Array) -> Array:
    """Causal attention inside each segment of a packed row -> [B, T, H, E].

    Padding (segment 0) attends to padding alone, so no softmax is empty; its outputs are never used.
    """
    tokens = segment_ids_BT.shape[1]
    same_BTT = segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :]
    causal_TT = jnp.tril(jnp.ones((tokens, tokens), bool))
    return masked(q_BTHE, k_BTKE, v_BTKE, same_BTT & causal_TT[None])


def masked(q_BTHE: Array, k_BSKE: Array, v_BSKE: Array, mask_BTS: Array) -> Array:
    """Attention where mask is true -> [B, T, H, E]; each query needs at least one true key."""
    return jax.nn.dot_product_attention(q_BTHE, k_BSKE, v_BSKE, mask=mask_BTS[:, None])
