"""Boilerplate: lines that stand in many documents of a source go from all of them.

    python -m data_prep.boilerplate --input=clean/ --output=out/ [--min_documents=20] [--min_share=0.02]

A line repeats where --min_documents documents of its source, and --min_share of them, have one of the same key: the
same but for case, punctuation, dates, addresses and the names in a byline (line_keys.py).  It goes (`repeated_line`) if
it is --min_letters long, of which a Han character counts two, or holds an address, a link, ©, a counter or a byline.
Plain text with a date goes only where a quarter of the documents have it, as they have what a site writes under all
its pages: laws of one day come into force in the same words.  Headings, turns of a dialogue and short lines stay:
references, answers and list entries repeat by right.  A chorus is counted once a document.  A document of nothing else
goes as `only_repeated_lines`.

A page that was crawled many times makes none of its lines boilerplate: of documents of the same lines one counts, and
of others only those with a tenth of their letters in lines of their own, that is, in lines that do not repeat.

lines.jsonl has the lines that went, the most frequent first: {"source", "documents", "text"}, private data masked.

The job reads its input twice: for keys, then to remove lines.  Between lie tables of keys in a work folder inside the
output, some 25 bytes a line (repeats.py); what Beam passes on are keys that repeat, never texts.
"""

import argparse
import json
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from data_prep.duplicates import repeats, work_files
from data_prep.duplicates.repeats import DOCUMENT, REPEATED, Options
from data_prep.duplicates.work_files import Work, spread_tasks
from data_prep.jobs import documents, job
from data_prep.private.masking import mask_text
from data_prep.text.line_keys import DATED, LINE, STAYS, TEMPLATE
from mucpt_jax.errors import UserError

OWN = (*job.DOCUMENT_FILES, "lines.jsonl")
DATED_SHARE = 0.25  # least share of documents, for a DATED line
EXAMPLES = 2000  # lines in lines.jsonl
EXAMPLE_CHARACTERS = 300


# Lines go


def read_without(file: tuple[int, str], repeated: np.ndarray, options: Options) -> Iterator[pa.RecordBatch]:
    number, _ = file
    lines = work_files.mapped(options.work.path(number, "lines"), LINE)
    ends = work_files.mapped(options.work.path(number, "documents"), DOCUMENT)["end"]
    told, start, first = {}, 0, 0
    for batch in documents.read_counted(file, options.folder, options.columns):
        last = ends[start : start + batch.num_rows]
        found = lines[first : int(last[-1])]
        place = repeats.places(found["key"], repeated)
        place[~may_go(found, place, repeated, options)] = -1
        yield without_lines(batch, place, np.diff(last, prepend=first), told, options)
        start, first = start + batch.num_rows, int(last[-1])
    with work_files.fresh(options.work.path(number, "told")) as f:
        f.write(json.dumps([[place, *rest] for place, rest in told.items()]).encode())


def may_go(lines: np.ndarray, place: np.ndarray, repeated: np.ndarray, options: Options) -> np.ndarray:
    text = (lines["form"] != STAYS) & (lines["width"] >= options.min_letters)
    rare = np.append(repeated["share"] < DATED_SHARE, True)[place]
    return (lines["form"] == TEMPLATE) | (text & ~(rare & (lines["form"] == DATED)))


def without_lines(batch: pa.RecordBatch, place: np.ndarray, sizes: np.ndarray, told: dict, options: Options):
    """A batch whose texts have `sizes` lines, without those whose place is not -1; `told` is for lines.jsonl."""
    texts, reasons = batch["text"].to_pylist(), [None] * batch.num_rows
    ends = np.cumsum(sizes)
    changed = np.unique(np.repeat(np.arange(len(sizes)), sizes)[place >= 0]).tolist()
    for row in changed:
        split, here = texts[row].split("\n"), place[ends[row] - sizes[row] : ends[row]].tolist()
        tell(told, split, here)
        texts[row] = tidy(line for line, key in zip(split, here, strict=True) if key < 0)
        reasons[row] = None if texts[row] else "only_repeated_lines"
    documents.count("repeated_line", int((place >= 0).sum()), namespace="lines")
    documents.count("repeated_line", len(changed), namespace="changed")
    return documents.keep(documents.replace(batch, "text", texts) if changed else batch, reasons, options.folder)


def tell(told: dict[int, tuple[int, str]], lines: list[str], places: list[int]) -> None:
    """Of one document's lines: {place in REPEATED: (documents that it went from, the smallest line)}"""
    for key, line in {key: line.strip() for line, key in zip(lines, places, strict=True) if key >= 0}.items():
        count, smallest = told.get(key, (0, line))
        told[key] = count + 1, min(line, smallest)


