"""Notes: what the tasks of a job leave beside its parts, merged into a few files when all is done.

    rejects.jsonl      file and line of what was no document, and the reason; never its text
    samples.jsonl      a few dropped documents of each reason: {"reason", "id", "source", "lang", "text"}, text masked
    composition.json   {"read": rows, "kept": rows}, a row is {"source", "lang", "documents", "characters", "bytes"};
                       "dropped": [{"source", "reason", "documents"}] and "lines": [{"source", "lines"}] that went
    lines.jsonl        the most frequent lines that went of each source: {"source", "documents", "text"}, text masked

Every note is of one input file (`part`, five digits), so a task that a runner repeats replaces its own.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta

from data_prep.jobs import taken
from data_prep.private import masking
from mucpt_jax.formats.decode import Count, read_json, read_lines
from mucpt_jax.formats.files import write_json

FILES = ("rejects.jsonl", "samples.jsonl", "lines.jsonl", "composition.json", "counts.json")
SAMPLES = 20  # of a reason in samples.jsonl
SAMPLE_CHARACTERS = 300
SAMPLE_BYTES = 6000  # of a reason and an input file
MAX_KINDS = 1000  # pairs of source and language in composition.json; the smallest go together as "(other)"


class Sample(TypedDict):
    """A line of samples.jsonl."""

    reason: str
    id: str
    source: str
    lang: str
    text: str


class Rows(TypedDict):
    """Of a source and language in composition.json."""

    source: str
    lang: str
    documents: Count
    characters: Count
    bytes: Count
    tokens: NotRequired[Count]


class Drops(TypedDict):
    """Of a source and reason in composition.json."""

    source: str
    reason: str
    documents: Count


class Lines(TypedDict):
    """Of a source in composition.json: lines that were removed."""

    source: str
    lines: Count


class Sides(TypedDict, total=False):
    """composition.json"""

    read: list[Rows]
    kept: list[Rows]
    dropped: list[Drops]
    lines: list[Lines]


def forget(folder: Path, part: str) -> None:
    """What an attempt before left of this input file."""
    own = (pattern.format(part=part) for pattern in taken.PATTERNS)
    for name in (f"rejects-{part}.jsonl", f"samples-{part}.*.jsonl", *own):
        for note in Path(folder).glob(name):
            note.unlink()


def add_lines(path: Path, lines: Iterable[Mapping]) -> None:
    if not (lines := list(lines)):
        return
    with open(path, "a", encoding="utf-8") as f:
        f.writelines(line_of(line) for line in lines)


def line_of(values: Mapping) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def masked(text: str, most: int) -> str:
    """The first characters of a text with <type> for private data: samples go where the corpus does not."""
    # What stands over the edge is seen whole.
    spans = [span for span in masking.find(text[: 2 * most]) if span[0] < most]
    end = max(most, spans[-1][1] if spans else 0)
    return masking.replaced(text[:end], spans, "<{type}>")


def add_samples(batch: pa.RecordBatch, reasons: Sequence[str | None], folder: Path) -> None:
    part = batch.schema.metadata[b"part"].decode()
    for reason in sorted({reason for reason in reasons if reason}):
        path = Path(folder) / f"samples-{part}.{reason}.jsonl"
        rows = [row for row, given in enumerate(reasons) if given == reason][:SAMPLES]
        if not path.exists() or path.stat().st_size < SAMPLE_BYTES:
            add_lines(path, (sample(batch, row, reason) for row in rows))


def sample(batch: pa.RecordBatch, row: int, reason: str) -> dict:
    given = {name: masked(batch[name][row].as_py(), SAMPLE_CHARACTERS) for name in ("id", "source", "lang", "text")}
    return {"reason": reason} | given


Numbers = Annotated[list[Count], Meta(min_length=3, max_length=4)]  # documents, characters, bytes; of rows tokens too


class Composition(dict):
    """{(source, lang): [documents, characters, bytes]}"""

    def add(self, batch: pa.RecordBatch) -> None:
        sizes = [pc.utf8_length(batch["text"]), pc.binary_length(batch["text"])]
        table = pa.table([batch["source"], batch["lang"], *sizes], ["source", "lang", "characters", "bytes"])
        sums = table.group_by(["source", "lang"]).aggregate(
            [("characters", "count"), ("characters", "sum"), ("bytes", "sum")]
        )
        for source, lang, *numbers in zip(*(column.to_pylist() for column in sums.columns), strict=True):
            self.add_numbers((source, lang), numbers)

    def add_numbers(self, kind: tuple[str, str], numbers: list[int]) -> None:
        self[kind] = [a + b for a, b in zip_longest(self.get(kind, []), numbers, fillvalue=0)]

    def write(self, folder: Path, side: str, part: str) -> None:
        write_json(Path(folder) / f"{side}-{part}.composition", [[*kind, self[kind]] for kind in self])


def merge_composition(folder: Path) -> None:
    sides = {}
    for side in ("read", "kept"):
        total = Composition()
        for path in sorted(Path(folder).glob(f"{side}-*.composition")):
            for source, lang, numbers in read_json(path, list[tuple[str, str, Numbers]]):
                total.add_numbers((source, lang), numbers)
            path.unlink()
        sides[side] = list(rows_of(total))
    write_json(Path(folder) / "composition.json", sides | taken.merged(folder))


def rows_of(total: Composition) -> Iterator[dict]:
    """By source and language; rows of `shard` have tokens too."""
    largest = sorted(total, key=lambda kind: (-total[kind][1], kind))
    if len(largest) > MAX_KINDS:
        small, total = largest[MAX_KINDS - 1 :], Composition(total)
        for kind in small:
            total.add_numbers(("(other)", ""), total.pop(kind))
    names = ("documents", "characters", "bytes", "tokens")
    for source, lang in sorted(total):
        yield {"source": source, "lang": lang, **dict(zip(names, total[source, lang], strict=False))}


def merge(folder: Path) -> None:
    merge_rejects(folder)
    merge_samples(folder)
    merge_composition(folder)
    add_lines(folder / "lines.jsonl", taken.frequent_lines(folder))
    for path in folder.glob("*.progress"):
        path.unlink()


def merge_rejects(folder: Path) -> None:
    for piece in sorted(folder.glob("rejects-*.jsonl")):
        with open(folder / "rejects.jsonl", "ab") as merged, open(piece, "rb") as f:
            shutil.copyfileobj(f, merged)
        piece.unlink()


def merge_samples(folder: Path) -> None:
    """Keeps, of each reason, samples whose ids have the smallest hashes: from all of the corpus, the same each run."""
    pieces = sorted(folder.glob("samples-*.jsonl"))
    for reason in sorted({piece.name.split(".")[1] for piece in pieces}):
        chosen = []
        for piece in (piece for piece in pieces if piece.name.split(".")[1] == reason):
            chosen = sorted(chosen + read_lines(piece, Sample), key=rank)[:SAMPLES]
            piece.unlink()
        add_lines(folder / "samples.jsonl", chosen)


def rank(sample: Sample) -> tuple:
    return hashlib.sha256(sample["id"].encode()).digest(), line_of(sample)
