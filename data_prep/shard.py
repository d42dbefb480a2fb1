"""Shard: documents -> tokens -> segments of at most T tokens -> packed rows of T + 1 slots in ArrayRecord files.

    python -m data_prep.shard --input=dedup/ --output=rows/ --tokenizer=qwen2.5/ --sequence_length=4096

Each document ends in the end-of-document token and is cut every T tokens; a rest of one token is kept, as it fills a
hole.  A row holds segments of one source only.  What is in a row folder: see mucpt_jax/records.py; counts.json says
what was dropped (`no_tokens`, `held_out`).

The Beam element of this job is a whole input file, since packing wants many segments at once and rows of one file
need none of another.  So nothing is grouped, every input file makes at least one shard for each of its sources, and
the fill suffers where a file holds only a few rows of a source.
"""

import argparse
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep import documents, job, mask, notes, private
from data_prep.rows import Segment, cut, pack, run_of, write_shard
from mucpt_jax import records
from mucpt_jax.records import UserError

MAX_SOURCES = 1000  # each makes shards of its own
ROW_FILES = ("*.array_record", "manifest.json", "index.parquet", *notes.FILES)


# Tokens


@functools.cache
def load_tokenizer(folder: str):
    """A fast Hugging Face tokenizer from a folder, never from the network, never with code from the folder."""
    if not os.path.isdir(folder):
        raise UserError(
            f"--tokenizer={folder} is not a folder; name one with tokenizer.json and tokenizer_config.json"
        )
    records.tokenizer_hash(folder)
    from transformers import AutoTokenizer  # takes seconds, and `--help` does not need it

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the library raises what the damage leads to: OSError, KeyError, ...
        raise UserError(
            f"--tokenizer={folder} cannot be loaded ({documents.one_line(error)}); copy it again"
        ) from error
    if not tokenizer.is_fast:
        raise UserError(f"--tokenizer={folder} has no fast version; add its tokenizer.json")
    # Text that spells <|endoftext|> is text: only this job ends a document.
    tokenizer.backend_tokenizer.encode_special_tokens = True
    return tokenizer


def tokenize(texts: list[str], tokenizer, eod: int, no_loss: str = "") -> list[np.ndarray]:
    """TOKENS[n] with the end-of-document token for each text; TOKENS[0] for a text of no tokens.

    Tokens that share a character with a match of the pattern `no_loss` are marked so.
    """
    encode = tokenizer.backend_tokenizer.encode_batch_fast  # it knows nothing of characters
    encodings = encode(texts, add_special_tokens=False)
    made = [run_of([*encoding.ids, eod] if encoding.ids else []) for encoding in encodings]
    for number, text in enumerate(texts if no_loss else []):
        if spans := [match.span() for match in re.finditer(no_loss, text)]:
            encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
            starts, ends = np.array(encoding.offsets).T
            for start, end in spans:
                made[number]["no_loss"][:-1] |= (starts < end) & (ends > start)
    return made


def placeholders(pattern: str) -> str:
    """ "<|{type}|>" -> the regular expression of all placeholders that data_prep.mask writes by it."""
    return "|".join(re.escape(pattern.replace("{type}", kind)) for kind in private.TYPES) if pattern else ""


# Files


def write_full(
    segments: list[Segment], shards: list[dict], stem: Path, size: tuple[int, int], last: bool
) -> list[Segment]:
    """Packs and writes shards of exactly size[1] rows of T = size[0], or `last`ly all; returns what waits for more.

    Rows past the last full shard are opened again: together with later segments they pack better.
    """
    length, limit = size
    if not last and sum(len(run) for run, _, _ in segments) < limit * (length + 1):
        return segments
    rows = pack([len(run) for run, _, _ in segments], length + 1)
    end = len(rows) if last else len(rows) - len(rows) % limit
    for start in range(0, end, limit):
        chosen = [[segments[i] for i in row] for row in rows[start : min(end, start + limit)]]
        shards.append(write_shard(stem.with_name(f"{stem.name}-{len(shards):05d}.shard"), chosen, length))
    return [segments[i] for row in rows[end:] for i in row]


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
    for kind, name, text, run in zip(
        kinds, names, texts, tokenize(texts, tokenizer, eod, no_loss), strict=True
    ):
        if len(run):
            composition.add_numbers(kind, [1, len(text), len(text.encode()), len(run)])
            yield kind[0], name, run
        else:
            documents.count("no_tokens")


