"""kill -9 of every job at random moments: started again, each ends with the bytes of a run that nobody disturbed.

MUCPT_KILLS of them a job (8 unless said), by `make slow`; tests/test_restarts.py kills at chosen moments.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from conftest import write_config, write_rows
from test_faults import STAGES, content, flags, lines_of, packed, texts  # noqa: F401
from test_shard import byte_tokenizer
from test_train import trace

from data_prep import pipeline
from mucpt_jax.config import MODELS
from mucpt_jax.run import checkpoint
from mucpt_jax.step import model
from mucpt_jax.weights import hf_write, transfer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("MUCPT_KILLS", "8"))
OF_ONE_RUN = {"lock", "report.html", "commit_success.txt"}  # times and paths


def run(command: list[str], seconds: float | None = None) -> float:
    """Seconds that the command took; it is killed after `seconds`, unless it ends before."""
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        told = process.communicate(timeout=seconds)[1]
        assert process.returncode == 0, told[-3000:]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return time.monotonic() - began


def killed_often(command: list[str], whole: float) -> None:
    """Each start is killed later than the one before it began to write, or at any moment of its life."""
    moments = random.Random(0)
    for _ in range(KILLS):
        run(command, moments.uniform(0.3, 1) * whole)
    run(command)


def kept(folder: Path) -> dict[str, bytes]:
    """Files by name, without times."""
    seconds = re.compile(rb'"seconds": [^\n]*')
    names = {name: data for name, data in content(folder).items() if Path(name).name not in OF_ONE_RUN}
    return {name: seconds.sub(b"", data) if name.endswith(".json") else data for name, data in names.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    (folder / "corpus").mkdir()
    for name in "abcdef":
        data = [f"{name} {text}\n{text}" for text in texts(400)]
        packed(folder / "corpus" / f"{name}.jsonl", lines_of(data) + b"bad\n" * 3)
    write_rows(folder / "rows", {"web": 400, "music": 400})
    config = MODELS["nano"]
    transfer.to_hf(model.init(config, jax.random.key(0)), config, hf_write.About(str(folder / "start")))
    (folder / "tokenizer").mkdir()
    byte_tokenizer(folder / "tokenizer", "<|endoftext|>")
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_a_document_job(place, tmp_path, flags, name):  # noqa: F811
    job = [sys.executable, "-m", f"data_prep.{name}", f"--input={place / 'corpus'}", *flags[name]]
    whole = run([*job, f"--output={tmp_path / 'alone'}"])
    killed_often([*job, f"--output={tmp_path / 'out'}"], whole)
    assert kept(tmp_path / "out") == kept(tmp_path / "alone")
    assert {f.name for f in tmp_path.iterdir()} == {"alone", "out"}


def test_the_pipeline(place, tmp_path, flags):  # noqa: F811
    job = [sys.executable, "-m", "data_prep.pipeline", f"--config={pipeline.RECIPE}:plain"]
    job += [f"--input={place / 'corpus'}", "--config.shard.sequence_length=64"]
    job += [f"--config.shard.{flags['shard'][0].removeprefix('--')}"]
    whole = run([*job, f"--output={tmp_path / 'alone'}"])
    killed_often([*job, f"--output={tmp_path / 'out'}"], whole)
    for stage in ("clean", "dedup", "rows"):
        assert kept(tmp_path / "out" / stage) == kept(tmp_path / "alone" / stage)
    assert sorted(os.listdir(tmp_path / "out")) == sorted(os.listdir(tmp_path / "alone"))


def device_job(place: Path, tmp_path: Path, *more: str) -> list[str]:
    """Checkpoints every 20 of 120 steps; all start from the same Hugging Face folder."""
    config = f"--config={write_config(tmp_path, steps=120)}"
    return [sys.executable, "launch.py", config, f"--config.init_from={place / 'start'}", *more]


def test_train(place, tmp_path):
    job = device_job(place, tmp_path, f"--config.data.general={place / 'rows'}")
    whole = run([*job, f"--workdir={tmp_path / 'alone'}"])
    killed_often([*job, f"--workdir={tmp_path / 'out'}"], whole)
    assert trace(tmp_path / "out") == trace(tmp_path / "alone")
    saved = [kept(tmp_path / name / "checkpoints" / "120" / "meta") for name in ("out", "alone")]
    assert saved[0] == saved[1] and checkpoint.newest_step(tmp_path / "out") == 120


@pytest.mark.parametrize("name", ["score", "export"])
def test_a_job_of_a_trained_model(place, tmp_path, name):
    def job(output: str) -> list[str]:
        own = {
            "score": [f"--config.score.input={place / 'rows'}", f"--config.score.output={tmp_path / output}"],
            "export": [f"--config.tokenizer={place / 'tokenizer'}", f"--config.export.path={tmp_path / output}"],
        }[name]
        return device_job(place, tmp_path, f"--job={name}", f"--workdir={tmp_path / 'run'}", *own)

    whole = run(job("alone"))
    killed_often(job("out"), whole)
    assert kept(tmp_path / "out") == kept(tmp_path / "alone")
    assert not list((tmp_path / "out").rglob("*.writing"))
