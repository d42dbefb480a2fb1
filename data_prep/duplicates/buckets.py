"""Buckets: which documents of a corpus share a digest or a band of their signatures, and which of them stays.

data_prep.dedup calls it on the tables of work_files.py.  It hands Beam arrays of keys and fates, never texts.
"""

from collections.abc import Iterator

import numpy as np

from data_prep.duplicates import signatures, subjects, work_files
from data_prep.duplicates.work_files import Task, Work, by_number, files_of, gather, keys_of, read_slice, rows_of
from mucpt_jax.formats.hashes import spread

WINDOW = 8  # how many members before it a member is compared with, if it is unlike its bucket's first
PAIRS = 1 << 14  # signatures compared at once
BANDS_AT_ONCE = 8  # read off a file's signatures: 64 bytes of memory a document
MARGIN = 0.03  # taken off the similarity asked for: 1.2 standard deviations of the estimate at .8
# The fate of a duplicate is -(kind), and -(kind + EARLIER) where the document that stays is of an earlier run.
EXACT, NEAR, EARLIER = 1, 2, 2


# Groups and their best


def best_first(work: Work, keys: np.ndarray, group: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """The order in which groups follow each other and each begins with the document that stays.

    A document of an earlier run stays, else the one of most quality, then length, then priority of its source, then the
    smallest id, and of equal ids the first as read.
    """
    earlier = files_of(keys) >= work.first_earlier
    tied = _ties(group, facts, earlier)
    id_order = np.zeros(len(keys), np.int64)
    if tied.any():
        id_order[tied] = np.unique(np.array(work_files.ids_of(work, keys[tied]), object), return_inverse=True)[1]
    return np.lexsort((keys, id_order, *_rank(facts), ~earlier, group))


def _rank(facts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sort keys, the last the first to count."""
    return facts["priority"], -facts["length"], -facts["quality"]


def _ties(group: np.ndarray, facts: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """Which documents only their ids set apart from another one of their group; only these ids are read."""
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
    """Members u8[n] of groups -> changes: (file number, (row, fate, kept key) u8[m, 3]) of each file.

    copies i8[n]: how many documents each member stands for so far.  The fate of the member that is kept is their sum.
    The fate of another is, as int64, -kind, or -(kind + EARLIER) where its group has a document of an earlier run.
    """
    facts = gather(work, keys, "facts")
    order = best_first(work, keys, group, facts)
    keys, group, copies = keys[order], group[order], copies[order]
    first = np.append(True, group[1:] != group[:-1])
    place = np.cumsum(first) - 1  # of a member's group
    kept = keys[first][place]
    total = np.bincount(place, copies).astype(np.int64)[place]
    earlier = files_of(kept) >= work.first_earlier
    fates = np.where(first, total, -(kind + EARLIER * earlier.astype(np.int64)))
    yield from by_number(files_of(keys), np.stack([rows_of(keys), fates.view(np.uint64), kept], axis=1))


def repeated(hashes: np.ndarray) -> np.ndarray:
    """Sorted u8[n] -> which stand more than once."""
    same = hashes[1:] == hashes[:-1]
    return np.append(same, False) | np.append(False, same) if len(hashes) else np.zeros(0, bool)


def exact_groups(task: Task, counts: list[tuple[int, int]], work: Work) -> Iterator[tuple[int, np.ndarray]]:
    """One range of digests -> changes of the documents that share a digest."""
    hashes, keys = read_slice(work, sorted(dict(counts)), "digests", 1, task)
    keys = keys[repeated(hashes)]
    if len(keys):
        digests = np.ascontiguousarray(gather(work, keys, "facts")["digest"])
        _, group = np.unique(digests.view("V16").ravel(), return_inverse=True)
        yield from settle(work, keys, group, np.ones(len(keys), np.int64), EXACT)


def by_kept(change: tuple[int, np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """One file's changes -> (file number of the kept document, (key, fate, kept key) u8[m, 3]) of what goes."""
    number, rows = change
    gone = rows[np.ascontiguousarray(rows[:, 1]).view(np.int64) < 0]
    gone[:, 0] = keys_of(number, gone[:, 0])
    yield from by_number(files_of(gone[:, 2]), gone)


def forward(file: tuple[int, dict]) -> Iterator[tuple[int, np.ndarray]]:
    """(number, {"exact": by_kept, "near": changes}) -> changes of exact duplicates of what goes as a near-duplicate."""
    _, groups = file
    heirs = {int(row): int(kept) for change in groups["near"] for row, _, kept in change}
    for gone in groups["exact"]:
        gone = gone.copy()  # what came in belongs to the runner
        kept_rows = rows_of(gone[:, 2]).tolist()
        gone[:, 2] = [heirs.get(row, key) for row, key in zip(kept_rows, gone[:, 2].tolist(), strict=True)]
        numbers, gone[:, 0] = files_of(gone[:, 0]), rows_of(gone[:, 0])
        yield from by_number(numbers, gone)


# Near-duplicates


def write_bands(work: Work, number: int, fates: np.ndarray) -> int:
    """Writes a file's table "bands", of documents that are left and have a word; returns how many these are."""
    left, parts = fates > 0, [np.zeros(0, bool)]
    parts += [signature.any(1) & left[rows] for rows, signature in work_files.stored_signatures(work, number)]
    taken = np.concatenate(parts)
    rows = np.flatnonzero(taken).astype(np.uint32)
    work_files.write_table(work, number, "bands", _bands(work, number, taken), rows)
    return len(rows)


def _bands(work: Work, number: int, taken: np.ndarray) -> Iterator[np.ndarray]:
    """u8[n] of each band in turn; the file is read once for BANDS_AT_ONCE of them."""
    for first in range(0, work_files.bands(work), BANDS_AT_ONCE):
        parts = [np.zeros((0, BANDS_AT_ONCE), np.uint64)]
        for rows, signature in work_files.stored_signatures(work, number):
            columns = signature.view(f"u{work.band_bytes}")[taken[rows], first : first + BANDS_AT_ONCE]
            parts.append(spread(columns.astype(np.uint64)))  # slices are ranges of the first bits
        yield from np.concatenate(parts).T


def near_groups(members: np.ndarray, work: Work) -> Iterator[tuple[int, np.ndarray]]:
    """(root, key) u8[n, 2] of whole components -> changes.

    A chain may link documents of several subjects: those that differ from the one that stays are groups of their own.
    """
    while len(members):
        group, keys = members[:, 0], members[:, 1]
        same = agree_with_best(work, keys, group) if work.by_subject else np.ones(len(keys), bool)
        yield from settle(work, keys[same], group[same], gather(work, keys[same], "fates"), NEAR)
        members = members[~same]


def agree_with_best(work: Work, keys: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Members u8[n] of groups -> whether each agrees in subject with the one of its group that would stay."""
    order = best_first(work, keys, group, gather(work, keys, "facts"))
    first = np.append(True, group[order][1:] != group[order][:-1])
    best = np.empty_like(keys)
    best[order] = keys[order][first][np.cumsum(first) - 1]
    return agree(work, keys, best)


def near_links(task: Task, counts: list[tuple[int, int]], work: Work) -> Iterator[np.ndarray]:
    """One range of one band -> u8[links, 2]: keys (larger, smaller) of near documents.

    A bucket's members are compared with its first, which has the smallest key; members unlike it also with the WINDOW
    members before them.  So a bucket of n members costs at most (1 + WINDOW) n comparisons, never n squared.  By
    subject, members with the same names stand side by side: of many stubs that share a bucket few are copies.
    """
    hashes, keys = read_slice(work, sorted(dict(counts)), "bands", work_files.bands(work), task)
    shared = repeated(hashes)
    hashes, keys = hashes[shared], keys[shared]
    if not len(keys):
        return
    if work.by_subject:
        keys = keys[np.lexsort((keys, subjects.order(gather(work, keys, "subject")), hashes))]
    first = np.append(True, hashes[1:] != hashes[:-1])
    start = np.flatnonzero(first)[np.cumsum(first) - 1]
    member = np.flatnonzero(~first)
    near = are_near(work, keys[member], keys[start[member]])
    yield np.stack([keys[member], keys[start[member]]], axis=1)[near]
    left = member[~near]
    for back in range(1, WINDOW + 1):
        left = left[left - back > start[left]]  # the bucket's first was compared already
        near = are_near(work, keys[left], keys[left - back])
        yield np.stack([keys[left], keys[left - back]], axis=1)[near]


def are_near(work: Work, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Keys u8[n] twice -> whether the signatures agree enough, and the subjects where they count."""
    near = np.zeros(len(one), bool)
    for start in range(0, len(one), PAIRS):
        pair = [gather(work, keys[start : start + PAIRS], "signature") for keys in (one, other)]
        near[start : start + PAIRS] = signatures.similarity(*pair) >= work.similarity - MARGIN
    if work.by_subject:
        near[near] = agree(work, one[near], other[near])
    return near


def agree(work: Work, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Keys u8[n] twice -> whether the documents agree in subject."""
    same = np.zeros(len(one), bool)
    for start in range(0, len(one), PAIRS):
        pair = [gather(work, keys[start : start + PAIRS], "subject") for keys in (one, other)]
        same[start : start + PAIRS] = ~subjects.differ(*pair)
    return same