def check_sources(where: str, sources: dict) -> None:
    if len(sources) > MAX_SOURCES:
        raise UserError(
            f"{where} has more than {MAX_SOURCES:,} sources, for example {next(iter(sources))}; `source` (without one "
            "the file's name) must name a corpus, not a page or a part, so write it anew"
        )


def shard_file(file: tuple[int, str], folder: Path, args: argparse.Namespace) -> None:
    """(number, path) -> its shards under provisional names in `folder`, and what they hold in <number>.facts."""
    tokenizer, size = load_tokenizer(args.tokenizer), (args.sequence_length, args.rows_per_shard)
    no_loss, eod = placeholders(args.no_loss), records.end_of_document(tokenizer)
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
            segments += [(run, name, offset) for offset, run in cut(tokens, size[0])]
        check_sources(file[1], facts)
        flush(last=False)
    flush(last=True)
    composition.write(folder, "kept", f"{file[0]:05d}")
    records.write_json(folder / f"{file[0]:05d}.facts", facts)


def number_shards(folder: Path) -> tuple[list[dict], dict[str, int]]:
    """Provisional names -> <source>-<i>-of-<n>, over all input files; writes the index.

    Returns the manifest's shards by name, and the documents of each source.
    """
    by_source, kept = {}, {}
    for path in sorted(folder.glob("*.facts")):
        for source, facts in json.loads(path.read_text(encoding="utf-8")).items():
            by_source.setdefault(source, []).extend(facts["shards"])
            kept[source] = kept.get(source, 0) + facts["documents"]
        path.unlink()
    check_sources("--input", by_source)
    shards, provisional = [], {}
    for source, found in by_source.items():
        for i, facts in enumerate(found):
            name = records.shard_name(source, i, len(found))
            provisional[name] = folder / facts["name"]
            shards.append({**facts, "name": name, "source": source})
            (folder / facts["name"]).rename(folder / name)
    shards.sort(key=lambda facts: facts["name"])

    def tables() -> Iterator[pa.Table]:
        for shard in shards:
            path = provisional[shard["name"]].with_suffix(".index")
            table = pq.read_table(path, schema=records.INDEX_SCHEMA)
            yield table.set_column(0, "shard", pa.array([shard["name"]] * len(table), pa.string()))
            path.unlink()

    records.write_index(str(folder), tables())
    return shards, kept


def write_manifest(folder: Path, tokenizer_folder: str, sequence_length: int) -> int:
    """Finishes a row folder; returns its number of documents."""
    shards, kept = number_shards(folder)
    tokenizer = load_tokenizer(tokenizer_folder)
    sources = {source: {"documents": kept[source]} for source in sorted(kept)}
    for source, facts in sources.items():
        for name in ("segments", "tokens", "targets", "records"):
            facts[name] = sum(shard[name] for shard in shards if shard["source"] == source)
    total = {
        name: sum(facts[name] for facts in sources.values()) for name in ("tokens", "records", "documents")
    }
    manifest = {
        "schema": records.SCHEMA,
        "sequence_length": sequence_length,
        "tokenizer_hash": records.tokenizer_hash(tokenizer_folder),
        "vocab_size": len(tokenizer),
        "eod": records.end_of_document(tokenizer),
        "fill": total["tokens"] / (total["records"] * (sequence_length + 1)),
        "sources": sources,
        "shards": shards,
        "scores": None,
    }
    records.write_json(folder / "manifest.json", manifest)
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
    parser.add_argument(
        "--sequence_length", type=int, required=True, help="T: tokens that a model sees at once"
    )
    parser.add_argument(
        "--rows_per_shard",
        type=int,
        default=32768,
        help="at most; a worker holds the tokens of one shard (32768)",
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
    parser.add_argument(
        "--only_held_out", action="store_true", help="with --held_out: take these and no others"
    )
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
        mask.check_placeholder(args.no_loss, "--no_loss")
    records.end_of_document(load_tokenizer(args.tokenizer))


def run(argv: list[str] | None = None) -> dict:
    args, beam_args = parse(argv)

    def build(pipeline: beam.Pipeline, files: list[str], folder: Path):
        numbered = (
            pipeline | "Files" >> beam.Create(list(enumerate(files))) | "SpreadFiles" >> beam.Reshuffle()
        )
        return numbered | "ShardFile" >> beam.Map(shard_file, folder, args)

    return job.run_job(
        args,
        beam_args,
        build,
        lambda folder: write_manifest(folder, args.tokenizer, args.sequence_length),
        ROW_FILES,
    )


if __name__ == "__main__":
    job.main(run)
