"""Where arrays live.  `axis` is an axis of the mesh, `dim` one of an array.

Batches are split over (replica, fsdp), their tokens over context; parameters and optimiser state over
fsdp and tensor by RULES.
"""

import math
import re

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mucpt_jax import checks, config
from mucpt_jax.config import AXES
from mucpt_jax.errors import UserError

# Parameter path -> spec, first match wins.  Layer parameters have the layers as their first dim.
RULES = [
    (r"embed_tokens/embedding$", P(None, ("tensor", "fsdp"))),  # D alone: see look_up
    (r"lm_head/kernel$", P("fsdp", "tensor")),
    (r"(q|k|v|gate|up)_proj/kernel$", P(None, "fsdp", "tensor")),
    (r"(o|down)_proj/kernel$", P(None, "tensor", "fsdp")),
    (r"(q|k|v)_proj/bias$", P(None, "tensor")),
    (r"layernorm/scale$", P()),
    (r"norm/scale$", P()),
]


def make_mesh(cfg: config.Config, devices: list[jax.Device] | None = None) -> Mesh:
    """The mesh of the config over these devices, or all there are; -1 takes what remains."""
    devices = devices or jax.devices()
    sizes = [getattr(cfg.mesh, axis) for axis in AXES]
    named = " ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
    count, fixed = len(devices), math.prod(s for s in sizes if s > 0)
    if -1 in sizes and count % fixed == 0:
        sizes[sizes.index(-1)] = count // fixed
    if math.prod(sizes) != count:
        raise UserError(
            f"the mesh {named} needs {'a multiple of ' if -1 in sizes else ''}{fixed} devices, here are {count} "
            f"({devices[0].device_kind}); start it on such machines, or try --config.mesh.fsdp=-1"
        )
    checks.check_mesh(cfg, dict(zip(AXES, sizes, strict=True)))
    return jax.make_mesh(sizes, AXES, axis_types=(jax.sharding.AxisType.Auto,) * len(AXES), devices=devices)


def path_name(path: tuple) -> str:
    """('layers', 'mlp', ...) -> "layers/mlp/..."."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)


def spec(name: str, shape: tuple[int, ...]) -> P:
    """The first rule that matches a parameter's path; scalars are copied everywhere."""
    matching = [axes for pattern, axes in RULES if re.search(pattern, name)] if shape else [P()]
    assert matching, f"no sharding rule matches {name} {shape}; add a row to RULES"
    return matching[0]


def with_shardings(abstract, mesh: Mesh):
    """Shapes -> the same shapes with shardings.  Takes parameters, or an optimiser state over them."""

    def place(path, leaf):
        axes = fit(spec(path_name(path), leaf.shape), leaf.shape, mesh)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, axes))

    return jax.tree_util.tree_map_with_path(place, abstract)


def in_host_memory(abstract):
    """The same shapes, arrays (not scalars) in the memory of the hosts."""

    def move(leaf):
        place = leaf.sharding.with_memory_kind("pinned_host") if leaf.ndim else leaf.sharding
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    return jax.tree.map(move, abstract)


def fit(wanted: P, shape: tuple[int, ...], mesh: Mesh) -> P:
    """Leaves a dim whole where the mesh does not divide it (small models on many devices)."""
    ways = [math.prod(mesh.shape[a] for a in ((axes,) if isinstance(axes, str) else axes or ())) for axes in wanted]
    return P(*(axes if n % w == 0 else None for axes, n, w in zip(wanted, shape, ways, strict=False)))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over (replica, fsdp).  Tokens come whole: T + 1 of them do not split evenly."""
    return NamedSharding(mesh, P(("replica", "fsdp")))


def row_ways(mesh: Mesh) -> int:
    """Into how many parts the mesh splits the rows of a batch."""
    return mesh.shape["replica"] * mesh.shape["fsdp"]


def split_rows(x: jax.Array, parts: int) -> jax.Array:
    """[B, ...] -> [parts, B / parts, ...]; row i goes to part i % parts: every device keeps the rows that it holds."""
    return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)


def join_rows(x: jax.Array) -> jax.Array:
    """The inverse of split_rows."""
    return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def to_global(batch: dict[str, np.ndarray], mesh: Mesh, rows: int) -> dict[str, jax.Array]:
    """This host's rows of every array -> global arrays of `rows` rows."""
    split = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(split, x, (rows, *x.shape[1:])) for name, x in batch.items()}


def rows_where_they_divide(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Rows over (replica, fsdp), or whole on every device where they do not split evenly."""
    return NamedSharding(mesh, fit(P(("replica", "fsdp")), shape, mesh))


def place(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Arrays that every host holds whole -> global arrays, rows split where they divide."""

    def put(x):
        return jax.make_array_from_callback(x.shape, rows_where_they_divide(x.shape, mesh), lambda index: x[index])

    return {name: put(x) for name, x in batch.items()}


def local_rows(mesh: Mesh, rows: int) -> list[int]:
    """Which of `rows` global rows this host's devices hold, in order."""
    index = batch_sharding(mesh).addressable_devices_indices_map((rows,)).values()
    return sorted({i for (part,) in index for i in range(*part.indices(rows))})


def constrain(x: jax.Array, *axes) -> jax.Array:
    """Pins an array inside jit to the current mesh; without one (plain CPU tests) it does nothing."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, fit(P(*axes), x.shape, mesh))


def look_up(embedding_VD: jax.Array, tokens_BT: jax.Array, dtype) -> jax.Array:
    """Rows of the float32 embedding -> [B, T, D] in dtype, rows over (replica, fsdp), tokens over context.

    Each device holds a part of D for all of V.  It looks that part up for the rows of all its fsdp neighbours, and they
    exchange: whole D for own rows.  So activations move, never the table, and the table's gradient is complete on each
    device.  (Left to the partitioner, a table that is also split over tensor would be gathered whole.)
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or tokens_BT.shape[0] % row_ways(mesh):
        return embedding_VD[tokens_BT].astype(dtype)

    def local(embedding_Vd, tokens_bT):
        tokens_BT = jax.lax.all_gather(tokens_bT, "fsdp", axis=0, tiled=True)
        x_BTd = embedding_Vd[tokens_BT].astype(dtype)
        x_bTd = jax.lax.all_to_all(x_BTd, "fsdp", split_axis=0, concat_axis=2, tiled=True)
        return jax.lax.all_gather(x_bTd, "tensor", axis=2, tiled=True)

    rows = P(("replica", "fsdp"), "context" if tokens_BT.shape[1] % mesh.shape["context"] == 0 else None)
    table = P(None, ("tensor", "fsdp"))
    return jax.shard_map(local, in_specs=(table, rows), out_specs=rows, check_vma=False)(embedding_VD, tokens_BT)
