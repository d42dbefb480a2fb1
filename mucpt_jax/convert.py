"""Hugging Face folders <-> parameters, without torch.

Names map by rule, because the model keeps Hugging Face's:
    layers/self_attn/q_proj/kernel [N, in, out]  <->  model.layers.0..N-1.self_attn.q_proj.weight [out, in]
    embed_tokens/embedding                       <->  model.embed_tokens.weight
"""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mucpt_jax import sharding
from mucpt_jax.config import Config, Model
from mucpt_jax.records import UserError, read_json, write_json

LEAF = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}
# Files beside the weights that make a folder usable; copied where they exist.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
                   "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")  # fmt: skip
MARK = "mucpt_jax_export.json"  # tells an export, which the next may replace, from any other folder
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def hf_names(path: str, layers: int) -> list[str]:
    """Our parameter path -> its tensor names in Hugging Face, one for every layer or just one."""
    *parents, leaf = path.split("/")
    prefix = "" if parents[0] == "lm_head" else "model."
    name = f"{prefix}{'.'.join(parents)}.{LEAF[leaf]}"
    if parents[0] != "layers":
        return [name]
    return [name.replace("layers.", f"layers.{i}.", 1) for i in range(layers)]


def read_config(folder: str) -> Model:
    """config.json -> Model.  Refuses other architectures and fields that this decoder does not honour."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; init_from must name a Hugging Face folder or a run's workdir")
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no object; is this a Hugging Face folder?")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    refused = {
        "model_type": values.get("model_type") != "qwen2",
        "hidden_act": values.get("hidden_act", "silu") != "silu",
        "use_sliding_window": values.get("use_sliding_window", False),
        "rope_scaling": rope.get("rope_type", rope.get("type", "default")) != "default",
    }
    for key, bad in refused.items():
        if bad:
            raise UserError(f"{path}: {key}={values.get(key)!r} is not a Qwen2 this decoder can run")
    if "num_attention_heads" in values and "hidden_size" in values:
        values.setdefault("head_dim", values["hidden_size"] // values["num_attention_heads"])
    values.setdefault("rope_theta", rope.get("rope_theta", 10_000.0))
    values.setdefault("tie_word_embeddings", False)
    names = {f.name for f in dataclasses.fields(Model)} - {"name"}
    if missing := sorted(names - values.keys()):
        raise UserError(f"{path} has no {missing[0]}; is this a Qwen2 folder?")
    return Model(name=Path(folder).name, **{name: values[name] for name in names})


def check_same_model(found: Model, wanted: Model, where: str) -> None:
    """The sizes that shape the arrays and the function must agree; names and length limits need not."""
    for f in dataclasses.fields(Model):
        a, b = getattr(found, f.name), getattr(wanted, f.name)
        if f.name not in ("name", "max_position_embeddings") and a != b:
            raise UserError(
                f"{where} holds a model with {f.name}={a}, the config's {wanted.name} has {b}; "
                f"use the config of that model or set --config.model.{f.name}={a}"
            )


def open_tensors(folder: str) -> dict[str, Callable[[], np.ndarray]]:
    """Tensor name -> a function that reads it; nothing is read before it is called."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no *.safetensors; init_from must name a Hugging Face folder")
    tensors = {}
    for file in files:
        try:
            handle = safe_open(file, framework="numpy")
            tensors |= {name: (lambda h=handle, n=name: h.get_tensor(n)) for name in handle.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} cannot be read ({error}); copy it again") from error
    return tensors


def from_hf(folder: str, cfg: Model, mesh: jax.sharding.Mesh, abstract: dict) -> dict:
    """Hugging Face folder -> parameters, float32, sharded over the mesh; one of our arrays at a time."""
    check_same_model(read_config(folder), cfg, folder)
    tensors = open_tensors(folder)
    check_names(set(tensors), abstract, cfg, folder)

    def load(path, leaf):
        array = read_parameter(sharding.path_name(path), leaf.shape, tensors, cfg, folder)
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: array[index])

    return jax.tree_util.tree_map_with_path(load, abstract)


def check_names(found: set[str], abstract: dict, cfg: Model, folder: str) -> None:
    """Every tensor has its place and every place its tensor."""
    paths = [sharding.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(abstract)]
    wanted = {name for path in paths for name in hf_names(path, cfg.num_hidden_layers)}
    if cfg.tie_word_embeddings:
        found = found - {"lm_head.weight"}  # some tied folders carry the embedding once more
    if missing := sorted(wanted - found):
        raise UserError(
            f"{missing[0]} is missing in {folder} (found {len(wanted & found)} of {len(wanted)} tensors); "
            f"is this {cfg.name}?"
        )
    if extra := sorted(found - wanted):
        raise UserError(f"{folder} holds {extra[0]}, which {cfg.name} has no place for ({len(extra)} such)")


