"""Duplicates: of documents that are the same, or nearly, one stays.

    python -m data_prep.dedup --input=clean/ --output=dedup/
    python -m data_prep.dedup --input=crawl2/ --output=new/ --against=dedup/  (written with --signatures)

Same: but for case, width, blanks and punctuation (`exact_duplicate`).  Near: a Jaccard similarity of their 5-word
shingles of --similarity or more, also over others in between (`near_duplicate`); see signatures.py, buckets.py and
components.py.  It is estimated so that some .995 of such pairs are found, and of pairs up to .05 below about half.
--similarity=0 leaves all of them in.

Of each group stays the document of the highest `quality` (a column of numbers, if there is one), then the longest,
then of the source that --sources names first, then of the smallest id; of equal ids the first as read.  Its column
`copies` says for how many documents it stands, itself included.  With --groups, groups/ has a row (id, kept, reason) of
each document that was dropped.  With --against, what is the same as or near to a document of an earlier output goes as
`exact_duplicate_of_earlier` or `near_duplicate_of_earlier`.  With --paragraphs, see paragraphs.py.

The job reads its input twice: for signatures, then to drop rows.  Tables of hashes lie in a work folder inside the
output until it is done (some 0.7 KB a document); what is grouped by Beam are keys of duplicates, never texts.
"""

import argparse
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from data_prep.duplicates import buckets, paragraphs, sidecars, signatures, work_files
from data_prep.duplicates.components import Components
from data_prep.duplicates.sidecars import REASONS, Options
from data_prep.duplicates.signatures import digest  # noqa: F401  of exact duplicates, for who asks about one text
from data_prep.duplicates.work_files import Work, spread_tasks
from data_prep.jobs import documents, job
from mucpt_jax.errors import UserError

OWN = (*job.DOCUMENT_FILES, "signatures/", "groups/")


# First reading: signatures


def sign(file: tuple[int, str], options: Options) -> tuple[int, int]:
    """(number, path) -> (number, documents); leaves the file's work files."""
    number, path = file
    earlier = number >= options.work.first_earlier
    batches = sidecars.earlier_batches(path) if earlier else signed_batches(number, path, options)
    return number, work_files.write_signed(options.work, number, batches)


def signed_batches(number: int, path: str, options: Options) -> Iterator:
    with paragraphs.writer(options.work, number, options.paragraphs) as add_lines:
        for batch, _ in documents.read_batches(path, options.columns, options.folder / f"sign-{number:05d}.progress"):
            if batch.num_rows:
                texts = batch["text"].to_pylist()
                add_lines(texts)
                yield signed_batch(batch, texts, options)


def signed_batch(batch: pa.RecordBatch, texts: list[str], options: Options):
    """-> facts FACTS[n], ids in UTF-8, signatures u1[n, SIZE] (u1[0, SIZE] without near-duplicates)."""
    digests, lengths, signature = signatures.describe(texts, near=options.work.similarity > 0)
    facts = np.zeros(len(texts), work_files.FACTS)
    facts["digest"], facts["length"] = digests.view("u8"), lengths
    facts["quality"] = quality(batch)
    rank = {source: place for place, source in enumerate(options.sources)}
    facts["priority"] = [rank.get(source, len(rank)) for source in batch["source"].to_pylist()]
    return facts, [name.encode() for name in batch["id"].to_pylist()], signature


