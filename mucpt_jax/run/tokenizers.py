"""Which tokenizer a model was trained with: one check, asked by every job before it gives a model tokens.

It is known from config.json of the runs that the model comes from: plain files, read without Orbax.
"""

from pathlib import Path
from typing import TypedDict

from mucpt_jax import config
from mucpt_jax.config import Config
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.tokenizer import check_hash, files_of, hash_of, tokenizer_hash


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
    run = saved_config(folder)
    if run is None:
        return {folder: tokenizer_hash(folder)} if files_of(folder) else {}
    if known := read_json(Path(folder) / "config.json", Trained).get("tokenizer_hash"):
        return {f"the rows that the model in {folder} was trained on": known}
    # Runs of 0.2 do not say it, but their rows may still be there.
    rows = [own for own in (run.data.domain, run.data.general) if own and (Path(own) / "manifest.json").is_file()]
    return {f"{own}, which the model in {folder} was trained on": hash_of(own) for own in rows}


def saved_config(folder: str | Path) -> Config | None:
    """The config that a run was started with; None where the folder is not that of a run."""
    path = Path(folder) / "config.json"
    values = read_json(path, dict) if path.is_file() else {}
    # A Hugging Face folder has a config.json too.
    return config.from_saved(values, str(path)) if "optimizer" in values else None


def folders_behind(folder: str | None) -> list[str]:
    behind: list[str] = []
    while folder and folder not in behind:
        behind.append(folder)
        run = saved_config(folder)
        folder = run.init_from if run else None
    return behind
