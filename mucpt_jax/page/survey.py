"""What a pass over scored rows finds, for the audit: histograms, documents by weight, phrases that lose most.

r = -log p_RM of a target in nats; its raw weight is 1 / max(r, floor).  At most ROWS_READ evenly spaced rows are read,
a block of them at a time: B rows of S = T + 1 slots.  Plain numpy.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mucpt_jax.errors import UserError
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.hashes import GOLDEN, slots
from mucpt_jax.formats.manifest import Manifest, Shard, read_index_where
from mucpt_jax.formats.rows import checked_scores, read_shard, target_mask
from mucpt_jax.formats.scored import read_both
from mucpt_jax.formats.tokenizer import vocab_size

ROWS_READ, TOKENS_READ = 20_000, 20_000_000  # whichever is less
SOURCE_ROWS = 50  # of a source at least: it may be a ten-thousandth of the corpus
BLOCK = 1 << 18  # slots that are in memory at once
PHRASES, PHRASE_COUNT = 100, 3  # shown; occurrences that make an n-gram a phrase
NGRAMS = range(3, 11)  # tokens
BUCKET_BITS, CANDIDATES = 22, 20_000  # of the sketch that finds them
HALF = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer decodes bytes to that are no character
# Histograms: 20 bins a decade of r, nats; of r(start model) - r, 10 bins a nat.
R_EDGES = np.array([0.0, *10 ** np.arange(-3, 1.501, 0.05), 65504.0])
EXCESS_EDGES = np.array([-65504.0, *np.arange(-100, 101) / 10, 65504.0])


class Scored(NamedTuple):
    folder: Path
    base: Path | None  # the same rows, scored by the start model
    manifest: Manifest
    floors: list[float]  # nats, the manifest's grid


def spread_rows(manifest: Manifest) -> list[tuple[Shard, np.ndarray]]:
    """(shard, row numbers): evenly spaced rows of each source, about as many as its share of the corpus."""
    total = sum(shard["records"] for shard in manifest["shards"])
    wanted = min(total, ROWS_READ, max(TOKENS_READ // manifest["sequence_length"], 1))
    by_source = {}
    for shard in manifest["shards"]:
        by_source.setdefault(shard["source"], []).append(shard)
    chosen, least = [], min(SOURCE_ROWS, max(wanted // max(len(by_source), 1), 1))
    for shards in by_source.values():
        count, start = sum(shard["records"] for shard in shards), 0
        mine = min(count, max(wanted * count // max(total, 1), least))
        rows = np.arange(mine) * count // max(mine, 1)
        for shard in shards:
            chosen.append((shard, rows[(rows >= start) & (rows < start + shard["records"])] - start))
            start += shard["records"]
    return [(shard, numbers) for shard, numbers in chosen if len(numbers)]


def blocks(scored: Scored, rows: list[tuple[dict, np.ndarray]]) -> Iterator[tuple[dict, np.ndarray, dict]]:
    """(shard, row numbers [B], read_rows of them) for a few rows at a time."""
    size = max(BLOCK // (scored.manifest["sequence_length"] + 1), 1)
    for shard, numbers in rows:
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            yield shard, part, read_rows(scored, shard, part)


def read_rows(scored: Scored, shard: Shard, numbers: Sequence[int]) -> dict[str, np.ndarray]:
    """Rows of one shard: tokens i4, segment_ids u2, is_target bool, r f4 (and base f4), all [B, T+1]; NaN: no score."""
    block, base = stack_rows(scored, shard, numbers)
    block["is_target"] = np.zeros(block["tokens"].shape, bool)
    block["is_target"][:, 1:] = target_mask(block["segment_ids"])
    block["r"] = scores(block.pop("rm_nll"), block["is_target"], scored.folder / shard["name"])
    if scored.base:
        block["base"] = scores(base, block["is_target"], scored.base / shard["name"])
    return block


def stack_rows(scored: Scored, shard: Shard, numbers: Sequence[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The rows as arrays [B, T+1], and the start model's rm_nll of them (their own where there is no start model)."""
    length = scored.manifest["sequence_length"]
    if scored.base:
        pairs = list(read_both(scored.folder, scored.base, shard, length, numbers))
    else:
        rows = read_shard(scored.folder / shard["name"], length, numbers, scored.manifest["vocab_size"])
        pairs = [(row, row) for row in rows]
    block = {name: np.stack([row[name] for row, _ in pairs]) for name in pairs[0][0]}
    return block, np.stack([other["rm_nll"] for _, other in pairs])


def scores(rm_nll: np.ndarray, is_target: np.ndarray, path: Path) -> np.ndarray:
    checked_scores(rm_nll[is_target], str(path))
    return np.where(is_target, rm_nll.astype(np.float32), np.nan)


