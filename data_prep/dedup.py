"""Exact duplicates: documents whose text is the same but for case, width, blanks and punctuation.

    python -m data_prep.dedup --input=clean/ --output=dedup/

Of each group the document with the smallest (id, file, row) stays; the others are dropped as `exact_duplicate`.
The job reads its input twice: first for digests, then to drop rows.  What is grouped are digests, ids and row
numbers, never texts, so the data that moves between workers is some 60 bytes a document.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import pyarrow as pa

from data_prep import documents, job

_NOT_WORD = re.compile(r"[\W_]+")


@functools.lru_cache(1 << 16)
def _symbols(run: str) -> str:
    """What counts in a run between words: symbols and marks (C♯ is not C, nor is 5€ 5), not blanks or punctuation."""
    return "".join(c for c in run if unicodedata.category(c)[0] in "SM")


def digest(text: str) -> bytes:
    """16 bytes, the same for texts that differ in case, width, blanks and punctuation only."""
    same = _NOT_WORD.sub(lambda run: _symbols(run[0]), unicodedata.normalize("NFKC", text).casefold())
    # Texts of nothing but punctuation would all be one; they count as they are.
    return hashlib.sha256((same or text).encode()).digest()[:16]


def digests(file: tuple[int, str]) -> Iterator[tuple[bytes, tuple[str, int, int]]]:
    """(number, path) -> (digest, (id, number, row)) of each document; rows count from 0 in the order of reading."""
    number, path = file
    row = 0
    for batch, _ in documents.read_batches(path):
        for text, name in zip(batch["text"].to_pylist(), batch["id"].to_pylist(), strict=True):
            yield digest(text), (name, number, row)
            row += 1


def all_but_first(group: tuple[bytes, Iterable[tuple[str, int, int]]]) -> Iterator[tuple[int, int]]:
    """One digest's documents -> (file number, row) of those to drop."""
    _, places = group
    first = min(places)
    for place in places:
        if place != first:
            yield place[1:]


def read_without(joined: tuple[int, dict], folder: Path) -> Iterator[pa.RecordBatch]:
    """(file number, {"path": [path], "rows": rows to drop}) -> the file's batches without these rows."""
    number, groups = joined
    (path,), drop, start = groups["path"], set(groups["rows"]), 0
    for batch in documents.read_counted((number, path), folder):
        rows = range(start, start + batch.num_rows)
        yield documents.keep(batch, ["exact_duplicate" if row in drop else None for row in rows])
        start = rows.stop


class ReadWithoutDuplicates(beam.PTransform):
    """Pipeline -> batches of the documents of these files, one of each group."""

    def __init__(self, files: list[str], folder: Path):
        super().__init__()
        self.files, self.folder = list(enumerate(files)), folder

    def expand(self, pipeline):
        files = pipeline | "Files" >> beam.Create(self.files)
        drops = (
            files
            | "SpreadFiles" >> beam.Reshuffle()
            | "Digests" >> beam.FlatMap(digests)
            | "SameDigest" >> beam.GroupByKey()
            | "AllButFirst" >> beam.FlatMap(all_but_first)
        )
        joined = {"path": files, "rows": drops} | "DropsOfFile" >> beam.CoGroupByKey()
        return joined | "ReadWithout" >> beam.FlatMap(read_without, self.folder)


def run(argv: list[str] | None = None) -> dict:
    args, beam_args = job.parser(__doc__).parse_known_args(argv)

    def build(pipeline: beam.Pipeline, files: list[str], folder: Path):
        batches = pipeline | "Dedup" >> ReadWithoutDuplicates(files, folder)
        return batches | "Write" >> beam.ParDo(documents.WriteParts(folder))

    return job.run_job(args, beam_args, build)


if __name__ == "__main__":
    job.main(run)
