"""Agreement: what many documents state alike counts, even where the reference model (RM) does not know it.

    python -m data_prep.agree SCORED --output=AGREED --names=names.txt --tokenizer=FOLDER [--documents=3 --cap=1.5]

To the RM a fact that its seed lacked is as surprising as a wrong one.  The corpus can tell them apart: wrong ones
differ from document to document.  A claim is two names in one segment, an artist and an album say, at most 16 names
apart; it is agreed when --documents documents make it, and 5 times as many as chance would let two names of their
frequency meet (titles such as "One" meet everything).  AGREED is SCORED again, with r = -log p_RM of the tokens of
such names at most --cap nats: at rm_floor=1 a cap of 1.5 gives them two thirds of the weight of what the RM knows.

Not in the paper (docs/objective.md).  --names holds the domain's names, one a line, as an entity list mined from the
corpus has them.  A wrong claim that is copied from site to site is agreed too: dedup first.

The corpus is read twice, a worker a shard.  Claims are counted by hash in a table of 2**29 bytes, whatever the corpus;
claims that share a slot share its count, and the log tells how full the table is.  Each worker reads the names, in
a minute and 0.3 GB where there are a million.  A run that was stopped begins anew.
"""

import concurrent.futures
import functools
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.jobs import options
from data_prep.text import names
from mucpt_jax.errors import UserError, exiting
from mucpt_jax.formats import hashes, rows, score_sums
from mucpt_jax.formats.files import copy_file, file_hash, write_json
from mucpt_jax.formats.manifest import load_manifest, read_index, read_manifest
from mucpt_jax.formats.rows import decode_row, encode_row, read_shard, segment_numbers, target_mask
from mucpt_jax.formats.tokenizer import check_same_tokenizer

NEAR = 16  # names: how far apart the two of a claim may stand
SLOT_BITS = 28  # of the table
MOST = 65535  # documents that a slot counts
LIFT = 5  # times as many documents as chance lets two names meet in
FULL = 0.2  # of the table; beyond, claims of single documents meet too often
log = logging.getLogger(__name__)


class Job(NamedTuple):
    scored: str
    output: str
    names: str
    tokenizer: str
    documents: int = 3  # that make a claim agreed
    cap: float = 1.5  # nats


class Counts(NamedTuple):
    """Of documents."""

    claims: np.ndarray  # u2[2**SLOT_BITS] that make the claims of a slot; MOST is MOST or more
    names: np.ndarray  # i8[names] that mention a name
    documents: np.ndarray  # i8[1] all


def agree(job: Job, workers: int = 1) -> dict:
    """Writes the folder job.output, its manifest last; returns what the manifest tells about the scores."""
    manifest = open_input(job, workers)
    output, shards = Path(job.output), manifest["shards"]
    output.mkdir(parents=True, exist_ok=True)
    counts = count(job, shards, workers)
    report_table(counts.claims)
    for name, array in counts._asdict().items():
        np.save(output / f"{name}.npy", array)
    write = functools.partial(write_shard, job, manifest["scores"]["encoding"])
    written = list(in_workers("lower r", write, shards, workers))
    for name in counts._fields:
        (output / f"{name}.npy").unlink()
    return finish(job, manifest, written)


def count(job: Job, shards: list[dict], workers: int) -> Counts:
    listed = max(names.read(job.tokenizer, job.names).number_of.values()) + 1
    total = Counts(np.zeros(1 << SLOT_BITS, np.uint16), np.zeros(listed, np.int64), np.zeros(1, np.int64))
    for slots, claims, numbers, mentions, documents in in_workers(
        "count claims", functools.partial(count_claims, job), shards, workers
    ):
        total.claims[slots] = np.minimum(total.claims[slots] + claims, MOST)
        total.names[numbers] += mentions
        total.documents[:] += documents
    return total


