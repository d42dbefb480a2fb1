"""Overlap: which documents of a corpus also stand in the seed that trained the reference model (RM).

    python -m data_prep.overlap --seed=SEED/rows --corpus=OUT/rows --output=overlap.json

An RM has read its seed, so what the corpus shares with it gets low scores for having been seen and not for being known.
Two row folders of one tokenizer are compared, by document id and by near-duplicate text:

A shingle is a hash of 8 tokens in a row.  The containment of a document in another is the share of its shingles that
the other has too; a near-duplicate is a pair in which one of the two is contained in the other to --threshold or more.
0.5 by default: an edit breaks the 8 shingles over it, so of a text with one word in twenty changed 0.7 to 0.8 is left,
and documents that share no more than a topic and its phrases stay below 0.35.

Shingles are sampled: those whose hash --sample divides, and all of a document under 512 tokens.  A pair is compared by
the sample that both have, and must share at least 4 shingles of it.  So with one in 16 a text of under about 100 tokens
is often missed inside a long document (not beside another short one).  Shingles of more than 50 seed documents are left
out of all counts.  A cut between two segments costs the 7 shingles that would reach over it.

The seed's sample lies in memory (12 bytes a shingle); the corpus is read by shard and leaves 40 bytes a segment.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.jobs import job, options
from data_prep.packing import pack
from mucpt_jax.errors import UserError
from mucpt_jax.formats import rows
from mucpt_jax.formats.files import writable, write_json
from mucpt_jax.formats.hashes import GOLDEN, mix
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import read_shard
from mucpt_jax.formats.tokenizer import check_same_tokenizer

SHINGLE = 8  # tokens
SHORT = 512  # tokens; documents below are sampled whole
COMMON = 50  # seed documents; a shingle of more says nothing
MIN_SHARED = 4  # sampled shingles that near-duplicates share
EXAMPLES = 50
BLOCK = 64  # rows hashed at once


class Folder(NamedTuple):
    """A row folder and its index; documents are numbered as they come, segments by (shard, row, segment)."""

    path: str
    length: int  # T
    shards: list[dict]
    begins: np.ndarray  # i8[shards + 1]: number of each shard's first segment
    document: np.ndarray  # i8[segments]
    first: np.ndarray  # i8[documents]: number of its first segment
    tokens: np.ndarray  # i8[documents]
    targets: np.ndarray  # i8[documents]
    source: np.ndarray  # i8[documents]: place in sources
    sources: list[str]
    id_key: np.ndarray  # u8[documents]: pack.keys of the id


class Sketch(NamedTuple):
    """The seed's sampled shingles: hash u8[n] rising, and seed documents document[begin[i] : begin[i + 1]] of each."""

    hash: np.ndarray
    begin: np.ndarray
    document: np.ndarray
    counts: np.ndarray  # i8[2, documents]: shingles of each that --sample divides, and all sampled ones of each


def run(argv: list[str] | None = None) -> dict:
    """Returns the report, as `shared` does."""
    parser = options.parser(__doc__)
    parser.add_argument("--seed", required=True, help="rows that trained the reference model")
    parser.add_argument("--corpus", required=True, help="rows that it scores")
    parser.add_argument("--output", required=True, help="JSON file: the report")
    parser.add_argument("--threshold", type=float, default=0.5, help="least containment (0.5)")
    parser.add_argument("--sample", type=int, default=16, help="one shingle in this many (16)")
    args = parser.parse_args(argv)
    output = Path(args.output)
    if output.is_dir() or output.resolve().parent in {Path(f).resolve() for f in (args.seed, args.corpus)}:
        raise UserError(f"--output={output} is a folder, or lies among rows; name a file elsewhere")
    with writable(f"--output={output}"):  # before hours of reading, not after
        output.parent.mkdir(parents=True, exist_ok=True)
    report = shared(args.seed, args.corpus, args.threshold, args.sample)
    with writable(f"--output={output}"):
        write_json(output, report)
    print_report(report)
    return report


