"""Who may import whom (the README's tree): arrows run downwards only."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOBS = {"train", "score", "evaluate", "export", "plan", "audit", "compare"}
PARTS = {
    "data",
    "checkpoint",
    "convert",
    "metrics",
    "optimizer",
    "generate",
    "judge",
    "goodput",
    "interrupts",
    "hlo",
    "accelerators",
    "advice",
    "search",
    "heldout",
    "reference",
    "early_stop",
    "survey",
    "agreement",
    "workdir",
    "paired",
    "tables",
    "seqio_tasks",
}
ARRAYS = {"model", "attention", "losses", "objective", "sharding"}
NO_JAX = {
    "agreement",
    "judge",
    "audit",
    "survey",
    "compare",
    "workdir",
    "paired",
    "tables",
}  # beside the plain floor
PLAIN = {"config", "checks", "records", "runtime", "hosts", "calibration", "words", "hf", "hf_write"}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(file: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(file) if name.startswith("mucpt_jax.")} & (
        JOBS | PARTS | ARRAYS | PLAIN
    )


def test_every_module_stands_on_one_floor_and_looks_only_down():
    files = {f.stem: f for f in (ROOT / "mucpt_jax").glob("*.py") if f.stem != "__init__"}
    assert set(files) == JOBS | PARTS | ARRAYS | PLAIN
    below = {
        "jobs": PARTS | ARRAYS | PLAIN,
        "parts": PARTS | ARRAYS | PLAIN,
        "arrays": ARRAYS | PLAIN,
        "plain": PLAIN,
    }
    for floor, names in zip(below, (JOBS, PARTS, ARRAYS, PLAIN), strict=True):
        for name in names:
            allowed = below[floor] | ({"train"} if name == "plan" else set())  # plan compiles train's step
            assert ours(files[name]) <= allowed, f"{name} imports {ours(files[name]) - allowed}"


def test_flax_is_known_to_the_model_alone_and_plain_modules_know_no_jax():
    for file in (ROOT / "mucpt_jax").glob("*.py"):
        roots = {name.partition(".")[0] for name in imports(file)}
        assert "flax" not in roots or file.stem == "model"
        assert "jax" not in roots or file.stem not in PLAIN | NO_JAX
        lazy = (
            {"seqio", "tensorflow"} if file.stem == "seqio_tasks" else set()
        )  # inside a function, see below
        assert not (roots - lazy) & {"torch", "tensorflow", "seqio", "data_prep", "demo", "ablation"}


def test_data_prep_knows_records_and_nothing_else_of_the_device_code():
    for file in (ROOT / "data_prep").glob("*.py"):
        assert not {name.partition(".")[0] for name in imports(file)} & {
            "jax",
            "flax",
            "torch",
            "tensorflow",
            "demo",
            "ablation",
        }
        assert {name.split(".")[1] for name in imports(file) if name.startswith("mucpt_jax.")} <= {
            "records",
            "calibration",
        }


def test_training_loads_neither_torch_nor_tensorflow_and_data_prep_no_jax():
    def loaded(statement: str, names: str) -> str:
        # As where torch is not installed: TensorBoard's writer would load it in passing.
        script = (
            f"import sys; sys.modules['torch'] = None; {statement}; "
            f"print([n for n in {names.split()} if sys.modules.get(n)])"
        )
        return subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert (
        loaded(
            "from mucpt_jax import train, score, evaluate, export, plan, audit, agreement, compare, seqio_tasks",
            "torch tensorflow seqio transformers",
        )
        == "[]"
    )
    assert loaded("from data_prep import pipeline, sample_corpus", "jax flax torch tensorflow") == "[]"


def test_files_stay_short():
    for file in (ROOT / "mucpt_jax").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 350, file