# What the rows say together


def survey(scored: Scored, rows: list, floor: float, kinds: np.ndarray) -> dict:
    """Over the rows: histograms by source, documents, a sketch of n-grams.  kinds: letters() of the tokenizer."""
    mean = score_sums.at_floor(scored.manifest["scores"]["mean_raw_weight"], floor)
    bins = {"r": len(R_EDGES) - 1, "inverse": len(R_EDGES) - 1, "excess": len(EXCESS_EDGES) - 1}
    by_source = {s["source"]: {k: np.zeros(n) for k, n in bins.items()} for s in scored.manifest["shards"]}
    documents, lost_of_bucket = {}, np.zeros(1 << BUCKET_BITS)
    for shard, numbers, block in blocks(scored, rows):
        r, source = block["r"][block["is_target"]], by_source[shard["source"]]
        source["r"] += np.histogram(r, R_EDGES)[0]
        source["inverse"] += np.histogram(r, R_EDGES, weights=1 / np.maximum(r, R_EDGES[1]))[0]
        if scored.base:
            source["excess"] += np.histogram(block["base"][block["is_target"]] - r, EXCESS_EDGES)[0]
        weight = 1 / np.maximum(block["r"], floor) / mean
        owners = owners_of(scored.folder, shard["name"], numbers)
        add_documents(documents, shard["source"], numbers, block, weight, owners)
        lost = running_sum(np.where(block["is_target"], 1 - weight, 0))
        for n, starts, hashes in ngrams(block, kinds):
            np.add.at(lost_of_bucket, slots(hashes, BUCKET_BITS), lost[starts + n] - lost[starts])
    return {"by_source": by_source, "documents": documents, "lost": lost_of_bucket, "mean": mean}


def owners_of(folder: Path, shard: str, numbers: np.ndarray) -> dict[tuple[int, int], str]:
    """(row, segment) -> document id."""
    where = [("shard", "=", shard), ("row", ">=", int(numbers[0])), ("row", "<=", int(numbers[-1]))]
    table = read_index_where(folder, where, ["row", "segment", "document"])
    columns = (table[name].to_pylist() for name in ("row", "segment", "document"))
    return {(row, segment): document for row, segment, document in zip(*columns, strict=True)}


def add_documents(documents: dict, source: str, numbers, block: dict, weight: np.ndarray, owners: dict) -> None:
    """Adds weight and targets of each segment to documents[source, id] = [weight, targets]."""
    rows, slots = np.nonzero(block["is_target"])
    segments = block["segment_ids"][rows, slots]  # of targets, so without NO_LOSS
    places, inverse = np.unique(rows.astype(np.int64) << 16 | segments, return_inverse=True)
    sums, counts = np.bincount(inverse, weight[rows, slots]), np.bincount(inverse)
    for place, total, count in zip(places.tolist(), sums.tolist(), counts.tolist(), strict=True):
        row, segment = int(numbers[place >> 16]), place & 0xFFFF
        if (row, segment) not in owners:
            raise UserError(f"index.parquet does not know segment {segment} of a row {row} of {source}; copy it again")
        facts = documents.setdefault((source, owners[row, segment]), [0.0, 0])
        facts[0] += total
        facts[1] += count


# n-grams: a sketch of lost weight by hash finds the buckets worth counting, then each of their n-grams is counted


def letters(tokenizer) -> np.ndarray:
    """i1 [V, 2]: the kinds of a token's first and last character.  Within a word two of one kind follow each other.

    Chinese has no blanks between words, so a whole run of its characters counts as one; so does what stands beside a
    character that takes several tokens.
    """
    alone = tokenizer.batch_decode([[i] for i in range(vocab_size(tokenizer))], clean_up_tokenization_spaces=False)
    # Behind itself a token shows the blank that some tokenizers set before it.
    twice = tokenizer.batch_decode([[i, i] for i in range(vocab_size(tokenizer))], clean_up_tokenization_spaces=False)
    texts = [text[len(one) :] or HALF for one, text in zip(alone, twice, strict=True)]
    return np.array([(letter(text[0]), letter(text[-1])) for text in texts], np.int8)


def letter(character: str) -> int:
    """0 is no part of a word, 1 a letter or digit, 2 one of Chinese, Japanese, Korean, 3 some bytes of a character."""
    if character == HALF:
        return 3
    return (1 + (unicodedata.east_asian_width(character) == "W")) if character.isalnum() else 0


def inside_words(block: dict, kinds: np.ndarray) -> np.ndarray:
    """Is the edge before each slot within a word?  bool [slots + 1]."""
    first, last = kinds[block["tokens"].ravel()].T
    same = (last[:-1] == first[1:]) & (first[1:] > 0) | (last[:-1] == 3) | (first[1:] == 3)
    return np.concatenate([[False], same & block["is_target"].ravel()[1:], [False]])


