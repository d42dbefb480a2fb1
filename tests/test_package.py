"""The wheel alone, outside the checkout: what is in it, and that commands start from any folder."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import mucpt_jax

ROOT = Path(__file__).parents[1]
NEEDED = Requirement(tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"][0])
FILES = ("pyproject.toml", "README.md", "LICENSE", "launch.py")
HERE = importlib.metadata.version("setuptools")
pytestmark = pytest.mark.skipif(
    Version(HERE) not in NEEDED.specifier, reason=f"setuptools {HERE} builds no wheel here: {NEEDED} is needed"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves build/ and egg-info beside what it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("mucpt_jax", "data_prep", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in [*ROOT.glob("requirements*.txt"), *(ROOT / name for name in FILES)]:
        shutil.copy(file, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, str(source), "--wheel-dir", str(out)], check=True)
    return next(out.glob("mucpt_jax-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def python(installed: Path, *arguments: str) -> str:
    """Output of python in a folder of its own, with the wheel and without the checkout."""
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    elsewhere = installed.with_name("elsewhere")
    elsewhere.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, *arguments], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_of_tests(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    of_packages = {
        str(file.relative_to(ROOT))
        for package in ("mucpt_jax", "data_prep", "configs")
        for file in (ROOT / package).rglob("*")
        if file.suffix in (".py", ".js", ".template")
    }
    assert names == of_packages | {"launch.py"}
    assert {"mucpt_jax/page/audit.js", "data_prep/reporting/report.html.template"} <= names


def test_the_wheel_asks_for_what_requirements_txt_asks_for(wheel):
    name = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    lines = zipfile.ZipFile(wheel).read(name).decode().splitlines()
    asked = [Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist: ")]
    extras = {line.partition(": ")[2] for line in lines if line.startswith("Provides-Extra: ")}
    for extra in ("", "eval", "gpu", "tpu", "seqio", "dev"):
        file = ROOT / f"requirements{extra and f'-{extra}'}.txt"
        listed = [Requirement(line) for line in file.read_text().splitlines() if line and not line.startswith("#")]
        of_extra = [r for r in asked if (extra in str(r.marker) if extra else r.marker is None)]
        assert [(r.name, r.extras, r.specifier) for r in of_extra] == [(r.name, r.extras, r.specifier) for r in listed]
    assert extras == {"eval", "gpu", "tpu", "seqio", "dev"}
    assert f"Version: {mucpt_jax.__version__}" in lines


def test_seqio_beside_the_product_has_the_same_ranges():
    def ranges(file: str) -> dict:
        lines = (ROOT / file).read_text().splitlines()
        return {r.name: r.specifier for r in (Requirement(line) for line in lines if line and line[0] != "#")}

    product, seqio = ranges("requirements.txt"), ranges("requirements-seqio.txt")
    shared = product.keys() & seqio.keys()
    assert shared and {name: seqio[name] for name in shared} == {name: product[name] for name in shared}


def test_the_library_imports_elsewhere(installed):
    code = "import mucpt_jax, mucpt_jax.config; print(mucpt_jax.__version__, mucpt_jax.__file__)"
    assert python(installed, "-c", code).split() == [mucpt_jax.__version__, f"{installed}/mucpt_jax/__init__.py"]


@pytest.mark.parametrize("command", ["data_prep.clean", "data_prep.pipeline", "mucpt_jax.audit", "mucpt_jax.compare"])
def test_a_command_starts_elsewhere(installed, command):
    assert python(installed, "-m", command, "--help").startswith("usage:")


def test_the_pipeline_runs_elsewhere_with_its_own_recipe_and_its_report(installed, tmp_path):
    """The recipe and the report's template are in the wheel."""
    text = "The band played four songs that night, and the last of them was a long one about the river and the sea."
    (tmp_path / "raw.jsonl").write_text(json.dumps({"text": text}) + "\n")
    flags = ["--config.stages=clean", f"--input={tmp_path}/raw.jsonl", f"--output={tmp_path}/out"]
    python(installed, "-m", "data_prep.pipeline", *flags)
    page = (tmp_path / "out/report.html").read_text()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")


def test_a_device_job_starts_elsewhere(installed):
    """With a config file of one's own; the shipped ones stand in the wheel too."""
    config = f"{installed}/configs/demo.py:base"
    code = "from absl import flags; import launch, sys; launch.parse(sys.argv); print(flags.FLAGS.config.loss.kind)"
    assert python(installed, "-c", code, f"--config={config}").strip() == "ntp"
