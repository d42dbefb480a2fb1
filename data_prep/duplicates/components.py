"""Connected components of links over Beam: large-star and small-star (Kiveris et al. 2014, Connected Components in
MapReduce and Beyond).

A link is a row (a, b) of an array u8[n, 2].  Links travel as arrays, split by the hash of the vertex in their first
column.  Each vertex links its neighbours to the smallest of them, so a path of n vertices is a star after some log2(n)
rounds.  No step needs all links of a vertex at once: the first pass over the arrays of a part takes minima, the second
rewrites.
"""

from collections.abc import Callable, Iterable, Iterator

import apache_beam as beam
import numpy as np

from data_prep.duplicates.work_files import by_number
from mucpt_jax.formats.hashes import spread

PARTS = 16  # that links are split into
REMEMBERED = 1 << 19  # links of a bundle, 16 bytes each
ARRAY = 1 << 16  # links that are handed on together
ROUNDS = 6  # enough where no two vertices of a component are more than some 60 links apart


class Components(beam.PTransform):
    """Arrays u8[links, 2] -> arrays u8[vertices, 2] of (root, vertex), each vertex once, each root's in one array.

    Vertices without a link do not occur; the root of a component is its smallest vertex.  A component too long for the
    rounds ends as several, with each vertex still in one of them.
    """

    def __init__(self, rounds: int = ROUNDS):
        super().__init__()
        self.rounds = rounds

    def expand(self, links):
        links = links | "DropSeen" >> beam.ParDo(DropSeen()) | "Contract" >> beam.Map(stars)
        for number in range(self.rounds):
            links = _step(links, f"LargeStar{number}", both_ways, large_star)
            links = _step(links, f"SmallStar{number}", downwards, small_star)
        labels = _step(links, "Root", with_roots, smallest_labels)
        return _step(labels, "Component", root_first, as_one_array)


class DropSeen(beam.DoFn):
    """Drops links that this bundle handed on before: most near pairs meet in many bands.

    It remembers REMEMBERED links, so of many millions most pass again.  Nothing is remembered beyond a bundle, since a
    runner keeps or throws away a bundle's output as a whole.
    """

    def start_bundle(self):
        self.seen = np.zeros((REMEMBERED, 2), np.uint64)

    def process(self, links):
        slot = _hash(links[:, 0] ^ _hash(links[:, 1])) % np.uint64(REMEMBERED)
        new = (self.seen[slot] != links).any(1)
        self.seen[slot] = links
        yield links[new]


def _hash(keys: np.ndarray) -> np.ndarray:
    """24 bits"""
    return spread(keys) >> np.uint64(40)


def _step(arrays, name: str, prepare: Callable, rewrite: Callable):
    return (
        arrays
        | f"{name}Split" >> beam.FlatMap(split, prepare)
        | f"{name}Group" >> beam.GroupByKey()
        | name >> beam.FlatMap(lambda group: in_larger_arrays(rewrite(group[1])))
    )


def split(links: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Prepared links -> (part, links) by the hash of the first column."""
    links = prepare(links)
    yield from by_number(_hash(links[:, 0]) % np.uint64(PARTS), links)


def both_ways(links: np.ndarray) -> np.ndarray:
    return unique(np.concatenate([links, links[:, ::-1]]))


def downwards(links: np.ndarray) -> np.ndarray:
    """(larger, smaller)"""
    return unique(np.stack([links.max(1), links.min(1)], axis=1))


def with_roots(links: np.ndarray) -> np.ndarray:
    links = downwards(links)
    return unique(np.concatenate([links, links[:, [1, 1]]]))


def root_first(labels: np.ndarray) -> np.ndarray:
    return labels[:, ::-1]


def unique(links: np.ndarray) -> np.ndarray:
    """Sorted by rows, each once."""
    order = np.lexsort((links[:, 1], links[:, 0]))
    links = links[order]
    new = np.append(True, (links[1:] != links[:-1]).any(1))
    return links[new[: len(links)]]


def smallest_near(arrays: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of (u, v) -> the sorted u, each once, and the smallest of u and all its v."""
    smallest = np.zeros((0, 2), np.uint64)
    for links in arrays:
        smallest = unique(np.concatenate([smallest, links]))
        smallest = smallest[np.append(True, smallest[1:, 0] != smallest[:-1, 0])[: len(smallest)]]
    return smallest[:, 0], smallest.min(1) if len(smallest) else smallest[:, 1]


def in_larger_arrays(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same links in arrays of about ARRAY, each once in an array.

    Otherwise, split again in every step, each link would soon be an array of its own.
    """
    held, size = [], 0
    for links in arrays:
        held.append(links)
        size += len(links)
        if size >= ARRAY:
            yield unique(np.concatenate(held))
            held, size = [], 0
    if held:
        yield unique(np.concatenate(held))


def large_star(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Links both ways -> every larger neighbour of u, linked to the smallest of u and its neighbours."""
    vertex, smallest = smallest_near(arrays)
    for links in arrays:
        links = links[links[:, 1] > links[:, 0]]
        yield np.stack([links[:, 1], smallest[np.searchsorted(vertex, links[:, 0])]], axis=1)


def small_star(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Links (larger, smaller) -> u and its smaller neighbours, linked to the smallest of them."""
    vertex, smallest = smallest_near(arrays)
    yield np.stack([vertex, smallest], axis=1)
    for links in arrays:
        target = smallest[np.searchsorted(vertex, links[:, 0])]
        yield np.stack([links[:, 1], target], axis=1)[links[:, 1] != target]


def smallest_labels(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    yield np.stack(smallest_near(arrays), axis=1)


def as_one_array(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    yield unique(np.concatenate(list(arrays)))


def stars(links: np.ndarray) -> np.ndarray:
    """The links of one array -> (vertex, smallest vertex of its component in this array), without the smallest ones."""
    vertices, ends = np.unique(links, return_inverse=True)
    ends, label = ends.reshape(-1, 2), np.arange(len(vertices))
    while True:
        low = label[ends].min(1)
        new = label.copy()
        np.minimum.at(new, label[ends[:, 0]], low)  # the label of a root: whole stars move
        np.minimum.at(new, label[ends[:, 1]], low)
        new = new[new]
        if (new == label).all():
            break
        label = new
    inner = label != np.arange(len(vertices))
    return np.stack([vertices, vertices[label]], axis=1)[inner]
