"""Hashes of what a checkpoint holds: they name a set of parameters, and show damage when they are compared."""

import json
from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from mucpt_jax.formats.files import text_hash
from mucpt_jax.step import sharding


@jax.jit
def checksum(x: jax.Array) -> jax.Array:
    """uint32 of a float32 array's bits and their places.  Sums of integers: the same on every mesh.

    No ravel(), which would gather a sharded array on every device: places are counted along each dim.
    """
    place = jnp.zeros(x.shape, jnp.uint32)
    for dim in range(x.ndim):
        stride = prod(x.shape[dim + 1 :]) * 2_654_435_761 % 2**32  # counts wrap, 32B has stacks of 9e9 numbers
        place += jax.lax.broadcasted_iota(jnp.uint32, x.shape, dim) * jnp.uint32(stride)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    mixed = (bits ^ (bits >> 16)) * ((place + jnp.uint32(1)) | jnp.uint32(1))
    return jnp.sum(mixed ^ (mixed >> 15), dtype=jnp.uint32)


def params_hash(params: dict) -> str:
    """Names a set of parameters, whatever the mesh: 16 hex digits."""
    return params_hash_of(jax.tree_util.tree_leaves_with_path(params))


def params_hash_of(leaves: Iterable[tuple[Any, jax.Array]]) -> str:
    """params_hash of (path, array), one after the other: no two need be in memory at once."""
    return short_hash(f"{sharding.path_name(path)} {leaf.shape} {int(checksum(leaf))}" for path, leaf in leaves)


@jax.jit
def as_float32(x: jax.Array) -> jax.Array:
    """An array of an optimiser's state as checksum() takes it: other bits are another array."""
    x = jax.device_put(x, jax.memory.Space.Device)  # with optimizer.offload it is in the host's
    if x.dtype.itemsize == 4:
        return jax.lax.bitcast_convert_type(x, jnp.float32)
    bits = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    return bits.astype(jnp.float32)  # of 2 bytes or 1: exact


def opt_state_hash(opt_state: Any) -> str:
    """Names an optimiser's state by its arrays, whatever the mesh and their names: 16 hex digits."""
    return opt_state_hash_of(jax.tree_util.tree_leaves_with_path(opt_state))


def opt_state_hash_of(leaves: Iterable[tuple[Any, jax.Array]]) -> str:
    return short_hash(sorted(f"{leaf.shape} {int(checksum(as_float32(leaf)))}" for _, leaf in leaves))


def meta_hash(meta: dict) -> str:
    return short_hash([json.dumps({key: meta[key] for key in meta if key != "meta_hash"}, sort_keys=True)])


def short_hash(lines: Iterable[str]) -> str:
    return text_hash("\n".join(lines))[:16]


SUMS: dict[str, Callable[[Any], str]] = {"params": params_hash, "opt_state": opt_state_hash}  # of an item
NAME_OF_SUM = {item: f"{item}_hash" for item in SUMS}  # in meta
