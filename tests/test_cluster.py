"""The way to a cluster: Beam's job service and workers that are other processes give what one process gives."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from test_faults import STAGES, content, cut, flags, lines_of, packed, texts  # noqa: F401

from data_prep import clean, dedup
from data_prep.jobs import runner
from mucpt_jax.errors import UserError

ROOT = Path(__file__).parents[1]
TWO_PROCESSES = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name in "abc":
        data = [f"{name} {text}\n{text}\nShare on Facebook" for text in texts(60)]
        packed(folder / f"{name}.jsonl.gz", lines_of(data) + b"bad\n")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Flags for a job service as that of Flink or Spark, and a pool that starts a worker process for each job."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # the pool starts `python`
        patch.setenv("PYTHONPATH", str(ROOT))
        servicer = LocalJobServicer(str(tmp_path_factory.mktemp("staging")))
        port = servicer.start_grpc_server(0)
        address, pool = BeamFnExternalWorkerPoolServicer.start(use_process=True)
        runner = ["--runner=PortableRunner", f"--job_endpoint=localhost:{port}"]
        yield [*runner, "--environment_type=EXTERNAL", f"--environment_config={address}"]
        servicer.stop()
        pool.stop(1)


@pytest.mark.parametrize("name", ["clean", "dedup", "shard"])
def test_workers_elsewhere_write_the_same_bytes_and_count_the_same(tmp_path, flags, corpus, cluster, name):  # noqa: F811
    argv = [f"--input={corpus}", *flags[name]]
    here = STAGES[name].run([*argv, f"--output={tmp_path / 'here'}"])
    there = STAGES[name].run([*argv, f"--output={tmp_path / 'there'}", *cluster])
    assert there == here and here["dropped"]["not_json"] == 3
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_what_a_worker_elsewhere_finds_wrong_is_one_sentence(tmp_path, corpus, cluster):
    damaged = packed(tmp_path / "songs.jsonl.gz", lines_of(texts(60)))
    cut(damaged)
    with pytest.raises(UserError, match=r"^\S+songs\.jsonl\.gz is damaged, cut short or unreadable") as error:
        clean.run([f"--input={damaged}", f"--output={tmp_path / 'out'}", *cluster])
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["songs.jsonl.gz"]


def test_the_command_gives_the_same_on_two_processes_of_one_machine(tmp_path, flags, corpus):  # noqa: F811
    """What belongs to __main__ in the launching process is not there in another one."""
    argv = [f"--input={corpus}", *flags["dedup"]]
    here = dedup.run([*argv, f"--output={tmp_path / 'here'}"])
    command = [sys.executable, "-m", "data_prep.dedup", *argv, f"--output={tmp_path / 'two'}", *TWO_PROCESSES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "two") == content(tmp_path / "here")
    assert json.loads((tmp_path / "two/counts.json").read_text()) == here


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_is_killed_ends_the_job_in_one_sentence():
    """Beam alone waits for it for ever."""

    def build(pipeline):
        return pipeline | beam.Create([1]) | beam.Map(lambda _: os.kill(os.getpid(), signal.SIGKILL))

    with pytest.raises(UserError, match=r"a worker process was killed \(.* 137\).*fewer --direct_num_workers"):
        runner.run_pipeline(build, TWO_PROCESSES)


class RunnerWithServer(FnApiRunner):
    """Takes signals, as the runners of Flink and Spark do for their job server: in the main thread or not at all."""

    def run_pipeline(self, pipeline, options):
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT))
        return super().run_pipeline(pipeline, options)


def test_a_runner_that_takes_signals_starts():
    def build(pipeline):
        return pipeline | beam.Create([1]) | beam.Map(lambda _: beam.metrics.Metrics.counter("documents", "read").inc())

    assert runner.run_pipeline(build, [f"--runner={__name__}.RunnerWithServer"])["documents"] == {"read": 1}


DAMAGED = "RuntimeError: mucpt_jax.formats.UserError: a.gz is damaged [while running 'ReadFile']"
FULL = "Job failed: Traceback\n  File x\nOSError: [Errno 28] No space left on device [while running 'Write']\n"
KILLED = "Worker subprocess exited with return code 137"


@pytest.mark.parametrize(
    ("told", "kind", "text"),
    [
        (DAMAGED, UserError, "a.gz is damaged"),
        (FULL, OSError, "[Errno 28] No space left on device"),
        (KILLED, RuntimeError, KILLED),
    ],
)
def test_the_cause_is_found_in_what_a_runner_says(told, kind, text):
    cause = runner.cause_of(RuntimeError(told))
    assert type(cause) is kind and str(cause) == text