def read_parameter(path: str, shape: tuple, tensors: dict, cfg: Model, folder: str) -> np.ndarray:
    """One of our arrays, float32, from its tensor or from one tensor per layer."""
    array = np.empty(shape, np.float32)
    stacked = path.startswith("layers/")
    for i, name in enumerate(hf_names(path, cfg.num_hidden_layers)):
        part, target = tensors[name](), array[i] if stacked else array
        part = part.T if path.endswith("kernel") else part
        if part.shape != target.shape:
            raise UserError(f"{name} in {folder} has shape {part.shape}, {cfg.name} needs {target.shape}")
        target[...] = part
        if not np.isfinite(target).all():
            raise UserError(f"{name} in {folder} holds NaN or infinity; get the weights again")
    return array


def to_hf(params: dict, cfg: Model, folder: str, tokenizer: str, dtype: str, max_shard_bytes: int) -> None:
    """Parameters -> Hugging Face folder: safetensors (and index), config.json, tokenizer files.

    Written beside and renamed, so that a folder under its final name is whole.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / MARK).is_file():
        raise UserError(f"{folder} exists and is no export of ours; choose another --config.export.path")
    beside = folder.with_name(folder.name + ".writing")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    pending, size, files = {}, 0, []
    for name, array in hf_tensors(params, cfg, dtype):
        if pending and size + array.nbytes > max_shard_bytes:
            files.append(write_tensors(beside, len(files), pending))
            pending, size = {}, 0
        pending[name] = array
        size += array.nbytes
    files.append(write_tensors(beside, len(files), pending))
    name_files(beside, files)
    write_json(beside / "config.json", hf_config(cfg, dtype))
    copy_tokenizer(tokenizer, beside)
    write_json(beside / MARK, {"model": cfg.name, "dtype": dtype})
    replace_folder(beside, folder)


def replace_folder(new: Path, final: Path) -> None:
    """At every moment a whole folder stands under the final name or under its name + .old."""
    old = final.with_name(final.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.replace(final, old)
    os.replace(new, final)
    shutil.rmtree(old, ignore_errors=True)


def hf_tensors(params: dict, cfg: Model, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors in Hugging Face's names and layout; one stacked array is on the host at a time."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = sharding.path_name(path)
        stacked = np.asarray(leaf).astype(DTYPES["BF16"] if dtype == "bfloat16" else np.float32)
        names = hf_names(name, cfg.num_hidden_layers)
        for hf_name, part in zip(names, stacked if name.startswith("layers/") else [stacked], strict=True):
            yield hf_name, np.ascontiguousarray(part.T if name.endswith("kernel") else part)


def write_tensors(folder: Path, number: int, tensors: dict[str, np.ndarray]) -> dict:
    save_file(tensors, folder / f"{number}.safetensors", metadata={"format": "pt"})
    return {name: array.nbytes for name, array in tensors.items()}


def name_files(folder: Path, files: list[dict[str, int]]) -> None:
    """Hugging Face's file names hold the number of files, which is known only now."""
    if len(files) == 1:
        os.replace(folder / "0.safetensors", folder / "model.safetensors")
        return
    weight_map = {}
    for i, names in enumerate(files):
        file = f"model-{i + 1:05d}-of-{len(files):05d}.safetensors"
        os.replace(folder / f"{i}.safetensors", folder / file)
        weight_map |= dict.fromkeys(names, file)
    total = sum(sum(names.values()) for names in files)
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )


def hf_config(cfg: Model, dtype: str) -> dict:
    sizes = {k: v for k, v in dataclasses.asdict(cfg).items() if k != "name"}
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_sliding_window": False,
        "use_cache": True,
        "torch_dtype": dtype,
        **sizes,
    }


def tokenizer_folder(cfg: Config) -> str:
    """config.tokenizer, else the Hugging Face folder that the run starts from."""
    folder = cfg.tokenizer or cfg.init_from or ""
    if not any((Path(folder) / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise UserError(
            f"no tokenizer in {folder or 'an empty path'}; set --config.tokenizer=FOLDER (Hugging Face)"
        )
    return folder


def copy_tokenizer(source: str, folder: Path) -> None:
    for name in TOKENIZER_FILES:
        if (Path(source) / name).is_file():
            shutil.copy(Path(source) / name, folder / name)
