"""A tokenizer's folder: its hash, loading it, the token that ends a document."""

import os
from pathlib import Path
from typing import Any

from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.checksums import check_sums, present
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import file_hash, text_hash
from mucpt_jax.formats.manifest import load_manifest

# Read beside them; tokenizer_config.json alone where there is a tokenizer.json.
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def files_of(folder: str | Path) -> list[Path]:
    """The files that make a folder's tokenizer; none where it has no tokenizer."""
    for names in (["tokenizer.json"], ["vocab.json", "merges.txt"]):
        files = [Path(folder) / name for name in names]
        if all(f.is_file() for f in files):
            return files
    return []


def tokenizer_hash(folder: str | Path) -> str:
    """sha256 of tokenizer.json, or of vocab.json and merges.txt where a folder has only these.

    UserError where they are not what a SHA256SUMS of the folder says.
    """
    if files := files_of(folder):
        check_sums(Path(folder), files)
        return text_hash("".join(file_hash(f) for f in files))
    state = "holds no" if Path(folder).is_dir() else "is not a folder, so it holds no"
    raise UserError(
        f"tokenizer={folder} {state} tokenizer.json (nor vocab.json and merges.txt); name a Hugging Face folder"
    )


def load_tokenizer(folder: str):
    """The fast Hugging Face tokenizer of a folder: never from the network, never with code from the folder."""
    tokenizer_hash(folder)
    check_sums(Path(folder), present(folder, *BESIDE))
    from transformers import AutoTokenizer  # takes seconds, and `--help` does not need it

    try:
        if os.path.isfile(Path(folder) / "tokenizer.json"):
            tokenizer = of_file(Path(folder))
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except UserError:
        raise
    except Exception as error:  # the library raises what the damage leads to: OSError, KeyError, ...
        raise UserError(f"the tokenizer in {folder} cannot be loaded ({one_line(error)}); copy it again") from error
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer in {folder} has no fast version; add its tokenizer.json")
    return tokenizer


def of_file(folder: Path) -> Any:
    """What tokenizer.json says and nothing else: the hash is of this file.

    AutoTokenizer builds its own Qwen2 tokenizer where config.json says qwen2, adds the tokens of tokenizer_config.json,
    and keeps a truncation or padding that is stored in tokenizer.json: documents would be cut, or filled, silently.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.no_truncation()
    backend.no_padding()
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    eos = settings.get("eos_token") if isinstance(settings, dict) else None
    eos = eos.get("content") if isinstance(eos, dict) else eos
    known = isinstance(eos, str) and backend.token_to_id(eos) is not None  # another would be added to the vocabulary
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos if known else None, name_or_path=str(folder),
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def check_same_tokenizer(rows: str | Path, *others: str | Path | None, used: str = "") -> None:
    """UserError where a folder has another tokenizer than the others; each of rows or of a tokenizer.

    `used` tells for what the others are used, where it is not plain from their names.
    """
    for folder in (folder for folder in others if folder):
        check_hash(rows, hash_of(folder), f"{folder}{used}")


def check_hash(folder: str | Path, other: str, whose: str) -> None:
    mine = hash_of(folder)
    if mine != other:
        does = "was written with" if (Path(folder) / "manifest.json").is_file() else "is"
        raise UserError(
            f"{folder} {does} another tokenizer than {whose} (hashes {mine[:12]}, {other[:12]}); "
            "name what belongs to one tokenizer, or shard the rows again"
        )


def hash_of(folder: str | Path) -> str:
    """Of the tokenizer that a row folder was written with, or that a folder holds."""
    manifest = Path(folder) / "manifest.json"
    return load_manifest(folder)["tokenizer_hash"] if manifest.is_file() else tokenizer_hash(folder)


def vocab_size(tokenizer) -> int:
    """Ids are 0...vocab_size - 1; len(tokenizer) is less where the vocabulary has holes."""
    return max(tokenizer.get_vocab().values()) + 1


def end_of_document(tokenizer) -> int:
    """Token id that ends every document: <|endoftext|> as in Qwen's pretraining, else the tokenizer's own."""
    known = tokenizer.get_vocab()
    token = "<|endoftext|>" if "<|endoftext|>" in known else tokenizer.eos_token
    if token is None:
        raise UserError(
            f"{tokenizer.name_or_path} has neither <|endoftext|> nor an eos_token; set one in tokenizer_config.json"
        )
    return known[token]
