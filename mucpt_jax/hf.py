"""Hugging Face folders of Qwen2: names of tensors, config.json, reading slices of safetensors.  Neither jax nor torch.

Names map by rule, because the model keeps Hugging Face's:
    layers/self_attn/q_proj/kernel [N, in, out]  <->  model.layers.0..N-1.self_attn.q_proj.weight [out, in]
    embed_tokens/embedding                       <->  model.embed_tokens.weight
"""

import dataclasses
import logging
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from mucpt_jax.config import Model
from mucpt_jax.records import UserError, read_json

LEAF = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}
DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
# Fields of config.json that change nothing here: they are about generating, training of others, or the file itself.
SILENT = {
    "architectures", "attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype",
    "initializer_range", "max_window_layers", "sliding_window", "transformers_version", "use_cache", "_name_or_path",
    "rope_scaling", "rope_parameters", "layer_types", "unsloth_version",
}  # fmt: skip


def tensor_names(path: str, layers: int) -> list[str]:
    """Our parameter path -> its tensor names in Hugging Face, one for every layer or just one."""
    *parents, leaf = path.split("/")
    prefix = "" if parents[0] == "lm_head" else "model."
    name = f"{prefix}{'.'.join(parents)}.{LEAF[leaf]}"
    if parents[0] != "layers":
        return [name]
    return [name.replace("layers.", f"layers.{i}.", 1) for i in range(layers)]


# config.json


def read_config(folder: str) -> Model:
    """config.json -> Model.  Refuses other architectures and fields that this decoder does not honour."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; init_from must name a Hugging Face folder or a run's workdir")
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no object; is this a Hugging Face folder?")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    refuse(values, rope, path)
    if "num_attention_heads" in values and "hidden_size" in values:
        values.setdefault("head_dim", values["hidden_size"] // values["num_attention_heads"])
    values.setdefault("rope_theta", rope.get("rope_theta", 10_000.0))
    values.setdefault("tie_word_embeddings", False)
    names = {f.name for f in dataclasses.fields(Model)} - {"name"}
    if missing := sorted(names - values.keys()):
        raise UserError(f"{path} has no {missing[0]}; is this a Qwen2 folder?")
    return Model(name=Path(folder).name, **{name: values[name] for name in names})


def refuse(values: dict, rope: dict, path: Path) -> None:
    """What would change the function and is not built here ends in one sentence; what is unknown in a warning."""
    honoured = {  # field -> the values under which this decoder computes what the folder means
        "model_type": values.get("model_type") == "qwen2",
        "hidden_act": values.get("hidden_act", "silu") == "silu",
        "use_sliding_window": not values.get("use_sliding_window"),
        "layer_types": set(values.get("layer_types") or ()) <= {"full_attention"},
        "rope_scaling": rope.get("rope_type", rope.get("type", "default")) == "default",
        "partial_rotary_factor": rope.get("partial_rotary_factor", values.get("partial_rotary_factor", 1))
        == 1,
        "use_mrope": not values.get("use_mrope"),
        "attention_bias": values.get("attention_bias", True) is True,
        "mlp_bias": not values.get("mlp_bias"),
        "attention_dropout": not values.get("attention_dropout"),
        "quantization_config": not values.get("quantization_config"),
    }
    for key, good in honoured.items():
        if not good:
            told = values.get(key, rope)
            raise UserError(
                f"{path}: {key}={told!r} is not a Qwen2 that this decoder can run; use another folder"
            )
    known = SILENT | honoured.keys() | {f.name for f in dataclasses.fields(Model)}
    if unknown := sorted(values.keys() - known):
        logging.warning("%s: %s not known here and without effect", path, ", ".join(unknown))


def check_same_model(found: Model, wanted: Model, where: str) -> None:
    """The sizes that shape the arrays and the function must agree; names and length limits need not."""
    for f in dataclasses.fields(Model):
        a, b = getattr(found, f.name), getattr(wanted, f.name)
        if f.name not in ("name", "max_position_embeddings") and a != b:
            raise UserError(
                f"{where} holds a model with {f.name}={a}, the config's {wanted.name} has {b}; "
                f"use the config of that model or set --config.model.{f.name}={a}"
            )


def config_json(cfg: Model, dtype: str, like: str | None, end_of_text: int | None) -> dict:
    """config.json of an export; `like`: a folder of the same model whose further fields are kept, such as token ids."""
    kept = read_json(Path(like) / "config.json") if like else {"eos_token_id": end_of_text}
    kept = {
        key: value
        for key, value in kept.items()
        if key not in ("torch_dtype", "rope_parameters", "rope_scaling")
    }
    sizes = {k: v for k, v in dataclasses.asdict(cfg).items() if k != "name"}
    return kept | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": kept.get("initializer_range", 0.02),
        "use_sliding_window": False,
        "use_cache": True,
        "torch_dtype": dtype,
        **sizes,
    }


def tokenizer_folder(tokenizer: str | None, init_from: str | None) -> str:
    """config.tokenizer, else the Hugging Face folder that the run starts from."""
    folder = tokenizer or init_from or ""
    if not any((Path(folder) / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise UserError(
            f"no tokenizer in {folder or 'an empty path'}; set --config.tokenizer=FOLDER (Hugging Face)"
        )
    return folder


# Tensors


class Tensor(NamedTuple):
    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, index=...) -> np.ndarray:
        """All of it or a slice: only that is read.  The file is open no longer, so that its pages can be given up."""
        try:
            with safe_open(self.file, framework="numpy") as file:
                return file.get_slice(self.name)[index]
        except (SafetensorError, OSError) as error:
            raise unreadable(self.file, error) from error


def unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} cannot be read ({error}); copy it again")


def open_tensors(folder: str) -> dict[str, Tensor]:
    """All tensors of the folder by name; only the files' headers are read."""
    found = {}
    for file in weight_files(Path(folder)):
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 (no dict)
                    part = opened.get_slice(name)
                    found[name] = Tensor(
                        file, name, tuple(part.get_shape()), dtype_of(part.get_dtype(), name, file)
                    )
        except (SafetensorError, OSError) as error:
            raise unreadable(file, error) from error
    return found


