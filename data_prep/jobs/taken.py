"""What a job takes away, by source: documents by reason, and lines with what they say.

Tasks add to two notes of their input file; merged, they are part of composition.json and lines.jsonl (see notes.py).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from data_prep.private.masking import mask_text
from mucpt_jax.formats.decode import read_lines

LINES = 20  # of a source in lines.jsonl
LINE_CHARACTERS = 300
LINE_BYTES = 256 << 10  # of removed lines that are noted of one input file; all are counted
HELD = 100_000  # different lines in memory while notes are merged
MAX_KINDS = 1000  # pairs of source and reason; the smallest go together as "(other)"
PATTERNS = ("taken-{part}.jsonl", "removed-{part}.jsonl")


def add_drops(batch: pa.RecordBatch, reasons: Sequence[str | None], folder: Path) -> None:
    sources = batch["source"].to_pylist()
    gone = Counter((source, reason) for source, reason in zip(sources, reasons, strict=True) if reason)
    append(note(batch, folder, "taken"), ([*kind, number] for kind, number in sorted(gone.items())))


def add_lines(batch: pa.RecordBatch, removed: Sequence[Sequence[str]], folder: Path, texts: bool = True) -> None:
    """`removed`: of each document the lines that it lost; not `texts`: only how many, as the job has its own list."""
    sources = batch["source"].to_pylist()
    numbers, lines = Counter(), Counter()
    for source, gone in zip(sources, removed, strict=True):
        numbers[source] += len(gone)
        lines.update({(source, line[:LINE_CHARACTERS]) for line in gone} if texts else ())
    append(note(batch, folder, "taken"), ([source, "", number] for source, number in sorted(numbers.items()) if number))
    path = note(batch, folder, "removed")
    if lines and (not path.exists() or path.stat().st_size < LINE_BYTES):
        append(path, ([*line, number] for line, number in lines.most_common()))


def note(batch: pa.RecordBatch, folder: Path, name: str) -> Path:
    return Path(folder) / f"{name}-{batch.schema.metadata[b'part'].decode()}.jsonl"


def append(path: Path, rows: Iterable[list]) -> None:
    if lines := [json.dumps(row, ensure_ascii=True) + "\n" for row in rows]:
        with open(path, "a", encoding="ascii") as f:
            f.writelines(lines)


def merged(folder: Path) -> dict[str, list[dict]]:
    """{"dropped": [{source, reason, documents}], "lines": [{source, lines}]}, the most frequent first."""
    total = Counter()
    for source, reason, number in rows_of(folder, "taken"):
        total[source, reason] += number
    few = Counter()
    for place, ((source, reason), number) in enumerate(total.most_common()):
        few[source if place < MAX_KINDS else "(other)", reason] += number
    ranked = sorted(few.items(), key=lambda item: (-item[1], item[0]))
    return {
        "dropped": [{"source": source, "reason": why, "documents": n} for (source, why), n in ranked if why],
        "lines": [{"source": source, "lines": n} for (source, why), n in ranked if not why],
    }


def frequent_lines(folder: Path) -> list[dict]:
    """[{source, documents, text}]: the LINES most frequent of each source, private data masked."""
    total = Counter()
    for source, line, number in rows_of(folder, "removed"):
        total[source, line] += number
        if len(total) > HELD:
            total = Counter(dict(total.most_common(HELD // 2)))
    ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"source": source, "documents": number, "text": mask_text(line)[0][:LINE_CHARACTERS]}
        for (source, line), number in first_of_each(ranked, lambda item: item[0][0], LINES)
    ]


def rows_of(folder: Path, name: str) -> Iterator[list]:
    """Rows of all notes of this name, which go."""
    for path in sorted(Path(folder).glob(f"{name}-*.jsonl")):
        yield from read_lines(path, list[str | int], "run the job again")
        path.unlink()


def first_of_each(rows: Iterable, key, most: int) -> Iterator:
    """The rows in their order, but no more than `most` of a key."""
    seen = Counter()
    for row in rows:
        seen[key(row)] += 1
        if seen[key(row)] <= most:
            yield row
