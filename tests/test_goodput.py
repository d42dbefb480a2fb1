import dataclasses
import json

import pytest
from conftest import one_device_mesh, small_config, write_rows

from mucpt_jax import train
from mucpt_jax.run import goodput


def event(phase: str, step: int, seconds: float) -> dict:
    return {"phase": phase, "step": step, "seconds": seconds}


TWO_STARTS = [
    event("init", 0, 10), event("compile", 1, 20), event("step", 2, 5), event("checkpoint", 2, 1),
    event("step", 3, 5), event("data_wait", 4, 2), event("step", 4, 5),  # killed here: 3 and 4 are lost
    event("init", 2, 10), event("compile", 3, 20), event("step", 4, 5), event("step", 5, 5),
]  # fmt: skip


def test_steps_after_the_checkpoint_that_the_next_start_took_are_lost_work():
    assert goodput.totals(TWO_STARTS) == {
        "init": 20, "compile": 40, "data_wait": 2, "evaluate": 0, "checkpoint": 1, "kept": 15, "lost": 10,
    }  # fmt: skip


def test_the_summary_is_one_line_that_adds_up():
    told = goodput.summary(TWO_STARTS)
    assert told.startswith("goodput 17.0% of 88 s in 2 starts: init 22.7%, compile 45.5%, data wait 2.3%")
    assert told.endswith("checkpoint 1.1%, lost 11.4%")


def test_a_run_accounts_for_its_time_and_skips_lines_cut_off_by_a_kill(tmp_path):
    write_rows(tmp_path / "rows", {"web": 16})
    cfg = small_config(
        data={"general": str(tmp_path / "rows"), "general_fraction": 1.0},
        optimizer={"steps": 6}, train={"checkpoint_every": 3},
    )  # fmt: skip
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    path = tmp_path / "run" / "goodput.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = {phase: [x["step"] for x in lines if x["phase"] == phase] for phase in (*goodput.PHASES, "step")}
    assert steps == {
        "init": [0], "compile": [1], "step": [2, 3, 4, 5, 6],
        "data_wait": [1, 2, 3, 4, 5, 6], "evaluate": [], "checkpoint": [3, 6, 6],
    }  # fmt: skip
    assert all(line["seconds"] >= 0 for line in lines)
    path.write_text(path.read_text() + '{"phase": "st')
    assert goodput.read(path) == lines
    longer = dataclasses.replace(cfg, optimizer=dataclasses.replace(cfg.optimizer, steps=8))
    train.train(longer, one_device_mesh(), tmp_path / "run")
    assert [x["step"] for x in goodput.read(path) if x["phase"] == "init"] == [0, 6]
    assert goodput.totals(lines)["kept"] == pytest.approx(sum(x["seconds"] for x in lines if x["phase"] == "step"))
