"""The rule of the rooms: a file directly in a package is a command (or config, checks, errors); a folder holds what
commands are made of, and imports only the folders that stand before it in the list."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "mucpt_jax": ("formats", "endpoint", "step", "weights", "run", "planning", "evaluation", "exams", "page"),
    "data_prep": ("private", "text", "jobs", "packing", "duplicates", "entities", "reporting", "samples"),
}
COMMANDS = {
    "mucpt_jax": {"train", "score", "evaluate", "export", "plan", "audit", "compare", "calibration", "convert", "judge",
                  "answer", "seqio_tasks", "verify", "harness"},
    "data_prep": {"pipeline", "clean", "boilerplate", "quality", "dedup", "decontaminate", "mask", "shard", "select",
                  "agree", "overlap", "lookup", "report", "sample_corpus", "questions", "simpleqa", "variants"},
}  # fmt: skip
MOVED = {"agreement"}  # of mucpt_jax: a sentence where the old name is used; it is data_prep.agree
EVERYWHERE = {"config", "checks", "errors", "llm"}
# The one import between jobs (plan compiles train's step); the pipeline, which runs the others, and the report on them.
BETWEEN_COMMANDS = {
    "mucpt_jax/plan.py": {"train"},
    "data_prep/pipeline.py": COMMANDS["data_prep"],
    "data_prep/report.py": {"pipeline"},
}
OPEN_TO_DATA_PREP = {"formats", "errors", "llm"}  # of mucpt_jax
NO_JAX = {"formats", "endpoint", "evaluation", "page", "planning"}
JAX_ALL_THE_SAME = {"evaluation/generate.py", "planning/accelerators.py", "planning/search.py"}
FILES = sorted(f for package in ROOMS for f in (ROOT / package).rglob("*.py"))


def imports(file: Path) -> set[str]:
    """Dotted names of all that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def allowed(file: Path) -> dict[str, set[str]]:
    """Package -> what the file may import of it: rooms and modules."""
    package, *rest = file.relative_to(ROOT).parts
    rooms, free = ROOMS[package], EVERYWHERE if package == "mucpt_jax" else set()
    before = set(rooms[: rooms.index(rest[0]) + 1]) if len(rest) == 2 else set(rooms)
    own = before | free | BETWEEN_COMMANDS.get(f"{package}/{'/'.join(rest)}", set())
    return {package: own} | ({"mucpt_jax": OPEN_TO_DATA_PREP} if package == "data_prep" else {"data_prep": set()})


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_imports_only_rooms_before_it(file):
    for package, names in allowed(file).items():
        of_package = {name.split(".")[1] for name in imports(file) if name.startswith(f"{package}.")}
        modules = of_package & (set(ROOMS[package]) | COMMANDS[package] | EVERYWHERE)
        assert modules <= names, f"{file} imports {modules - names} of {package}"


@pytest.mark.parametrize("package", ROOMS)
def test_every_file_is_a_command_or_stands_in_a_room(package):
    assert {f.stem for f in (ROOT / package).glob("*.py")} == COMMANDS[package] | {"__init__"} | (
        EVERYWHERE | MOVED if package == "mucpt_jax" else set()
    )
    folders = {f.parent for f in (ROOT / package).rglob("*.py")} - {ROOT / package}
    assert {folder.name for folder in folders} == set(ROOMS[package])
    for folder in folders:
        assert len(list(folder.glob("*.py"))) <= 15, f"{folder} is crowded"


def test_flax_is_known_to_the_model_alone_and_plain_rooms_know_no_jax():
    for file in FILES:
        roots = {name.partition(".")[0] for name in imports(file)}
        package, *rest = file.relative_to(ROOT).parts
        assert "flax" not in roots or rest == ["step", "model.py"]
        plain = package == "data_prep" or (rest[0] in NO_JAX and "/".join(rest) not in JAX_ALL_THE_SAME)
        assert "jax" not in roots or not plain, file
        lazy = {"seqio", "tensorflow"} if rest == ["seqio_tasks.py"] else set()  # inside a function, see below
        assert not (roots - lazy) & {"torch", "tensorflow", "seqio", "demo", "ablation"}


def loaded(statement: str, names: str) -> str:
    """Which of the names are loaded after the statement, in a process of its own."""
    # As where torch is not installed: TensorBoard's writer would load it in passing.
    script = (
        f"import sys; sys.modules['torch'] = None; {statement}; "
        f"print([n for n in {names.split()} if sys.modules.get(n)])"
    )
    run = [sys.executable, "-c", script]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_training_loads_neither_torch_nor_tensorflow_and_data_prep_no_jax():
    jobs = "from mucpt_jax import train, score, evaluate, export, plan, audit, compare, seqio_tasks"
    assert loaded(jobs, "torch tensorflow seqio transformers") == "[]"
    no_orbax = "sys.modules['orbax'] = sys.modules['orbax.checkpoint'] = None"  # as in requirements-seqio.txt
    assert loaded(f"{no_orbax}; from mucpt_jax import seqio_tasks", "seqio tensorflow") == "[]"
    assert loaded("from data_prep import pipeline, sample_corpus, agree", "jax flax torch tensorflow") == "[]"


def test_errors_and_files_load_next_to_nothing():
    heavy = "numpy pyarrow array_record grain jax flax ml_collections transformers scipy"
    assert loaded("from mucpt_jax.errors import exiting", f"{heavy} mucpt_jax.formats mucpt_jax.config") == "[]"
    assert loaded("from mucpt_jax.formats.files import replacing", heavy) == "[]"
    assert loaded("from mucpt_jax import compare", "scipy pyarrow jax") == "[]"


def test_files_and_functions_stay_short():
    for file in [ROOT / "launch.py", *FILES]:
        text = file.read_text()
        assert len(text.splitlines()) <= 350, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 80, f"{file}: {node.name}"
