"""What ends a run before its last step: the cluster's SIGTERM, and a step that never ends."""

import contextlib
import faulthandler
import logging
import math
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from mucpt_jax.errors import TRY_AGAIN


class SigtermFlag:
    """asked(step): shall all hosts save after this step and leave?

    On several hosts jax's own service listens for the signal; it names one step for all of them, and asked() must be
    called on each host at every step.
    """

    def __init__(self):
        self.raised = threading.Event()

    def __enter__(self):
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGTERM, lambda *_: self.raised.set())
        return self

    def __exit__(self, *_):
        if hasattr(self, "before"):
            signal.signal(signal.SIGTERM, self.before)

    def asked(self, step: int) -> bool:
        if jax.process_count() == 1:
            return self.raised.is_set()
        return multihost_utils.reached_preemption_sync_point(step)


class Watchdog:
    """A thread that ends the process, stack traces of all threads first, when no step ends for too long.

    Too long: `factor` times the median of the last steps, but never under `seconds`; six times that until the first
    step has ended (compilation).  A collective that waits for a dead host ends in no other way.
    """

    def __init__(self, factor: float, seconds: float):
        self.factor, self.seconds, self.last, self.done = factor, seconds, time.monotonic(), threading.Event()
        self.durations: list[float] = []  # of the last steps, seconds

    def __enter__(self):
        if self.factor:
            threading.Thread(target=self.watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_):
        self.done.set()

    def step_ended(self) -> None:
        now = time.monotonic()
        self.durations = [*self.durations[-50:], now - self.last]
        self.last = now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While a checkpoint is written; Orbax has its own limits."""
        self.last = math.inf
        yield
        self.last = time.monotonic()

    def limit(self) -> float:
        """Seconds without a step that are taken for a hang."""
        if not self.durations:
            return 6 * self.seconds
        return max(self.seconds, self.factor * statistics.median(self.durations))

    def watch(self) -> None:
        while not self.done.wait(min(1.0, self.seconds / 4)):
            waited, limit = time.monotonic() - self.last, self.limit()
            if waited > limit:
                self.bark(waited, limit)

    def bark(self, waited: float, limit: float) -> None:
        logging.error(
            "host %d: no step has ended for %.0f s (limit %.0f s: train.watchdog=%g medians, at least "
            "train.watchdog_seconds); stacks of all threads follow; the same command goes on from the last checkpoint",
            jax.process_index(), waited, limit, self.factor,
        )  # fmt: skip
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        sys.stderr.flush()
        os._exit(TRY_AGAIN)  # the main thread sits in a collective and can run nothing