def shared(seed_folder: str, corpus_folder: str, threshold: float = 0.5, sample: int = 16) -> dict:
    """The report: of the corpus, by source, documents and targets that the seed has too, by id, by text, by either.

    Both are row folders.  UserError where they were not written with one tokenizer.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"--threshold={threshold} is no share; use more than 0 and at most 1")
    if sample < 1:
        raise UserError(f"--sample={sample} takes no shingle; use 1 (all) or more")
    seed, corpus = open_folder(seed_folder), open_folder(corpus_folder)
    check_same_tokenizer(corpus_folder, seed_folder)
    sketch = sketch_of(seed, sample)
    containment, twin = best_twins(corpus, seed, sketch, threshold, sample)
    by_id = np.isin(corpus.id_key, seed.id_key)
    return report_of(corpus, seed, by_id, containment, twin) | {"threshold": threshold, "sample": sample}


# Reading


def open_folder(path: str) -> Folder:
    manifest = read_manifest(path)
    shards = manifest["shards"]
    if not shards:
        raise UserError(f"{path} holds no rows; write them with python -m data_prep.shard")
    sources = sorted({facts["source"] for facts in shards})
    segments = {"document": [], "id": [], "length": [], "source": []}
    for facts in shards:
        index = pack.read_index(path, facts)
        segments["document"].append(pack.document_keys(facts, index))
        segments["id"].append(pack.keys(index["document"]))
        segments["length"].append(index["length"])
        segments["source"].append(np.full(len(index["row"]), sources.index(facts["source"])))
    segments = {name: np.concatenate(parts) for name, parts in segments.items()}
    document = pack.numbered(segments["document"])
    _, first = np.unique(document, return_index=True)
    tokens = np.bincount(document, segments["length"]).astype(np.int64)
    begins = np.cumsum([0, *(facts["segments"] for facts in shards)])
    return Folder(
        path=path, length=manifest["sequence_length"], shards=shards, begins=begins, document=document, first=first,
        tokens=tokens, targets=tokens - np.bincount(document),  # the first token of a segment is no target
        source=segments["source"][first], sources=sources, id_key=segments["id"][first],
    )  # fmt: skip


def blocks(folder: Folder, number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(tokens i4[rows, T+1], segment_ids u2[rows, T+1], number of each row's first segment [rows]) of one shard."""
    first, end = folder.begins[number : number + 2].tolist()
    path = Path(folder.path) / folder.shards[number]["name"]
    read = read_shard(path, folder.length)
    while block := list(itertools.islice(read, BLOCK)):
        tokens, ids = (np.stack([row[name] for row in block]) for name in ("tokens", "segment_ids"))
        ids = rows.segment_numbers(ids)
        count = ids.max(1).astype(np.int64)
        before, first = first, first + int(count.sum())
        if first > end:
            break
        yield tokens, ids, before + np.cumsum(count) - count
    if first != end:
        raise UserError(f"{path} has other segments than index.parquet; copy index and shards from one place")


# Shingles


def shingles(tokens: np.ndarray) -> np.ndarray:
    """i4[rows, S] -> u8[rows, S - 7]: hash of each run of 8 tokens."""
    hashes = mix(tokens.astype(np.uint64) + GOLDEN)
    for width in (1, 2, 4):  # of `width` tokens -> of twice as many; powers of an odd number, modulo 2**64
        power = np.uint64(pow(0x2545F4914F6CDD1D, width, 2**64))
        hashes = hashes[:, :-width] * power + hashes[:, width:]
    return mix(hashes)


