"""A corpus sampled from a folder of real text; noise and duplicates are planted in the domain."""

import gzip
import hashlib
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from data_prep.samples.noise import Draft, Line, insert, noise_line, plant_duplicates
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import own_field

LONGEST = 6000  # characters of a document
SHARE = {"en": 2 / 3, "zh": 1 / 3}  # of the characters: zh has more tokens per character
MORE_SHARE = 0.2  # of the general text is not from an encyclopaedia
NOISE = ("qr_code", "address", "phone")

MUSIC = [f"music/music_{kind}.jsonl.gz" for kind in ("en_bios", "en_wiki", "zh_wiki")]
WIKIS = [f"general/general_{lang}_wiki.jsonl.gz" for lang in ("en", "zh")]
QUESTIONS = "eval/music_proxy/music_simpleqa_proxy.jsonl"
NEEDED = (*MUSIC, *WIKIS, QUESTIONS, "tokenizer/qwen2/tokenizer.json")
HELDOUT = {
    "music_en_bios": "heldout_music_en", "music_zh_wiki": "heldout_music_zh",
    "general_en_wiki": "heldout_general_en", "general_zh_wiki": "heldout_general_zh",
}  # fmt: skip


class Part(NamedTuple):
    """Documents to take for a role."""

    role: str
    files: str  # that the candidates come from
    candidates: list[dict]
    characters: float  # to take


def check_folder(data: Path) -> None:
    if not data.is_dir():
        raise UserError(f"--data={data} is no folder; name one that holds music/, general/, eval/ and tokenizer/")
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


def read_lines(path: Path, make: Callable[[dict], dict]) -> Iterator[dict]:
    """make(the object) of each line; UserError with file and line where that fails."""
    done = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for line in lines:
                yield make(own_field(line.decode()))
                done += 1
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} line {done + 1} cannot be used ({type(error).__name__}: {error}); repair it or copy the file again"
        ) from error


def read_file(path: Path) -> Iterator[dict]:
    source = path.name.removesuffix(".jsonl.gz")

    def make(raw: dict) -> dict:
        text, lang = cut(raw["text"].strip()), "zh" if raw["lang"].startswith("zh") else "en"
        return {"id": raw["id"], "text": text, "source": source, "lang": lang}

    return read_lines(path, make)


def read_folder(data: Path, seed: int) -> list[dict]:
    """All documents in hash order: whoever takes the first ones has a random pick that is the same every time."""
    paths = [data / name for name in MUSIC]
    paths += sorted((data / "general").glob("general_*.jsonl.gz"))
    documents = [document for path in paths for document in read_file(path)]
    return sorted(documents, key=lambda document: (hashed(seed, document["id"]), document["id"]))


def plan(documents: list[dict], seed: int, characters: int) -> Iterator[Part]:
    """A document that is a candidate of several parts goes to the first of them that takes it."""
    sources, more = defaultdict(list), defaultdict(list)
    for document in documents:
        source = document["source"]
        sources[source].append(document)
        if source.startswith("general_") and not source.endswith("_wiki"):
            more[document["lang"]].append(document)

    for source, name in HELDOUT.items():  # first: the others must not have these
        yield Part("heldout", source, [{**d, "source": name} for d in sources[source]], characters / 15)
    # not by the hash of the order, else the first documents would all be of one half
    halves = [], []
    for document in sources["music_zh_wiki"]:
        halves[hashed(seed + 1, document["id"]) % 2].append(document)
    english = [(source, sources[source]) for source in ("music_en_bios", "music_en_wiki")]
    music = {"en": english, "zh": [("music_zh_wiki", half) for half in halves]}
    for lang, (clean, mixed) in music.items():
        budget, wiki = characters * SHARE[lang], f"general_{lang}_wiki"
        yield Part("seed", *clean, budget * 2 / 3)
        yield Part("domain", *mixed, budget)
        yield Part("general", wiki, sources[wiki], budget * (1 - MORE_SHARE))
        yield Part("general", "general_*", more[lang], budget * MORE_SHARE)


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


def characters_of(documents: Iterable[dict]) -> int:
    return sum(len(document["text"]) for document in documents)


def pick_roles(parts: Iterable[Part]) -> dict[str, list[dict]]:
    """plan(...) -> documents by role; UserError where a role gets less than half of its characters."""
    roles, budgets, short, taken = defaultdict(list), defaultdict(float), defaultdict(set), set()
    for role, files, documents, budget in parts:
        chosen = pick(documents, budget, taken)
        roles[role] += chosen
        budgets[role] += budget
        if characters_of(chosen) < budget / 2:
            short[role].add(files)
    for role, budget in budgets.items():
        if (characters := characters_of(roles[role])) < budget / 2:
            raise UserError(
                f"--data: {role} gets {characters:,} of {budget:,.0f} characters, too little is left in "
                f"{', '.join(sorted(short[role]))}; add text there or lower --characters"
            )
    return roles


def with_noise(rng: Random, document: dict) -> Draft:
    """The document as lines; one document in two gets one to four noise lines."""
    lines = [Line(text) for text in document["text"].split("\n")]
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2, 3, 4))):
        insert(rng, lines, noise_line(rng, document["lang"], NOISE))
    return Draft(document, lines)


def read_questions(data: Path) -> list[dict]:
    fields = ("id", "lang", "question", "answer")

    def make(item: dict) -> dict:
        return {**{name: item[name] for name in fields}, "aliases": item.get("aliases", [])}

    return list(read_lines(data / QUESTIONS, make))


def real(data: Path, seed: int, characters: int) -> tuple[dict[str, list[dict]], list[dict], list[dict]]:
    """(documents by role, truth about the domain, questions)"""
    check_folder(data)
    questions = read_questions(data)
    roles = pick_roles(plan(read_folder(data, seed), seed, characters))
    rng = Random(f"{seed}:domain")
    drafts = [with_noise(rng, document) for document in roles["domain"]]
    roles["domain"], truth = plant_duplicates(rng, drafts)
    return roles, truth, questions
