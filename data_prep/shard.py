"""Shard: documents -> tokens -> segments of at most T tokens -> packed rows of T + 1 slots in ArrayRecord files.

    python -m data_prep.shard --input=dedup/ --output=rows/ --tokenizer=qwen2.5/ --sequence_length=4096

Each document ends in the end-of-document token and is cut every T tokens; a rest of one token is kept, as it fills a
hole.  A row holds segments of one source only.  What is in a row folder: see mucpt_jax/formats; counts.json says
what was dropped (`no_tokens`, `held_out`).

The Beam element of this job is a whole input file, since packing wants many segments at once and rows of one file
need none of another.  So nothing is grouped, every input file makes at least one shard for each of its sources, and
the fill suffers where a file holds only a few rows of a source.
"""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from data_prep.jobs import documents, job, notes
from data_prep.packing.pack import Segment, cut
from data_prep.packing.shards import ROW_FILES, check_sources, number_shards, write_full
from data_prep.packing.tokens import load_tokenizer, placeholders, tokenize
from data_prep.private.masking import check_placeholder
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import SCHEMA
from mucpt_jax.formats.tokenizer import end_of_document, tokenizer_hash
from mucpt_jax.formats.version import written_by

# Tokens


# Files


def on_side(batch: pa.RecordBatch, held_out: float, only: bool) -> pa.RecordBatch:
    """The documents that are not held out, or only those that are: a share of them all, by the hash of the id."""
    if not held_out:
        return batch
    hashes = (hashlib.sha256(name.encode()).digest()[:8] for name in batch["id"].to_pylist())
    chosen = [(int.from_bytes(h) < held_out * 2**64) == only for h in hashes]
    documents.count("not_held_out" if only else "held_out", len(chosen) - sum(chosen))
    return batch.filter(pa.array(chosen, pa.bool_()))


