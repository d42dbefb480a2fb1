"""Mask private data: e-mail addresses, phone numbers, identity cards and the like become <|email|>, <|phone|>, ...

    python -m data_prep.mask --input=docs/ --output=masked/ [--placeholder='<|{type}|>']

Drops no document; masks texts and the values in `meta`, never ids.  counts.json gains
{"masked": {"documents": n, type: hits}}; what was masked is in no log, counter or file.  private.py says what counts as
private.
"""

import argparse
import functools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from data_prep import documents, job, private
from data_prep.private import find
from data_prep.private_numbers import EDGES
from mucpt_jax.records import UserError

PLACEHOLDER = "<|{type}|>"


def mask_text(text: str, placeholder: str = PLACEHOLDER) -> tuple[str, dict[str, int]]:
    """-> (masked text, {type: hits}); masking a masked text changes nothing."""
    spans = find(text)
    return private.replaced(text, spans, placeholder), dict(Counter(kind for _, _, kind in spans))


def mask_meta(meta: str, placeholder: str = PLACEHOLDER) -> tuple[str, dict[str, int]]:
    """A JSON object -> (the same with its strings and numbers masked, {type: hits}); its keys stay."""
    try:
        values = json.loads(meta)
        if not find("\n".join(told(values))):  # nearly always
            return meta, {}
        hits = Counter()
        return json.dumps(mask_values(values, placeholder, hits), ensure_ascii=False), dict(hits)
    except (ValueError, RecursionError):  # of someone else's table: no JSON, or lists in lists in lists
        return mask_text(meta, placeholder)


def told(value, key: str = "") -> Iterator[str]:
    """Each string and number behind its key, which may say what it is: {"phone": "867-5309"}."""
    if isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else ((key, item) for item in value):
            yield from told(item, name)
    else:
        yield f'"{key}": {value if isinstance(value, str) else json.dumps(value)}'


def mask_values(value, placeholder: str, hits: Counter, key: str = ""):
    """The same with its strings and numbers masked; adds to hits."""
    if isinstance(value, dict):
        return {name: mask_values(item, placeholder, hits, name) for name, item in value.items()}
    if isinstance(value, list):
        return [mask_values(item, placeholder, hits, key) for item in value]
    (line,), label = told(value, key), f'"{key}": '
    text, found = mask_text(line, placeholder)
    if not text.startswith(label):  # the key itself is private, and stays
        text, found = mask_text(line.removeprefix(label), placeholder)
    hits.update(found)
    return text.removeprefix(label) if found else value


def check_placeholder(placeholder: str, flag: str = "--placeholder") -> None:
    """UserError where a placeholder could be taken for private data, or for part of it, in the next run."""
    made = [placeholder.replace("{type}", kind) for kind in private.TYPES]
    bare = any(not text or text[0] not in EDGES or text[-1] not in EDGES for text in made)
    if "{type}" not in placeholder or "\n" in placeholder or bare or any(map(find, made)):
        raise UserError(
            f"{flag}={placeholder} will not do; it must contain {{type}}, begin and end with one of "
            f"{' '.join(EDGES)}, and hold no private data itself, as {PLACEHOLDER} does"
        )


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
        help=f"stands for what was masked; {{type}} is one of {', '.join(private.TYPES)} (default {PLACEHOLDER})",
    )
    args, beam_args = parser.parse_known_args(argv)
    check_placeholder(args.placeholder)
    return args, beam_args


def run(argv: list[str] | None = None) -> dict:
    args, beam_args = parse(argv)
    return job.run_map(args, beam_args, functools.partial(mask_batch, placeholder=args.placeholder))


if __name__ == "__main__":
    job.main(run)
