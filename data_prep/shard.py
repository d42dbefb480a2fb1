"""Shard: documents -> tokens -> segments of at most T tokens -> packed rows of T + 1 slots in ArrayRecord files.

    python -m data_prep.shard --input=dedup/ --output=rows/ --tokenizer=qwen2.5/ --sequence_length=4096

Each document ends in the end-of-document token and is cut every T tokens; a rest of one token is kept, as it fills a
hole.  A row holds segments of one source only.  What is in a row folder: see mucpt_jax/formats; counts.json says
what was dropped (`no_tokens`, `held_out`).

The Beam element of this job is a whole input file, since packing wants many segments at once and rows of one file
need none of another.  So nothing is grouped, every input file makes at least one shard for each of its sources, and
the fill suffers where a file holds only a few rows of a source.
"""

import hashlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from data_prep.jobs import documents, job, notes
from data_prep.jobs.documents import File
from data_prep.jobs.options import option
from data_prep.jobs.stage import Run, Stage
from data_prep.packing.pack import Segment, cut
from data_prep.packing.shards import ROW_FILES, check_sources, fill_of, number_shards, write_full
from data_prep.packing.tokens import load_tokenizer, placeholders, tokenize
from data_prep.private.masking import check_placeholder
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import file_hash, write_json
from mucpt_jax.formats.manifest import SCHEMA, read_manifest
from mucpt_jax.formats.tokenizer import end_of_document, tokenizer_hash, vocab_size
from mucpt_jax.formats.version import written_by

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    tokenizer: str = option("", "Hugging Face tokenizer folder")
    sequence_length: int = option(4096, "T: tokens that a model sees at once")
    rows_per_shard: int = option(32768, "at most; a worker holds the tokens of one shard")
    held_out: float = option(0.0, "share of the documents that is left out, to stop or evaluate a model by")
    only_held_out: bool = option(False, "with held_out: take these documents and no others")
    no_loss: str = option("", "placeholders of data_prep.mask that get loss weight 0, such as '<|{type}|>'")


def place(name: str) -> int:
    """Of a document's id: 0 <= place < 2**64; a document whose place is below held_out * 2**64 is held out."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def on_both_sides(files: list[File], run: Run) -> float:
    """The share that is held out, such that at least one document is and one is not.

    All documents of a small corpus may fall on one side: then the document of the least place is held out, or the
    document of the greatest place is not.  Reads until both sides have a document, as a rule 1 / share documents;
    UserError where there are fewer than two.
    """
    share, least, most = run.options.held_out, 2**64, -1
    for file in files if share else []:
        for batch, _ in documents.read_batches(file.path, run.columns):
            texts, names = batch["text"].to_pylist(), batch["id"].to_pylist()
            places = [place(name) for name, text in zip(names, texts, strict=True) if text]
            least, most = min([least, *places]), max([most, *places])
            if least < share * 2**64 <= most:
                return share
    if not share:
        return share
    if least >= most:
        raise UserError(f"held_out={share} needs two documents or more; read more, or set held_out to 0")
    log.warning("held_out=%g of so few documents would leave one side empty, so one document is put there", share)
    return math.nextafter(least / 2**64, 1) if least >= share * 2**64 else math.nextafter(most / 2**64, 0)


def on_side(batch: pa.RecordBatch, held_out: float, only: bool) -> pa.RecordBatch:
    """The documents that are not held out, or only those that are: a share of them all, by the hash of the id."""
    if not held_out:
        return batch
    chosen = [(place(name) < held_out * 2**64) == only for name in batch["id"].to_pylist()]
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


def shard_file(file: File, run: Run, held_out: float) -> None:
    """Its shards under provisional names in the folder, and what they hold in <number>.facts."""
    folder, options, name = run.folder, run.options, f"{file.number:05d}"
    tokenizer, size = load_tokenizer(options.tokenizer), (options.sequence_length, options.rows_per_shard)
    no_loss, eod = placeholders(options.no_loss), end_of_document(tokenizer)
    waiting, facts, composition = {}, {}, notes.Composition()

    def flush(last: bool) -> None:
        for source, segments in waiting.items():
            stem = folder / f"{name}-{source}"
            waiting[source] = write_full(segments, facts[source]["shards"], stem, size, last)

    for batch in documents.read_counted(file, folder, run.columns):
        batch = on_side(batch, held_out, options.only_held_out)
        for source, document, tokens in tokenized(batch, tokenizer, eod, no_loss, composition):
            facts.setdefault(source, {"documents": 0, "shards": []})["documents"] += 1
            segments = waiting.setdefault(source, [])
            segments += [Segment(part, document, offset) for offset, part in cut(tokens, size[0])]
        check_sources(file.path, facts)
        flush(last=False)
    flush(last=True)
    composition.write(folder, "kept", name)
    write_json(folder / f"{name}.facts", facts)


def write_manifest(run: Run) -> None:
    """Finishes a row folder."""
    shards, sources = number_shards(run.folder)
    tokenizer, sequence_length = load_tokenizer(run.options.tokenizer), run.options.sequence_length
    manifest = {
        "schema": SCHEMA, "sequence_length": sequence_length,
        "tokenizer_hash": tokenizer_hash(run.options.tokenizer), "vocab_size": vocab_size(tokenizer),
        "eod": end_of_document(tokenizer), "fill": fill_of(shards, sequence_length),
        "sources": sources, "shards": shards, "index_sha256": file_hash(run.folder / "index.parquet"), "scores": None,
        "written_by": written_by(),
    }  # fmt: skip
    write_json(run.folder / "manifest.json", manifest)
    print_table(sources, sequence_length)


def kept(folder: Path) -> int:
    """Documents in a row folder."""
    return sum(facts["documents"] for facts in read_manifest(str(folder))["sources"].values())


def print_table(sources: dict[str, dict], sequence_length: int) -> None:
    print(f"{'source':<32}{'documents':>12}{'rows':>10}{'tokens':>14}{'fill':>9}")
    for source, facts in sources.items():
        fill = fill_of([facts], sequence_length)
        print(f"{source:<32}{facts['documents']:>12}{facts['records']:>10}{facts['tokens']:>14}{fill:>9.4f}")


def build(pipeline: beam.Pipeline, files: list[File], run: Run):
    held_out = on_both_sides(files, run)
    return documents.spread(pipeline, files) | "ShardFile" >> beam.Map(shard_file, run, held_out)


def check(options: Options) -> None:
    if options.sequence_length < 2:
        raise UserError(f"--sequence_length={options.sequence_length} leaves nothing to predict; use 2 or more")
    if options.rows_per_shard < 1:
        raise UserError(f"--rows_per_shard={options.rows_per_shard} holds no row; use 1 or more")
    if not 0 <= options.held_out < 1:
        raise UserError(f"--held_out={options.held_out} is no share of the documents; use 0 to below 1")
    if options.only_held_out and not options.held_out:
        raise UserError("--only_held_out takes what --held_out leaves out; give --held_out=0.02 or the like")
    if options.no_loss:
        check_placeholder(options.no_loss, "--no_loss")
    end_of_document(load_tokenizer(options.tokenizer))


STAGE = Stage(
    "shard", "tokens in packed rows", __doc__, Options, build, check=check, finish=write_manifest, kept=kept,
    counts={"no_tokens": "tokenizer", "held_out": "", "not_held_out": ""}, needs="tokenizer", reads="tokenizer",
    files=ROW_FILES, folder="rows",
)  # fmt: skip
run = STAGE.run

if __name__ == "__main__":
    job.main(run)
