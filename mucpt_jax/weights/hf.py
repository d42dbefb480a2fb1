"""Hugging Face folders of Qwen2: names of tensors, config.json, reading slices of safetensors.  Neither jax nor torch.

Names map by rule, because the model keeps Hugging Face's:
    layers/self_attn/q_proj/kernel [N, in, out]  <->  model.layers.0..N-1.self_attn.q_proj.weight [out, in]
    embed_tokens/embedding                       <->  model.embed_tokens.weight
"""

import dataclasses
import logging
import os
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from mucpt_jax.checks import check_model
from mucpt_jax.config import Mesh, Model
from mucpt_jax.errors import UserError
from mucpt_jax.formats.checksums import check_sums, present
from mucpt_jax.formats.decode import Count, Positive, checked, read_json
from mucpt_jax.formats.files import bare_name
from mucpt_jax.formats.tokenizer import files_of

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
LEAF = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}
DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
# Fields of config.json that change nothing here: they are about generating, training of others, or the file itself.
SILENT = {
    "bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype", "initializer_range", "max_window_layers",
    "sliding_window", "transformers_version", "use_cache", "_name_or_path", "unsloth_version", "seq_length",
    "rotary_emb_base",
}  # fmt: skip
# Fields that an export does not keep: what it writes itself, and what is about another file or machine.
NOT_KEPT = {
    "torch_dtype", "dtype", "rope_parameters", "rope_scaling", "quantization_config", "auto_map", "_name_or_path",
}  # fmt: skip
LONGEST = 131_072  # tokens that the released sizes are made for


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
    values = read_json(path, dict, "is this a Hugging Face folder?")
    values = {key: value for key, value in values.items() if value is not None}  # null: not there
    checked(values, Fields, str(path), "copy the folder again")
    refuse(values, path)
    for kind, of in ((Model, values | {"name": ""}), *((Rope, rope) for rope in ropes(values).values())):
        checked(of, kind, str(path), "copy the folder again")
    thetas = {of.get("rope_theta") for of in (values, *ropes(values).values())} - {None}
    if len(thetas) > 1:
        raise UserError(f"{path} has rope_theta {sorted(thetas)}; leave the one that the weights are made for")
    values["rope_theta"] = thetas.pop() if thetas else 10_000.0
    if {"hidden_size", "num_attention_heads"} <= values.keys():
        values.setdefault("head_dim", values["hidden_size"] // values["num_attention_heads"])
    values.setdefault("tie_word_embeddings", False)
    names = sorted(f.name for f in dataclasses.fields(Model) if f.name != "name")
    for name in names:
        if name not in values:
            raise UserError(f"{path} has no {name}; is this a Qwen2 folder?")
    model = Model(name=os.path.basename(os.path.abspath(folder)), **{name: values[name] for name in names})
    check_model(model, Mesh())
    return model


class Chunks(TypedDict, total=False):
    chunk_size: Count
    local_size: Count


class Fields(TypedDict, total=False):
    """Of config.json besides those of Model."""

    layer_types: list[str]
    dual_chunk_attention_config: Chunks


class Rope(TypedDict):
    rope_theta: NotRequired[Positive | None]


def ropes(values: dict) -> dict[str, dict]:
    """The fields about rotary angles; transformers 5 writes rope_parameters, and heeds rope_scaling before it."""
    return {key: values[key] for key in ("rope_parameters", "rope_scaling") if key in values}


def refuse(values: dict, path: Path) -> None:
    """What would change the function and is not built here ends in one sentence; what is unknown in a warning."""
    honoured = {  # field -> the values under which this decoder computes what the folder means
        "model_type": values.get("model_type") == "qwen2",
        "architectures": values.get("architectures", []) in ([], ["Qwen2ForCausalLM"]),
        "hidden_act": values.get("hidden_act", "silu") == "silu",
        "use_sliding_window": not values.get("use_sliding_window"),
        "layer_types": set(values.get("layer_types", ())) <= {"full_attention"},
        "partial_rotary_factor": values.get("partial_rotary_factor", 1) == 1,
        "use_mrope": not values.get("use_mrope"),
        "is_causal": values.get("is_causal", True) is True,
        "attention_bias": values.get("attention_bias", True) is True,
        "mlp_bias": not values.get("mlp_bias"),
        "attention_dropout": not values.get("attention_dropout"),
        "quantization_config": not values.get("quantization_config"),
        "dual_chunk_attention_config": in_one_chunk(values.get("dual_chunk_attention_config")) >= LONGEST,
        **{key: plain_angles(rope) for key, rope in ropes(values).items()},
    }
    for key, good in honoured.items():
        if not good:
            raise UserError(
                f"{path}: {key}={values.get(key)!r} is not a Qwen2 that this decoder can run; use another folder"
            )
    known = SILENT | honoured.keys() | {f.name for f in dataclasses.fields(Model)}
    if unknown := sorted(values.keys() - known):
        logging.warning("%s: %s not known here and without effect", path, ", ".join(unknown))


def plain_angles(rope) -> bool:
    """Are these the rotary angles of all dims of a head, not scaled, the same in every layer?"""
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        return False
    kind = rope.get("rope_type", rope.get("type", "default"))
    return kind == "default" and rope.get("partial_rotary_factor", 1) == 1


def in_one_chunk(chunks: Chunks | None) -> int:
    """Tokens up to which dual chunk attention (Qwen2.5-1M) is plain attention."""
    if chunks is None:
        return LONGEST
    return chunks.get("chunk_size", 0) - chunks.get("local_size", 0)


def check_same_model(model: Model, wanted: Model, where: str) -> None:
    """The sizes that shape the arrays and the function must agree; names and length limits need not."""
    names = [f.name for f in dataclasses.fields(Model) if f.name not in ("name", "max_position_embeddings")]
    a, b = ({name: getattr(of, name) for name in names} for of in (model, wanted))
    if wrong := [name for name in names if a[name] != b[name]]:
        overrides = " ".join(f"--config.model.{name}={a[name]}" for name in wrong)
        raise UserError(
            f"{where} holds a model with {wrong[0]}={a[wrong[0]]}, the config's {wanted.name} has {b[wrong[0]]}; "
            f"use the config of that model or set {overrides}"
        )


def config_json(cfg: Model, dtype: str, like: str | None, end_of_text: int | None, longest: int = 0) -> dict:
    """config.json of an export; `like`: a folder of the same model whose further fields are kept, such as token ids;
    longest: tokens of the longest rows that it was trained on."""
    kept = read_json(Path(like) / "config.json", dict) if like else {"eos_token_id": end_of_text}
    kept = {key: value for key, value in kept.items() if key not in NOT_KEPT}
    sizes = {k: v for k, v in dataclasses.asdict(cfg).items() if k != "name"}
    # A run's limit is often that of the base model; Instruct's own is shorter.  Training may have gone beyond it.
    own = kept.get("max_position_embeddings") or cfg.max_position_embeddings
    sizes["max_position_embeddings"] = max(own, longest)
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
    if not files_of(folder):
        raise UserError(f"no tokenizer in {folder or 'an empty path'}; set --config.tokenizer=FOLDER (Hugging Face)")
    return folder


class Ends(TypedDict, total=False):
    """Of generation_config.json and config.json."""

    eos_token_id: int | list[int] | None


def end_ids(folder: str) -> list[int]:
    """Tokens at which a model of this folder ends its answer; none where the folder does not say."""
    files, ids = present(folder, "generation_config.json", "config.json"), []
    check_sums(Path(folder), files)
    for path in files:
        end = read_json(path, Ends).get("eos_token_id")
        ids += end if isinstance(end, list) else [] if end is None else [end]
    return ids


# Tensors


class Index(TypedDict):
    """model.safetensors.index.json"""

    weight_map: dict[str, str]  # {tensor: file}


class Tensor(NamedTuple):
    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, index=...) -> np.ndarray:
        """The tensor or a slice, no more is read.  The file is closed again, so that its pages can be given up."""
        try:
            with safe_open(self.file, framework="numpy") as file:
                return file.get_slice(self.name)[index]
        except (SafetensorError, OSError) as error:
            raise unreadable(self.file, error) from error


def unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} cannot be read ({error}); copy it again")


def open_tensors(folder: str) -> dict[str, Tensor]:
    """All tensors of the folder by name; only the files' headers are read."""
    tensors = {}
    for file in weight_files(Path(folder)):
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 (no dict)
                    if name in tensors:
                        raise UserError(
                            f"{name} is in {tensors[name].file} and in {file}; leave the files of one model"
                        )
                    part = opened.get_slice(name)
                    tensors[name] = Tensor(file, name, tuple(part.get_shape()), dtype_of(part.get_dtype(), name, file))
        except (SafetensorError, OSError) as error:
            raise unreadable(file, error) from error
    return tensors


def dtype_of(name: str, tensor: str, file: Path) -> np.dtype:
    if name not in DTYPES:
        raise UserError(
            f"{tensor} in {file} is {name}, not one of {', '.join(DTYPES)}; get the weights in one of these"
        )
    return DTYPES[name]


def weight_files(folder: Path) -> list[Path]:
    """The files that the index names, else model.safetensors, else all *.safetensors."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        names = read_json(index, Index, "copy it again")["weight_map"].values()
        files = [folder / bare_name(name, index) for name in sorted(set(names))]
    else:
        files = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no *.safetensors; init_from must name a Hugging Face folder")
    return files


def check_tensors(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], cfg: Model, folder: str) -> None:
    """Every tensor has its place, every place its tensor, of the right shape; shapes: {name: shape} of the model."""
    extra = tensors.keys() - shapes.keys()
    if cfg.tie_word_embeddings:
        extra -= {HEAD}  # some tied folders carry the embedding once more
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise UserError(
            f"{missing[0]} is missing in {folder} (found {len(shapes.keys() & tensors.keys())} of {len(shapes)} "
            f"tensors); is this {cfg.name}?"
        )
    if extra:
        raise UserError(
            f"{folder} holds {min(extra)}, which {cfg.name} has no place for ({len(extra)} such); use another folder"
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise UserError(
                f"{name} in {folder} has shape {tensors[name].shape}, {cfg.name} needs {shape}; use another folder"
            )
    if cfg.tie_word_embeddings and HEAD in tensors and not same(tensors[HEAD], tensors[EMBEDDING]):
        raise UserError(
            f"{HEAD} in {folder} is not the embedding, though config.json says tie_word_embeddings; if the model was "
            "trained with a head of its own, set that to false there and --config.model.tie_word_embeddings=False"
        )


def same(a: Tensor, b: Tensor, rows: int = 4096) -> bool:
    """Equal values, whatever the dtypes; so many rows at a time."""
    parts = [slice(i, min(i + rows, a.shape[0])) for i in range(0, a.shape[0], rows)]
    return a.shape == b.shape and all(np.array_equal(a.read(part), b.read(part)) for part in parts)


def not_finite(tensor: Tensor) -> UserError:
    return UserError(f"{tensor.name} in {tensor.file} holds NaN or infinity; get the weights again")
