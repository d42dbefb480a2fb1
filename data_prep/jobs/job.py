"""How a job runs: from the command line over a Beam pipeline to a whole output folder with its counts.

No command of its own; a job's run(argv) calls run_job, and  python -m data_prep.clean  calls main(run).
"""

import argparse
import glob
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatch
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from data_prep.jobs import documents, notes, progress
from data_prep.jobs.documents import SUFFIXES
from data_prep.jobs.runner import MORE, run_pipeline
from mucpt_jax.errors import UserError, exiting, one_line
from mucpt_jax.formats import files as files_on_disk
from mucpt_jax.formats.files import write_json

DOCUMENT_FILES = ("part-*.parquet", *notes.FILES)
OTHERS = (*notes.FILES, "lines.jsonl")  # in a folder that a job wrote, besides its documents
log = logging.getLogger(__name__)


def parser(doc: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # else flags for Beam could be taken for short forms of ours
        epilog="All other flags go to Apache Beam, such as --runner=FlinkRunner; without one it runs in this process.",
    )
    made.add_argument("--input", required=True, help=f"file, folder or glob of {', '.join(SUFFIXES)}")
    made.add_argument("--output", required=True, help="folder, replaced when all is done; every worker must see it")
    made.add_argument(
        "--columns",
        type=columns_of,
        default={},
        metavar="OURS=THEIRS,...",
        help="fields of the input that stand for ours, such as text=content,id=url,source=site",
    )
    return made


def columns_of(text: str) -> dict[str, str]:
    """ "text=content,id=url" -> {"text": "content", "id": "url"}"""
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    for ours, _, theirs in pairs:
        if ours not in documents.SCHEMA.names or not theirs:
            raise argparse.ArgumentTypeError(
                f"{text} does not say which field stands for which of ours; "
                "write text=THEIR_NAME, and likewise for id, source, lang and meta"
            )
    return {ours: theirs for ours, _, theirs in pairs}


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
            raise UserError(f"--input={pattern} cannot be listed ({one_line(error)}); check it") from error
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


def run_map(
    args: argparse.Namespace, beam_args: list[str], change: Callable[[pa.RecordBatch, Path], pa.RecordBatch]
) -> dict:
    """The job that takes each batch by itself: change(batch, folder) -> what is kept of it."""

    def build(pipeline: beam.Pipeline, files: list[str], folder: Path):
        batches = pipeline | "Read" >> documents.Read(files, folder, args.columns)
        changed = batches | "Change" >> beam.Map(change, folder)
        return changed | "Write" >> beam.ParDo(documents.WriteParts(folder))

    return run_job(args, beam_args, build)


def run_job(
    args: argparse.Namespace,
    beam_args: list[str],
    build: Callable[[beam.Pipeline, list[str], Path], object],
    finish: Callable[[Path], int] | None = None,
    own: Sequence[str] = DOCUMENT_FILES,
    readings: int = 1,
) -> dict:
    """Runs build(pipeline, files, folder), then finish(folder) -> documents kept, then moves folder to args.output.

    `readings` is how often it reads its input, for the line of progress.  Returns the counts {"read", "kept",
    "dropped": {reason: documents}} that it wrote, with "masked", "lines" and "changed" where there are some; UserError
    if nothing is kept.
    """
    files, started = find_files(args.input), time.monotonic()
    with output_folder(args.output, files, own) as folder:
        with progress.shown(args.output, folder, progress.size_of(files), readings):
            counters = run_pipeline(lambda pipeline: build(pipeline, files, folder), beam_args)
        counts = counts_of(args.input, counters)
        notes.merge(folder)
        kept = (finish or kept_rows)(folder)
        assert kept == counts["kept"], f"documents lost or doubled: {counts}, and {kept} on disk"
        write_json(folder / "counts.json", counts)
    seconds = time.monotonic() - started
    log.info("%s: %s, %.1f s, %.0f documents/s", args.output, counts, seconds, counts["read"] / seconds)
    return counts


def counts_of(source: str, counters: dict[str, dict[str, int]]) -> dict:
    read, dropped = counters["documents"].get("read", 0), dict(sorted(counters["dropped"].items()))
    if read == sum(dropped.values()):
        raise UserError(
            f"--input={source} gives no documents (read {read}, dropped {dropped}), so nothing was written; "
            "check the input and this job's thresholds"
        )
    more = {name: dict(sorted(counters[name].items())) for name in MORE if counters[name]}
    return {"read": read, "kept": read - sum(dropped.values()), "dropped": dropped} | more


def kept_rows(folder: Path) -> int:
    """What really lies on disk, not what passed through: a lost part must show."""
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("part-*.parquet"))


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


def writable(output: str) -> AbstractContextManager[None]:
    return files_on_disk.writable(f"--output={output}")


def locked(folder: Path, output: str) -> AbstractContextManager[None]:
    return files_on_disk.locked(folder, f"--output={output}")


@contextmanager
def output_folder(output: str, files: Iterable[str], own: Sequence[str]) -> Iterator[Path]:
    """A folder that takes the place of `output` if the block ends well; only files named like `own` go."""
    with writable(output):
        final = check_output(output, files, own)
    with files_on_disk.replacing_folder(final, f"--output={output}") as folder:
        yield folder


def main(run: Callable[[list[str]], object]) -> None:
    """run(argv) as a command: what the user gave wrong ends in one sentence and exit status 1."""
    spec = sys.modules["__main__"].__spec__
    if spec:  # what is of __main__ no worker in another process could load
        run = getattr(importlib.import_module(spec.name), run.__name__)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    logging.getLogger("apache_beam.runners").setLevel(logging.CRITICAL)  # stacks of what is raised anyway
    with exiting():
        run(sys.argv[1:])
