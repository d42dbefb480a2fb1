"""Which questions stand in training data: documents, or packed rows, whose segments are read as text again.

A question counts as contamination.py has it: whole, or 13 words of it with an answer beside them.  That its answer is
stated somewhere is no overlap: that is what training is for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam

from data_prep.entities import candidates
from data_prep.jobs import documents, job
from data_prep.packing import pack
from data_prep.text import contamination
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_lines
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import read_shard, segment_numbers
from mucpt_jax.formats.tokenizer import check_same_tokenizer, load_tokenizer

TEXTS = 256  # segments looked through at once


class Part(NamedTuple):
    """A file of documents, or a shard of rows."""

    number: int
    where: str  # as the user named it
    path: str
    shard: int  # of the folder `path`; -1 of documents


def parts_of(names: tuple[str, ...], tokenizer: str) -> list[Part]:
    """UserError where one holds neither documents nor rows, or where rows come without their tokenizer."""
    parts: list[Part] = []
    for name in names:
        if (Path(name) / "manifest.json").is_file():
            if not tokenizer:
                raise UserError(f"--against={name} holds rows, which --tokenizer=FOLDER alone can read; name it")
            check_same_tokenizer(name, tokenizer)
            parts += [Part(0, name, name, shard) for shard in range(len(read_manifest(name)["shards"]))]
        else:
            parts += [Part(0, name, path, -1) for path in job.find_files(name)]
    return [part._replace(number=number) for number, part in enumerate(parts)]


def build(pipeline: beam.Pipeline, parts: list[Part], questions: str, tokenizer: str, work: Path) -> object:
    tasks = pipeline | "Parts" >> beam.Create(parts) | "SpreadParts" >> beam.Reshuffle()
    return tasks | "LookFor" >> beam.Map(look, questions, tokenizer, work)


def look(part: Part, questions: str, tokenizer: str, work: Path) -> None:
    """Writes the part's overlaps: {question, kind, document, where}."""
    table, overlaps, held = contamination.load((questions,)), {}, []

    def search() -> None:
        for (name, _), words in zip(held, contamination.words_of([text for _, text in held]), strict=True):
            for question, kind in contamination.hits(words, table):
                overlaps.setdefault((question, name), kind)
        held.clear()

    for pair in texts_of(part, tokenizer):
        held.append(pair)
        if len(held) >= TEXTS:
            search()
    search()
    lines = [{"question": question, "kind": kind, "document": name, "where": part.where}
             for (question, name), kind in sorted(overlaps.items())]  # fmt: skip
    candidates.rewrite(work / f"overlaps-{part.number:05d}.jsonl", lines)


def texts_of(part: Part, tokenizer: str) -> Iterator[tuple[str, str]]:
    """(document id, text); of rows a segment's text."""
    if part.shard < 0:
        for batch, _ in documents.read_batches(part.path):
            yield from zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)
        return
    manifest, reader = read_manifest(part.path), load_tokenizer(tokenizer)
    facts = manifest["shards"][part.shard]
    names = iter(pack.read_index(part.path, facts)["document"])
    for row in read_shard(Path(part.path) / facts["name"], manifest["sequence_length"]):
        numbers = segment_numbers(row["segment_ids"])
        for segment in range(1, int(numbers.max()) + 1):
            yield next(names), reader.decode(row["tokens"][numbers == segment].tolist())


def overlaps(work: Path) -> list[dict]:
    return [line for file in sorted(work.glob("overlaps-*.jsonl")) for line in read_lines(file)]
