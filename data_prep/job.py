"""How a job runs: from the command line over a Beam pipeline to a whole output folder with its counts.

No command of its own; a job's run(argv) calls run_job, and  python -m data_prep.clean  calls main(run).
"""

import argparse
import glob
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from data_prep import documents
from data_prep.documents import SUFFIXES
from mucpt_jax.records import UserError, write_json

DOCUMENT_FILES = ("part-*.parquet", "counts.json", "rejects.jsonl")
log = logging.getLogger(__name__)


def parser(doc: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # else flags for Beam could be taken for short forms of ours
        epilog="All other flags go to Apache Beam, such as --runner=FlinkRunner; without one it runs in this process.",
    )
    made.add_argument("--input", required=True, help=f"file, folder or glob of {', '.join(SUFFIXES)}")
    made.add_argument(
        "--output",
        required=True,
        help="folder, replaced when all is done; every worker must see it",
    )
    return made


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
            raise UserError(
                f"--input={pattern} cannot be listed ({documents.one_line(error)}); check it"
            ) from error
        found = [m.path for match in matches for m in match.metadata_list if not os.path.isdir(m.path)]
    files = sorted(f for f in found if f.endswith(SUFFIXES) and os.path.basename(f) != "rejects.jsonl")
    if not files:
        state = "holds" if found or os.path.isdir(pattern) else "does not exist, or holds"
        raise UserError(
            f"--input={pattern} {state} no file that ends in {', '.join(SUFFIXES)}; "
            "name such a file, a folder of them or a glob"
        )
    others = [f for f in found if not f.endswith((*SUFFIXES, "counts.json"))]
    if others:
        log.warning("%d other files are not read, for example %s", len(others), others[0])
    return files


def run_job(
    args: argparse.Namespace,
    beam_args: list[str],
    build: Callable[[beam.Pipeline, list[str], Path], object],
    finish: Callable[[Path], int] | None = None,
    own: Sequence[str] = DOCUMENT_FILES,
) -> dict:
    """Runs build(pipeline, files, folder), then finish(folder) -> documents kept, then moves folder to args.output.

    Returns the counts {"read", "kept", "dropped": {reason: documents}} that it wrote, and "masked" where it masks;
    UserError if nothing is kept.
    """
    files, started = find_files(args.input), time.monotonic()
    with output_folder(args.output, files, own) as folder:
        counters = run_pipeline(lambda pipeline: build(pipeline, files, folder), beam_args)
        read = counters["documents"].get("read", 0)
        dropped = dict(sorted(counters["dropped"].items()))
        if read == sum(dropped.values()):
            raise UserError(
                f"--input={args.input} gives no documents (read {read}, dropped {dropped}), so nothing was written; "
                "check the input and this job's thresholds"
            )
        merge_rejects(folder)
        counts = {"read": read, "kept": (finish or kept_rows)(folder), "dropped": dropped}
        if counters["masked"]:
            counts["masked"] = dict(sorted(counters["masked"].items()))
        assert read == counts["kept"] + sum(dropped.values()), f"documents lost or doubled: {counts}"
        write_json(folder / "counts.json", counts)
    seconds = time.monotonic() - started
    log.info("%s: %s, %.1f s, %.0f documents/s", args.output, counts, seconds, read / seconds)
    return counts


def kept_rows(folder: Path) -> int:
    """What really lies on disk, not what passed through: a lost part must show."""
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("part-*.parquet"))


def merge_rejects(folder: Path) -> None:
    for piece in sorted(folder.glob("rejects-*.jsonl")):
        with open(folder / "rejects.jsonl", "ab") as merged, open(piece, "rb") as f:
            shutil.copyfileobj(f, merged)
        piece.unlink()


def check_output(output: str, files: Iterable[str], own: Sequence[str]) -> Path:
    """The output folder as an absolute path; UserError if foreign work or the input could get lost there.

    `own` are the names that the job writes there; those of folders end in /.
    """
    final = Path(output)
    if "://" in output:
        raise UserError(
            f"--output={output} is no folder of a mounted file system; write to one and copy the result"
        )
    if final.exists() and not final.is_dir():
        raise UserError(f"--output={output} is a file; name a folder")
    if any(Path(file).resolve().parent == final.resolve() for file in files):
        raise UserError(f"--output={output} is the folder of the input; name another")
    foreign = [
        f.name for f in final.glob("*") if not any(fnmatch(f.name + "/" * f.is_dir(), name) for name in own)
    ]
    if foreign:
        raise UserError(
            f"--output={output} holds {min(foreign)}, which is not of this job; name a new or empty folder"
        )
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
    """A folder beside `output` that takes its place if the block ends well; only files named like `own` go."""
    with writable(output):
        final = check_output(output, files, own)
        beside, old = (final.with_name(f".{final.name}.{word}") for word in ("writing", "old"))
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    try:
        yield beside
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        beside.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def make_pipeline(options: PipelineOptions) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=options)
    except (ValueError, ImportError, AttributeError) as error:  # no such runner, not installed, flags missing
        raise UserError(
            f"Apache Beam cannot start here ({documents.one_line(error)}); check --runner and its flags"
        ) from error


def run_pipeline(build: Callable[[beam.Pipeline], object], beam_args: list[str]) -> dict[str, dict[str, int]]:
    """Builds and runs a pipeline; returns its counters as {"documents": {name: n}, "dropped": {reason: n}, ...}."""
    options = PipelineOptions(["--runner=FnApiRunner", *beam_args])  # the last --runner counts
    unknown = options.get_all_options(retain_unknown_options=True).keys() - options.get_all_options().keys()
    if unknown:
        raise UserError(f"neither this job nor Apache Beam knows --{min(unknown)}; see --help")
    pipeline = make_pipeline(options)
    build(pipeline)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except (
        UserError,
        RuntimeError,
    ) as error:  # some runners wrap it, stack and all, in a RuntimeError
        told = [str(error)] if isinstance(error, UserError) else re.findall(r"UserError: (.+)", str(error))
        if not told:
            raise
        raise UserError(re.sub(r" \[while running .*", "", told[0])) from None
    counters = {"documents": {}, "dropped": {}, "masked": {}}
    for counter in result.metrics().query(MetricsFilter().with_namespaces(list(counters)))["counters"]:
        names, name = counters[counter.key.metric.namespace], counter.key.metric.name
        names[name] = names.get(name, 0) + counter.result
    return counters


def main(run: Callable[[list[str]], object]) -> None:
    """run(argv) as a command: what the user gave wrong ends in one sentence and exit status 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    logging.getLogger("apache_beam.runners").setLevel(logging.CRITICAL)  # stacks of what is raised anyway
    try:
        run(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
