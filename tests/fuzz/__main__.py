"""Starts the fuzzers in child processes and tells what they hit."""

import argparse
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import child

ROOT = Path(__file__).parents[2]
BATCH = 2500  # cases of one child, which takes seconds to start
HANG = 20.0  # seconds without an end of a case
START = 120.0  # seconds until the first


class Batch(NamedTuple):
    fuzzer: str
    seed: int
    first: int
    end: int


def faults_of(batch: Batch, tell) -> list[str]:
    """Runs a batch; a child that dies or hangs is one fault, and the next child goes on behind it."""
    faults = []
    while batch.first < batch.end:
        with tempfile.TemporaryFile() as stderr:
            words = [sys.executable, "-m", "tests.fuzz.child", *map(str, batch)]
            process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
            lines: queue.SimpleQueue = queue.SimpleQueue()
            threading.Thread(target=pump, args=(process.stdout, lines), daemon=True).start()
            running, state = batch.first, "started"
            while state != "ended":
                try:
                    line = lines.get(timeout=START if state == "started" else HANG)
                except queue.Empty:
                    process.kill()
                    faults.append(again(batch, running, f"hangs for {HANG:.0f} s"))
                    break
                word, _, rest = (line or "").strip().partition(" ")
                if word == "case":
                    running, state = int(rest), "running"
                    tell()
                elif word == "fault":
                    faults.append(again(batch, running, rest))
                elif word == "ended":
                    return faults
                elif line is None:
                    stderr.seek(0)
                    tail = stderr.read().decode(errors="replace").strip()[-300:]
                    faults.append(again(batch, running, f"the process died, status {process.wait()}: {tail}"))
                    break
            process.wait()
        if state == "started":  # not one case ran: no use to try again
            return faults
        batch = batch._replace(first=running + 1)
    return faults


def pump(stream, lines: queue.SimpleQueue) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def again(batch: Batch, case: int, what: str) -> str:
    return f"{what}\n    python -m tests.fuzz --only={batch.fuzzer} --seed={batch.seed} --case={case}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="damaged files and command lines")
    parser.add_argument("--cases", type=int, default=10_000, help="of each fuzzer (10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=child.FUZZERS, help="one fuzzer")
    parser.add_argument("--case", type=int, help="this case alone, here, with its stack")
    flags = parser.parse_args()
    if flags.case is not None:
        child.show(flags.only or next(iter(child.FUZZERS)), flags.seed, flags.case)
        return
    names = [flags.only] if flags.only else list(child.FUZZERS)
    batches = [
        Batch(name, flags.seed, first, min(first + BATCH, flags.cases))
        for first in range(0, flags.cases, BATCH)
        for name in names
    ]
    total, done, lock, started = flags.cases * len(names), [0, 0.0], threading.Lock(), time.monotonic()

    def tell() -> None:
        with lock:
            done[0] += 1
            if time.monotonic() - done[1] > (1 if sys.stderr.isatty() else 20):
                done[1] = time.monotonic()
                end = "\r" if sys.stderr.isatty() else "\n"
                print(f"{done[0]:,} of {total:,} cases, {done[1] - started:.0f} s", end=end, file=sys.stderr)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = [fault for some in pool.map(lambda batch: faults_of(batch, tell), batches) for fault in some]
    for fault in faults[:50]:
        print(fault)
    seconds = time.monotonic() - started
    print(f"{total:,} cases of {', '.join(names)} (seed {flags.seed}) in {seconds:.0f} s: {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
