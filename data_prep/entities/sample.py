"""Sampling: questions on what is popular, and the same number from each tenth of popularity.

    popular   entities in the top fifth of popularity, each language by itself
    even      as many from each of ten equal parts of the entities, from little to much

A language gets an equal share of both; where it has too few, the others get the rest.  Within a share, relations take
turns, so that no template fills the set, and an entity is asked about at most `per_entity` times.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

TOP = 0.2  # share of the entities that are popular
PARTS = 10


class Place(NamedTuple):
    """A question, as far as sampling looks at it."""

    id: str
    lang: str
    relation: str
    entity: str
    popularity: float


def draw(places: Sequence[Place], popular: int, even: int, seed: int, per_entity: int = 2) -> dict[str, str]:
    """{id: stratum}, where a stratum is popular, or even-0 (least) to even-9."""
    places = sorted(places, key=lambda place: hashlib.sha256(f"{seed}:{place.id}".encode()).digest())
    ranks, used, strata = ranks_of(places), Counter(), {}
    langs = sorted({place.lang for place in places})
    even_parts = [
        (f"even-{part}", even // PARTS + (part >= PARTS - even % PARTS),
         lambda rank, part=part: part == math.ceil(PARTS * rank) - 1) for part in range(PARTS)
    ]  # fmt: skip
    parts = [*even_parts, ("popular", popular, lambda rank: rank > 1 - TOP)]
    for turn, (name, count, inside) in enumerate(parts):
        pools = {lang: [p for p in places if p.lang == lang and inside(ranks[p.lang, p.entity])] for lang in langs}
        for lang, share in shares(
            {lang: len(free(pool, strata, used, per_entity)) for lang, pool in pools.items()}, count, turn
        ):
            take(pools[lang], share, name, strata, used, per_entity)
    return strata


def ranks_of(places: Iterable[Place]) -> dict[tuple[str, str], float]:
    """(language, entity) -> its place among the language's entities by popularity, from above 0 to 1."""
    most: dict[str, dict[str, float]] = {}
    for place in places:
        known = most.setdefault(place.lang, {})
        known[place.entity] = max(known.get(place.entity, 0.0), place.popularity)
    ranks = {}
    for lang, known in most.items():
        for rank, entity in enumerate(sorted(known, key=lambda entity: (known[entity], entity))):
            ranks[lang, entity] = (rank + 1) / len(known)
    return ranks


def shares(sizes: dict[str, int], count: int, turn: int) -> list[tuple[str, int]]:
    """`count` in equal shares, none larger than its size; the smallest first, so that others take what it leaves.

    What cannot be divided goes to one language at an even `turn`, to another at an odd one.
    """
    given, left = [], count
    ranked = sorted(sizes, reverse=turn % 2 == 1)
    for place, lang in enumerate(sorted(ranked, key=lambda lang: min(sizes[lang], -(-count // len(sizes))))):
        share = min(sizes[lang], -(-left // (len(sizes) - place)))
        given.append((lang, share))
        left -= share
    return given


def free(pool: Sequence[Place], strata: dict, used: Counter, per_entity: int) -> list[Place]:
    """At most so many of an entity as it may be asked still; none twice."""
    room, places = Counter(), []
    for place in pool:
        if place.id not in strata and used[place.entity] + room[place.entity] < per_entity:
            room[place.entity] += 1
            places.append(place)
    return places


def take(pool: Sequence[Place], count: int, stratum: str, strata: dict, used: Counter, per_entity: int) -> None:
    """Marks `count` of the pool: relations in turn, each in the pool's order."""
    by_relation: dict[str, list[Place]] = {}
    for place in free(pool, strata, used, per_entity):
        by_relation.setdefault(place.relation, []).append(place)
    while count and by_relation:
        for relation in sorted(by_relation):
            place = by_relation[relation].pop(0)
            if not by_relation[relation]:
                del by_relation[relation]
            strata[place.id] = stratum
            used[place.entity] += 1
            count -= 1
            if not count:
                return