def dtype_of(name: str, tensor: str, file: Path) -> np.dtype:
    if name not in DTYPES:
        raise UserError(
            f"{tensor} in {file} is {name}, not one of {', '.join(DTYPES)}; get the weights in one of these"
        )
    return DTYPES[name]


def weight_files(folder: Path) -> list[Path]:
    """Those that the index names, else model.safetensors, else all *.safetensors."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict):
            raise UserError(f"{index} has no weight_map; copy it again")
        files = [folder / name for name in sorted(set(names.values()))]
    else:
        files = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no *.safetensors; init_from must name a Hugging Face folder")
    return files


def check_tensors(
    found: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], cfg: Model, folder: str
) -> None:
    """Every tensor has its place, every place its tensor, of the right shape; shapes: {name: shape} of the model."""
    extra = found.keys() - shapes.keys()
    if cfg.tie_word_embeddings:
        extra -= {"lm_head.weight"}  # some tied folders carry the embedding once more
    if missing := sorted(shapes.keys() - found.keys()):
        raise UserError(
            f"{missing[0]} is missing in {folder} (found {len(shapes.keys() & found.keys())} of {len(shapes)} tensors)"
            f"; is this {cfg.name}?"
        )
    if extra:
        raise UserError(f"{folder} holds {min(extra)}, which {cfg.name} has no place for ({len(extra)} such)")
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise UserError(f"{name} in {folder} has shape {found[name].shape}, {cfg.name} needs {shape}")


def not_finite(name: str, folder: str) -> UserError:
    return UserError(f"{name} in {folder} holds NaN or infinity; get the weights again")