def open_input(job: Job, workers: int) -> dict:
    manifest = read_manifest(job.scored)
    if not manifest["scores"]:
        raise UserError(f"{job.scored} holds no scores (rm_nll is NaN); run launch.py --job=score on it first")
    if "agreement" in manifest["scores"]:
        raise UserError(f"{job.scored} was written by this job; name the folder that the score job wrote")
    check_same_tokenizer(job.scored, job.tokenizer)
    if (Path(job.output) / "manifest.json").is_file():
        raise UserError(f"--output={job.output} holds rows already; name another folder or delete it")
    if (Path(job.output) / "scoring.json").is_file():
        raise UserError(f"--output={job.output} is where a score job writes; name another folder")
    if not (Path(job.scored) / "index.parquet").is_file():
        raise UserError(f"{job.scored}/index.parquet is missing; copy it from where the rows were scored")
    if not 2 <= job.documents <= MOST:
        raise UserError(f"--documents={job.documents}: a claim needs 2 to {MOST} documents that agree; 3 is usual")
    if workers < 1:
        raise UserError(f"--workers={workers} does nothing; use 1 or more")
    if not 0 < job.cap < float("inf"):
        raise UserError(f"--cap={job.cap} is no bound of r in nats; use a number above 0, such as 1.5")
    names.read(job.tokenizer, job.names)  # what cannot be read is told here, not by a worker
    return manifest


def in_workers(what: str, work: Callable, shards: list[dict], workers: int) -> Iterator:
    """work(shard) of all shards, in their order; each is told in the log."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, spawn, end_with_parent) as pool:
        try:
            for number, result in enumerate((pool.map if workers > 1 else map)(work, shards), 1):
                log.info("%s: shard %d/%d", what, number, len(shards))
                yield result
        except BrokenProcessPool as error:
            raise UserError(f"{what}: a worker was killed, mostly for memory; use a smaller --workers") from error


def end_with_parent() -> None:
    """In a worker: else it waits for ever for a run that was killed, or writes into the folder of the next one."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def report_table(counts: np.ndarray) -> None:
    full = np.count_nonzero(counts) / len(counts)
    log.info("%s claims fill %.2f%% of their table", f"{np.count_nonzero(counts):,}", 100 * full)
    if full > FULL:
        log.warning("so full that claims of single documents meet: take a larger --documents, or fewer names")


# A shard


