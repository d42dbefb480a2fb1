"""Candidates on disk: a file of lines for each bucket of answers, and what is read out of them at the end."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from data_prep.entities import filters
from data_prep.entities.filters import Candidate
from data_prep.entities.records import Entity
from data_prep.entities.relations import type_of
from data_prep.entities.sample import Place
from data_prep.entities.values import key_of
from mucpt_jax.formats.decode import read_lines
from mucpt_jax.formats.files import text_hash, write_text

EXAMPLES = 20  # of a reason in dropped.jsonl
OURS = ("relation", "reason", "context")  # fields that questions.jsonl does not have


def write(bucket: tuple[int, Iterable[list[Candidate | Entity]]], folder: Path) -> None:
    """Adds aliases, finds near-duplicates, and writes a line of each candidate; one file of each bucket."""
    by_answer: dict[str, tuple[list[Candidate], list[Entity]]] = {}
    for value in (value for some in bucket[1] for value in some):
        entity = isinstance(value, Entity)
        by_answer.setdefault(value.key if entity else key_of(value.answer), ([], []))[entity].append(value)
    lines = []
    for candidates, entities in by_answer.values():
        lines += [line_of(c) for c in candidates if c.reason]
        blocks: dict[tuple, list[Candidate]] = {}
        for candidate in (filters.with_aliases(c, entities) for c in candidates if not c.reason):
            begin = key_of(candidate.fact.subject)[:2]  # near names begin alike
            blocks.setdefault((candidate.fact.lang, begin), []).append(candidate)
        lines += [line_of(c) for block in blocks.values() for c in filters.near_duplicates(block)]
    lines.sort(key=lambda line: (line["reason"] != "", line["id"], str(line)))
    seen: set[str] = set()
    for line in lines:  # one question in the same words on two entities
        line["reason"] = line["reason"] or ("near_duplicate" if line["id"] in seen else "")
        seen.add(line["id"])
    rewrite(folder / f"candidates-{bucket[0]:03d}.jsonl", lines)


def rewrite(path: Path, lines: Iterable[dict]) -> None:
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def line_of(candidate: Candidate) -> dict:
    """A line of questions.jsonl, and OURS."""
    fact, kind = candidate.fact, type_of(candidate.fact)
    line = {
        "id": f"{fact.lang}-{text_hash(candidate.question + candidate.answer)[:12]}", "lang": fact.lang,
        "question": candidate.question, "answer": candidate.answer, "answer_type": kind,
        "aliases": list(candidate.aliases), "entity": fact.owner or fact.subject, "popularity": candidate.popularity,
        "evidence": {"document": fact.document, "quote": fact.quote},
        "route": f"{fact.route}:{fact.relation}", "relation": fact.relation, "reason": candidate.reason,
    }  # fmt: skip
    context = {"context": list(candidate.evidence)} if fact.question else {}
    return line | ({"margin": 0} if kind in ("year", "number") else {}) | context


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("candidates-*.jsonl"))


def lines(folder: Path) -> Iterator[dict]:
    yield from (line for file in files(folder) for line in read_lines(file))


class Summary(NamedTuple):
    """What is kept in memory of all candidates."""

    places: list[Place]  # of those that stay
    outcomes: Counter  # (route, language, reason, "" for none) -> candidates
    examples: dict[str, list[dict]]  # of each reason


def summary_of(folder: Path) -> Summary:
    summary = Summary([], Counter(), {})
    for line in lines(folder):
        summary.outcomes[line["route"], line["lang"], line["reason"]] += 1
        if not line["reason"]:
            place = Place(line["id"], line["lang"], line["relation"], line["entity"], line["popularity"])
            summary.places.append(place)
        elif len(some := summary.examples.setdefault(line["reason"], [])) < EXAMPLES:
            some.append(line)
    return summary


def chosen(folder: Path, strata: dict[str, str]) -> list[dict]:
    """The questions whose ids have a stratum, as questions.jsonl has them, by id."""
    picked = [line for line in lines(folder) if not line["reason"] and line["id"] in strata]
    return sorted(
        ({k: v for k, v in line.items() if k not in OURS} | {"stratum": strata[line["id"]]} for line in picked),
        key=lambda line: line["id"],
    )
