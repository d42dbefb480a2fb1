"""What README and docs show is accepted by the programs, exists, and is what was measured."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from shown_commands import ROOT, Wrong, check, commands

from benchmarks import docs
from demo.results import as_text

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
CONFIGS = [ROOT / "launch.py", *sorted((ROOT / "configs").glob("*.py"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def text_of(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    return text if file.suffix == ".md" else ast.get_docstring(ast.parse(text))


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("file", [*PAGES, *CONFIGS], ids=lambda file: file.name)
def test_every_command_shown_would_be_accepted(file):
    text, refused = text_of(file), {}
    for words in commands(text):
        try:
            check(words, text)
        except Wrong as why:
            refused[" ".join(words)] = str(why)
    assert not refused


def test_the_pages_show_commands_of_all_kinds():
    shown = [words for file in PAGES for words in commands(text_of(file))]
    assert {words[0] for words in shown} == {"python", "make", "pip"} and len(shown) > 60
    assert {f"--job={job}" for job in ("score", "evaluate", "export", "plan")} <= {
        word for words in shown for word in words
    }


def test_commands_are_read_as_a_shell_would():
    text = """
Say `make demo DATA=x`, or:

    NAME=/models/it
    for kind in ntp rho1; do
        python launch.py --config=configs/demo.py:$kind \\
            --config.init_from=$NAME     # a comment
    done
    make test        all of it

    runs/demo/report.html   <- no command

```
pip install ".[gpu]"
```
"""
    assert commands(text) == [
        ["make", "demo", "DATA=x"],
        ["python", "launch.py", "--config=configs/demo.py:ntp", "--config.init_from=/models/it"],
        ["python", "launch.py", "--config=configs/demo.py:rho1", "--config.init_from=/models/it"],
        ["make", "test"],
        ["pip", "install", ".[gpu]"],
    ]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("python launch.py --config=configs/absent.py", "absent.py"),
        ("python launch.py --config=configs/demo.py --config.loss.alfa=2", "loss.alpha"),
        ("python launch.py --config=configs/demo.py --config.loss.alpha=-2", "must be > 0"),
        ("python launch.py --config=configs/demo.py --job=trian", "trian"),
        ("python launch.py --config=configs/demo.py train", "no use for"),
        ("python launch.py --config=configs/qwen7b.py:rho", "rho1"),
        ("python -m data_prep.clean --input=RAW --output=OUT --min_char=3", "min_char"),
        ("python -m data_prep.shard --input=RAW --output=OUT --sequence_length=9", "tokenizer"),
        ("python -m data_prep.pipeline --input=RAW --output=OUT --config.shard.tokeniser=T", "tokeniser"),
        ("python -m data_prep.pipeline --input=RAW --output=OUT --flink_mister=http://HOST", "flink_mister"),
        ("python -m data_prep.washing --input=RAW", "no module"),
        ("python -m mucpt_jax.compare", "required"),
        ("python -m mucpt_jax.audit SCORED --documents=many", "invalid int"),
        ("python train.py", "neither"),
        ("make demo DATUM=x", "no variable DATUM"),
        ("make everything", "no target everything"),
        ('pip install ".[cuda]"', "no extra cuda"),
        ("pip install -r requirements-all.txt", "does not exist"),
        ("python -m data_prep.clean --input=RAW ...", "is not explained"),
    ],
)
def test_a_wrong_command_is_refused_with_its_reason(command, why):
    (words,) = commands(f"    {command}\n")
    with pytest.raises(Wrong, match=re.escape(why)):
        check(words)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    """Of the repository's own folders; what a command writes stands under runs/, data/ or in capitals."""
    names = re.findall(
        r"[`( ]((?:mucpt_jax|data_prep|configs|benchmarks|tests|demo|ablation|docs)/[\w./]*\w)", text_of(page)
    )
    missing = {name for name in names if not (ROOT / name).exists() and "NAME" not in name}
    assert not missing


def test_the_tree_is_the_one_on_disk():
    page = docs.ARCHITECTURE.read_text(encoding="utf-8")
    assert page == docs.with_tree(page), "run python -m benchmarks.docs"
    tree, files = docs.tree(), [f for name in docs.FOLDERS for f in (ROOT / name).rglob("*.py")]
    for file in files:
        assert file.name == "__init__.py" or f" {file.name} " in tree, file


def test_the_readme_shows_what_the_demo_measured():
    result = json.loads((ROOT / "benchmarks/results/demo.json").read_text())
    table = [line.strip() for line in README.splitlines()]
    assert all(line.strip() in table for line in as_text(result).splitlines())
    assert f"python {result['machine']['python']}, jax {result['machine']['jax']}, {result['date']}" in README


def test_the_readme_is_short():
    assert 7000 < len(README.encode()) < 9000


def test_versions_in_the_readme_lie_in_the_ranges():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    ranges = {r.name: r.specifier for r in (Requirement(line) for line in lines if line and line[0] != "#")}
    named = [v for v in re.findall(r"\b([a-z-]+) (\d+\.\d+\.\d+)", README) if v[0] in ranges]
    assert {name for name, _ in named} >= {"jax", "flax"}
    assert all(Version(version) in ranges[name] for name, version in named)
    pythons = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert pythons == ">=3.11,<3.14" and "`python3` 3.11 to 3.13" in README