def count_claims(job: Job, shard: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Slots of the claims that the shard's documents make and how many make each, names and how many mention each,
    documents."""
    document_of, nothing = documents_of(job.scored, shard), np.zeros(0, np.int64)
    slots, names = [nothing], [nothing]
    for number, (row, spans) in enumerate(rows_with_names(job, shard)):
        for segment, named in by_segment(row, spans):
            if (number, segment) in document_of:
                document = document_of[number, segment] << 32
                slots.append(document | claims(named)[2])
                names.append(document | named[:, 2])
    # A document makes a claim once, however often it does.
    counts = [np.unique(np.unique(np.concatenate(keys)) & 0xFFFFFFFF, return_counts=True) for keys in (slots, names)]
    return *counts[0], *counts[1], len(set(document_of.values()))


def documents_of(folder: str, shard: dict) -> dict[tuple[int, int], int]:
    """(row, segment) -> a number of the document.  Where the pieces of a document lie in several shards, only those
    beside its first one count, so that it is one document; the others are not here."""
    table = read_index(folder, shard)
    numbers = table["document"].combine_chunks().dictionary_encode().indices.to_numpy()
    here = np.isin(numbers, numbers[table["offset"].to_numpy() == 0])
    places = zip(table["row"].to_numpy()[here].tolist(), table["segment"].to_numpy()[here].tolist(), strict=True)
    return dict(zip(places, numbers[here].tolist(), strict=True))


def rows_with_names(job: Job, shard: dict) -> Iterator[tuple[dict, np.ndarray]]:
    """Rows of the shard, and start, end and number of the names in each: i8[names, 3]."""
    begins, ends = names.letters(job.tokenizer)
    listed = names.read(job.tokenizer, job.names)
    for row in read_shard(Path(job.scored) / shard["name"], length_of(job)):
        inside = names.goes_on(row["tokens"], begins, ends)
        yield row, np.array(names.spans(row["tokens"], inside, listed), np.int64).reshape(-1, 3)


def length_of(job: Job) -> int:
    """T."""
    return load_manifest(job.scored)["sequence_length"]


def by_segment(row: dict, spans: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(segment, its names' spans); a name that ends in another segment than it starts in is none."""
    ids = segment_numbers(row["segment_ids"])
    first, last = ids[spans[:, 0]], ids[spans[:, 1] - 1]
    for segment in np.unique(first[(first == last) & (first > 0)]).tolist():
        yield segment, spans[(first == segment) & (last == segment)]


def claims(spans: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spans of a segment [n, 3] -> which two of them make a claim, and its slot in the table: i8[p] each."""
    gaps = range(1, min(NEAR, len(spans) - 1) + 1)
    first = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(spans) - gap) for gap in gaps)])
    second = np.concatenate([np.zeros(0, np.int64), *(np.arange(gap, len(spans)) for gap in gaps)])
    names = spans[:, 2].astype(np.uint64)
    differ = names[first] != names[second]
    first, second = first[differ], second[differ]
    low, high = np.minimum(names[first], names[second]), np.maximum(names[first], names[second])
    return first, second, hashes.slots((low << np.uint64(32) | high) * hashes.GOLDEN, SLOT_BITS)


def write_shard(job: Job, encoding: str, shard: dict) -> tuple[dict, dict, np.ndarray]:
    """The shard with lowered r -> its facts, score_sums.stats_of it, [targets in names, agreed ones, lowered ones]."""
    counts = Counts(*(np.load(Path(job.output) / f"{name}.npy", mmap_mode="r") for name in Counts._fields))
    path, length = Path(job.output) / shard["name"], length_of(job)
    stats, targets = [], np.zeros(3, np.int64)

    def lowered() -> Iterator[dict]:
        for row, spans in rows_with_names(job, shard):
            named, capped = marks(row, spans, counts, job.documents)
            r = row["rm_nll"]
            low = np.where(capped, np.minimum(r, np.float16(job.cap)), r)
            new = decode_row(encode_row(row | {"rm_nll": low}, encoding), length)  # as it is read
            target = np.concatenate([[False], target_mask(row["segment_ids"])])
            stats.append(score_sums.stats_of(new["rm_nll"][target], str(path)))
            targets[:] += [(target & which).sum() for which in (named, capped, capped & (r > job.cap))]
            yield new

    facts = rows.write_shard(path, lowered(), encoding)
    return shard | facts, functools.reduce(score_sums.add, stats), targets


def marks(row: dict, spans: np.ndarray, counts: Counts, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Which slots of the row stand in a name, which in a name of an agreed claim: bool [T+1] each."""
    named, capped = np.zeros((2, len(row["tokens"])), bool)
    for _, mentioned in by_segment(row, spans):
        first, second, slots = claims(mentioned)
        mentions = counts.names[mentioned[:, 2]]
        by_chance = mentions[first] * mentions[second] / counts.documents[0]
        agree = counts.claims[slots] >= np.maximum(least, LIFT * by_chance)
        both = np.unique(np.concatenate([first[agree], second[agree]]))
        for mark, chosen in ((named, mentioned), (capped, mentioned[both])):
            for start, end, _ in chosen.tolist():
                mark[start:end] = True
    return named, capped


# The folder


def finish(job: Job, manifest: dict, written: list[tuple[dict, dict, np.ndarray]]) -> dict:
    shards, stats, targets = zip(*written, strict=True)
    named, agreed, lowered = np.sum(targets, 0).tolist()
    kept = {name: manifest["scores"][name] for name in ("rm_hash", "compute_dtype", "head_dtype", "encoding")}
    scores = kept | score_sums.of_shards([shard["source"] for shard in shards], stats)
    scores["agreement"] = {
        "names": file_hash(Path(job.names)), "documents": job.documents, "cap": job.cap,
        "targets_in_names": named, "targets_agreed": agreed, "targets_lowered": lowered,
    }  # fmt: skip
    output = Path(job.output)
    copy_file(Path(job.scored) / "index.parquet", output / "index.parquet")
    write_json(output / "manifest.json", manifest | {"shards": list(shards), "scores": scores})
    for left in output.glob("*.writing"):  # of a run that was killed
        left.unlink()
    return scores


def as_text(scores: dict) -> str:
    about, n = scores["agreement"], max(scores["tokens"], 1)
    shares = [about[f"targets_{what}"] / n for what in ("in_names", "agreed", "lowered")]
    return "{:.1%} of the targets stand in names, {:.1%} in agreed claims; r of {:.1%} was lowered".format(*shares)


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("scored", help="folder that the score job wrote")
    parser.add_argument("--names", required=True, help="text file, a name a line")
    parser.add_argument("--tokenizer", required=True, help="folder of the tokenizer of the rows")
    parser.add_argument("--output", required=True, help="new folder of scored rows")
    parser.add_argument("--documents", type=int, default=3, help="that make a claim agreed (3)")
    parser.add_argument("--cap", type=float, default=1.5, help="r of agreed names is at most this, nats (1.5)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (all cores)")
    args = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with exiting():
        workers = args.pop("workers")
        scores = agree(Job(**args), workers)
    print(f"{as_text(scores)}\n{score_sums.as_text(scores)}")


if __name__ == "__main__":
    main()
