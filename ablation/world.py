"""The ablation's world: invented artists and what is written about them, noise, wrong facts, and everyday text.

A word is a token.  Artists have five facts whose answers have 1, 2, 3, 4 and 6 words; every word of an answer is drawn
on its own, so that a model that does not know the fact is surprised by each of them.  Domain documents hold true
facts, false ones and noise, the seed of a reference model only true ones.  The base model's text is everyday sentences
and the facts of some famous people; continued pretraining seldom repeats these, so they tell what is forgotten.
"""

import json
from collections.abc import Iterator
from itertools import groupby, product
from pathlib import Path
from random import Random
from typing import NamedTuple

from mucpt_jax.formats.files import write_text

LENGTH = 64  # T: tokens of a document at most, its end-of-document token included
END = "<|endoftext|>"
UNKNOWN = "<unk>"
BAD_DOCUMENTS = 0.4  # share of the domain's documents
WRONG_IN_BAD = 0.5  # share of their facts
NOISE_AFTER_FACT = 0.9  # how often a fact is followed by a noise span, while there is room
COVERED = 0.3  # share of the artists that the partial regime's reference model is told about
SEED_SHARE = 0.17  # of the domain's tokens, where seed documents are mixed in
KINDS = {  # of a document's tokens, a letter each; answers in capitals are about artists that are not covered
    "t": "template", "a": "answer", "A": "answer, uncovered", "w": "wrong", "W": "wrong, uncovered",
    "b": "boilerplate", "d": "address", "c": "chatter",
}  # fmt: skip


class Size(NamedTuple):
    artists: int = 150
    famous: int = 40
    rounds: int = 15  # of the domain corpus; a round states every fact once
    famous_rounds: int = 60  # of the base model's corpus
    famous_mixed: int = 10  # rounds among the general text that continued pretraining mixes in
    general: int = 6000  # documents of everyday text for the base model
    mixed: int = 2500  # further ones, that continued pretraining mixes in
    heldout: int = 250


class Regime(NamedTuple):
    """What a reference model is told: all facts or the covered ones, rounds * epochs times each."""

    all_facts: bool
    rounds: int
    epochs: int

    def told(self) -> str:
        whom = "all artists" if self.all_facts else f"{COVERED:.0%} of the artists"
        return f"{whom}, each fact {self.rounds * self.epochs} times"


REGIMES = {"covered": Regime(True, 25, 2), "partial": Regime(False, 25, 4), "weak": Regime(True, 12, 1)}


class Person(NamedTuple):
    name: str
    facts: dict[str, str]  # attribute -> answer
    covered: bool  # in the partial regime's seed?


Words = list[tuple[str, str]]  # (word, kind)


# Vocabulary


def invented(starts: str, ends: str) -> list[str]:
    return [start + end for start, end in product(starts.split(), ends.split())]


