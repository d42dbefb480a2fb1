"""What every job does before and after its own work: it finds its input, and replaces its output when all is done.

No command of its own;  python -m data_prep.clean  calls main(run).
"""

import errno
import fcntl
import glob
import importlib
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from data_prep.jobs import documents, notes
from data_prep.jobs.documents import SUFFIXES
from mucpt_jax.errors import UserError

OTHERS = (*notes.FILES, "lines.jsonl")  # in a folder that a job wrote, besides its documents
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
log = logging.getLogger(__name__)


def find_files(pattern: str) -> list[str]:
    """File, folder or glob (also gs:// and the like) -> sorted paths; UserError where there is nothing to read."""
    if os.path.isfile(pattern):
        found = [pattern]
    elif os.path.isdir(pattern):
        found = [f.path for f in os.scandir(pattern) if f.is_file() and not f.name.startswith(".")]
    else:
        patterns = [pattern] if glob.has_magic(pattern) else [pattern, f"{pattern.rstrip('/')}/*"]
        try:
            matches = FileSystems.match(patterns)
        except (BeamIOError, ValueError, OSError) as error:
            raise UserError(f"--input={pattern} cannot be listed ({documents.one_line(error)}); check it") from error
        found = [m.path for match in matches for m in match.metadata_list if not os.path.isdir(m.path)]
    written = {os.path.dirname(f) for f in found if os.path.basename(f) == "counts.json"}  # by a job
    found = [f for f in found if not (os.path.dirname(f) in written and os.path.basename(f) in OTHERS)]
    files = sorted(f for f in found if f.endswith(SUFFIXES))
    if not files:
        state = "holds" if found or os.path.isdir(pattern) else "does not exist, or holds"
        raise UserError(
            f"--input={pattern} {state} no file that ends in {', '.join(SUFFIXES)}; "
            "name such a file, a folder of them or a glob"
        )
    others = [f for f in found if not f.endswith(SUFFIXES)]
    if others:
        log.warning("%d other files are not read, for example %s", len(others), others[0])
    return files


def check_output(output: str, files: Iterable[str], own: Sequence[str]) -> Path:
    """The output folder as an absolute path; UserError if foreign work or the input could get lost there.

    `own` are the names that the job writes there; those of folders end in /.
    """
    final = Path(output)
    if "://" in output:
        raise UserError(f"--output={output} is no folder of a mounted file system; write to one and copy the result")
    if final.exists() and not final.is_dir():
        raise UserError(f"--output={output} is a file; name a folder")
    if any(Path(file).resolve().parent == final.resolve() for file in files):
        raise UserError(f"--output={output} is the folder of the input; name another")
    foreign = [f.name for f in final.glob("*") if not any(fnmatch(f.name + "/" * f.is_dir(), name) for name in own)]
    if foreign:
        raise UserError(f"--output={output} holds {min(foreign)}, which is not of this job; name a new or empty folder")
    return final.resolve()


@contextmanager
def writable(output: str) -> Iterator[None]:
    """Around what first touches the output: an OSError there is about the place that was named."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--output={output} cannot be made or written ({documents.one_line(error)}); "
            "name a folder in a place where you may write"
        ) from error


@contextmanager
def output_folder(output: str, files: Iterable[str], own: Sequence[str]) -> Iterator[Path]:
    """A folder beside `output` that takes its place if the block ends well; only files named like `own` go.

    It has a new name at each start: tasks that outlive a killed launcher write where nobody looks.
    """
    with writable(output):
        final = check_output(output, files, own)
        beside, old = (final.with_name(f".{final.name}.{word}") for word in ("writing", "old"))
        beside.mkdir(parents=True, exist_ok=True)
    with locked(beside, output):
        try:
            with to_the_end(output):
                for left in beside.glob("run-*"):  # of a killed run
                    shutil.rmtree(left, ignore_errors=True)
                folder = beside / f"run-{uuid.uuid4().hex[:8]}"
                folder.mkdir()
                yield folder
                if final.exists():
                    shutil.rmtree(old, ignore_errors=True)
                    final.rename(old)
                folder.rename(final)
                shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def to_the_end(output: str) -> Iterator[None]:
    """Around what writes there: OSErrors of tasks and of this process as one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--output={output} cannot be written to the end ({documents.one_line(error)}); "
            "make room or name another place, then run it again"
        ) from error


@contextmanager
def locked(folder: Path, output: str) -> Iterator[None]:
    """Two runs into one output would mix; the lock ends with the process, however it ends."""
    with writable(output):
        lock = open(folder / "lock", "w")  # noqa: SIM115
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--output={output} is being written by another run; wait for its end or name another folder"
            ) from None
        except OSError as error:  # a file system without locks
            log.warning("%s cannot be locked (%s): start no second run into it", output, error)
        yield


def main(run: Callable[[list[str]], object]) -> None:
    """run(argv) as a command: what the user gave wrong ends in one sentence and exit status 1."""
    spec = sys.modules["__main__"].__spec__
    if spec:  # what is of __main__ no worker in another process could load
        run = getattr(importlib.import_module(spec.name), run.__name__)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    logging.getLogger("apache_beam.runners").setLevel(logging.CRITICAL)  # stacks of what is raised anyway
    try:
        run(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # of what a job writes itself
        if error.errno not in FULL:
            raise
        sys.exit(f"error: {documents.one_line(error)}; make room, then run it again")
