"""Parameters <-> Hugging Face folders, tensor by tensor.

In: each host reads its part of a tensor's rows, in the file's dtype; the devices trade, transpose and cast them and
put them into their place in the stacked array.  So a file is read once by all hosts together, and a host holds its
share of the parameters and of two tensors.  Out: one layer's tensor is fetched, cast on the device, and written.
"""

import concurrent.futures
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mucpt_jax.config import Model
from mucpt_jax.errors import UserError
from mucpt_jax.formats.checksums import check_sums
from mucpt_jax.step import model, sharding
from mucpt_jax.weights import hf, hf_write

ROWS = ("fsdp", "tensor", "replica", "context")  # axes of the mesh that a file's rows are read by


class Place(NamedTuple):
    """Where a tensor of the file stands among our parameters."""

    path: str
    layer: int | None  # None outside the layers
    shape: tuple[int, ...]  # in the file


def tensor_places(abstract: dict, cfg: Model) -> dict[str, Place]:
    """Tensor name -> its place; in the order of a pass."""
    places = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract):
        name = sharding.path_name(path)
        names, layers = hf.tensor_names(name, cfg.num_hidden_layers), name.startswith("layers/")
        shape = leaf.shape[1:] if layers else leaf.shape
        for i, tensor in enumerate(names):
            places[tensor] = Place(name, i if layers else None, shape[::-1] if name.endswith("kernel") else shape)
    order = {"embed_tokens": 0, "layers": 1, "norm": 2, "lm_head": 3}
    return dict(sorted(places.items(), key=lambda item: (order[item[1].path.split("/")[0]], item[1].layer or 0)))


def from_hf(folder: str, cfg: Model, abstract: dict) -> dict:
    """Hugging Face folder -> parameters in the dtypes and shardings of `abstract`."""
    tensors = together(lambda: checked(folder, cfg, abstract))
    leaves, structure = jax.tree_util.tree_flatten_with_path(abstract)
    kinds = [Kind(sharding.path_name(path), leaf) for path, leaf in leaves]
    parts = [[tensors[name] for name in hf.tensor_names(kind.path, cfg.num_hidden_layers)] for kind in kinds]
    arrays = read_ahead([tensor for of in parts for tensor in of], leaves[0][1].sharding.mesh)
    params, finite = [], {}
    for kind, of in zip(kinds, parts, strict=True):
        array, good = parameter(kind, itertools.islice(arrays, len(of)))
        params.append(array)
        finite |= dict(zip(of, good, strict=True))
    for tensor, good in jax.device_get(finite).items():
        if not good:
            raise hf.not_finite(tensor)
    return jax.tree.unflatten(structure, params)


def checked(folder: str, cfg: Model, abstract: dict) -> dict[str, hf.Tensor]:
    """All tensors of the folder, after checking that they are this model's and whole, where it has checksums."""
    hf.check_same_model(hf.read_config(folder), cfg, folder)
    tensors = hf.open_tensors(folder)
    hf.check_tensors(tensors, shapes_of(abstract, cfg), cfg, folder)
    files = [Path(folder) / "config.json", *sorted({tensor.file for tensor in tensors.values()})]
    check_sums(Path(folder), files[jax.process_index() :: jax.process_count()])  # a share of each host
    return tensors


def shapes_of(abstract: dict, cfg: Model) -> hf_write.Shapes:
    return {name: place.shape for name, place in tensor_places(abstract, cfg).items()}


def together(look: Callable[[], Any], what: str = "weights") -> Any:
    """look(), which checks files; where one host's files are bad all hosts end: else the others would wait for it."""
    if jax.process_count() == 1:
        return look()
    result, error = None, None
    try:
        result = look()
    except UserError as raised:
        error = raised
    failed = multihost_utils.process_allgather(np.array(error is not None))
    if error:
        raise error
    if failed.any():
        raise UserError(
            f"the {what} are bad on host {failed.argmax()}, whose log tells why; mend its folder and start again"
        )
    return result


class Kind(NamedTuple):
    """One of our arrays and how it differs from its tensors."""

    path: str
    leaf: jax.ShapeDtypeStruct

    def stacked(self) -> bool:
        return self.path.startswith("layers/")

    def transposed(self) -> bool:
        return self.path.endswith("kernel")

    def one(self) -> NamedSharding:
        """Sharding of the array without its layers."""
        spec = (*self.leaf.sharding.spec, *[None] * self.leaf.ndim)[self.stacked() : self.leaf.ndim]
        return NamedSharding(self.leaf.sharding.mesh, P(*spec))


