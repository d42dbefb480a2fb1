"""Planted near-duplicates with a truth that shares no code with the product, for benchmarks.near_duplicates.

Copies of real documents with 0 to 30% of their words (Chinese: characters) replaced, left out, added or misspelt.
The truth is the exact Jaccard similarity of sets of strings: of 5 words in a row, and, as a second opinion, of 13
characters in a row (the shingles of Matrix).
"""

import gzip
import json
import random
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

FILES = {
    "en": ("music/music_en_wiki", "music/music_en_bios", "general/general_en_wiki"),
    "zh": ("music/music_zh_wiki", "general/general_zh_wiki", "general/general_zh_laws", "general/general_zh_lctt_tech"),
}
HAN = r"㐀-䶿一-鿿豈-﫿぀-ㄯ"
UNIT = re.compile(rf"[{HAN}]|[^\W_{HAN}]+")
SPAN = {"en": re.compile(r"\S+\s*"), "zh": re.compile(r".", re.DOTALL)}  # what an edit changes


def read(data: Path, name: str) -> Iterator[dict]:
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as f:
        yield from map(json.loads, f)


def documents(data: Path, language: str, least: int) -> list[dict]:
    """Of at least so many characters; ids name the language."""
    docs = (doc for name in FILES[language] for doc in read(data, name))
    return [{"id": f"{language}-{n}", "text": doc["text"]} for n, doc in enumerate(docs) if len(doc["text"]) >= least]


def plant(docs: list[dict], language: str, count: int, seed: int) -> list[dict]:
    """Copies {"id", "text", "of", "rate"} of `count` of these; two thirds with at most 3% of edits."""
    rng = random.Random(f"{seed} {language}")
    chosen = rng.sample(docs, min(count, len(docs)))
    words = [span for doc in rng.sample(docs, min(50, len(docs))) for span in SPAN[language].findall(doc["text"])]
    copies = []
    for doc in chosen:
        rate = rng.uniform(0, 0.03) if rng.random() < 2 / 3 else rng.uniform(0.03, 0.3)
        text = edited(SPAN[language].findall(doc["text"]), rate, words, rng)
        copies.append({"id": f"{doc['id']}-copy", "text": text, "of": doc["id"], "rate": rate})
    return copies


def edited(spans: list[str], rate: float, words: list[str], rng: random.Random) -> str:
    parts = []
    for span in spans:
        if rng.random() >= rate:
            parts.append(span)
        elif (how := rng.choice(("replace", "replace", "leave out", "add", "misspell"))) == "replace":
            parts.append(rng.choice(words))
        elif how == "add":
            parts += [span, rng.choice(words)]
        elif how == "misspell":
            place = rng.randrange(len(span))
            parts.append(span[:place] + rng.choice("aeinrst的一是不") + span[place + 1 :])
    return "".join(parts)


def word_shingles(text: str) -> set[tuple[str, ...]]:
    units = UNIT.findall(unicodedata.normalize("NFKC", text).casefold())
    return {tuple(units[n : n + 5]) for n in range(max(1, len(units) - 4))}


def character_shingles(text: str) -> set[str]:
    same = "".join(UNIT.findall(unicodedata.normalize("NFKC", text).casefold()))
    return {same[n : n + 13] for n in range(max(1, len(same) - 12))}


def jaccard(one: set, other: set) -> float:
    return len(one & other) / len(one | other)
