"""Which tokenizer a model was trained with: one check, asked by every job before it gives a model tokens."""

from pathlib import Path
from typing import TypedDict

from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.tokenizer import check_hash, files_of, hash_of, tokenizer_hash
from mucpt_jax.run import lineage


class Trained(TypedDict, total=False):
    """Of a run's config.json, beside its knobs."""

    tokenizer_hash: str


def check(used: str | Path, lineage: list[str]) -> None:
    """UserError where rows, or a tokenizer's folder, do not belong to the model that comes from these folders.

    The tokens of another tokenizer are nonsense, and nothing else shows it.
    """
    for folder in lineage:
        for whose, known in hashes(folder).items():
            check_hash(used, known, whose)


def hashes(folder: str) -> dict[str, str]:
    """{whose: hash} of the tokenizers that a run was trained with or that lie in a Hugging Face folder."""
    run = lineage.saved_config(folder)
    if run is None:
        return {folder: tokenizer_hash(folder)} if files_of(folder) else {}
    if known := read_json(Path(folder) / "config.json", Trained).get("tokenizer_hash"):
        return {f"the rows that the model in {folder} was trained on": known}
    # Runs of 0.2 do not say it, but their rows may still be there.
    rows = [own for own in (run.data.domain, run.data.general) if own and (Path(own) / "manifest.json").is_file()]
    return {f"{own}, which the model in {folder} was trained on": hash_of(own) for own in rows}
