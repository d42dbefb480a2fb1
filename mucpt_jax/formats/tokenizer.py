"""A tokenizer's folder: its hash, and the token that ends a document."""

from pathlib import Path

from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import file_hash, text_hash


def tokenizer_hash(folder: str) -> str:
    """sha256 of tokenizer.json, or of vocab.json and merges.txt where a folder has only these."""
    for names in (["tokenizer.json"], ["vocab.json", "merges.txt"]):
        files = [Path(folder) / name for name in names]
        if all(f.is_file() for f in files):
            return text_hash("".join(file_hash(f) for f in files))
    raise UserError(
        f"{folder} holds no tokenizer.json (nor vocab.json and merges.txt); name a Hugging Face tokenizer folder"
    )


def end_of_document(tokenizer) -> int:
    """Token id that ends every document: <|endoftext|> as in Qwen's pretraining, else the tokenizer's own."""
    known = tokenizer.get_vocab()
    token = "<|endoftext|>" if "<|endoftext|>" in known else tokenizer.eos_token
    if token is None:
        raise UserError(
            f"{tokenizer.name_or_path} has neither <|endoftext|> nor an eos_token; set one in tokenizer_config.json"
        )
    return known[token]
