"""Makes docs/benchmarks.md from benchmarks/results/*.json.

    python -m benchmarks.docs

Every result that holds what, machine, versions, date and rows gets a table; files of another shape (the demo's)
are left alone.  A benchmark of EXPECTED that has no file is named as not measured.
"""

import argparse
from pathlib import Path

from benchmarks import facts
from mucpt_jax.formats.files import read_json

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
CURATION = "python -m benchmarks.curation --data=../shared/data --datatrove=PY --presidio=PY --scrubadub=PY"
NEAR = "python -m benchmarks.near_duplicates --data=../shared/data --datatrove=PY"
EXPECTED = {  # name of the file -> title, command
    "train_step": ("Train step against PyTorch, CPU", "python -m benchmarks.train_step"),
    "train_step_gpu": ("Train step, one GPU", "python -m benchmarks.train_step --device=gpu"),
    "scoring": ("Scoring against training, CPU", "python -m benchmarks.scoring"),
    "scoring_gpu": ("Scoring against training, one GPU", "python -m benchmarks.scoring --device=gpu"),
    "token_loss": ("Loss over a large vocabulary, CPU", "python -m benchmarks.token_loss"),
    "token_loss_gpu": ("Loss over a large vocabulary, GPU", "python -m benchmarks.token_loss --device=gpu"),
    "loader": ("Loading rows", "python -m benchmarks.loader"),
    "weights": ("Hugging Face weights in and out", "python -m benchmarks.weights"),
    "scaling": ("Large models on meshes of devices", "python -m benchmarks.scaling"),
    "curation": ("Curation jobs", CURATION),
    "curation_scale": (
        "Curation jobs on 1, 4 and 16 times the text",
        "python -m benchmarks.curation_scale --data=../shared/data",
    ),
    "curation_masking": ("Curation: what masking finds", CURATION),
    "near_duplicates": ("Near-duplicates", NEAR),
    "near_duplicates_by_jaccard": ("Near-duplicates by similarity", NEAR),
    "near_duplicates_speed": ("Near-duplicates beside datatrove", NEAR),
}
SHAPE = {"what", "machine", "versions", "date", "rows"}
HEAD = """# Benchmarks

Made by `python -m benchmarks.docs` from `benchmarks/results/`; each table's command measures it anew.
Seconds are medians.  Sides that are compared take turns in one run.
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    DOCUMENT.write_text(render(read_results(facts.RESULTS)), encoding="utf-8")
    print(DOCUMENT)


def read_results(folder: Path) -> dict[str, dict]:
    """Name -> result, of the files in this document's shape."""
    results = {file.stem: read_json(file) for file in sorted(Path(folder).glob("*.json"))}
    return {name: result for name, result in results.items() if isinstance(result, dict) and result.keys() >= SHAPE}


def render(results: dict[str, dict]) -> str:
    names = [*EXPECTED, *(name for name in results if name not in EXPECTED)]
    return "\n".join([HEAD, *("\n".join(section(name, results.get(name))) for name in names)])


def section(name: str, result: dict | None) -> list[str]:
    title, command = EXPECTED.get(name, (name.replace("_", " ").capitalize(), None))
    lines = [f"## {title}", "", *([f"`{command}`", ""] if command else [])]
    if result is None:
        return [*lines, "Not measured.", ""]
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    source = f"({facts.cell(result['machine'])}; {versions}; {result['date']}; `benchmarks/results/{name}.json`)"
    return [*lines, f"{result['what']}.", "", *facts.table(result["rows"]), "", source, ""]


if __name__ == "__main__":
    main()