def tokenized(
    batch: pa.RecordBatch, tokenizer, eod: int, no_loss: str, composition: notes.Composition
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(source, document id, tokens) of the documents that have tokens, which `composition` counts."""
    texts, names = batch["text"].to_pylist(), batch["id"].to_pylist()
    kinds = zip(map(documents.safe_name, batch["source"].to_pylist()), batch["lang"].to_pylist(), strict=True)
    for kind, name, text, run in zip(kinds, names, texts, tokenize(texts, tokenizer, eod, no_loss), strict=True):
        if len(run):
            composition.add_numbers(kind, [1, len(text), len(text.encode()), len(run)])
            yield kind[0], name, run
        else:
            documents.count("no_tokens")


def shard_file(file: tuple[int, str], folder: Path, args: argparse.Namespace) -> None:
    """(number, path) -> its shards under provisional names in `folder`, and what they hold in <number>.facts."""
    tokenizer, size = load_tokenizer(args.tokenizer), (args.sequence_length, args.rows_per_shard)
    no_loss, eod = placeholders(args.no_loss), end_of_document(tokenizer)
    waiting, facts, composition = {}, {}, notes.Composition()

    def flush(last: bool) -> None:
        for source, segments in waiting.items():
            stem = folder / f"{file[0]:05d}-{source}"
            waiting[source] = write_full(segments, facts[source]["shards"], stem, size, last)

    for batch in documents.read_counted(file, folder, args.columns):
        batch = on_side(batch, args.held_out, args.only_held_out)
        for source, name, tokens in tokenized(batch, tokenizer, eod, no_loss, composition):
            facts.setdefault(source, {"documents": 0, "shards": []})["documents"] += 1
            segments = waiting.setdefault(source, [])
            segments += [Segment(run, name, offset) for offset, run in cut(tokens, size[0])]
        check_sources(file[1], facts)
        flush(last=False)
    flush(last=True)
    composition.write(folder, "kept", f"{file[0]:05d}")
    write_json(folder / f"{file[0]:05d}.facts", facts)


def write_manifest(folder: Path, tokenizer_folder: str, sequence_length: int) -> int:
    """Finishes a row folder; returns its number of documents."""
    shards, kept = number_shards(folder)
    tokenizer = load_tokenizer(tokenizer_folder)
    sources = {source: {"documents": kept[source]} for source in sorted(kept)}
    for source, facts in sources.items():
        for name in ("segments", "tokens", "targets", "records"):
            facts[name] = sum(shard[name] for shard in shards if shard["source"] == source)
    total = {name: sum(facts[name] for facts in sources.values()) for name in ("tokens", "records", "documents")}
    manifest = {
        "schema": SCHEMA,
        "sequence_length": sequence_length,
        "tokenizer_hash": tokenizer_hash(tokenizer_folder),
        "vocab_size": len(tokenizer),
        "eod": end_of_document(tokenizer),
        "fill": total["tokens"] / (total["records"] * (sequence_length + 1)),
        "sources": sources,
        "shards": shards,
        "scores": None,
        "written_by": written_by(),
    }
    write_json(folder / "manifest.json", manifest)
    print_table(sources, sequence_length)
    return total["documents"]


def print_table(sources: dict[str, dict], sequence_length: int) -> None:
    print(f"{'source':<32}{'documents':>12}{'rows':>10}{'tokens':>14}{'fill':>9}")
    for source, facts in sources.items():
        fill = facts["tokens"] / (facts["records"] * (sequence_length + 1))
        print(f"{source:<32}{facts['documents']:>12}{facts['records']:>10}{facts['tokens']:>14}{fill:>9.4f}")


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """(our flags, Beam's); UserError for what would fail only after hours of other stages."""
    parser = job.parser(__doc__)
    parser.add_argument("--tokenizer", required=True, help="Hugging Face tokenizer folder")
    parser.add_argument("--sequence_length", type=int, required=True, help="T: tokens that a model sees at once")
    parser.add_argument(
        "--rows_per_shard", type=int, default=32768, help="at most; a worker holds the tokens of one shard (32768)"
    )
    parser.add_argument(
        "--held_out",
        type=float,
        default=0.0,
        help="share of the documents that is left out, to stop or evaluate a model by (0)",
    )
    parser.add_argument(
        "--no_loss",
        default="",
        help="placeholders of data_prep.mask that get loss weight 0, such as '<|{type}|>' (none)",
    )
    parser.add_argument("--only_held_out", action="store_true", help="with --held_out: take these and no others")
    args, beam_args = parser.parse_known_args(argv)
    check_arguments(args)
    return args, beam_args


def check_arguments(args: argparse.Namespace) -> None:
    if args.sequence_length < 2:
        raise UserError(f"--sequence_length={args.sequence_length} leaves nothing to predict; use 2 or more")
    if args.rows_per_shard < 1:
        raise UserError(f"--rows_per_shard={args.rows_per_shard} holds no row; use 1 or more")
    if not 0 <= args.held_out < 1:
        raise UserError(f"--held_out={args.held_out} is no share of the documents; use 0 to below 1")
    if args.only_held_out and not args.held_out:
        raise UserError("--only_held_out takes what --held_out leaves out; give --held_out=0.02 or the like")
    if args.no_loss:
        check_placeholder(args.no_loss, "--no_loss")
    end_of_document(load_tokenizer(args.tokenizer))


def run(argv: list[str] | None = None) -> dict:
    args, beam_args = parse(argv)

    def build(pipeline: beam.Pipeline, files: list[str], folder: Path):
        numbered = pipeline | "Files" >> beam.Create(list(enumerate(files))) | "SpreadFiles" >> beam.Reshuffle()
        return numbered | "ShardFile" >> beam.Map(shard_file, folder, args)

    return job.run_job(
        args, beam_args, build, lambda folder: write_manifest(folder, args.tokenizer, args.sequence_length), ROW_FILES
    )


if __name__ == "__main__":
    job.main(run)
