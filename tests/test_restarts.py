"""Restarts: a job killed anywhere gives the same bytes when it is started again, and two starts never mix."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_faults import STAGES, content, counts_add_up, flags, lines_of, packed, texts  # noqa: F401

from data_prep import pipeline
from data_prep.jobs import job
from mucpt_jax.errors import UserError

KILLED = """
import os, re, signal, sys

def killer(event, args):
    if event in ("open", "os.rename") and re.search(sys.argv[1], str(args[0])):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(killer)
from data_prep import NAME
from data_prep.jobs import job
job.main(lambda argv: NAME.run(argv[1:]))
"""


def kill_at(name: str, path: str, argv: list[str]) -> None:
    """Runs the job until it opens or renames the first file whose path matches."""
    code = KILLED.replace("NAME", name)
    done = subprocess.run([sys.executable, "-c", code, path, *argv], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, f"{path}: {done.stderr}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name in "abc":
        data = [f"{name} {text}\n{text}" for text in texts(60)]
        packed(folder / f"{name}.jsonl", lines_of(data) + b"bad\n" * 3)
    return folder


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("clean", [r"kept-00001", r"writing/run-\w+$"]),  # the second: all is done but for the last renaming
        ("boilerplate", [r"work-.*00002"]),
        ("dedup", [r"work-.*/00001.facts"]),
        ("shard", [r"00001.facts"]),
    ],
)
def test_a_killed_job_started_again_gives_the_same_bytes(tmp_path, flags, corpus, name, paths):  # noqa: F811
    argv = [f"--input={corpus}", *flags[name]]
    STAGES[name].run([*argv, f"--output={tmp_path / 'alone'}"])
    for path in paths:
        kill_at(name, path, [*argv, f"--output={tmp_path / 'out'}"])
        assert not (tmp_path / "out").exists() and (tmp_path / ".out.writing").exists()
    STAGES[name].run([*argv, f"--output={tmp_path / 'out'}"])
    assert content(tmp_path / "out") == content(tmp_path / "alone")
    assert {f.name for f in tmp_path.iterdir()} == {"alone", "out"}
    counts_add_up(tmp_path / "out")


def test_a_killed_pipeline_started_again_gives_the_same_bytes(tmp_path, flags, corpus):  # noqa: F811
    tokenizer = flags["shard"][0].removeprefix("--")
    argv = [f"--input={corpus}", f"--config={pipeline.RECIPE}:plain"]
    argv += [f"--config.shard.{tokenizer}", "--config.shard.sequence_length=64"]
    pipeline.run([*argv, f"--output={tmp_path / 'alone'}"])
    for path in (r"\.dedup\.writing/.*kept-00001", r"out/counts\..*writing"):
        kill_at("pipeline", path, [*argv, f"--output={tmp_path / 'out'}"])
        assert not (tmp_path / "out/counts.json").exists()
    pipeline.run([*argv, f"--output={tmp_path / 'out'}"])
    for stage in ("clean", "dedup", "rows"):
        assert content(tmp_path / "out" / stage) == content(tmp_path / "alone" / stage)
    assert sorted(os.listdir(tmp_path / "out")) == sorted(os.listdir(tmp_path / "alone"))


def test_a_second_start_into_the_same_output_is_refused(tmp_path, corpus):
    out = tmp_path / "out"
    with job.output_folder(str(out), [], ()) as folder:
        (folder / "whole").touch()
        for _ in range(2):
            with pytest.raises(UserError, match="is being written by another run"), job.output_folder(str(out), [], ()):
                pass
    assert [f.name for f in out.iterdir()] == ["whole"] and os.listdir(tmp_path) == ["out"]


def test_tasks_that_outlive_their_launcher_cannot_write_into_a_later_run(tmp_path):
    out = str(tmp_path / "out")
    with job.output_folder(out, [], ()) as folder:
        killed = folder
    (tmp_path / ".out.writing").mkdir()
    with job.output_folder(out, [], ("*",)) as folder:
        assert folder != killed and not killed.exists()
