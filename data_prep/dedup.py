"""Duplicates: of documents that are the same, or nearly, one stays.

    python -m data_prep.dedup --input=clean/ --output=dedup/
    python -m data_prep.dedup --input=crawl2/ --output=new/ --against=dedup/  (written with --signatures)

Same (`exact_duplicate`): but for case, width, blanks and punctuation.  Near (`near_duplicate`): their 5-word shingles
have a Jaccard similarity of --similarity or more, or a chain of such pairs links them; see signatures.py, buckets.py
and components.py.  The similarity is estimated: some .995 of such pairs are found, and about half of the pairs up to
.05 below it.  Documents that differ in subject, in title (a field `title`) or in the names of their first sentence both
stay, as what differs is a fact, unless --any_subject is given; see subjects.py.  --similarity=0 leaves all in.

Of each group stays the document of the highest `quality` (a column of numbers, if there is one), then the longest,
then of the source that --sources names first, then of the smallest id; of equal ids the first as read.  Its column
`copies` says for how many documents it stands, itself included.  With --groups, groups/ has a row (id, kept, reason) of
each document that was dropped.  With --against, what is the same as or near to a document of an earlier output goes as
`exact_duplicate_of_earlier` or `near_duplicate_of_earlier`.  With --paragraphs, see paragraphs.py.

The job reads its input twice: for signatures, then to drop rows.  Tables of hashes lie in a work folder inside the
output until it is done (some 0.8 KB a document); what is grouped by Beam are keys of duplicates, never texts.
"""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from data_prep.duplicates import buckets, paragraphs, sidecars, signatures, subjects, work_files
from data_prep.duplicates.components import Components
from data_prep.duplicates.sidecars import REASONS, Options
from data_prep.duplicates.work_files import Plan, Work, spread_tasks
from data_prep.jobs import documents, job, taken
from data_prep.jobs.documents import File
from data_prep.jobs.stage import DOCUMENT_FILES, Run, Stage
from mucpt_jax.errors import UserError

# First reading: signatures


def sign(file: File, plan: Plan) -> tuple[int, int]:
    """-> (number, documents); leaves the file's work files."""
    earlier = file.number >= plan.work.first_earlier
    batches = sidecars.earlier_batches(file.path) if earlier else signed_batches(file, plan)
    return file.number, work_files.write_signed(plan.work, file.number, batches)


def signed_batches(file: File, plan: Plan) -> Iterator:
    note = plan.folder / f"sign-{file.number:05d}.progress"
    with paragraphs.writer(plan.work, file.number, plan.options.paragraphs) as add_lines:
        for batch, _ in documents.read_batches(file.path, plan.columns, note):
            if batch.num_rows:
                texts = batch["text"].to_pylist()
                add_lines(texts)
                yield signed_batch(batch, texts, plan.options)


def signed_batch(batch: pa.RecordBatch, texts: list[str], options: Options):
    """-> facts FACTS[n], ids in UTF-8, signatures u1[n, SIZE], subjects[n] (of no rows without near-duplicates)."""
    digests, lengths, signature = signatures.describe(texts, near=options.similarity > 0)
    titles = map(subjects.title_of, batch["meta"].to_pylist())
    subject = subjects.describe(texts, titles) if options.similarity else np.zeros(0, subjects.SUBJECT)
    facts = np.zeros(len(texts), work_files.FACTS)
    facts["digest"], facts["length"] = digests.view("u8"), lengths
    facts["quality"] = quality(batch)
    rank = {documents.safe_name(source): place for place, source in enumerate(options.sources)}
    facts["priority"] = [rank.get(source, len(rank)) for source in batch["source"].to_pylist()]
    return facts, [name.encode() for name in batch["id"].to_pylist()], signature, subject


