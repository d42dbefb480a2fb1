"""Mask private data: e-mail addresses, phone numbers, identity cards and the like become <|email|>, <|phone|>, ...

    python -m data_prep.mask --input=docs/ --output=masked/ [--placeholder='<|{type}|>']

Drops no document.  counts.json gains {"masked": {"documents": n, type: hits}}; what was masked is in no log, counter or
file.  private.py says what counts as private.
"""

import argparse
from collections import Counter
from pathlib import Path

import apache_beam as beam
import pyarrow as pa

from data_prep import documents, job, private
from data_prep.private import find
from data_prep.private_numbers import EDGES
from mucpt_jax.records import UserError

PLACEHOLDER = "<|{type}|>"


def mask_text(text: str, placeholder: str = PLACEHOLDER) -> tuple[str, dict[str, int]]:
    """-> (masked text, {type: hits}); masking a masked text changes nothing."""
    pieces, last, hits = [], 0, Counter()
    for start, end, kind in find(text):
        pieces += [text[last:start], placeholder.replace("{type}", kind)]
        last = end
        hits[kind] += 1
    return "".join([*pieces, text[last:]]), dict(hits)


def check_placeholder(placeholder: str) -> None:
    """UserError where a placeholder could be taken for private data, or for part of it, in the next run."""
    made = [placeholder.replace("{type}", kind) for kind in private.TYPES]
    bare = any(not text or text[0] not in EDGES or text[-1] not in EDGES for text in made)
    if "{type}" not in placeholder or "\n" in placeholder or bare or any(map(find, made)):
        raise UserError(
            f"--placeholder={placeholder} will not do; it must contain {{type}}, begin and end with one of "
            f"{' '.join(EDGES)}, and hold no private data itself, as {PLACEHOLDER} does"
        )


def mask_batch(batch: pa.RecordBatch, placeholder: str = PLACEHOLDER) -> pa.RecordBatch:
    masked = [mask_text(text, placeholder) for text in batch["text"].to_pylist()]
    documents.count("documents", sum(bool(hits) for _, hits in masked), namespace="masked")
    for kind in private.TYPES:
        documents.count(kind, sum(hits.get(kind, 0) for _, hits in masked), namespace="masked")
    return documents.replace(batch, "text", [text for text, _ in masked])


class Mask(beam.PTransform):
    """Batches -> batches whose text has placeholders for private data; ids and other columns stay."""

    def __init__(self, placeholder: str = PLACEHOLDER):
        super().__init__()
        check_placeholder(placeholder)
        self.placeholder = placeholder

    def expand(self, batches):
        return batches | "MaskBatch" >> beam.Map(mask_batch, self.placeholder)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--placeholder",
        default=PLACEHOLDER,
        help=f"stands for what was masked; {{type}} is one of {', '.join(private.TYPES)} (default {PLACEHOLDER})",
    )


def run(argv: list[str] | None = None) -> dict:
    parser = job.parser(__doc__)
    add_arguments(parser)
    args, beam_args = parser.parse_known_args(argv)
    check_placeholder(args.placeholder)

    def build(pipeline: beam.Pipeline, files: list[str], folder: Path):
        batches = pipeline | "Read" >> documents.Read(files, folder)
        return (
            batches | "Mask" >> Mask(args.placeholder) | "Write" >> beam.ParDo(documents.WriteParts(folder))
        )

    return job.run_job(args, beam_args, build)


if __name__ == "__main__":
    job.main(run)
