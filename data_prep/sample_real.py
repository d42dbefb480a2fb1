"""A corpus sampled from a folder of real text; noise and duplicates are planted in the domain."""

import gzip
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from data_prep.sample_noise import Draft, Line, insert, noise_line, plant_duplicates
from mucpt_jax.records import UserError

LONGEST = 6000  # characters of a document
SHARE = {"en": 2 / 3, "zh": 1 / 3}  # of the characters: zh has more tokens per character
MORE_SHARE = 0.2  # of the general text is not from an encyclopaedia
NOISE = ("qr_code", "address", "phone")

MUSIC = [f"music/music_{kind}.jsonl.gz" for kind in ("en_bios", "en_wiki", "zh_wiki")]
WIKIS = [f"general/general_{lang}_wiki.jsonl.gz" for lang in ("en", "zh")]
QUESTIONS = "eval/music_proxy/music_simpleqa_proxy.jsonl"
NEEDED = (*MUSIC, *WIKIS, QUESTIONS, "tokenizer/qwen2/tokenizer.json")
HELDOUT = {
    "music_en_bios": "heldout_music_en",
    "music_zh_wiki": "heldout_music_zh",
    "general_en_wiki": "heldout_general_en",
    "general_zh_wiki": "heldout_general_zh",
}


def check_folder(data: Path) -> None:
    if not data.is_dir():
        raise UserError(
            f"--data={data} is no folder; name one that holds music/, general/, eval/ and tokenizer/"
        )
    for name in NEEDED:
        if not (data / name).is_file():
            raise UserError(f"{data / name} is missing; add it, or leave --data out for the synthetic corpus")


def hashed(seed: int, identity: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{identity}".encode()).digest()[:8], "big")


def cut(text: str) -> str:
    """At most LONGEST characters, up to the last end of a line or sentence if one is in the second half."""
    if len(text) <= LONGEST:
        return text
    ends = [match.end() for match in re.finditer(r"\n|[。！？]|[.!?](?=\s)", text[:LONGEST])]
    return text[: ends[-1] if ends and ends[-1] > LONGEST // 2 else LONGEST].rstrip()


def read_file(path: Path) -> Iterator[dict]:
    source = path.name.removesuffix(".jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for raw in map(json.loads, lines):
            text, lang = cut(raw["text"].strip()), "zh" if raw["lang"].startswith("zh") else "en"
            yield {"id": raw["id"], "text": text, "source": source, "lang": lang}


def read_folder(data: Path, seed: int) -> list[dict]:
    """All documents in hash order: whoever takes the first ones has a random pick that is the same every time."""
    paths = [data / name for name in MUSIC]
    paths += sorted((data / "general").glob("general_*.jsonl.gz"))
    documents = [document for path in paths for document in read_file(path)]
    return sorted(documents, key=lambda document: (hashed(seed, document["id"]), document["id"]))


def plan(documents: list[dict], seed: int, characters: int) -> Iterator[tuple]:
    """(role, candidates, characters to take): a document goes to the first that takes it."""
    sources, more = defaultdict(list), defaultdict(list)
    for document in documents:
        source = document["source"]
        sources[source].append(document)
        if source.startswith("general_") and not source.endswith("_wiki"):
            more[document["lang"]].append(document)

    for source, name in HELDOUT.items():  # first: the others must not have these
        yield "heldout", [{**d, "source": name} for d in sources[source]], characters / 15
    # not by the hash of the order, else the first documents would all be of one half
    halves = [], []
    for document in sources["music_zh_wiki"]:
        halves[hashed(seed + 1, document["id"]) % 2].append(document)
    music = {"en": (sources["music_en_bios"], sources["music_en_wiki"]), "zh": halves}
    for lang, (clean, mixed) in music.items():
        budget = characters * SHARE[lang]
        yield "seed", clean, budget * 2 / 3
        yield "domain", mixed, budget
        yield "general", sources[f"general_{lang}_wiki"], budget * (1 - MORE_SHARE)
        yield "general", more[lang], budget * MORE_SHARE


def pick(documents: Iterable[dict], characters: float, taken: set[str]) -> list[dict]:
    """The first documents that are in no role yet, until the budget is full; marks them as taken."""
    chosen, total = [], 0
    for document in documents:
        if total >= characters:
            break
        if document["text"] and document["id"] not in taken:
            taken.add(document["id"])
            chosen.append(document)
            total += len(document["text"])
    return chosen


def with_noise(rng: Random, document: dict) -> Draft:
    """The document as lines; every second one gets one to four noise lines."""
    lines = [Line(text) for text in document["text"].split("\n")]
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2, 3, 4))):
        insert(rng, lines, noise_line(rng, document["lang"], NOISE))
    return document, lines


def read_questions(data: Path) -> list[dict]:
    fields = ("id", "lang", "question", "answer")
    with (data / QUESTIONS).open(encoding="utf-8") as lines:
        return [
            {**{name: item[name] for name in fields}, "aliases": item.get("aliases", [])}
            for item in map(json.loads, lines)
        ]


def real(data: Path, seed: int, characters: int) -> tuple[dict[str, list[dict]], list[dict], list[dict]]:
    """(documents by role, truth about the domain, questions)"""
    check_folder(data)
    roles, taken = defaultdict(list), set()
    for role, documents, budget in plan(read_folder(data, seed), seed, characters):
        roles[role] += pick(documents, budget, taken)
    rng = Random(f"{seed}:domain")
    drafts = [with_noise(rng, document) for document in roles["domain"]]
    roles["domain"], truth = plant_duplicates(rng, drafts)
    return roles, truth, read_questions(data)
