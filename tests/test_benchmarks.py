"""Timings are taken elsewhere; here stands that the document is what the results say, and that the scripts start."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import docs, facts

ROOT = Path(__file__).parents[1]
RESULT = {
    "what": "Two sides",
    "machine": "a machine, 2 cores",
    "versions": {"python": "3.11"},
    "date": "2026-01-02",
    "rows": [{"model": "a", "median_s": 0.01234}, {"model": "b", "median_s": 12_345.6, "bar_holds": True}],
}


def test_the_document_is_what_the_script_makes_from_the_results():
    assert docs.DOCUMENT.read_text(encoding="utf-8") == docs.render(docs.read_results(facts.RESULTS)), (
        "run python -m benchmarks.docs"
    )


def test_a_result_becomes_a_table_and_a_missing_one_says_so(tmp_path):
    facts.write_json(tmp_path / "unheard_of.json", RESULT)
    facts.write_json(tmp_path / "of_another_shape.json", {"rows": [], "seconds": 3})
    text = docs.render(docs.read_results(tmp_path))
    lines = text[text.index("## Unheard of") :].splitlines()
    assert lines[2] == "Two sides."
    assert lines[4:8] == [
        "| model | median s | bar holds |",
        "| ----- | -------- | --------- |",
        "| a     | 0.0123   | -         |",
        "| b     | 12,346   | yes       |",
    ]
    assert "(a machine, 2 cores; python 3.11; 2026-01-02; `benchmarks/results/unheard_of.json`)" in text
    assert text.count("Not measured.") == len(docs.EXPECTED)
    assert "another shape" not in text


def test_the_demo_has_the_table_that_it_prints():
    text = docs.render({"demo_real": docs.read_results(facts.RESULTS)["demo_real"]})
    assert "## The demo on real text\n\n`make demo DATA=FOLDER RUN=runs/real`\n" in text
    assert "    rho1       7.593       7.570       7.010     6.825     0/429      0.00-0.01  0.552    1.030\n" in text
    assert "(AMD EPYC, 2 cores; python 3.11.7, jax 0.10.2; 2026-11-22; 54.6 minutes;" in text


def test_a_tree_has_the_first_sentence_of_each_file(tmp_path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room/__init__.py").write_text('"""The room.  More."""')
    (tmp_path / "room/b.py").write_text('"""What b does: this\nand that.  And more."""\n')
    (tmp_path / "room/a.js").write_text('"use strict";\n// What a does.  And more.\n\n// Else.\n')
    (tmp_path / "c.py").write_text("")
    assert [" ".join(line.split()) for line in docs.folder(tmp_path, ("room",))][1:] == [
        "c.py", "room/ The room", "a.js What a does", "b.py What b does: this and that",
    ]  # fmt: skip


def test_sides_take_turns_another_first_each_round_and_the_warm_up_is_left_out():
    calls = []

    def side(name):
        return lambda: calls.append(name) or float(len(calls))

    found = facts.alternate({"a": side("a"), "b": side("b")}, rounds=2, warmup=1)
    assert "".join(calls) == "aabbbbaaaabb"
    assert found == {"a": [8.0, 10.0], "b": [6.0, 12.0]}


@pytest.mark.parametrize(
    "script",
    ["train_step", "scoring", "token_loss", "loader", "scaling", "integrity", "evaluation", "curation",
     "near_duplicates", "decoding", "docs", "harness"],
)  # fmt: skip
def test_every_script_tells_its_flags_before_it_imports_jax(script):
    code = (
        f"import sys, runpy; sys.argv = ['{script}', '--help']\n"
        f"try: runpy.run_module('benchmarks.{script}', run_name='__main__')\n"
        "except SystemExit: print('jax' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("usage:") and found.stdout.endswith("False\n")
