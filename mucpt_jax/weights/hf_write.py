"""Writes a Hugging Face folder: weights, config.json, tokenizer, model card, checksums.  Neither jax nor torch.

model.safetensors, or model-00001-of-0000N.safetensors with model.safetensors.index.json
config.json, generation_config.json, the tokenizer's files        as in the folder that the model comes from
README.md                                                        the model card
SHA256SUMS                                                       of all other files; `sha256sum -c SHA256SUMS`
mucpt_jax_export.json                                            marks an export, which the next may replace
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np

from mucpt_jax.config import Model
from mucpt_jax.errors import UserError
from mucpt_jax.formats.checksums import MARK, SUMS, check_sums, present, sums_of
from mucpt_jax.formats.decode import Count, read_json
from mucpt_jax.formats.files import file_hash, replacing_folder, write_json
from mucpt_jax.weights import hf

# Files beside the weights that make a folder usable; copied where they exist.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
                   "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")  # fmt: skip
FILE_DTYPES = {"bfloat16": "BF16", "float32": "F32"}
ROOM = 1 << 20  # bytes for all that is no tensor, without the tokenizer


class About(NamedTuple):
    """What an export is like, beside its tensors."""

    folder: str
    dtype: str = "bfloat16"  # bfloat16 | float32
    max_shard_bytes: int = 5_000_000_000  # of one file; a larger tensor has a file of its own
    like: str | None = None  # folder of the same model: further fields of config.json, generation_config.json
    longest: int = 0  # tokens of the longest rows that the model was trained on
    tokenizer: str | None = None  # folder whose tokenizer goes along
    card: str | None = None  # text of README.md


Shapes = dict[str, tuple[int, ...]]  # of tensors by name


def write(shapes: Shapes, read: Callable[[str], np.ndarray], cfg: Model, about: About) -> None:
    """read(name) gives a tensor, in any float dtype; it is asked for each once, in the order of `shapes`."""
    check_place(Path(about.folder).resolve())
    with replacing_folder(about.folder, about.folder) as beside:
        check_room(beside, shapes, about)
        sums = write_weights(beside, shapes, read, about)
        write_rest(beside, cfg, about)
        write_sums(beside, sums)
        check_place(Path(about.folder).resolve())  # somebody may have put a file there meanwhile


def check_place(folder: Path) -> None:
    if os.path.ismount(folder):
        raise UserError(f"{folder} is a mount and cannot be replaced as a whole; name a folder in it")
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / MARK).is_file():
        raise UserError(f"{folder} exists and is no export of ours; choose another folder")
    foreign = {path.name for path in folder.glob("*")} - {SUMS, *sums_of(folder)}
    if foreign:
        raise UserError(
            f"{folder} holds {min(foreign)}, which is not of the export there; move it or choose another folder"
        )


def check_room(beside: Path, shapes: Shapes, about: About) -> None:
    needed, free = sum(map(bytes_of(about.dtype), shapes.values())) + ROOM, shutil.disk_usage(beside).free
    if needed > free:
        raise UserError(
            f"the disk of {about.folder} has {free / 1e9:.1f} GB free, the export needs {needed / 1e9:.1f}; make room "
            "or name another folder"
        )


def bytes_of(dtype: str) -> Callable[[tuple[int, ...]], int]:
    size = hf.DTYPES[FILE_DTYPES[dtype]].itemsize
    return lambda shape: int(np.prod(shape)) * size


# Weights


def write_weights(folder: Path, shapes: Shapes, read: Callable[[str], np.ndarray], about: About) -> dict[str, str]:
    """All tensors in as many files as needed, and their index; {file: sha256}."""
    files = split(shapes, about.dtype, about.max_shard_bytes)
    names = [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    names = names if len(files) > 1 else ["model.safetensors"]
    sums = {
        name: write_file(folder / name, {tensor: shapes[tensor] for tensor in tensors}, read, about)
        for name, tensors in zip(names, files, strict=True)
    }
    if len(files) > 1:
        total = sum(map(bytes_of(about.dtype), shapes.values()))
        weight_map = {tensor: name for name, tensors in zip(names, files, strict=True) for tensor in tensors}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_json(folder / "model.safetensors.index.json", index)
    return sums


def split(shapes: Shapes, dtype: str, max_shard_bytes: int) -> list[list[str]]:
    """Names of the tensors of each file, in order."""
    files, used = [[]], 0
    for name, shape in shapes.items():
        size = bytes_of(dtype)(shape)
        if files[-1] and used + size > max_shard_bytes:
            files.append([])
            used = 0
        files[-1].append(name)
        used += size
    return files


def write_file(path: Path, shapes: Shapes, read: Callable[[str], np.ndarray], about: About) -> str:
    """One safetensors file, a tensor after the other, as the library's own writer wants all in memory; its sha256.

    The format: u64 length of the header, JSON header (offsets from its end), the tensors' bytes.
    """
    dtype, digest, begin = hf.DTYPES[FILE_DTYPES[about.dtype]], hashlib.sha256(), 0
    header = {"__metadata__": {"format": "pt"}}
    for name, shape in shapes.items():
        end = begin + bytes_of(about.dtype)(shape)
        header[name] = {"dtype": FILE_DTYPES[about.dtype], "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors start at a multiple of 8 bytes
    with open(path, "wb") as file:
        for part in (len(text).to_bytes(8, "little"), text):
            file.write(part)
            digest.update(part)
        for name, shape in shapes.items():
            tensor = np.ascontiguousarray(read(name), dtype)
            assert tensor.shape == shape, (name, tensor.shape, shape)
            if not np.isfinite(tensor).all():
                raise UserError(
                    f"{name} holds NaN or infinity as {about.dtype}, so nothing was written to {about.folder}; take "
                    "other weights"
                )
            data = memoryview(tensor.view(np.uint8).reshape(-1))
            file.write(data)
            digest.update(data)
    return digest.hexdigest()


# The rest


def write_rest(folder: Path, cfg: Model, about: About) -> None:
    tokenizer = Path(about.tokenizer) if about.tokenizer else None
    copied = present(tokenizer, *TOKENIZER_FILES) if tokenizer else []
    copied += present(about.like, "generation_config.json") if about.like else []
    for path in [*copied, *(present(about.like, "config.json") if about.like else [])]:
        check_sums(path.parent, [path])
    for path in copied:
        shutil.copy(path, folder / path.name)
    end = end_of_text(tokenizer) if tokenizer else None
    write_json(folder / "config.json", hf.config_json(cfg, about.dtype, about.like, end, about.longest))
    write_json(folder / MARK, {"model": cfg.name, "dtype": about.dtype})
    if about.card:
        (folder / "README.md").write_text(about.card, encoding="utf-8")


class AddedToken(TypedDict):
    id: Count
    content: str


class Vocabulary(TypedDict):
    vocab: NotRequired[dict[str, Count] | list | None]  # a list: of a Unigram model


class TokenizerJson(TypedDict):
    added_tokens: NotRequired[list[AddedToken] | None]
    model: NotRequired[Vocabulary]


def end_of_text(tokenizer: Path) -> int | None:
    """Id of <|endoftext|>, which ended every document in training."""
    path = tokenizer / "tokenizer.json"
    content = read_json(path, TokenizerJson, "copy the tokenizer again") if path.is_file() else {}
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    vocabulary = content.get("model", {}).get("vocab", {})
    known = added | (vocabulary if isinstance(vocabulary, dict) else {})
    return known.get("<|endoftext|>")


def write_sums(folder: Path, known: dict[str, str]) -> None:
    """In the format of sha256sum; large files were summed as they were written."""
    names = sorted(file.name for file in folder.iterdir())
    lines = [f"{known.get(name) or file_hash(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