def quality(batch: pa.RecordBatch) -> np.ndarray | float:
    """f8[n] of the column `quality`, -inf where it is empty: such documents come last."""
    if "quality" not in batch.schema.names:
        return 0.0
    kind = batch.schema.field("quality").type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise UserError(f"column quality holds {kind}, not numbers; rename it, or make it a number, more is better")
    scores = batch["quality"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.where(np.isnan(scores), -np.inf, scores)


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
    """Changes by exact duplicates, then by near ones: the last change of a row counts."""
    return [*groups["exact"], *groups.get("near", ())]


def read_without(joined: tuple[int, dict], plan: Plan) -> Iterator[pa.RecordBatch]:
    """(number, {"path": [path], "exact", "near", "forwarded", "lines"}) -> the file's batches without what goes."""
    number, groups = joined
    (path,), changes = groups["path"], changes_of(groups)
    fates = work_files.settled(plan.work, number, changes)
    lines, start = paragraphs.by_row(groups.get("lines", ())), 0
    with sidecars.Sidecars(plan, number, [*changes, *groups.get("forwarded", ())]) as writer:
        for batch in documents.read_counted(File(number, path), plan.folder, plan.columns):
            fate = fates[start : start + batch.num_rows]
            reasons = [REASONS.get(f) for f in fate.tolist()]
            if lines:
                batch, reasons = without_lines(batch, reasons, start, lines, plan.folder)
            writer.add(batch["id"], reasons, start)
            start += batch.num_rows
            yield documents.keep(with_copies(batch, fate), reasons, plan.folder)


def without_lines(batch: pa.RecordBatch, reasons: list, start: int, lines: dict[int, set[int]], folder: Path):
    texts = paragraphs.without(batch["text"].to_pylist(), start, lines)
    empty = [reason is None and start + n in lines and not text.strip()
             for n, (reason, text) in enumerate(zip(reasons, texts, strict=True))]  # fmt: skip
    reasons = ["repeated_paragraphs" if e else reason for e, reason in zip(empty, reasons, strict=True)]
    split = (text.split("\n") for text in batch["text"].to_pylist())
    gone = [[row[n] for n in sorted(lines.get(start + place, ()))] for place, row in enumerate(split)]
    taken.add_lines(batch, gone, folder)
    return documents.replace(batch, "text", texts), reasons


def with_copies(batch: pa.RecordBatch, fate: np.ndarray) -> pa.RecordBatch:
    if "copies" in batch.schema.names:  # of an earlier run of this job
        batch = batch.drop_columns(["copies"])
    return batch.append_column("copies", pa.array(np.maximum(fate, 0), pa.int64()))


# The pipeline


def build(pipeline: beam.Pipeline, files: list[File], run: Run):
    """What a task reads on disk was written before it starts: it has the counts of all files as a side input."""
    earlier = map(File, itertools.count(len(files)), sidecars.find_earlier(run.options.against))
    plan = work_files.plan_of(run, len(files), run.options.similarity, not run.options.any_subject)
    work = plan.work
    signed = documents.spread(pipeline, [*files, *earlier]) | "Sign" >> beam.Map(sign, plan)
    exact = spread_tasks(pipeline, "Exact", signed, 1) | "ExactGroups" >> beam.FlatMap(
        buckets.exact_groups, beam.pvalue.AsList(signed), work
    )
    changes = {"exact": exact} | ({"near": near(pipeline, signed, exact, work)} if work.similarity else {})
    if plan.options.groups and work.similarity:
        changes["forwarded"] = forwarded(exact, changes["near"])
    own = {name: change | f"Own_{name}" >> beam.Filter(is_own, work) for name, change in changes.items()}
    own["path"] = pipeline | "Paths" >> beam.Create(list(map(tuple, files)))
    if plan.options.paragraphs:
        own["lines"] = repeated_paragraphs(pipeline, own, work)
    joined = own | "ChangesOfFile" >> beam.CoGroupByKey()
    batches = joined | "ReadWithout" >> beam.FlatMap(read_without, plan)
    return batches | "Write" >> beam.ParDo(documents.WriteParts(run.folder))


def near(pipeline: beam.Pipeline, signed, exact, work: Work):
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


def forwarded(exact, near):
    """Changes of exact duplicates of a document that goes as a near one: `kept` is now what stays in its place."""
    kept = {"exact": exact | "ByKept" >> beam.FlatMap(buckets.by_kept), "near": near}
    return kept | "KeptOfFile" >> beam.CoGroupByKey() | "Forward" >> beam.FlatMap(buckets.forward)


def repeated_paragraphs(pipeline: beam.Pipeline, changes: dict, work: Work):
    settled = changes | "SettledOfFile" >> beam.CoGroupByKey() | "Settled" >> beam.Map(write_settled, work)
    return spread_tasks(pipeline, "Lines", settled, 1) | "Repeats" >> beam.FlatMap(
        paragraphs.repeats, beam.pvalue.AsList(settled), work
    )


def is_own(change: tuple, work: Work) -> bool:
    """Of this input, not of an earlier run."""
    return change[0] < work.first_earlier


def finish(run: Run) -> None:
    for work in run.folder.glob("work-*"):
        shutil.rmtree(work)
    sidecars.write_sums(run.folder)


def check(options: Options) -> None:
    if options.similarity and not 0.5 <= options.similarity <= 1:
        raise UserError(
            f"--similarity={options.similarity} is neither 0 nor from 0.5 to 1; below, documents share but a topic"
        )
    if options.paragraphs < 0:
        raise UserError(f"--paragraphs={options.paragraphs} is no number of characters; use 1 or more, 0 for none")
    if not options.similarity and (options.signatures or options.against):
        raise UserError("--similarity=0 makes no signatures, which --signatures and --against need; give 0.8")
    sidecars.find_earlier(options.against)


COUNTS = {
    "exact_duplicate": "", "near_duplicate": "similarity", "exact_duplicate_of_earlier": "against",
    "near_duplicate_of_earlier": "against", "repeated_paragraphs": "paragraphs",
}  # fmt: skip
STAGE = Stage(
    "dedup", "one of each group of duplicates", __doc__, Options, build, COUNTS, check, reads="against", finish=finish,
    files=(*DOCUMENT_FILES, "signatures/", "groups/"), readings=2,
)  # fmt: skip
run = STAGE.run

if __name__ == "__main__":
    job.main(run)