def parameter(kind: Kind, parts: Iterator[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
    """The array of its tensor, or of one tensor per layer; is each of them finite?"""
    leaf, finite, mesh = kind.leaf, [], kind.leaf.sharding.mesh

    def turned(part: jax.Array) -> tuple[jax.Array, jax.Array]:
        # First the same rows on all replicas: for all of it at once XLA puts the whole tensor on every device.
        rows = NamedSharding(mesh, sharding.fit(P(ROWS[:2]), part.shape, mesh))
        part = jax.lax.with_sharding_constraint(part, rows)
        return part.T if kind.transposed() else part, jnp.isfinite(part).all()

    # Two programs: with the transposition inside the second, XLA on CPUs updates the large array element by element.
    turn = jax.jit(turned, out_shardings=(kind.one(), sharding.replicated(mesh)))
    put = jax.jit(
        lambda array, part, layer: jax.lax.dynamic_update_index_in_dim(array, part.astype(leaf.dtype), layer, 0),
        donate_argnums=0, out_shardings=leaf.sharding,
    )  # fmt: skip
    if not kind.stacked():
        part, good = turn(next(parts))
        return jax.jit(lambda part: part.astype(leaf.dtype), out_shardings=leaf.sharding)(part), [good]
    array = jax.jit(lambda: jnp.zeros(leaf.shape, leaf.dtype), out_shardings=leaf.sharding)()
    for layer, part in enumerate(parts):
        part, good = turn(part)
        array = put(array, part, layer)
        finite.append(jax.block_until_ready(good))
    return array, finite


def read_ahead(tensors: list[hf.Tensor], mesh: jax.sharding.Mesh) -> Iterator[jax.Array]:
    """The tensors one after the other; while the devices work on one, the host reads the next."""
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        waiting = None
        for tensor in tensors:
            coming = reader.submit(read_tensor, tensor, mesh)
            if waiting:
                yield waiting.result()
            waiting = coming
        yield waiting.result()


def read_tensor(tensor: hf.Tensor, mesh: jax.sharding.Mesh) -> jax.Array:
    """The tensor as it lies in the file, its rows over all devices; no two hosts read the same rows."""
    ways = (ROWS, ROWS[:2], ROWS[:1], ())  # the first that divides the rows
    counts = [math.prod(mesh.shape[axis] for axis in axes) for axes in ways]
    axes = next(axes for axes, count in zip(ways, counts, strict=True) if tensor.shape[0] % count == 0)

    @functools.cache  # replicas hold the same rows
    def read(start: int, stop: int) -> np.ndarray:
        return tensor.read(slice(start, stop))

    def part(index: tuple[slice, ...]) -> np.ndarray:
        return read(*index[0].indices(tensor.shape[0])[:2])

    return jax.make_array_from_callback(tensor.shape, NamedSharding(mesh, P(axes or None)), part, dtype=tensor.dtype)


def to_hf(params: dict, cfg: Model, about: hf_write.About) -> None:
    """Parameters -> Hugging Face folder about.folder; a tensor at a time is on the host."""
    places = tensor_places(params, cfg)
    leaves = {sharding.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    dtype = hf.DTYPES[hf_write.FILE_DTYPES[about.dtype]]

    @jax.jit
    def take(leaf, layer):
        part = leaf if layer is None else jax.lax.dynamic_index_in_dim(leaf, layer, 0, keepdims=False)
        return part.astype(dtype)

    turn = jax.jit(jnp.transpose)  # a program of its own, as on the way in

    def read(tensor: str) -> np.ndarray:
        place = places[tensor]
        part = take(leaves[place.path], place.layer)
        return np.asarray(turn(part) if place.path.endswith("kernel") else part)

    hf_write.write(shapes_of(params, cfg), read, cfg, about)


def folder_to_folder(source: str, about: hf_write.About) -> None:
    """The same weights in another dtype, or in other files; checked on the way."""
    if Path(source).resolve() == Path(about.folder).resolve():
        raise UserError(f"{source} would be replaced by its own conversion; name another folder to write")
    cfg = hf.read_config(source)
    abstract = model.abstract(cfg)
    tensors = checked(source, cfg, abstract)
    hf_write.write(shapes_of(abstract, cfg), lambda name: tensors[name].read(), cfg, about)
