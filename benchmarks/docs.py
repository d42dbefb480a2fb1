"""Makes docs/benchmarks.md from benchmarks/results/*.json, and the tree in docs/architecture.md from docstrings.

    python -m benchmarks.docs

Every result that holds what, machine, versions, date and rows gets a table, and the demo's results their own; files of
another shape are left alone.  A benchmark of EXPECTED that has no file is named as not measured.
"""

import argparse
import ast
import re
import runpy
import textwrap
from pathlib import Path

from benchmarks import facts
from mucpt_jax.formats.decode import read_json

ROOT = Path(__file__).parents[1]
DOCUMENT, ARCHITECTURE = ROOT / "docs/benchmarks.md", ROOT / "docs/architecture.md"
MARKS = "<!-- tree: written by python -m benchmarks.docs -->\n", "<!-- /tree -->"
FOLDERS = ("configs", "mucpt_jax", "data_prep", "demo", "ablation", "benchmarks")
CURATION = "python -m benchmarks.curation --data=../shared/data --datatrove=PY --presidio=PY --scrubadub=PY"
NEAR = "python -m benchmarks.near_duplicates --data=../shared/data --datatrove=PY"
DEMO = {  # name of the file -> title, command, what the table does not tell
    "demo": ("The demo", "make demo", "The corpus is invented. Read its table as README.md does."),
    "demo_real": (
        "The demo on real text",
        "make demo DATA=FOLDER RUN=runs/real",
        """English and Chinese Wikipedia, the Qwen2 tokenizer (151,936 ids), and lines of noise (QR codes, addresses,
phones) planted in half of the domain documents. FOLDER is laid out as `music/*.jsonl.gz`, `general/*.jsonl.gz`,
`tokenizer/qwen2/`, `eval/music_proxy/` (`data_prep/samples/real_text.py` has the names). The models have 15 million
parameters, nearly all of them in the embedding, and see 250,000 tokens each. This shows that the road runs on real
text, not that the method pays at this size: no model answers a question, and a reference model of 240 steps is nearly
as surprised by real prose as by noise, so that mucpt hardly tells them apart (`w noise`, `w rest`); rho1, which
compares it with the start model, does.""",
    ),
}
EXPECTED = {  # name of the file -> title, command
    "train_step": ("Train step against PyTorch, CPU", "python -m benchmarks.train_step"),
    "train_step_gpu": ("Train step, one GPU", "python -m benchmarks.train_step --device=gpu"),
    "integrity": ("Checking what is read", "python -m benchmarks.integrity"),
    "evaluation": ("Judge calls to an endpoint", "python -m benchmarks.evaluation"),
    "scoring": ("Scoring against training, CPU", "python -m benchmarks.scoring"),
    "scoring_gpu": ("Scoring against training, one GPU", "python -m benchmarks.scoring --device=gpu"),
    "harness": ("CMMLU by lm-eval, CPU", "python -m benchmarks.harness --data=../shared/data/eval"),
    "token_loss": ("Loss over a large vocabulary, CPU", "python -m benchmarks.token_loss"),
    "token_loss_gpu": ("Loss over a large vocabulary, GPU", "python -m benchmarks.token_loss --device=gpu"),
    "decoding": ("Greedy decoding against PyTorch, CPU", "python -m benchmarks.decoding"),
    "loader": ("Loading rows", "python -m benchmarks.loader"),
    "weights": ("Hugging Face weights in and out", "python -m benchmarks.weights"),
    "scaling": ("Large models on meshes of devices", "python -m benchmarks.scaling"),
    "curation": ("Curation jobs", CURATION),
    "curation_scale": (
        "Curation jobs on 1, 4 and 16 times the text",
        "python -m benchmarks.curation_scale --data=../shared/data",
    ),
    "curation_masking": ("Curation: what masking finds", CURATION),
    "taken": ("Curation: what is taken from real text", "python -m benchmarks.taken --data=../shared/data"),
    "forms": ("Curation: what quality takes of lists", "python -m benchmarks.forms --data=../shared/data"),
    "near_duplicates": ("Near-duplicates", NEAR),
    "near_duplicates_by_jaccard": ("Near-duplicates by similarity", NEAR),
    "memory": ("Curation: memory on input that is large where texts are not", "python -m benchmarks.memory"),
    "near_duplicates_stubs": ("Near-duplicates: stubs of other songs, people and works", NEAR),
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
    ARCHITECTURE.write_text(with_tree(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
    print(DOCUMENT, ARCHITECTURE, sep="\n")


def read_results(folder: Path) -> dict[str, dict]:
    """Name -> result, of the files in this document's shape and of the demo's."""
    results = {file.stem: read_json(file) for file in sorted(Path(folder).glob("*.json"))}
    return {
        name: result
        for name, result in results.items()
        if name in DEMO or (isinstance(result, dict) and result.keys() >= SHAPE)
    }


def render(results: dict[str, dict]) -> str:
    demo = [demo_section(name, results[name]) for name in DEMO if name in results]
    names = [*EXPECTED, *(name for name in results if name not in EXPECTED | DEMO)]
    return "\n".join(
        [HEAD, *("\n".join(lines) for lines in demo), *("\n".join(section(name, results.get(name))) for name in names)]
    )


def demo_section(name: str, result: dict) -> list[str]:
    """The table that `make demo` prints."""
    from demo.results import as_text  # loads jax

    title, command, words = DEMO[name]
    machine = result["machine"]
    measured = f"{machine['cpu']}, {machine['cores']} cores; python {machine['python']}, jax {machine['jax']}"
    took = f"{result['date']}; {result['seconds'] / 60:.1f} minutes; `benchmarks/results/{name}.json`"
    source = f"({measured}; {took})"
    return [f"## {title}", "", f"`{command}`", "", words, "", textwrap.indent(as_text(result), "    "), "", source, ""]


def section(name: str, result: dict | None) -> list[str]:
    title, command = EXPECTED.get(name, (name.replace("_", " ").capitalize(), None))
    lines = [f"## {title}", "", *([f"`{command}`", ""] if command else [])]
    if result is None:
        return [*lines, "Not measured.", ""]
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    source = f"({facts.cell(result['machine'])}; {versions}; {result['date']}; `benchmarks/results/{name}.json`)"
    return [*lines, f"{result['what']}.", "", *facts.table(result["rows"]), "", source, ""]


# The tree of docs/architecture.md


def with_tree(text: str) -> str:
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    return f"{before}{MARKS[0]}\n{textwrap.indent(tree(), '    ')}\n\n{MARKS[1]}{after}"


def tree() -> str:
    """Every file of the product with its first sentence; rooms in the order in which they may be imported."""
    rooms = runpy.run_path(str(ROOT / "tests/test_imports.py"))["ROOMS"]
    lines = [line_of(ROOT / "launch.py", 0)]
    for name in FOLDERS:
        lines += ["", *folder(ROOT / name, rooms.get(name, ()))]
    return "\n".join(lines)


def folder(path: Path, rooms: tuple[str, ...], depth: int = 0) -> list[str]:
    files = sorted(f for f in path.iterdir() if f.suffix in (".py", ".js", ".template") and f.name != "__init__.py")
    about = first_sentence(path / "__init__.py") if depth else ""
    lines = [entry(f"{'  ' * depth}{path.name}/", about), *(line_of(file, depth + 1) for file in files)]
    inside = [path / room for room in rooms] or sorted(f for f in path.iterdir() if list(f.glob("*.py")))
    return lines + [line for room in inside for line in folder(room, (), depth + 1)]


def line_of(file: Path, depth: int) -> str:
    return entry("  " * depth + file.name, first_sentence(file))


def entry(name: str, sentence: str) -> str:
    return f"{name:<28}{textwrap.shorten(sentence, 112, placeholder=' ...')}".rstrip()


def first_sentence(file: Path) -> str:
    """Of a module's docstring, or of the comment that a script begins with; "" where there is none."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if file.suffix == ".js":
        words = re.match(r'"use strict";\n((?://[^\n]*\n)*)', text)[1].replace("//", " ")
    else:
        words = (ast.get_docstring(ast.parse(text)) if file.suffix == ".py" else "") or ""
    paragraph = " ".join(words.split("\n\n")[0].split())
    return re.split(r"(?<=[.?])(?<!et al.) ", paragraph)[0].rstrip(".:")


if __name__ == "__main__":
    main()
