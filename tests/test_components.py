import numpy as np
import pytest

from data_prep.duplicates import components
from data_prep.duplicates.components import large_star, small_star, split, stars


def links(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, np.uint64).reshape(-1, 2)


def shuffled(arrays, prepare) -> list[list[np.ndarray]]:
    """What a runner's group-by does with the parts."""
    groups = {}
    for array in arrays:
        for part, piece in split(array, prepare):
            groups.setdefault(part, []).append(piece)
    return list(groups.values())


def labels(arrays: list[np.ndarray], rounds: int = components.ROUNDS, contract=stars) -> dict[int, int]:
    """vertex -> root, the steps of Components in its order, but for the first and the last."""
    arrays = [contract(array) for array in arrays]
    for _ in range(rounds):
        for prepare, star in ((components.both_ways, large_star), (components.downwards, small_star)):
            arrays = [made for group in shuffled(arrays, prepare) for made in components.in_larger_arrays(star(group))]
    found = {}
    for group in shuffled(arrays, components.with_roots):
        for array in components.smallest_labels(group):
            for vertex, root in array.tolist():
                assert vertex not in found, f"{vertex} stands in two groups"
                found[vertex] = root
    return found


def plain_labels(pairs: list[tuple[int, int]]) -> dict[int, int]:
    """By union-find over Python ints."""
    parent = {}

    def root(v):
        while parent.setdefault(v, v) != v:
            v = parent[v]
        return v

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return {v: root(v) for v in parent}


def test_two_triangles_joined_by_a_link_are_one_component_and_a_pair_another():
    pairs = [(1, 2), (2, 3), (3, 1), (7, 8), (8, 9), (3, 7), (20, 21)]
    assert labels([links(*pairs)]) == dict.fromkeys([1, 2, 3, 7, 8, 9], 1) | {20: 20, 21: 20}


@pytest.mark.parametrize("seed", range(5))
def test_random_links_in_many_arrays_give_the_components_of_union_find(seed):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, 400, (260, 2)) + (rng.integers(0, 3, (260, 1)) << 32)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]].astype(np.uint64)
    found = labels(np.array_split(pairs, 7))
    assert found == plain_labels(pairs.tolist())


def test_the_order_and_split_of_links_do_not_matter():
    rng = np.random.default_rng(9)
    pairs = rng.integers(0, 90, (80, 2)).astype(np.uint64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    assert labels([pairs]) == labels(np.array_split(rng.permutation(pairs)[:, ::-1], 9))


def test_a_path_of_60_links_none_two_of_which_were_seen_together_ends_whole():
    order = np.random.default_rng(1).permutation(61).astype(np.uint64)
    path = [order[n : n + 2].reshape(1, 2) for n in range(60)]
    assert set(labels(path, contract=lambda array: array).values()) == {0}


def test_too_few_rounds_leave_parts_but_no_vertex_in_two():
    path = [links((n, n + 1)) for n in range(500)]
    found = labels(path, rounds=1, contract=lambda array: array)
    assert len(found) == 501 and len(set(found.values())) > 1


def test_a_vertex_with_a_hundred_thousand_links_is_rewritten_in_pieces_no_longer_than_came_and_keeps_them_all():
    star = np.stack([np.arange(1, 100_001), np.zeros(100_000)], axis=1).astype(np.uint64)
    pieces = np.array_split(star, 100)
    sizes = [len(made) for made in small_star(pieces)]
    assert max(sizes[1:]) <= 1000 and sum(sizes) == 100_000  # none twice: the centre keeps no link to itself
    assert labels(pieces) == dict.fromkeys(range(100_001), 0)


def test_a_bundle_seldom_hands_on_a_link_twice_and_loses_none(monkeypatch):
    monkeypatch.setattr(components, "REMEMBERED", 64)  # so few that links push each other out
    star = links(*((n, 0) for n in range(1, 40)), *((n, 7) for n in range(8, 40)))
    once = components.DropSeen()
    once.start_bundle()
    first = np.concatenate([made for array in (star[:9], star[9:]) for made in once.process(array)])
    assert (first == star).all()
    (again,) = once.process(star)
    assert len(again) < len(star)
    once.start_bundle()  # of other output, which is kept or not by itself
    (made,) = once.process(star)
    assert (made == star).all()


def test_links_found_in_every_band_travel_once_and_in_few_arrays():
    """As 32 bands find near-duplicates: many arrays, nearly the same in each."""
    pairs = np.random.default_rng(4).integers(0, 1 << 40, (5000, 2)).astype(np.uint64)
    arrays = [pairs[n:] for n in range(32)]
    for prepare, star in ((components.both_ways, large_star), (components.downwards, small_star)) * 2:
        arrays = [made for group in shuffled(arrays, prepare) for made in components.in_larger_arrays(star(group))]
    assert len(arrays) <= components.PARTS and sum(map(len, arrays)) == 5000


def test_contraction_alone_finds_the_components_of_one_array():
    rng = np.random.default_rng(3)
    pairs = rng.integers(0, 300, (200, 2)).astype(np.uint64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    plain = {v: root for v, root in plain_labels(pairs.tolist()).items() if v != root}
    assert dict(stars(pairs).tolist()) == plain


def test_no_links_no_components():
    assert stars(links()).shape == (0, 2) and labels([links()]) == {}
