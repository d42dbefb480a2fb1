"""Mask private data: e-mail addresses, phone numbers, identity cards and the like become <|email|>, <|phone|>, ...

    python -m data_prep.mask --input=docs/ --output=masked/ [--placeholder='<|{type}|>'] [--addresses=owned]

Drops no document; masks texts and the values in `meta`, never ids.  counts.json gains
{"masked": {"documents": n, type: hits}}; what was masked is in no log, counter or file.  private/masking.py
says what counts as private.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data_prep.jobs import documents, job
from data_prep.jobs.options import option
from data_prep.jobs.stage import Stage, each_batch
from data_prep.private import masking
from data_prep.private.masking import PLACEHOLDER, check_placeholder, mask_meta, mask_text
from mucpt_jax.errors import UserError


@dataclass(frozen=True)
class Options:
    placeholder: str = option(PLACEHOLDER, f"stands for what was masked; {{type}} is one of {', '.join(masking.TYPES)}")
    addresses: str = option(
        masking.OWNED, "postal addresses: owned, of persons and after a contact phrase; all, of institutions too; none"
    )


def mask_batch(batch: pa.RecordBatch, folder: Path, options: Options) -> pa.RecordBatch:
    """Text and meta with placeholders for private data; ids and other columns stay."""
    texts = [mask_text(text, options.placeholder, options.addresses) for text in batch["text"].to_pylist()]
    metas = [mask_meta(meta, options.placeholder, options.addresses) for meta in batch["meta"].to_pylist()]
    hits = [Counter(a) + Counter(b) for (_, a), (_, b) in zip(texts, metas, strict=True)]
    documents.count("documents", sum(map(bool, hits)), namespace="masked")
    for kind, number in sum(hits, Counter()).items():
        documents.count(kind, number, namespace="masked")
    batch = documents.replace(batch, "meta", [meta for meta, _ in metas])
    return documents.replace(batch, "text", [text for text, _ in texts])


def check(options: Options) -> None:
    check_placeholder(options.placeholder)
    if options.addresses not in masking.KINDS:
        raise UserError(f"--addresses={options.addresses} is unknown; it is one of {', '.join(masking.KINDS)}")


STAGE = Stage(
    "mask", "private data to placeholders", __doc__, Options, each_batch(mask_batch), counts={},
    check=check,
)  # fmt: skip
run = STAGE.run

if __name__ == "__main__":
    job.main(run)
