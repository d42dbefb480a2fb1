"""Two processes with two simulated devices each, joined by gloo: the real command, as a cluster would start it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import wait_for_lines, write_config, write_rows
from test_evaluate import write_tokenizer
from test_train import trace

from mucpt_jax import config
from mucpt_jax.run import checkpoint
from mucpt_jax.step import model
from mucpt_jax.weights import hf_write, transfer

ROOT = Path(__file__).parents[1]
STEPS = 60


def start(tmp_path: Path, name: str, processes: int, *more: str) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        sys.executable, "launch.py", f"--config={write_config(tmp_path, STEPS)}", f"--workdir={tmp_path / name}",
        f"--config.data.general={tmp_path / 'rows'}", f"--config.init_from={tmp_path / 'hf'}", *more,
    ]  # fmt: skip
    devices = f"--xla_force_host_platform_device_count={4 // processes}"
    started = []
    for i in range(processes):
        hosts = [f"--coordinator={address}", f"--num_processes={processes}", f"--process_id={i}"]
        flags = ["--config.mesh.distributed=True", *hosts] if processes > 1 else []
        log = open(tmp_path / f"{name}-{i}.log", "a")  # noqa: SIM115 (the process owns it)
        started.append(subprocess.Popen(command + flags, cwd=ROOT, env=os.environ | {"XLA_FLAGS": devices}, stderr=log))
    return started


def finish(running: list[subprocess.Popen]) -> list[int]:
    return [process.wait(timeout=240) for process in running]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of two processes that nothing disturbs."""
    folder = tmp_path_factory.mktemp("hosts")
    write_rows(folder / "rows", {"web": 40})
    cfg = config.MODELS["nano"]
    transfer.to_hf(model.init(cfg, jax.random.key(0)), cfg, hf_write.About(str(folder / "hf")))
    assert finish(start(folder, "whole", 2)) == [0, 0], (folder / "whole-0.log").read_text()[-3000:]
    return folder


def test_two_processes_read_a_hugging_face_folder_as_one_does(whole):
    assert finish(start(whole, "single", 1, "--config.optimizer.steps=1")) == [0]
    np.testing.assert_allclose(trace(whole / "single"), trace(whole / "whole")[:1], rtol=1e-5)


def test_a_killed_run_of_two_goes_on_with_two_and_with_one_process_and_gives_the_same_losses(whole):
    running = start(whole, "killed", 2)
    metrics = whole / "killed" / "metrics.jsonl"
    wait_for_lines(metrics, 30, running)
    running[1].send_signal(signal.SIGKILL)  # one host dies; the cluster takes the other
    running[0].send_signal(signal.SIGKILL)
    finish(running)
    assert 30 <= len(metrics.read_text().splitlines()) < STEPS
    shutil.copytree(whole / "killed", whole / "one")
    assert finish(start(whole, "killed", 2)) == [0, 0]
    assert trace(whole / "killed") == trace(whole / "whole")  # bit for bit
    assert finish(start(whole, "one", 1)) == [0]
    assert "going on from" in (whole / "one-0.log").read_text()
    np.testing.assert_allclose(trace(whole / "one"), trace(whole / "whole"), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_where_one_of_two_hosts_dies_the_other_ends_in_a_sentence_within_a_minute(whole, killed):
    name = f"died-{killed}"
    running = start(whole, name, 2, "--config.optimizer.steps=100000")
    wait_for_lines(whole / name / "metrics.jsonl", 5, running)
    running[killed].send_signal(signal.SIGKILL)
    assert running[1 - killed].wait(timeout=60) == 75
    told = (whole / f"{name}-{1 - killed}.log").read_text()
    assert told.endswith(f"process {killed} of 2 has died or is out of reach; start all again, they go on from the "
                         "newest checkpoint\n")  # fmt: skip
    assert "***" not in told  # a stack of C++


def test_sigterm_to_one_of_two_hosts_saves_the_same_step_on_both(whole):
    running = start(whole, "preempted", 2)
    wait_for_lines(whole / "preempted" / "metrics.jsonl", 3, running)
    running[1].send_signal(signal.SIGTERM)
    assert finish(running) == [143, 143], (whole / "preempted-0.log").read_text()[-3000:]
    saved = checkpoint.manager(whole / "preempted").latest_step()
    assert 3 <= saved < STEPS
    for i in (0, 1):
        assert f"SIGTERM: saved step {saved}" in (whole / f"preempted-{i}.log").read_text()
    assert finish(start(whole, "preempted", 2)) == [0, 0]
    assert trace(whole / "preempted") == trace(whole / "whole")


def test_another_batch_is_refused_on_every_host_in_one_sentence(whole):
    longer = ("--config.data.batch_rows=16", f"--config.optimizer.steps={STEPS + 1}")
    assert finish(start(whole, "whole", 2, *longer)) == [1, 1]
    for i in (0, 1):
        last = (whole / f"whole-{i}.log").read_text().strip().splitlines()[-1]
        assert "was trained with data.batch_rows=8, now it is 16" in last


def test_two_processes_evaluate_the_run_that_they_trained(whole):
    """The run's checkpoints are looked at after the processes have found each other: looking starts the backend."""
    rows = f"--config.evaluate.rows={whole / 'rows'}"
    ended = finish(start(whole, "whole", 2, "--job=evaluate", rows))
    assert ended == [0, 0], (whole / "whole-0.log").read_text()[-3000:]
    assert (whole / "whole" / "evaluate.json").is_file()


@pytest.mark.slow
def test_two_processes_answer_what_one_answers_and_go_on_from_what_the_first_host_has(whole):
    lines = [{"id": str(i), "question": f"who {'sang ' * i}it?", "answer": "x"} for i in range(6)]
    (whole / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = [
        "--job=evaluate", f"--config.evaluate.questions={whole / 'questions.jsonl'}",
        "--config.evaluate.batch_questions=2", f"--config.tokenizer={write_tokenizer(whole / 'tokenizer')}",
    ]  # fmt: skip
    assert finish(start(whole, "asked-by-one", 1, *asked)) == [0]
    assert finish(start(whole, "asked", 2, *asked)) == [0, 0], (whole / "asked-0.log").read_text()[-3000:]
    one, two = (whole / name / "answers.jsonl" for name in ("asked-by-one", "asked"))
    assert one.read_text() == two.read_text()
    two.write_text("".join(two.read_text().splitlines(keepends=True)[:3]) + '{"id": "5"')
    assert finish(start(whole, "asked", 2, *asked)) == [0, 0], (whole / "asked-0.log").read_text()[-3000:]
    predictions = [(whole / name / "predictions.jsonl").read_text() for name in ("asked-by-one", "asked")]
    assert predictions[0] == predictions[1]
    for host in (0, 1):
        assert "has 3 of 6 answers already" in (whole / f"asked-{host}.log").read_text()
