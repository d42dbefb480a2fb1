"""Where the time of a run went: WORKDIR/goodput.jsonl, over all its starts.

One line per event of host 0, seconds of wall time each:

    {"phase": "init", "seconds", "step"}              from process start to the loop; the step it goes on from
    {"phase": "compile", "seconds", "step"}           the first step of a start, compilation included
    {"phase": "step", "seconds", "step"}              a step, less what the host waited between two: see below
    {"phase": "data_wait", "seconds", "step"}         the host waited for rows (the device may have been busy)
    {"phase": "evaluate", "seconds", "step"}          loss on held-out rows, questions (train.evaluate_every)
    {"phase": "checkpoint", "seconds", "step"}        saving held up the loop; writing goes on behind it

Goodput is the share of steps whose work was kept: steps after the checkpoint that the next start went on from are
lost work.  The time between two starts is not known here and not counted.
"""

import contextlib
import json
import logging
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypedDict

import jax
import psutil

from mucpt_jax.formats import decode
from mucpt_jax.run.metrics import append

MOST_STALL = 0.02  # share of the time that evaluations may take
PHASES = ("init", "compile", "data_wait", "evaluate", "checkpoint")


class Event(TypedDict):
    """A line."""

    phase: Literal["init", "compile", "data_wait", "evaluate", "checkpoint", "step"]
    step: decode.Count
    seconds: decode.Number


class Ledger:
    """Writes the lines above; knows when the last step ended, and the seconds (`between`) timed since then."""

    def __init__(self, workdir: Path, start: int):
        self.path, self.first, self.between = workdir / "goodput.jsonl", True, 0.0
        self.lines: list[str] = []  # not yet written
        self.seconds: dict[str, list[float]] = {"step": [], "evaluate": []}  # of this start
        self.warned: bool | None = None  # of evaluations that hold up too much; None: nothing was said yet
        self.end_cut_line()
        self.add("init", time.time() - psutil.Process().create_time(), start)
        self.last = time.monotonic()

    def add(self, phase: str, seconds: float, step: int) -> None:
        self.lines.append(json.dumps({"phase": phase, "step": step, "seconds": round(seconds, 6)}) + "\n")
        if phase in self.seconds:
            self.seconds[phase].append(seconds)

    @contextlib.contextmanager
    def timed(self, phase: str, step: int) -> Iterator[None]:
        begun = time.monotonic()
        yield
        seconds = time.monotonic() - begun
        self.between += seconds
        self.add(phase, seconds, step)

    def step_ended(self, step: int) -> None:
        now = time.monotonic()
        self.add("compile" if self.first else "step", now - self.last - self.between, step)
        self.first, self.last, self.between = False, now, 0.0
        self.write()

    def say_stall(self, every: int) -> None:
        """Logs once what evaluations cost, and again where a later one, without compilation, tells another thing."""
        if all(self.seconds.values()):
            evaluation, step = min(self.seconds["evaluate"]), statistics.median(self.seconds["step"])
            text, too_much = stall(evaluation, step, every)
            if too_much is not self.warned:
                logging.log(logging.WARNING if too_much else logging.INFO, text)
            self.warned = too_much

    def write(self) -> None:
        if jax.process_index() == 0:
            append(self.path, "".join(self.lines))
        self.lines = []

    def end_cut_line(self) -> None:
        """A line that a kill cut off gets its newline, else this start's first line would be lost with it."""
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            self.lines.insert(0, "\n")

    def close(self) -> None:
        """Logs the summary over all starts of the run."""
        self.write()
        if jax.process_index() == 0:
            logging.info(summary(read(self.path)))


def stall(evaluation: float, step: float, every: int) -> tuple[str, bool]:
    """A sentence on the cost of evaluations, of two durations in seconds; do they take more than MOST_STALL?"""
    share, enough = evaluation / (evaluation + every * step), math.ceil(evaluation / step * (1 / MOST_STALL - 1))
    text = (
        f"an evaluation takes {evaluation:.3g} s, a step {step:.3g} s: with train.evaluate_every={every} evaluations "
        f"take {share:.2%} of the time"
    )
    way_out = f"; from train.evaluate_every={enough} on it is at most {MOST_STALL:.0%}"
    return text + way_out * (share > MOST_STALL), share > MOST_STALL


def read(path: Path) -> list[Event]:
    return decode.read_log(path, Event)


def totals(lines: list[Event]) -> dict[str, float]:
    """Seconds by phase, with "step" split into what was kept and "lost"."""
    seconds = dict.fromkeys((*PHASES, "kept", "lost"), 0.0)
    kept: list[tuple[int, float]] = []  # (step, seconds) of steps of earlier starts that still count
    for line in lines:
        if line["phase"] == "init":  # a start goes on from line["step"]
            seconds["lost"] += sum(s for step, s in kept if step > line["step"])
            kept = [(step, s) for step, s in kept if step <= line["step"]]
        if line["phase"] == "step":
            kept.append((line["step"], line["seconds"]))
        else:
            seconds[line["phase"]] += line["seconds"]
    return seconds | {"kept": sum(s for _, s in kept)}


def summary(lines: list[Event]) -> str:
    """One line: goodput and what the rest went into."""
    seconds, starts = totals(lines), sum(line["phase"] == "init" for line in lines)
    total = max(sum(seconds.values()), 1e-9)
    rest = ", ".join(
        f"{name.replace('_', ' ')} {s / total:.1%}"
        for name, s in seconds.items()
        if name != "kept" and (s or name != "evaluate")
    )
    of = {name: [line["seconds"] for line in lines if line["phase"] == name] for name in ("evaluate", "step")}
    each = [f"{statistics.median(s):.3g} s" for s in of.values() if s] if of["evaluate"] else []
    medians = f"; medians of an evaluation and a step {' and '.join(each)}" if each[1:] else ""
    text = f"goodput {seconds['kept'] / total:.1%} of {total:,.0f} s in {starts} start{'s'[: starts > 1]}: {rest}"
    return text + medians
