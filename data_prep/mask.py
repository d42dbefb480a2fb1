"""Mask private data: e-mail addresses, phone numbers, identity cards and the like become <|email|>, <|phone|>, ...

    python -m data_prep.mask --input=docs/ --output=masked/ [--placeholder='<|{type}|>']

Drops no document; masks texts and the values in `meta`, never ids.  counts.json gains
{"masked": {"documents": n, type: hits}}; what was masked is in no log, counter or file.  private/masking.py
says what counts as private.
"""

import argparse
import functools
from collections import Counter
from pathlib import Path

import pyarrow as pa

from data_prep.jobs import documents, job
from data_prep.private import masking
from data_prep.private.masking import PLACEHOLDER, check_placeholder, mask_meta, mask_text


def mask_batch(batch: pa.RecordBatch, folder: Path, placeholder: str = PLACEHOLDER) -> pa.RecordBatch:
    """Text and meta with placeholders for private data; ids and other columns stay."""
    texts = [mask_text(text, placeholder) for text in batch["text"].to_pylist()]
    metas = [mask_meta(meta, placeholder) for meta in batch["meta"].to_pylist()]
    found = [Counter(a) + Counter(b) for (_, a), (_, b) in zip(texts, metas, strict=True)]
    documents.count("documents", sum(map(bool, found)), namespace="masked")
    for kind, hits in sum(found, Counter()).items():
        documents.count(kind, hits, namespace="masked")
    batch = documents.replace(batch, "meta", [meta for meta, _ in metas])
    return documents.replace(batch, "text", [text for text, _ in texts])


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """(our flags, Beam's); UserError for what would fail only after hours of other stages."""
    parser = job.parser(__doc__)
    parser.add_argument(
        "--placeholder",
        default=PLACEHOLDER,
        help=f"stands for what was masked; {{type}} is one of {', '.join(masking.TYPES)} (default {PLACEHOLDER})",
    )
    args, beam_args = parser.parse_known_args(argv)
    check_placeholder(args.placeholder)
    return args, beam_args


def run(argv: list[str] | None = None) -> dict:
    args, beam_args = parse(argv)
    return job.run_map(args, beam_args, functools.partial(mask_batch, placeholder=args.placeholder))


if __name__ == "__main__":
    job.main(run)