def samples(folder: Folder, number: int, sample: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(document i8[n], hash u8[n]) of the sampled shingles of one shard, as they stand in the text."""
    for tokens, ids, first in blocks(folder, number):
        begin, end = ids[:, : 1 - SHINGLE], ids[:, SHINGLE - 1 :]
        inside = (begin == end) & (begin > 0)
        hashes = shingles(tokens)[inside]
        document = folder.document[(first[:, None] + begin)[inside] - 1]
        taken = (hashes % np.uint64(sample) == 0) | (folder.tokens[document] < SHORT)
        yield document[taken], hashes[taken]


def sketch_of(seed: Folder, sample: int) -> Sketch:
    numbers = (number for number, _ in enumerate(pack.progress("seed", seed.shards)))
    parts = [part for number in numbers for part in samples(seed, number, sample)]
    document, hashes = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    if not len(hashes):
        raise UserError(f"{seed.path} has no run of {SHINGLE} tokens to compare; name the rows of the seed")
    order = np.lexsort((document, hashes))
    document, hashes = document[order].astype(np.int32), hashes[order]
    new = np.ones(len(order), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (document[1:] != document[:-1])
    document, hashes = document[new], hashes[new]
    known, count = np.unique(hashes, return_counts=True)
    rare = np.repeat(count <= COMMON, count)
    divided = document[rare & (hashes % np.uint64(sample) == 0)]
    counts = np.stack([np.bincount(d, minlength=len(seed.tokens)) for d in (divided, document[rare])])
    begin = np.cumsum([0, *np.where(count <= COMMON, count, 0)])
    return Sketch(known, begin, document[rare], counts)


# Pairs


def best_twins(
    corpus: Folder, seed: Folder, sketch: Sketch, threshold: float, sample: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each corpus document: containment f8, 0 below the threshold, and its nearest seed document i8, -1 for none."""
    counts = np.zeros((2, len(corpus.tokens)), np.int64)
    containment, twin = np.zeros(len(corpus.tokens)), np.full(len(corpus.tokens), -1)
    segments, waiting = np.bincount(corpus.document), []

    def judge(pairs: np.ndarray) -> None:
        document, other, share = nearest(pairs, corpus, seed, (counts, sketch.counts), threshold)
        containment[document], twin[document] = share, other

    for number, _ in enumerate(pack.progress("corpus", corpus.shards)):
        matches = matches_of_shard(corpus, number, sketch, sample, counts)
        # A document that has segments in other shards waits for them; all others are judged and forgotten.
        mine = corpus.document[corpus.begins[number] : corpus.begins[number + 1]]
        here, count = np.unique(mine, return_counts=True)
        whole = np.isin(matches[0], here[count == segments[here]])
        judge(pairs_of(matches[:, whole], sketch))
        waiting.append(matches[:, ~whole])
    judge(pairs_of(np.concatenate(waiting, 1), sketch))
    return containment, twin


def matches_of_shard(corpus: Folder, number: int, sketch: Sketch, sample: int, counts: np.ndarray) -> np.ndarray:
    """i8[2, n]: corpus document and place in the sketch of every shingle that a seed document has too.

    Adds the documents' shingles to counts i8[2, documents], which are as in Sketch.
    """
    matches = []
    for document, hashes in samples(corpus, number, sample):
        place = np.minimum(np.searchsorted(sketch.hash, hashes), len(sketch.hash) - 1)
        known = sketch.hash[place] == hashes
        common = known & (sketch.begin[place] == sketch.begin[place + 1])
        np.add.at(counts[0], document[~common & (hashes % np.uint64(sample) == 0)], 1)
        np.add.at(counts[1], document[~common], 1)
        matches.append(np.stack([document, place])[:, known & ~common])
    return np.concatenate(matches, 1)


def pairs_of(matches: np.ndarray, sketch: Sketch) -> np.ndarray:
    """i8[4, pairs]: corpus document, seed document, different shingles that they share, how often the corpus document
    has these."""
    width, seeds = len(sketch.hash), sketch.counts.shape[1]
    key, places = np.unique(matches[0] * width + matches[1], return_counts=True)
    document, place = np.divmod(key, width)
    twins = sketch.begin[place + 1] - sketch.begin[place]  # seed documents that have this shingle
    nth = np.arange(twins.sum()) - np.repeat(np.cumsum(twins) - twins, twins)
    other = sketch.document[np.repeat(sketch.begin[place], twins) + nth]
    both = np.repeat(document, twins) * seeds + other
    pair, place_of_pair, different = np.unique(both, return_inverse=True, return_counts=True)
    times = np.bincount(place_of_pair, np.repeat(places, twins), len(pair)).astype(np.int64)
    return np.stack([*np.divmod(pair, seeds), different, times])


def nearest(
    pairs: np.ndarray, corpus: Folder, seed: Folder, counts: tuple[np.ndarray, np.ndarray], threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corpus documents that are near-duplicates, the nearest seed document of each, containment.

    counts: shingles of corpus and seed documents, as in Sketch.
    """
    document, other, different, times = pairs
    # Two short documents have all their shingles sampled; with a long one, only the divided sample can meet.
    own = ((corpus.tokens[document] < SHORT) & (seed.tokens[other] < SHORT)).astype(np.int64)
    in_seed = times / np.maximum(counts[0][own, document], 1)
    in_corpus = different / np.maximum(counts[1][own, other], 1)
    share = np.minimum(np.maximum(in_seed, in_corpus), 1.0)
    chosen = np.flatnonzero((different >= MIN_SHARED) & (share >= threshold))
    chosen = chosen[np.lexsort((other[chosen], -share[chosen], document[chosen]))]
    best = chosen[np.unique(document[chosen], return_index=True)[1]]
    return document[best], other[best], share[best]


# The report


def names_of(folder: Folder, documents: np.ndarray) -> list[dict]:
    """{"source", "document": id} of each."""
    names = []
    for segment in folder.first[documents]:
        number = int(np.searchsorted(folder.begins, segment, "right")) - 1
        ids = pack.read_index(folder.path, folder.shards[number])["document"]
        source = folder.shards[number]["source"]
        names.append({"source": source, "document": ids[segment - folder.begins[number]]})
    return names


def report_of(corpus: Folder, seed: Folder, by_id: np.ndarray, containment: np.ndarray, twin: np.ndarray) -> dict:
    by_text = twin >= 0
    chosen = {"read": np.full(len(twin), True), "by_id": by_id, "by_text": by_text, "both": by_id & by_text}
    chosen |= {"shared": by_id | by_text, "too_short_for_text": corpus.tokens < SHINGLE + MIN_SHARED - 1}
    groups = {"all": np.True_, **{source: corpus.source == i for i, source in enumerate(corpus.sources)}}
    counts = {}
    for name, mine in groups.items():
        group = {
            what: {"documents": int((mine & which).sum()), "targets": int(corpus.targets[mine & which].sum())}
            for what, which in chosen.items()
        }
        share = group["shared"]["targets"] / max(group["read"]["targets"], 1)
        counts[name] = group | {"share_of_targets": share}
    best = np.argsort(-containment, kind="stable")[: min(EXAMPLES, int(by_text.sum()))]
    other_text = np.flatnonzero(by_id & ~by_text)[:EXAMPLES]
    pairs = zip(names_of(corpus, best), names_of(seed, twin[best]), best.tolist(), strict=True)
    return {
        "sources": counts,
        "near_duplicates": [
            mine | {"seed": other, "containment": round(float(containment[i]), 4), "same_id": bool(by_id[i])}
            for mine, other, i in pairs
        ],
        "same_id_other_text": names_of(corpus, other_text),
    }


def print_report(report: dict) -> None:
    columns = ("read", "by_id", "by_text", "both", "shared")
    print(f"{'source':<32}" + "".join(f"{name:>10}" for name in columns) + f"{'of targets':>12}")
    for source, counts in report["sources"].items():
        numbers = "".join(f"{counts[name]['documents']:>10}" for name in columns)
        print(f"{source:<32}{numbers}{counts['share_of_targets']:>12.2%}")
    for pair in report["near_duplicates"][:10]:
        twins = (f"{twin['document']!r} of {twin['source']}" for twin in (pair, pair["seed"]))
        print(f"{pair['containment']:>6.2f}  {' in the seed as '.join(twins)}")
    if report["same_id_other_text"]:
        names = ", ".join(repr(document["document"]) for document in report["same_id_other_text"][:10])
        print(f"same id, other text: {names}")


if __name__ == "__main__":
    job.main(run)
