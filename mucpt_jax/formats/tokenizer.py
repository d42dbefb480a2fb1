"""A tokenizer's folder: its hash, loading it, the token that ends a document."""

import os
from pathlib import Path

from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.files import file_hash, text_hash
from mucpt_jax.formats.manifest import load_manifest


def files_of(folder: str | Path) -> list[Path]:
    """The files that make a folder's tokenizer; none where it has no tokenizer."""
    for names in (["tokenizer.json"], ["vocab.json", "merges.txt"]):
        files = [Path(folder) / name for name in names]
        if all(f.is_file() for f in files):
            return files
    return []


def tokenizer_hash(folder: str | Path) -> str:
    """sha256 of tokenizer.json, or of vocab.json and merges.txt where a folder has only these."""
    if files := files_of(folder):
        return text_hash("".join(file_hash(f) for f in files))
    state = "holds no" if Path(folder).is_dir() else "is not a folder, so it holds no"
    raise UserError(
        f"tokenizer={folder} {state} tokenizer.json (nor vocab.json and merges.txt); name a Hugging Face folder"
    )


def load_tokenizer(folder: str):
    """The fast Hugging Face tokenizer of a folder: never from the network, never with code from the folder."""
    tokenizer_hash(folder)
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # takes seconds, and `--help` does not need it

    # AutoTokenizer builds its own Qwen2 tokenizer where config.json says qwen2, whatever tokenizer.json holds.
    kind = PreTrainedTokenizerFast if os.path.isfile(Path(folder) / "tokenizer.json") else AutoTokenizer
    try:
        tokenizer = kind.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the library raises what the damage leads to: OSError, KeyError, ...
        raise UserError(f"the tokenizer in {folder} cannot be loaded ({one_line(error)}); copy it again") from error
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer in {folder} has no fast version; add its tokenizer.json")
    return tokenizer


def check_same_tokenizer(rows: str | Path, *others: str | Path | None, used: str = "") -> None:
    """UserError where a row folder was not written with the tokenizer of the others: row or tokenizer folders.

    `used` tells for what the others are used, where it is not plain from their names.
    """
    for folder in (folder for folder in others if folder):
        is_rows = (Path(folder) / "manifest.json").is_file()
        mine, other = _hash_of_rows(rows), _hash_of_rows(folder) if is_rows else tokenizer_hash(folder)
        if mine != other:
            raise UserError(
                f"{rows} was written with another tokenizer than {folder}{used} (hashes {mine[:12]}, {other[:12]}); "
                "name what belongs to the tokenizer of these rows, or shard them again"
            )


def _hash_of_rows(folder: str | Path) -> str:
    return load_manifest(folder)["tokenizer_hash"]


def end_of_document(tokenizer) -> int:
    """Token id that ends every document: <|endoftext|> as in Qwen's pretraining, else the tokenizer's own."""
    known = tokenizer.get_vocab()
    token = "<|endoftext|>" if "<|endoftext|>" in known else tokenizer.eos_token
    if token is None:
        raise UserError(
            f"{tokenizer.name_or_path} has neither <|endoftext|> nor an eos_token; set one in tokenizer_config.json"
        )
    return known[token]