FIRST = invented("ka lo mi ne ru sa ta vi", "ra li no mu sha")
LAST = invented("bel cor dan fis gol har jun kem", "sten berg mond aki ova")
POOLS = {  # attribute -> words of its answers
    "birthplace": invented("or al en ul is", "vane port holm dale wick mere"),
    "genre": invented("neo post trip glam", "core wave punk folk"),
    "award": invented("gold silver star prime", "crown leaf lyre plume"),
    "label": invented("north south east west", "disc groove reel press"),
    "album": invented("moon rain fire dust", "song light road glass"),
}
LENGTHS = {"birthplace": 1, "genre": 2, "award": 3, "label": 4, "album": 6}  # words of an answer
VERBS = {"birthplace": "was born in", "genre": "plays", "award": "won", "label": "signed with", "album": "released"}
QUESTION = "{n} : {a} :"
PATTERNS = (
    QUESTION + " {v} .",
    "the {a} of {n} is {v} .",
    "{n} {verb} {v} .",
    "{v} is the {a} of {n} .",
    "fans of {n} know the {a} {v} .",
)
BOILERPLATE_LINES = (
    "scan qr code below follow official account get daily updates free",
    "copyright reserved reproduction without written permission strictly prohibited by law",
    "click here subscribe newsletter unlock premium content today only",
    "please enable cookies accept policy continue browsing website thank you",
    "download app store share friends earn bonus points every week",
)
DIGITS = "0123456789"
ADDRESS_LINES = (
    "tel" + 10 * " {digit}",
    "room" + 3 * " {digit}" + " street" + 5 * " {digit}",
    "fax" + 9 * " {digit}" + " zone {digit}",
)
CHATTER_LINE = (
    "lol omg haha wow yeah nope bro sis hmm ugh meh yay idk btw imo tbh lmao whoa oops yikes same vibes mood legit "
    "totally literally kinda sorta dunno gonna wanna gotta cuz tho smh ok okay cool nice sick lit first second "
    "comment reply upvote pinned spam bump thread op mods banned admin"
)
TOPICS = (
    {"{noun}": "cat dog horse bird cow goat duck hen", "{verb}": "sees follows feeds hears",
     "{adj}": "old brown small hungry", "{place}": "barn yard field pond"},
    {"{noun}": "cook baker guest waiter chef child aunt uncle", "{verb}": "tastes brings orders bakes",
     "{adj}": "hot sweet salty fresh", "{place}": "kitchen cafe market garden"},
    {"{noun}": "train bus driver boat ferry pilot sailor guard", "{verb}": "passes meets leaves reaches",
     "{adj}": "late fast crowded slow", "{place}": "station harbour bridge tunnel"},
    {"{noun}": "teacher pupil clerk writer painter doctor nurse judge", "{verb}": "asks helps thanks visits",
     "{adj}": "kind busy clever tired", "{place}": "school office library clinic"},
    {"{noun}": "storm river cloud wind tree stone snow leaf", "{verb}": "covers hits moves wets",
     "{adj}": "cold grey wild heavy", "{place}": "valley hill forest coast"},
)  # fmt: skip
GENERAL_PATTERNS = (
    "the {adj} {noun} {verb} the {noun} in the {place} .",
    "a {noun} {verb} a {noun} near the {place} .",
    "when it is {adj} the {noun} stays at the {place} .",
    "every {noun} from the {place} {verb} some {adj} {noun} .",
)


def vocabulary() -> list[str]:
    """All words of every world, END first: a word's place is its token id."""
    texts = [*PATTERNS, *VERBS.values(), *GENERAL_PATTERNS, *BOILERPLATE_LINES, *ADDRESS_LINES, CHATTER_LINE]
    texts += [pool for topic in TOPICS for pool in topic.values()]
    found = [word for text in texts for word in text.split() if "{" not in word]
    pools = [word for pool in POOLS.values() for word in pool]
    return list(dict.fromkeys([END, UNKNOWN, *found, *DIGITS, *POOLS, *FIRST, *LAST, *pools]))


