"""What every job does before and after its own work: it finds its input, and replaces its output when all is done."""

import glob
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from data_prep.jobs import notes
from data_prep.jobs.documents import SUFFIXES
from mucpt_jax.errors import UserError, exiting, one_line
from mucpt_jax.formats.files import replacing_folder, writable

OTHERS = notes.FILES  # in a folder that a job wrote, besides its documents
log = logging.getLogger(__name__)


def find_files(pattern: str) -> list[str]:
    """File, folder or glob (also gs:// and the like) -> sorted paths; UserError where there is nothing to read."""
    if os.path.isfile(pattern):
        paths = [pattern]
    elif os.path.isdir(pattern):
        paths = [f.path for f in os.scandir(pattern) if f.is_file() and not f.name.startswith(".")]
    else:
        patterns = [pattern] if glob.has_magic(pattern) else [pattern, f"{pattern.rstrip('/')}/*"]
        try:
            matches = FileSystems.match(patterns)
        except (BeamIOError, ValueError, OSError) as error:
            raise UserError(f"--input={pattern} cannot be listed ({one_line(error)}); check it") from error
        paths = [m.path for match in matches for m in match.metadata_list if not os.path.isdir(m.path)]
    written = {os.path.dirname(f) for f in paths if os.path.basename(f) == "counts.json"}  # by a job
    paths = [f for f in paths if not (os.path.dirname(f) in written and os.path.basename(f) in OTHERS)]
    files = sorted(f for f in paths if f.endswith(SUFFIXES))
    if not files:
        state = "holds" if paths or os.path.isdir(pattern) else "does not exist, or holds"
        raise UserError(
            f"--input={pattern} {state} no file that ends in {', '.join(SUFFIXES)}; "
            "name such a file, a folder of them or a glob"
        )
    others = [f for f in paths if not f.endswith(SUFFIXES)]
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
def output_folder(output: str, files: Iterable[str], own: Sequence[str]) -> Iterator[Path]:
    """A folder that takes the place of `output` if the block ends well; only files named like `own` go."""
    with writable(f"--output={output}"):
        final = check_output(output, files, own)
    with replacing_folder(final, f"--output={output}") as folder:
        yield folder


def main(run: Callable[[list[str]], object]) -> None:
    """run(argv) as a command: what the user gave wrong ends in one sentence and exit status 1."""
    spec = sys.modules["__main__"].__spec__
    if spec:  # a worker in another process could load nothing that is of __main__
        run = getattr(importlib.import_module(spec.name), run.__name__)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    logging.getLogger("apache_beam.runners").setLevel(logging.CRITICAL)  # stacks of what is raised anyway
    with exiting():
        run(sys.argv[1:])