def ngrams(block: dict, kinds: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(n, starts, hashes u8) of all runs of n targets that begin and end with words, places counting through the
    block's slots, for n of NGRAMS."""
    whole = ~inside_words(block, kinds)
    # Slot 0 of a row is no target, so that no run goes from row to row.
    targets = block["is_target"].ravel()
    tokens = block["tokens"].ravel().astype(np.uint64) + np.uint64(1)
    runs, hashes = targets, tokens
    for n in range(2, max(NGRAMS) + 1):
        runs = runs[:-1] & targets[n - 1 :]
        hashes = hashes[:-1] * GOLDEN + tokens[n - 1 :]
        if n in NGRAMS:
            starts = np.flatnonzero(runs & whole[: len(runs)] & whole[n:])
            yield n, starts, hashes[starts]


def running_sum(values: np.ndarray) -> np.ndarray:
    """Sum before each slot of the block: a run's sum is a difference."""
    return np.concatenate([[0.0], np.cumsum(values.ravel(), dtype=np.float64)])


def phrases(scored: Scored, rows: list, surveyed: dict, floor: float, tokenizer, kinds: np.ndarray) -> list[dict]:
    """N-grams that lose most weight, sum(1 - w) over their tokens: text, tokens, count, mean raw weight by floor."""
    chosen = pick_phrases(count_ngrams(scored, rows, surveyed, floor, kinds), tokenizer)
    known = np.array(sorted(chosen), np.uint64)
    sums = np.zeros((len(known), len(scored.floors)))
    for _, _, block in blocks(scored, rows) if chosen else ():
        raw = [np.where(block["is_target"], 1 / np.maximum(block["r"], f), 0) for f in scored.floors]
        before = np.stack([running_sum(values) for values in raw], 1)
        for n, starts, hashes in ngrams(block, kinds):
            at = np.searchsorted(known, hashes).clip(max=len(known) - 1)
            hit = known[at] == hashes
            np.add.at(sums, at[hit], before[starts[hit] + n] - before[starts[hit]])
    means = {int(h): total for h, total in zip(known, sums, strict=True)}
    return [
        {"text": text, "tokens": n, "count": count, "means": short(means[key] / (count * n))}
        for key, (text, n, count) in chosen.items()
    ]


def count_ngrams(scored: Scored, rows: list, surveyed: dict, floor: float, kinds: np.ndarray) -> dict[int, list]:
    """hash -> [lost weight, occurrences, tokens] of the n-grams in the buckets that lose most."""
    threshold = max(np.partition(surveyed["lost"], -CANDIDATES)[-CANDIDATES], 1e-9)
    counted = {}
    for _, _, block in blocks(scored, rows):
        weight = 1 / np.maximum(block["r"], floor) / surveyed["mean"]
        lost, tokens = running_sum(np.where(block["is_target"], 1 - weight, 0)), block["tokens"].ravel()
        for n, starts, hashes in ngrams(block, kinds):
            hit = surveyed["lost"][slots(hashes, BUCKET_BITS)] >= threshold
            keys, first, inverse = np.unique(hashes[hit], return_index=True, return_inverse=True)
            sums = np.bincount(inverse, (lost[starts + n] - lost[starts])[hit], len(keys)).tolist()
            counts, first = np.bincount(inverse, minlength=len(keys)).tolist(), starts[hit][first].tolist()
            for key, start, total, count in zip(keys.tolist(), first, sums, counts, strict=True):
                facts = counted.setdefault(key, [0.0, 0, tuple(tokens[start : start + n].tolist())])
                facts[0] += total
                facts[1] += count
    return counted


def pick_phrases(counted: dict[int, list], tokenizer) -> dict[int, tuple[str, int, int]]:
    """hash -> (text, tokens, count), most lost first; of n-grams that share three tokens in a row the first stays."""
    ranked = sorted((-lost, tokens, key, n) for key, (lost, n, tokens) in counted.items() if n >= PHRASE_COUNT)
    chosen, covered = {}, set()
    for lost, tokens, key, count in ranked:
        inner = {tokens[i : i + 3] for i in range(len(tokens) - 2)}
        text = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        # A year of three tokens is no phrase to read, nor is half a Chinese character.
        readable = len(text.strip().encode()) > 4 and HALF not in text
        if lost < 0 and readable and not inner & covered:
            chosen[key], covered = (text, len(tokens), count), covered | inner
        if len(chosen) == PHRASES:
            break
    return chosen


def short(values: np.ndarray) -> list[float | None]:
    """Three digits; None where there is no score."""
    return [None if value != value else float(f"{value:.3g}") for value in values.tolist()]