def write_tokenizer(folder: Path) -> None:
    """A Hugging Face tokenizer folder: a word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # a second of imports
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, unk_token=UNKNOWN, clean_up_tokenization_spaces=False
    ).save_pretrained(folder)


# People


def people(rng: Random, size: Size) -> tuple[list[Person], list[Person]]:
    """Artists and famous people, no two of one name."""
    names = rng.sample([f"{a} {b}" for a, b in product(FIRST, LAST)], size.artists + size.famous)
    covered = round(COVERED * size.artists)
    found = [Person(name, {a: answer(rng, a) for a in LENGTHS}, i < covered) for i, name in enumerate(names)]
    return found[: size.artists], found[size.artists :]


def answer(rng: Random, attribute: str, other_than: str | None = None) -> str:
    while True:
        found = " ".join(rng.choice(POOLS[attribute]) for _ in range(LENGTHS[attribute]))
        if found != other_than:
            return found


# Documents


def statement(rng: Random, person: Person, attribute: str, bad: bool) -> Words:
    """A sentence with the fact, or in a bad document often with a wrong answer."""
    kind, value = "a", person.facts[attribute]
    if bad and rng.random() < WRONG_IN_BAD:
        kind, value = "w", answer(rng, attribute, other_than=value)
    kind = kind if person.covered else kind.upper()
    pattern = rng.choice(PATTERNS).format(n=person.name, a=attribute, verb=VERBS[attribute], v="{v}")
    words = []
    for word in pattern.split():
        words += [(w, kind) for w in value.split()] if word == "{v}" else [(word, "t")]
    return words


def noise(rng: Random) -> Words:
    kind = rng.choice("bdc")
    if kind == "c":
        words = rng.choices(CHATTER_LINE.split(), k=rng.randint(9, 13))
    else:
        line = rng.choice(BOILERPLATE_LINES if kind == "b" else ADDRESS_LINES)
        words = [rng.choice(DIGITS) if word == "{digit}" else word for word in line.split()]
    return [(word, kind) for word in words]


def about(rng: Random, persons: list[Person], rounds: int, noisy: bool) -> Iterator[Words]:
    """Documents of one to three facts about one person; a round states every fact once."""
    for _ in range(rounds):
        for person in rng.sample(persons, len(persons)):
            left = rng.sample(list(LENGTHS), len(LENGTHS))
            while left:
                count = rng.choice((1, 1, 1, 2, 3))
                yield article(rng, person, left[:count], noisy)
                left = left[count:]


def article(rng: Random, person: Person, attributes: list[str], noisy: bool) -> Words:
    bad = noisy and rng.random() < BAD_DOCUMENTS
    sentences = [statement(rng, person, attribute, bad) for attribute in attributes]
    room = LENGTH - 1 - sum(map(len, sentences))
    words = []
    for sentence in sentences:
        words += sentence
        span = noise(rng)
        if noisy and len(span) <= room and rng.random() < NOISE_AFTER_FACT:
            words, room = words + span, room - len(span)
    return words


def everyday(rng: Random) -> Words:
    pools = {slot: pool.split() for slot, pool in rng.choice(TOPICS).items()}
    patterns = [word for _ in range(rng.randint(1, 4)) for word in rng.choice(GENERAL_PATTERNS).split()]
    return [(rng.choice(pools[word]) if word in pools else word, "t") for word in patterns]


# Files


def write(folder: Path, seed: int, size: Size) -> None:
    """RAW/<role>/*.jsonl documents with `kinds`, a letter per token, RAW/names.txt and RAW/questions.jsonl."""
    rng = Random(f"world {seed}")
    artists, famous = people(rng, size)
    domain = list(about(rng, artists, size.rounds, noisy=True))
    write_documents(folder / "domain" / "domain.jsonl", domain)
    for role, rounds in (("base", size.famous_rounds), ("general", size.famous_mixed)):
        write_documents(folder / role / "famous.jsonl", about(rng, famous, rounds, noisy=False))
    for role, count in (("base", size.general), ("general", size.mixed), ("heldout", size.heldout)):
        write_documents(folder / role / "general.jsonl", [everyday(rng) for _ in range(count)])
    wanted = SEED_SHARE / (1 - SEED_SHARE) * sum(map(len, domain))  # tokens
    for name, regime in REGIMES.items():
        told = [artist for artist in artists if regime.all_facts or artist.covered]
        seeds = list(about(rng, told, regime.rounds, noisy=False))
        write_documents(folder / f"seed_{name}" / "seed.jsonl", seeds)
        write_documents(folder / f"mixed_{name}" / "domain.jsonl", domain)
        write_documents(folder / f"mixed_{name}" / "seed.jsonl", first_tokens(seeds, wanted))
    known = names([*artists, *famous], domain)
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in known), encoding="utf-8")
    lines = [json.dumps(q) + "\n" for q in questions(artists, famous)]
    write_text(folder / "questions.jsonl", "".join(lines))  # last: where it stands, all stands


def first_tokens(documents: list[Words], wanted: float) -> Iterator[Words]:
    """As many of the documents as hold the wanted tokens; all of them where they hold fewer."""
    total = 0
    for words in documents:
        if total >= wanted:
            return
        total += len(words)
        yield words


def write_documents(file: Path, documents) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8") as out:
        for number, words in enumerate(documents):
            text, kinds = " ".join(word for word, _ in words), "".join(kind for _, kind in words)
            out.write(json.dumps({"id": f"{file.stem}-{number}", "text": text, "kinds": kinds}) + "\n")


def names(persons: list[Person], documents: list[Words]) -> list[str]:
    """What an entity list mined from the domain corpus would hold: persons, and all answers that are stated, wrong
    ones too."""
    found = {person.name for person in persons}
    for words in documents:
        for kind, run in groupby(words, key=lambda word: word[1]):
            if kind in "aAwW":
                found.add(" ".join(word for word, _ in run))
    return sorted(found)


def questions(artists: list[Person], famous: list[Person]) -> Iterator[dict]:
    """One per fact, with what the tables are split by."""
    for person in [*artists, *famous]:
        for attribute, value in person.facts.items():
            yield {
                "id": f"{person.name} {attribute}",
                "question": QUESTION.format(n=person.name, a=attribute),
                "answer": value,
                "length": LENGTHS[attribute],
                "famous": person in famous,
                "covered": person.covered,
            }
