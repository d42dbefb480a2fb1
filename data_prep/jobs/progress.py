"""Progress: how far the tasks of a job have read, on one line while it runs.

Each task notes documents and bytes read beside the parts, which every worker and the launching process see; so the line
is the same whatever runs the tasks.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from rich import progress

SECONDS = 30  # between lines of a log; a terminal has a bar
log = logging.getLogger(__name__)


def noted(batches: Iterable[tuple[pa.RecordBatch, list]], tell: Callable[[], int], note: Path) -> Iterator:
    """The batches; `note` says how many documents and bytes of the file went by, about once a second."""
    documents, size, last = 0, 0, 0.0
    for batch, rejects in batches:
        documents += batch.num_rows + len(rejects)
        with suppress(ValueError):  # Parquet's reader closes the file behind the last row
            size = tell()
        if time.monotonic() - last > 1:
            write(note, documents, size)
            last = time.monotonic()
        yield batch, rejects
    write(note, documents, size)


def write(note: Path, documents: int, size: int) -> None:
    with suppress(OSError):  # a full disk is told by what must be written
        note.write_text(f"{documents} {size}")


def so_far(folder: Path) -> tuple[int, int]:
    """Documents and bytes that all tasks have read."""
    documents = size = 0
    for note in folder.glob("*.progress"):
        numbers = note.read_text().split()
        if len(numbers) == 2:  # else it is being written
            documents, size = documents + int(numbers[0]), size + int(numbers[1])
    return documents, size


def size_of(files: Iterable[str]) -> int:
    return sum(os.path.getsize(f) if os.path.exists(f) else FileSystems.match([f])[0].metadata_list[0].size_in_bytes
               for f in files)  # fmt: skip


@contextmanager
def shown(name: str, folder: Path, size: int, readings: int = 1) -> Iterator[None]:
    """While the block runs: a bar on a terminal, else a line in the log every SECONDS.

    `size` bytes are read `readings` times; a document counts when it was read that often.
    """
    done = threading.Event()
    show = _bar if sys.stderr.isatty() else _lines
    thread = threading.Thread(target=show, args=(name, folder, max(size, 1) * readings, readings, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _lines(name: str, folder: Path, size: int, readings: int, done: threading.Event) -> None:
    started = time.monotonic()
    while not done.wait(SECONDS):
        documents, read = so_far(folder)
        rate = documents / readings / (time.monotonic() - started)
        share = min(100, 100 * read / size)
        log.info("%s: %.0f%% read, %d documents, %.0f documents/s", name, share, documents // readings, rate)


def _bar(name: str, folder: Path, size: int, readings: int, done: threading.Event) -> None:
    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[documents]:,} documents, {task.fields[rate]:,.0f}/s"),
        progress.TimeElapsedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    started, stderr = time.monotonic(), sys.stderr
    console = progress.Console(file=stderr)
    with progress.Progress(*columns, console=console, transient=True) as bar, _log_above(stderr):
        task = bar.add_task(Path(name).name, total=size, documents=0, rate=0.0)
        while not done.wait(0.5):
            documents, read = so_far(folder)
            rate = documents / readings / (time.monotonic() - started)
            bar.update(task, completed=min(read, size), documents=documents // readings, rate=rate)


@contextmanager
def _log_above(stderr: TextIO) -> Iterator[None]:
    """Lines of the log go where rich has set sys.stderr: above its bar, not into it."""
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler) and h.stream is stderr]
    for handler in handlers:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(stderr)