def quality(batch: pa.RecordBatch) -> np.ndarray | float:
    """f8[n]; what has none comes last."""
    if "quality" not in batch.schema.names:
        return 0.0
    kind = batch.schema.field("quality").type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise UserError(f"column quality holds {kind}, not numbers; rename it, or make it a number, more is better")
    found = batch["quality"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.where(np.isnan(found), -np.inf, found)


# Second reading: drops


def write_bands(joined: tuple[int, dict], work: Work) -> tuple[int, int]:
    """(number, {"counts", "exact"}) -> (number, documents in the table of bands)."""
    number, groups = joined
    return number, buckets.write_bands(work, number, work_files.write_fates(work, number, groups["exact"]))


def write_settled(joined: tuple[int, dict], work: Work) -> tuple[int, int]:
    """(number, {"path", "exact", "near"}) -> (number, paragraphs in the table); leaves the fates that are final."""
    number, groups = joined
    work_files.write_fates(work, number, changes_of(groups), "settled")
    return number, len(paragraphs.paragraphs(work, number))


def changes_of(groups: dict) -> list[np.ndarray]:
    """What near-duplicates settle comes after what exact ones do."""
    return [*groups["exact"], *groups.get("near", ())]


def read_without(joined: tuple[int, dict], options: Options) -> Iterator[pa.RecordBatch]:
    """(number, {"path": [path], "exact", "near", "forwarded", "lines"}) -> the file's batches without what goes."""
    number, groups = joined
    (path,), changes = groups["path"], changes_of(groups)
    fates = work_files.settled(options.work, number, changes)
    lines, start = paragraphs.by_row(groups.get("lines", ())), 0
    with sidecars.Sidecars(options, number, [*changes, *groups.get("forwarded", ())]) as writer:
        for batch in documents.read_counted((number, path), options.folder, options.columns):
            fate = fates[start : start + batch.num_rows]
            reasons = [REASONS.get(f) for f in fate.tolist()]
            if lines:
                batch, reasons = without_lines(batch, reasons, start, lines)
            writer.add(batch["id"], reasons, start)
            start += batch.num_rows
            yield documents.keep(with_copies(batch, fate), reasons, options.folder)


def without_lines(batch: pa.RecordBatch, reasons: list, start: int, lines: dict[int, set[int]]):
    texts = paragraphs.without(batch["text"].to_pylist(), start, lines)
    empty = [reason is None and start + n in lines and not text.strip()
             for n, (reason, text) in enumerate(zip(reasons, texts, strict=True))]  # fmt: skip
    reasons = ["repeated_paragraphs" if e else reason for e, reason in zip(empty, reasons, strict=True)]
    return documents.replace(batch, "text", texts), reasons


def with_copies(batch: pa.RecordBatch, fate: np.ndarray) -> pa.RecordBatch:
    if "copies" in batch.schema.names:  # of an earlier run of this job
        batch = batch.drop_columns(["copies"])
    return batch.append_column("copies", pa.array(np.maximum(fate, 0), pa.int64()))


# The pipeline


class ReadWithoutDuplicates(beam.PTransform):
    """Pipeline -> batches of the documents of these files, one of each group.

    What a task reads on disk was written before it starts: it has the counts of all files as a side input.
    """

    def __init__(self, files: list[str], earlier: list[str], options: Options):
        super().__init__()
        self.files, self.earlier, self.options = list(enumerate(files)), earlier, options

    def expand(self, pipeline):
        options, work = self.options, self.options.work
        all_files = [*self.files, *enumerate(self.earlier, len(self.files))]
        signed = (
            pipeline
            | "AllFiles" >> beam.Create(all_files)
            | "SpreadFiles" >> beam.Reshuffle()
            | "Sign" >> beam.Map(sign, options)
        )
        exact = spread_tasks(pipeline, "Exact", signed, 1) | "ExactGroups" >> beam.FlatMap(
            buckets.exact_groups, beam.pvalue.AsList(signed), work
        )
        changes = {"exact": exact} | ({"near": self.near(pipeline, signed, exact)} if work.similarity else {})
        own = {name: change | f"Own_{name}" >> beam.Filter(_is_own, work) for name, change in changes.items()}
        if options.groups and work.similarity:
            own["forwarded"] = self.forwarded(exact, changes["near"])
        files = {"path": pipeline | "Files" >> beam.Create(self.files)}
        if options.paragraphs:
            own["lines"] = self.lines(pipeline, files | own)
        joined = files | own | "ChangesOfFile" >> beam.CoGroupByKey()
        return joined | "ReadWithout" >> beam.FlatMap(read_without, options)

    def near(self, pipeline, signed, exact):
        work = self.options.work
        banded = (
            {"counts": signed, "exact": exact}
            | "ExactOfFile" >> beam.CoGroupByKey()
            | "Bands" >> beam.Map(write_bands, work)
        )
        return (
            spread_tasks(pipeline, "Near", banded, work_files.bands(work))
            | "NearLinks" >> beam.FlatMap(buckets.near_links, beam.pvalue.AsList(banded), work)
            | "Components" >> Components()
            | "NearGroups" >> beam.FlatMap(buckets.near_groups, work)
        )

    def forwarded(self, exact, near):
        """Exact duplicates of what goes as a near one: they belong to what stays in its place."""
        return (
            {"exact": exact | "ByKept" >> beam.FlatMap(buckets.by_kept), "near": near}
            | "KeptOfFile" >> beam.CoGroupByKey()
            | "Forward" >> beam.FlatMap(buckets.forward)
            | "Own_forwarded" >> beam.Filter(_is_own, self.options.work)
        )

    def lines(self, pipeline, changes):
        work = self.options.work
        settled = changes | "SettledOfFile" >> beam.CoGroupByKey() | "Settled" >> beam.Map(write_settled, work)
        return spread_tasks(pipeline, "Lines", settled, 1) | "Repeats" >> beam.FlatMap(
            paragraphs.repeats, beam.pvalue.AsList(settled), work
        )


def _is_own(change: tuple, work: Work) -> bool:
    return change[0] < work.first_earlier


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """(our flags, Beam's); UserError for what would fail only after hours of other stages."""
    parser = job.parser(__doc__)
    parser.add_argument(
        "--similarity", type=float, default=0.8, help="least Jaccard of near-duplicates; 0: exact ones only (0.8)"
    )
    parser.add_argument("--sources", default="", help="sources, comma-separated: the first are kept before others")
    parser.add_argument(
        "--against", default="", help="outputs of earlier runs, comma-separated: drop what is near them"
    )
    parser.add_argument("--signatures", action="store_true", help="write signatures/, for a later --against")
    parser.add_argument("--groups", action="store_true", help="write groups/: what each dropped document was like")
    parser.add_argument(
        "--paragraphs", type=int, nargs="?", const=64, default=0,
        help="drop paragraphs of so many characters (64) that stood elsewhere",
    )  # fmt: skip
    args, beam_args = parser.parse_known_args(argv)
    check_arguments(args)
    return args, beam_args


def options_of(args: argparse.Namespace, folder: Path, files: int) -> Options:
    sources = tuple(documents.safe_name(name) for name in args.sources.split(",") if name)
    # A name of its own: arrays of a run before in this process may still be open.
    work = Work(folder / f"work-{uuid.uuid4().hex}", files, args.similarity)
    return Options(folder, args.columns, work, sources, args.paragraphs, args.signatures, args.groups)


def check_arguments(args: argparse.Namespace) -> None:
    if args.similarity and not 0.5 <= args.similarity <= 1:
        raise UserError(
            f"--similarity={args.similarity} is neither 0 nor from 0.5 to 1; below, documents share but a topic"
        )
    if args.paragraphs < 0:
        raise UserError(f"--paragraphs={args.paragraphs} is no number of characters; use 1 or more, 0 for none")
    if not args.similarity and (args.signatures or args.against):
        raise UserError("--similarity=0 makes no signatures, which --signatures and --against need; give 0.8")
    output = Path(args.output).resolve()
    if any(output == Path(file).resolve().parents[1] for file in sidecars.find_earlier(args.against)):
        raise UserError(f"--output={args.output} would replace what --against names; name another folder")


def run(argv: list[str] | None = None) -> dict:
    args, beam_args = parse(argv)
    earlier = sidecars.find_earlier(args.against)

    def build(pipeline: beam.Pipeline, files: list[str], folder: Path):
        options = options_of(args, folder, len(files))
        options.work.folder.mkdir()
        batches = pipeline | "Dedup" >> ReadWithoutDuplicates(files, earlier, options)
        return batches | "Write" >> beam.ParDo(documents.WriteParts(folder))

    return job.run_job(args, beam_args, build, finish, OWN, readings=2)


def finish(folder: Path) -> int:
    for work in folder.glob("work-*"):
        shutil.rmtree(work)
    return job.kept_rows(folder)


if __name__ == "__main__":
    job.main(run)