def tidy(lines: Iterable[str]) -> str:
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip()


# The pipeline


def add_steps(pipeline: beam.Pipeline, files: list[str], options: Options):
    """Pipeline -> batches without the lines that repeat; what a task reads on disk was written before it starts."""
    numbered = list(enumerate(files))
    scanned = (
        pipeline
        | "Files" >> beam.Create(numbered)
        | "Spread" >> beam.Reshuffle()
        | "Scan" >> beam.Map(repeats.scan, options)
    )
    copies = spread_tasks(pipeline, "Copy", scanned, 1) | "Copies" >> beam.FlatMap(
        repeats.copies, beam.pvalue.AsList(scanned), options.work
    )
    counted = (
        {"documents": scanned, "copies": copies}
        | "CopiesOfFile" >> beam.CoGroupByKey()
        | "Count" >> beam.Map(repeats.count, options.work)
    )
    lines = counted | "Lines" >> beam.Map(lambda file: (file.number, file.lines))
    all_counted = beam.pvalue.AsList(counted)
    found = spread_tasks(pipeline, "Key", lines, 1) | "Candidates" >> beam.Map(repeats.candidates, all_counted, options)
    all_found = beam.pvalue.AsList(found)
    repeated = (
        counted
        | "Recount" >> beam.Map(repeats.recount, all_found, all_counted, options)
        | "Sum" >> beam.CombineGlobally(sum)
        | "Settle" >> beam.Map(repeats.settle, all_found, all_counted, options)
    )
    return (
        pipeline
        | "FilesAgain" >> beam.Create(numbered)
        | "SpreadAgain" >> beam.Reshuffle()
        | "ReadWithout" >> beam.FlatMap(read_without, beam.pvalue.AsSingleton(repeated), options)
    )


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """(our flags, Beam's); UserError for what would fail only after hours of other stages."""
    parser = job.parser(__doc__)
    parser.add_argument("--min_documents", type=int, default=20, help="documents that a line repeats in (20)")
    parser.add_argument("--min_share", type=float, default=0.02, help="share of its source's documents (0.02)")
    parser.add_argument("--min_letters", type=int, default=30, help="of a line of plain text (30)")
    args, beam_args = parser.parse_known_args(argv)
    if args.min_documents < 2:
        raise UserError(f"--min_documents={args.min_documents} is below 2; a line repeats in two documents or more")
    if not 0 <= args.min_share <= 1:
        raise UserError(f"--min_share={args.min_share} is not from 0 to 1; it is a share of a source's documents")
    if args.min_letters < 1:
        raise UserError(f"--min_letters={args.min_letters} is no number of letters; use 1 or more")
    return args, beam_args


def run(argv: list[str] | None = None) -> dict:
    args, beam_args = parse(argv)

    def build(pipeline: beam.Pipeline, files: list[str], folder: Path):
        # A name of its own: arrays of a run before in this process may still be open.
        work = Work(folder / f"work-{uuid.uuid4().hex}", len(files), 0.0)
        work.folder.mkdir()
        bars = (args.min_documents, args.min_share, args.min_letters)
        batches = add_steps(pipeline, files, Options(folder, args.columns, work, *bars))
        return batches | "Write" >> beam.ParDo(documents.WriteParts(folder))

    return job.run_job(args, beam_args, build, finish, OWN, readings=2)


def finish(folder: Path) -> int:
    for work in folder.glob("work-*"):
        with open(folder / "lines.jsonl", "w", encoding="utf-8") as f:
            f.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in repeated_lines(work))
        shutil.rmtree(work)
    return job.kept_rows(folder)


def repeated_lines(work: Path) -> list[dict]:
    """Of each key that went the documents and the smallest line, the most frequent first."""
    repeated = work_files.mapped(work / "repeated", REPEATED)
    names = json.loads((work / "sources.json").read_text(encoding="utf-8"))
    total = {}
    for path in work.glob("*.told"):
        for place, documents_, line in json.loads(path.read_bytes()):
            before, smallest = total.get(place, (0, line))
            total[place] = before + documents_, min(line, smallest)
    made = [
        {"source": names[repeated["source"][place]], "documents": count, "text": line}
        for place, (count, line) in total.items()
    ]
    made.sort(key=lambda line: (-line["documents"], line["source"], line["text"]))
    return [line | {"text": mask_text(line["text"])[0][:EXAMPLE_CHARACTERS]} for line in made[:EXAMPLES]]


if __name__ == "__main__":
    job.main(run)
