"""Buckets: which documents of a corpus share a digest or a band of their signatures, and which of them stays.

No command of its own; data_prep.dedup calls it on the tables of work_files.py.  What it hands to Beam are arrays of
keys and what becomes of them, never texts.
"""

from collections.abc import Iterator

import numpy as np

from data_prep.duplicates import signatures
from data_prep.duplicates.work_files import Work, bands, gather, names, read_slice, stored_signatures, write_table
from mucpt_jax.formats.hashes import GOLDEN

WINDOW = 8  # members of a bucket before it that one unlike the first is compared with
PAIRS = 1 << 14  # signatures compared at once
BANDS_AT_ONCE = 8  # read off a file's signatures: 64 bytes of memory a document
MARGIN = 0.03  # taken off the similarity asked for: 1.2 standard deviations of the estimate at .8
# A fate below 0 is -(kind), and -(kind + EARLIER) where the other is of an earlier run.
EXACT, NEAR, EARLIER = 1, 2, 2


# Groups and their best


def best_first(work: Work, keys: np.ndarray, group: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """The order in which groups follow each other and each begins with the document that stays.

    That is one of an earlier run, else the one of most quality, then length, then priority of its source, then the
    smallest id, and of equal ids the first as read.
    """
    tied = _ties(group, facts, keys >= np.uint64(work.first_earlier << 32))
    name_order = np.zeros(len(keys), np.int64)
    if tied.any():
        ids = np.array(names(work, keys[tied]), object)
        name_order[tied] = np.unique(ids, return_inverse=True)[1]
    return np.lexsort((keys, name_order, *_rank(facts), keys < np.uint64(work.first_earlier << 32), group))


def _rank(facts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sort keys, the last the first to count."""
    return facts["priority"], -facts["length"], -facts["quality"]


def _ties(group: np.ndarray, facts: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """Which documents are as good as another of their group but for the id; only their ids are read."""
    columns = (*_rank(facts), earlier, group)
    order = np.lexsort(columns)
    same = np.ones(len(group) - 1, bool)
    for column in columns:
        same &= column[order][1:] == column[order][:-1]
    tied = np.zeros(len(group), bool)
    tied[order[1:]] |= same
    tied[order[:-1]] |= same
    return tied


def settle(
    work: Work, keys: np.ndarray, group: np.ndarray, copies: np.ndarray, kind: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Members u8[n] of groups -> (file number, (row, fate, kept key) u8[m, 3]) of each file.

    A fate is how many documents the kept one stands for (copies i8[n] are of each before), or as int64 below 0 why a
    document goes: -kind, and -(kind + EARLIER) where its group has one of an earlier run.
    """
    facts = gather(work, keys, "facts")
    order = best_first(work, keys, group, facts)
    keys, group, copies = keys[order], group[order], copies[order]
    first = np.append(True, group[1:] != group[:-1])
    place = np.cumsum(first) - 1
    kept = keys[first][place]
    total = np.bincount(place, copies).astype(np.int64)[place]
    earlier = kept >= np.uint64(work.first_earlier << 32)
    fates = np.where(first, total, -(kind + EARLIER * earlier.astype(np.int64)))
    rows = keys & np.uint64(0xFFFFFFFF)
    made = np.stack([rows, fates.astype(np.int64).view(np.uint64), kept], axis=1)
    numbers = keys >> np.uint64(32)
    for number in np.unique(numbers):
        yield int(number), made[numbers == number]


def repeated(hashes: np.ndarray) -> np.ndarray:
    """Sorted u8[n] -> which stand more than once."""
    same = hashes[1:] == hashes[:-1]
    return np.append(same, False) | np.append(False, same) if len(hashes) else np.zeros(0, bool)


def exact_groups(task: tuple[int, int, int], counts: list[tuple[int, int]], work: Work):
    """The documents of one range of digests that are not alone with theirs -> as `settle`."""
    hashes, keys = read_slice(work, sorted(dict(counts)), "digests", 1, task)
    keys = keys[repeated(hashes)]
    if len(keys):
        digests = np.ascontiguousarray(gather(work, keys, "facts")["digest"])
        _, group = np.unique(digests.view("V16").ravel(), return_inverse=True)
        yield from settle(work, keys, group, np.ones(len(keys), np.int64), EXACT)


def by_kept(change: tuple[int, np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """One file's changes -> (file number of the kept one, (key, fate, kept key) u8[m, 3]) of what goes."""
    number, rows = change
    gone = rows[np.ascontiguousarray(rows[:, 1]).view(np.int64) < 0]
    gone = gone + np.array([np.uint64(number) << np.uint64(32), 0, 0], np.uint64)
    numbers = gone[:, 2] >> np.uint64(32)
    for kept in np.unique(numbers):
        yield int(kept), gone[numbers == kept]


def forward(joined: tuple[int, dict]) -> Iterator[tuple[int, np.ndarray]]:
    """Of one file, {"exact": by_kept, "near": changes} -> changes of those whose kept one goes as a near-duplicate."""
    _, groups = joined
    heirs = {int(row): int(kept) for change in groups["near"] for row, _, kept in change}
    for gone in groups["exact"]:
        rows = (gone[:, 2] & np.uint64(0xFFFFFFFF)).tolist()
        gone = gone.copy()  # what came in belongs to the runner
        gone[:, 2] = [heirs.get(row, key) for row, key in zip(rows, gone[:, 2].tolist(), strict=True)]
        numbers = gone[:, 0] >> np.uint64(32)
        for number in np.unique(numbers):
            made = gone[numbers == number]
            made[:, 0] &= np.uint64(0xFFFFFFFF)
            yield int(number), made


# Near-duplicates


def write_bands(work: Work, number: int, fates: np.ndarray) -> int:
    """The bands of a file's documents that are left and have a word -> its table "bands"; their number."""
    left, some = fates > 0, [np.zeros(0, bool)]
    some += [signature.any(1) & left[rows] for rows, signature in stored_signatures(work, number)]
    taken = np.concatenate(some)
    rows = np.flatnonzero(taken).astype(np.uint32)
    write_table(work, number, "bands", _bands(work, number, taken), rows)
    return len(rows)


def _bands(work: Work, number: int, taken: np.ndarray) -> Iterator[np.ndarray]:
    """u8[n] of each band in turn; the file is read once for BANDS_AT_ONCE of them."""
    for first in range(0, bands(work), BANDS_AT_ONCE):
        parts = [np.zeros((0, BANDS_AT_ONCE), np.uint64)]
        for rows, signature in stored_signatures(work, number):
            columns = signature.view(f"u{work.rows}")[taken[rows], first : first + BANDS_AT_ONCE]
            parts.append(_spread(columns))
        yield from np.concatenate(parts).T


def _spread(columns: np.ndarray) -> np.ndarray:
    """Bands as u8 whose first bits, which make the slices, depend on all of them."""
    return columns.astype(np.uint64) * GOLDEN


def near_groups(members: np.ndarray, work: Work) -> Iterator[tuple[int, np.ndarray]]:
    """(root, key) u8[n, 2] of whole components -> as `settle`."""
    if len(members):
        keys = members[:, 1]
        yield from settle(work, keys, members[:, 0], gather(work, keys, "fates"), NEAR)


def near_links(task: tuple[int, int, int], counts: list[tuple[int, int]], work: Work) -> Iterator[np.ndarray]:
    """One range of one band -> u8[links, 2]: keys (larger, smaller) of documents found near.

    A bucket's members are compared with its smallest key, and those unlike it with the WINDOW members before them: a
    bucket of n gives n pairs or some more, never n squared.
    """
    hashes, keys = read_slice(work, sorted(dict(counts)), "bands", bands(work), task)
    shared = repeated(hashes)
    hashes, keys = hashes[shared], keys[shared]
    if not len(keys):
        return
    first = np.append(True, hashes[1:] != hashes[:-1])
    start = np.flatnonzero(first)[np.cumsum(first) - 1]
    member = np.flatnonzero(~first)
    near = are_near(work, keys[member], keys[start[member]])
    yield np.stack([keys[member], keys[start[member]]], axis=1)[near]
    left = member[~near]
    for back in range(1, WINDOW + 1):
        left = left[left - back > start[left]]  # the first was compared already
        near = are_near(work, keys[left], keys[left - back])
        yield np.stack([keys[left], keys[left - back]], axis=1)[near]


def are_near(work: Work, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Keys u8[n] twice -> whether the signatures agree enough."""
    made = np.zeros(len(one), bool)
    for start in range(0, len(one), PAIRS):
        pair = [gather(work, keys[start : start + PAIRS], "signature") for keys in (one, other)]
        made[start : start + PAIRS] = signatures.similarity(*pair) >= work.similarity - MARGIN
    return made
