"""Boilerplate: lines that stand in many documents of a source go from all of them.

    python -m data_prep.boilerplate --input=clean/ --output=out/ [--min_documents=20] [--min_share=0.02]

A line repeats where --min_documents documents of its source, and the share --min_share of the source's documents, hold
a line of the same key: lines of one key differ only in case, punctuation, dates, addresses and the names in a byline
(line_keys.py).  A line that repeats goes (`repeated_line`) if it has --min_letters letters, of which a Han character
counts two, or holds an address, a link, ©, a counter or a byline.  Plain text with a date goes only where a quarter of
the source's documents have it, as a line under all pages of a site is; else it stays, since laws of one day come into
force in the same words.  Headings, turns of a dialogue and short lines stay: references, answers and list entries
repeat by right.  A document counts once for a line, however often it has it, such as a chorus.  A document whose lines
all go is dropped as `only_repeated_lines`.

A page that was crawled many times makes none of its lines boilerplate: documents with the same lines count as one
document, and a document counts only if more than a tenth of its letters stand in lines that do not repeat.

lines.jsonl has the lines that went, the most frequent first: {"source", "documents", "text"}, private data masked.

The job reads its input twice: for keys, then to remove lines.  Between lie tables of keys in a work folder inside the
output, some 25 bytes a line (repeats.py); what Beam passes on are keys that repeat, never texts.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from data_prep.duplicates import repeats, work_files
from data_prep.duplicates.repeats import DOCUMENT, REPEATED, Options
from data_prep.duplicates.work_files import Plan, spread_tasks
from data_prep.jobs import documents, job, notes
from data_prep.jobs.documents import File
from data_prep.jobs.stage import DOCUMENT_FILES, Run, Stage
from data_prep.private.masking import mask_text
from data_prep.text.line_keys import DATED, LINE, STAYS, TEMPLATE
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import Count, read_json

DATED_SHARE = 0.25  # least share of documents, for a DATED line
EXAMPLES = 2000  # lines in lines.jsonl
EXAMPLE_CHARACTERS = 300


def read_without(file: File, repeated: np.ndarray, plan: Plan) -> Iterator[pa.RecordBatch]:
    lines = work_files.mapped(plan.work.path(file.number, "lines"), LINE)
    ends = work_files.mapped(plan.work.path(file.number, "documents"), DOCUMENT)["end"]
    removed, start, first = {}, 0, 0
    for batch in documents.read_counted(file, plan.folder, plan.columns):
        last = ends[start : start + batch.num_rows]
        read = lines[first : int(last[-1])]
        place = repeats.places(read["key"], repeated)
        place[~may_go(read, place, repeated, plan.options)] = -1
        yield without_lines(batch, place, np.diff(last, prepend=first), removed, plan.folder)
        start, first = start + batch.num_rows, int(last[-1])
    with work_files.fresh(plan.work.path(file.number, "removed")) as f:
        f.write(json.dumps([[place, *rest] for place, rest in removed.items()]).encode())


def may_go(lines: np.ndarray, place: np.ndarray, repeated: np.ndarray, options: Options) -> np.ndarray:
    text = (lines["form"] != STAYS) & (lines["width"] >= options.min_letters)
    rare = np.append(repeated["share"] < DATED_SHARE, True)[place]
    return (lines["form"] == TEMPLATE) | (text & ~(rare & (lines["form"] == DATED)))


def without_lines(batch: pa.RecordBatch, place: np.ndarray, sizes: np.ndarray, removed: dict, folder: Path):
    """A batch whose texts have `sizes` lines, without those whose place is not -1; `removed` is for lines.jsonl."""
    texts, reasons = batch["text"].to_pylist(), [None] * batch.num_rows
    ends = np.cumsum(sizes)
    changed = np.unique(np.repeat(np.arange(len(sizes)), sizes)[place >= 0]).tolist()
    for row in changed:
        split, here = texts[row].split("\n"), place[ends[row] - sizes[row] : ends[row]].tolist()
        add_removed(removed, split, here)
        texts[row] = tidy(line for line, key in zip(split, here, strict=True) if key < 0)
        reasons[row] = None if texts[row] else "only_repeated_lines"
    documents.count("repeated_line", int((place >= 0).sum()), namespace="lines")
    documents.count("repeated_line", len(changed), namespace="changed")
    return documents.keep(documents.replace(batch, "text", texts) if changed else batch, reasons, folder)


def add_removed(removed: dict[int, tuple[int, str]], lines: list[str], places: list[int]) -> None:
    """Adds one document to {place in REPEATED: (documents that lost such a line, the smallest such line)}"""
    for key, line in {key: line.strip() for line, key in zip(lines, places, strict=True) if key >= 0}.items():
        count, smallest = removed.get(key, (0, line))
        removed[key] = count + 1, min(line, smallest)


def tidy(lines: Iterable[str]) -> str:
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip()


def build(pipeline: beam.Pipeline, files: list[File], run: Run):
    """Pipeline -> batches without the lines that repeat; what a task reads on disk was written before it starts."""
    plan = work_files.plan_of(run, len(files), 0.0)
    scanned = documents.spread(pipeline, files) | "Scan" >> beam.Map(repeats.scan, plan)
    copies = spread_tasks(pipeline, "Copy", scanned, 1) | "Copies" >> beam.FlatMap(
        repeats.copies, beam.pvalue.AsList(scanned), plan.work
    )
    counted = (
        {"documents": scanned, "copies": copies}
        | "CopiesOfFile" >> beam.CoGroupByKey()
        | "Count" >> beam.Map(repeats.count, plan.work)
    )
    lines = counted | "Lines" >> beam.Map(lambda file: (file.number, file.lines))
    all_counted = beam.pvalue.AsList(counted)
    keyed = spread_tasks(pipeline, "Key", lines, 1)
    candidates = beam.pvalue.AsList(keyed | "Candidates" >> beam.Map(repeats.candidates, all_counted, plan))
    repeated = (
        counted
        | "Recount" >> beam.Map(repeats.recount, candidates, all_counted, plan)
        | "Sum" >> beam.CombineGlobally(sum)
        | "Settle" >> beam.Map(repeats.settle, candidates, all_counted, plan)
    )
    again = documents.spread(pipeline, files, "FilesAgain")
    batches = again | "ReadWithout" >> beam.FlatMap(read_without, beam.pvalue.AsSingleton(repeated), plan)
    return batches | "Write" >> beam.ParDo(documents.WriteParts(run.folder))


def finish(run: Run) -> None:
    for work in run.folder.glob("work-*"):
        notes.add_lines(run.folder / "lines.jsonl", repeated_lines(work))
        shutil.rmtree(work)


def repeated_lines(work: Path) -> list[dict]:
    """Of each key that went, how many documents lost a line and the smallest such line; the most frequent key first."""
    repeated = work_files.mapped(work / "repeated", REPEATED)
    names = read_json(work / "sources.json", list[str])
    total = {}
    for path in work.glob("*.removed"):
        for place, documents_, line in read_json(path, list[tuple[Count, Count, str]]):
            before, smallest = total.get(place, (0, line))
            total[place] = before + documents_, min(line, smallest)
    lines = [
        {"source": names[repeated["source"][place]], "documents": count, "text": line}
        for place, (count, line) in total.items()
    ]
    lines.sort(key=lambda line: (-line["documents"], line["source"], line["text"]))
    return [line | {"text": mask_text(line["text"])[0][:EXAMPLE_CHARACTERS]} for line in lines[:EXAMPLES]]


def check(options: Options) -> None:
    if options.min_documents < 2:
        raise UserError(f"--min_documents={options.min_documents} is below 2; a line repeats in two documents or more")
    if not 0 <= options.min_share <= 1:
        raise UserError(f"--min_share={options.min_share} is not from 0 to 1; it is a share of a source's documents")
    if options.min_letters < 1:
        raise UserError(f"--min_letters={options.min_letters} is no number of letters; use 1 or more")


STAGE = Stage(
    "boilerplate", "lines of navigation, and lines that repeat", __doc__, Options, build, check=check, finish=finish,
    counts={"only_repeated_lines": "min_share"}, files=(*DOCUMENT_FILES, "lines.jsonl"), readings=2,
)  # fmt: skip
run = STAGE.run

if __name__ == "__main__":
    job.main(run)
