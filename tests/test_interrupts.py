import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import wait_for_lines, write_config, write_rows

from mucpt_jax.errors import TRY_AGAIN
from mucpt_jax.run import checkpoint, interrupts

ROOT = Path(__file__).parents[1]


def test_sigterm_saves_after_the_step_that_runs_and_the_same_command_goes_on(tmp_path):
    write_rows(tmp_path / "rows", {"web": 40})
    command = [
        sys.executable, "launch.py", f"--config={write_config(tmp_path, steps=90)}",
        f"--workdir={tmp_path / 'run'}", f"--config.data.general={tmp_path / 'rows'}",
        "--config.train.checkpoint_every=1000",
    ]  # fmt: skip
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for_lines(tmp_path / "run" / "metrics.jsonl", 5, [running])
    running.send_signal(signal.SIGTERM)
    told = running.communicate()[1]
    assert running.returncode == 143, told[-2000:]
    saved = checkpoint.manager(tmp_path / "run").latest_step()
    assert 5 <= saved < 90 and f"SIGTERM: saved step {saved}" in told
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == saved
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and f"going on from {tmp_path / 'run'}/checkpoints/{saved}" in again.stderr
    assert "in 2 starts" in again.stderr and "lost 0.0%" in again.stderr


def test_a_step_that_never_ends_aborts_with_stack_traces():
    script = """
import time
from mucpt_jax.run.interrupts import Watchdog
def stuck_in_a_collective():
    time.sleep(60)
with Watchdog(factor=5, seconds=0.5) as watchdog:
    for _ in range(5):
        time.sleep(0.05)
        watchdog.step_ended()
    stuck_in_a_collective()
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == TRY_AGAIN and time.monotonic() - start < 40
    assert "no step has ended for" in done.stderr and "stuck_in_a_collective" in done.stderr


def test_the_watchdog_waits_for_medians_never_less_than_its_seconds_and_longer_for_the_first_step():
    dog = interrupts.Watchdog(factor=20, seconds=600)
    assert dog.limit() == 3600
    dog.durations = [10, 20, 400]
    assert dog.limit() == 600
    dog.durations = [40, 50, 400]
    assert dog.limit() == 1000
    with interrupts.Watchdog(factor=0, seconds=1) as off:  # 0: no thread at all
        assert off.factor == 0
