"""Stage: all that is known of a job, in one entry; from it a command, a stage of the pipeline, and their --help.

A job's module ends with its STAGE, and  python -m data_prep.clean  calls job.main(STAGE.run).
"""

import argparse
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.jobs import documents, notes, options, progress
from data_prep.jobs.documents import File
from data_prep.jobs.job import find_files, output_folder
from data_prep.jobs.runner import MORE, run_pipeline
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import Count
from mucpt_jax.formats.files import write_json

DOCUMENT_FILES = ("part-*.parquet", *notes.FILES)
# Reason for which reading drops a document, before the job sees it -> what to change.
KNOBS = {"no_text": "columns=text=NAME"}
log = logging.getLogger(__name__)


class Counts(TypedDict):
    """counts.json: read == kept + the sum of dropped, always."""

    read: Count
    kept: Count
    dropped: dict[str, Count]  # documents by reason
    masked: NotRequired[dict[str, Count]]  # hits by type, and "documents"
    lines: NotRequired[dict[str, Count]]  # lines removed, by reason
    changed: NotRequired[dict[str, Count]]  # documents, by what was changed


class Run(NamedTuple):
    """What the tasks of a job know."""

    folder: Path  # that becomes the output
    columns: Mapping[str, str]  # as in documents.document
    options: Any  # the job's


def kept_rows(folder: Path) -> int:
    """Documents on disk, not those that were counted on their way there: a lost part must show."""
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("part-*.parquet"))


class Stage(NamedTuple):
    name: str  # of its command and its section of a recipe
    does: str  # a few words, for the report
    doc: str  # of its module
    options: type  # frozen dataclass, see options.py
    build: Callable[[beam.Pipeline, list[File], Run], object]
    # Reason for which it drops documents -> the option that changes it; "" where dropping them is the job's purpose.
    counts: Mapping[str, str]
    check: Callable[[Any], None] = lambda options: None  # UserError for what would fail only hours later
    needs: str = ""  # option without which there is nothing to do
    reads: str = ""  # option that names files or folders besides the input
    finish: Callable[[Run], None] = lambda run: None  # when all tasks are done
    kept: Callable[[Path], int] = kept_rows  # documents that lie in its folder; UserError or OSError of a broken one
    files: Sequence[str] = DOCUMENT_FILES  # what it writes, as patterns; names of folders end in /
    readings: int = 1  # how often it reads its input, for the line of progress
    folder: str = ""  # in a pipeline's output, where it is not called like the stage

    @property
    def output(self) -> str:
        return self.folder or self.name

    @property
    def writes_documents(self) -> bool:
        """Whether a stage behind it reads what it wrote."""
        return DOCUMENT_FILES[0] in self.files

    def run(self, argv: list[str] | None = None) -> Counts:
        args, beam_args = self.parse(argv)
        return run_stage(self, args.input, args.output, args.columns, options.of_flags(self.options, args), beam_args)

    def parse(self, argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
        """(our flags, Beam's)"""
        flags = parser(self.doc)
        options.add_flags(flags, self.options, self.needs)
        args, beam_args = flags.parse_known_args(argv)
        check_stage(self, options.of_flags(self.options, args), args.output)
        return args, beam_args


def parser(doc: str, more: str = "") -> argparse.ArgumentParser:
    """Flags of every job."""
    epilog = "All other flags go to Apache Beam, such as --runner=FlinkRunner; without one it runs in this process."
    flags = options.parser(doc, epilog=more + epilog)
    flags.add_argument("--input", required=True, help=f"file, folder or glob of {', '.join(documents.SUFFIXES)}")
    flags.add_argument("--output", required=True, help="folder, replaced when all is done; every worker must see it")
    flags.add_argument(
        "--columns", type=columns_of, default={}, metavar="OURS=THEIRS,...",
        help="fields of the input that stand for ours, such as text=content,id=url,source=site",
    )  # fmt: skip
    return flags


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


def check_stage(stage: Stage, values: Any, output: str) -> None:
    stage.check(values)
    named = getattr(values, stage.reads) if stage.reads else ()
    if any(Path(output).resolve() == Path(path).resolve() for path in options.names(named)):
        raise UserError(f"--output={output} would replace what --{stage.reads} names; name another folder")


def each_batch(change: Callable[[pa.RecordBatch, Path, Any], pa.RecordBatch]) -> Callable:
    """The `build` of a job that takes each batch by itself: change(batch, folder, options) -> what is kept of it."""

    def build(pipeline: beam.Pipeline, files: list[File], run: Run) -> object:
        read = beam.FlatMap(documents.read_counted, run.folder, run.columns)
        changed = (
            documents.spread(pipeline, files) | "Read" >> read | "Change" >> beam.Map(change, run.folder, run.options)
        )
        return changed | "Write" >> beam.ParDo(documents.WriteParts(run.folder))

    return build


def run_stage(
    stage: Stage, source: str, output: str, columns: Mapping[str, str], values: Any, beam_args: list[str]
) -> Counts:
    """Builds and runs the job in a folder beside `output`, which takes its place when all is done.

    Returns the counts that it wrote; UserError if nothing is kept.
    """
    paths, started = find_files(source), time.monotonic()
    files = [File(number, path) for number, path in enumerate(paths)]
    with output_folder(output, paths, stage.files) as folder:
        task = Run(folder, columns, values)
        with progress.shown(output, folder, progress.size_of(paths), stage.readings):
            counters = run_pipeline(lambda pipeline: stage.build(pipeline, files, task), beam_args)
        counts = counts_of(stage, source, counters)
        notes.merge(folder)
        stage.finish(task)
        kept = stage.kept(folder)
        assert kept == counts["kept"], f"documents lost or doubled: {counts}, and {kept} on disk"
        write_json(folder / "counts.json", counts)
    seconds = time.monotonic() - started
    log.info("%s: %s, %.1f s, %.0f documents/s", output, counts, seconds, counts["read"] / seconds)
    if warning := most_dropped(stage, counts):
        log.warning("%s", warning)
    return counts


def counts_of(stage: Stage, source: str, counters: Mapping[str, dict[str, int]]) -> Counts:
    read, dropped = counters["documents"].get("read", 0), dict(sorted(counters["dropped"].items()))
    if read == sum(dropped.values()):
        raise UserError(
            f"--input={source} gives no documents (read {read}, dropped {dropped}), so nothing was written; "
            + way_out(stage, dropped)
        )
    more = {name: dict(sorted(counters[name].items())) for name in MORE if counters[name]}
    return cast(Counts, {"read": read, "kept": read - sum(dropped.values()), "dropped": dropped} | more)


def most_dropped(stage: Stage, counts: Counts) -> str:
    """A sentence where more than half of the documents went and were not meant to."""
    gone = {reason: n for reason, n in counts["dropped"].items() if stage.counts.get(reason) != ""}
    if 2 * sum(gone.values()) <= counts["read"]:
        return ""
    reason = max(gone, key=lambda reason: gone[reason])
    return (
        f"WARNING: {stage.name} dropped {sum(gone.values()):,} of {counts['read']:,} documents, {gone[reason]:,} of "
        f"them as {reason}: look at samples.jsonl or rejects.jsonl of its output, and {way_out(stage, gone)}"
    )


def way_out(stage: Stage, dropped: Mapping[str, int]) -> str:
    """What to change where most documents went for a reason."""
    knob = {**KNOBS, **stage.counts}.get(max(dropped, key=lambda reason: dropped[reason], default=""))
    if not knob:
        return "check the input"
    return f"change --{knob} of {stage.name} (pipeline: --config.{stage.name}.{knob}) if they should stay"
