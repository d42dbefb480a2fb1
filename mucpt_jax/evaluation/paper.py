"""The paper's tables 1, 2 and 4 (arXiv 2511.14245), its figures beside ours.

A figure is None where only the paper's PDF has it.  A row's name is what `compare --row NAME=RUN` takes.
"""

import os

from mucpt_jax.errors import UserError
from mucpt_jax.evaluation.tables import NOT_MEASURED, cell, interval

UNWRITTEN = "see the paper"
MUSIC = {  # title -> row -> accuracy on MusicSimpleQA, 500 questions
    "Paper, table 1: models on MusicSimpleQA": {"32b/mucpt": 0.7759, "deepseek-v3": 0.7539, "gpt-4o": 0.6632},
    "Paper, table 2: objectives on MusicSimpleQA": {
        "1.5b/ntp": 0.4439, "1.5b/rho1": 0.4759, "1.5b/mucpt": 0.5259,
        "7b/ntp": None, "7b/rho1": None, "7b/mucpt": None,
    },
}  # fmt: skip
GENERAL = "Paper, table 4: general ability"
ABILITY = {"32b/start": None, "32b/mucpt": None}  # row -> accuracy
TASKS = {"C-Eval": ("ceval-valid", "ceval"), "CMMLU": ("cmmlu",)}  # columns of table 4 -> sets of the harness
ROWS = list(dict.fromkeys([*(row for rows in MUSIC.values() for row in rows), *ABILITY]))


def tables(result: dict, rows: list[str]) -> list[tuple[str, list[list[str]]]]:
    """(title, head and rows of cells); rows: NAME=RUN, which run of the comparison stands for a row."""
    runs = dict(map(named, rows))
    known = {run["run"] for run in result["runs"]}
    for name, run in runs.items():
        if run not in known:
            raise UserError(f"--row={name}={run}: {run} is none of the runs; name it among them too")
    return [(title, music_rows(of, runs, result)) for title, of in MUSIC.items()] + [(GENERAL, ability(runs, result))]


def named(row: str) -> tuple[str, str]:
    name, equals, run = row.partition("=")
    if not equals or name not in ROWS:
        raise UserError(f"--row={row} is no row of the paper's tables; it takes NAME=RUN with one of {', '.join(ROWS)}")
    return name, os.path.normpath(run)


def music_rows(rows: dict, runs: dict, result: dict) -> list[list[str]]:
    """Ours are of the first set of questions that is no multiple choice."""
    of = {q["run"]: q for q in reversed(result["questions"]) if q["where"] == "all" and q["judge"] != "choice"}
    cells = [["row", "paper", "ours", "95%", "right", "set, judge"]]
    for row, figure in rows.items():
        q = of.get(runs.get(row)) or {"accuracy": None, "low": None, "high": None}
        right = f"{q['k']:,}/{q['n']:,}" if q.get("n") else NOT_MEASURED
        whose = f"{q['set']}, {q['judge']}" if q.get("n") else NOT_MEASURED
        cells.append([row, paper_cell(figure), cell(q["accuracy"], ".4f"), interval(q, ".3f"), right, whose])
    return cells


def ability(runs: dict, result: dict) -> list[list[str]]:
    cells = [["row", *(f"{task}, {whose}" for task in TASKS for whose in ("paper", "ours"))]]
    for row, figure in ABILITY.items():
        mine, ours = [q for q in result["questions"] if (q["run"], q["where"]) == (runs.get(row), "all")], []
        for names in TASKS.values():
            q = next((q for q in mine if q["set"] in names), None)
            ours += [paper_cell(figure), cell(q and q["accuracy"], ".4f")]
        cells.append([row, *ours])
    return cells


def paper_cell(figure: float | None) -> str:
    return UNWRITTEN if figure is None else f"{figure:.4f}"
