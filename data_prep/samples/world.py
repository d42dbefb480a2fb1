"""The synthetic corpus: invented artists and other people, facts about them, and everyday text.

Every language is a world of its own.  Its random numbers are drawn in one order: a change anywhere changes all after.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, product
from random import Random
from typing import NamedTuple

from data_prep.samples import noise_words, words
from data_prep.samples.noise import Draft, Line, insert, join, marked, noise_line, plant_duplicates, private_line

ARTISTS, FAMOUS = 60, 20  # per language
# A round states every fact once.  So an asked fact is stated seed + domain times, and wrong in a fifth of domain's.
ROUNDS = {"seed": 26, "domain": 19, "general": 24, "heldout": 3}
THREAD_ROUNDS = {"seed": 3, "domain": 2, "general": 10, "heldout": 0}
TOPIC_DOCUMENTS = {"general": 1150, "heldout": 50}  # per language
BAD_DOCUMENTS = {"seed": 0, "domain": 0.4, "general": 0, "heldout": 0}  # share of the documents
WRONG_IN_BAD = 0.5  # share of their facts
# noise characters per clean character of a document, uniform in 0..this; 0.48 of the domain's tokens are noise
NOISE_RATIO = 0.9
PRIVATE_DOCUMENTS = 0.02


class Fact(NamedTuple):
    name: str
    attribute: str
    value: str


Person = list[Fact]  # one of each attribute
Page = list[Line]  # the text of a document


def names(rng: Random, lang: str, count: int) -> list[str]:
    def some(parts: tuple) -> list[str]:
        return rng.sample(["".join(pair) for pair in product(*parts)], count)

    if lang == "zh":
        return [rng.choice(words.FAMILY_ZH) + given for given in some(words.GIVEN_ZH)]
    both = zip(some(words.FIRST_EN), some(words.LAST_EN), strict=True)
    return [f"{first} {last}" for first, last in both]


def invent(rng: Random, lang: str, group: list[str], attributes: Iterable[str]) -> list[Person]:
    values = words.VALUES[lang]
    return [[Fact(name, a, rng.choice(values[a])) for a in attributes] for name in group]


# Documents, each as its lines


def groups(rng: Random, things: list, low: int, high: int) -> Iterator[list]:
    """The things in order, low to high at a time (the last may be fewer)."""
    while things:
        size = rng.randint(low, high)
        yield things[:size]
        things = things[size:]


def paragraphs(rng: Random, lang: str, sentences: list[Line]) -> list[Line]:
    return [join(group, words.SPACE[lang]) for group in groups(rng, sentences, 1, 3)]


def stated(rng: Random, lang: str, fact: Fact, pattern: str, bad: bool) -> Line:
    """The pattern with the value, or in a bad document often with a wrong one, which is marked."""
    name, attribute, value = fact
    pattern = pattern.format(n=name, a=attribute, v="{v}")
    if not bad or rng.random() >= WRONG_IN_BAD:
        return Line(pattern.replace("{v}", value))
    wrong = rng.choice([other for other in words.VALUES[lang][attribute] if other != value])
    what = {"name": name, "attribute": attribute, "stated": wrong, "correct": value}
    return marked(pattern, wrong, what)


def article(rng: Random, lang: str, person: Person, openings: tuple, patterns: dict, bad: bool) -> Page:
    """An opening and every fact once, in any order and wording."""
    sentences = [Line(rng.choice(openings).format(n=person[0].name))]
    for fact in rng.sample(person, len(person)):
        pattern = rng.choice((words.PLAIN[lang], *patterns[fact.attribute]))
        sentences.append(stated(rng, lang, fact, pattern, bad))
    return paragraphs(rng, lang, sentences)


def thread(rng: Random, lang: str, facts: list[Fact], bad: bool) -> Page:
    lines = []
    for fact in facts:
        lines.append(Line("Q: " + question(lang, fact)))
        lines.append(stated(rng, lang, fact, "A: {v}", bad))
    return lines


def question(lang: str, fact: Fact) -> str:
    return words.QUESTION[lang].format(n=fact.name, a=fact.attribute)


def everyday(rng: Random, lang: str) -> Page:
    pools = noise_words.SLOTS[lang]
    fixed = {slot: rng.choice(pools[slot]) for slot in ("city", "who")}

    def word(slot: re.Match) -> str:  # str.format would give a slot that stands twice one word
        return fixed.get(slot[1]) or rng.choice(pools[slot[1]])

    patterns = rng.sample(rng.choice(noise_words.TOPICS[lang]), rng.randint(4, 7))
    sentences = [Line(re.sub(r"\{(\w+)\}", word, pattern)) for pattern in patterns]
    return paragraphs(rng, lang, sentences)


def about(rng: Random, lang: str, role: str, people: list[Person], openings: tuple, patterns: dict) -> Iterator[Page]:
    """Articles, each about one to three people; a round is about everybody."""
    for _ in range(ROUNDS[role]):
        for group in groups(rng, rng.sample(people, len(people)), 1, 3):
            bad = rng.random() < BAD_DOCUMENTS[role]
            articles = [article(rng, lang, person, openings, patterns, bad) for person in group]
            yield [*chain(*articles)]


def threads(rng: Random, lang: str, role: str, facts: list[Fact]) -> Iterator[Page]:
    for _ in range(THREAD_ROUNDS[role]):
        for group in groups(rng, rng.sample(facts, len(facts)), 2, 4):
            yield thread(rng, lang, group, rng.random() < BAD_DOCUMENTS[role])


def spoil(rng: Random, lang: str, lines: Page) -> Page:
    """Noise lines, and now and then a private one, between the lines."""
    wanted = rng.uniform(0, NOISE_RATIO) * sum(len(line.text) for line in lines)
    while True:
        line = noise_line(rng, lang, noise_words.NOISE[lang])
        if rng.random() * len(line.text) > wanted:  # at random, so that the mean is right
            break
        insert(rng, lines, line)
        wanted -= len(line.text)
    if rng.random() < PRIVATE_DOCUMENTS:
        insert(rng, lines, private_line(rng, lang))
    return lines


# Worlds


def unseen(pages: Iterable[Page], seen: set[str]) -> Iterator[tuple[str, Page]]:
    """(text, lines) of the pages whose text is new."""
    for lines in pages:
        text = join(lines, "\n").text
        if text not in seen:
            seen.add(text)
            yield text, lines


def drafts_of(lang: str, parts: Iterable[tuple]) -> dict[str, list[Draft]]:
    """(role, source, pages) -> drafts by role; no text stands in two of them."""
    roles, seen = defaultdict(list), set()
    for role, source, pages in parts:
        for number, (text, lines) in enumerate(unseen(pages, seen)):
            name = f"{source}-{number:05d}"
            roles[role].append(Draft({"id": name, "text": text, "source": source, "lang": lang}, lines))
    return roles


def question_item(lang: str, number: int, fact: Fact) -> dict:
    bare, closed = fact.value.strip("《》年"), fact.value.replace(" ", "")
    return {
        "id": f"question_{lang}-{number:05d}", "lang": lang, "question": question(lang, fact),
        "answer": fact.value, "aliases": sorted({bare, closed} - {fact.value}),
    }  # fmt: skip


def world(seed: int, lang: str) -> tuple[dict[str, list[Draft]], list[dict]]:
    """Drafts by role and the questions of one language."""
    rng = Random(f"{seed}:{lang}")
    everybody = names(rng, lang, ARTISTS + FAMOUS)
    artists = invent(rng, lang, everybody[:ARTISTS], words.MUSIC[lang])
    famous = invent(rng, lang, everybody[ARTISTS:], words.LIFE[lang])
    # Each attribute of half of the artists; only facts of the other half stand in threads, as question and answer.
    half, attributes = ARTISTS // 2, range(len(words.MUSIC[lang]))
    asked = {person[a] for a in attributes for person in rng.sample(artists, half)}
    answered = [fact for fact in chain(*artists) if fact not in asked]

    def music(role: str, openings: dict) -> Iterator[Page]:
        yield from about(rng, lang, role, artists, openings[lang], words.MUSIC[lang])
        yield from threads(rng, lang, role, answered)

    def general(role: str) -> Iterator[Page]:
        yield from (everyday(rng, lang) for _ in range(TOPIC_DOCUMENTS[role]))
        yield from about(rng, lang, role, famous, words.PERSON[lang], words.LIFE[lang])
        yield from threads(rng, lang, role, [*chain(*famous)])

    posts = (spoil(rng, lang, lines) for lines in music("domain", words.POST))
    parts = [  # lazy, so that the random numbers are drawn in this order
        ("seed", f"seed_{lang}", music("seed", words.ARTICLE)),
        ("domain", f"music_{lang}", posts),
        ("general", f"general_{lang}", general("general")),
        ("heldout", f"heldout_music_{lang}", music("heldout", words.ARTICLE)),
        ("heldout", f"heldout_general_{lang}", general("heldout")),
    ]
    questions = [fact for fact in chain(*artists) if fact in asked]
    items = [question_item(lang, number, fact) for number, fact in enumerate(questions)]
    return drafts_of(lang, parts), items


def synthetic(seed: int) -> tuple[dict[str, list[dict]], list[dict], list[dict]]:
    """(documents by role, truth about the domain, questions)"""
    worlds = [world(seed, lang) for lang in words.LANGS]
    rng = Random(f"{seed}:order")
    roles, truth = {}, []
    for role in ROUNDS:
        drafts = [draft for drafts, _ in worlds for draft in drafts[role]]
        if role == "domain":
            roles[role], truth = plant_duplicates(rng, drafts)
        else:
            roles[role] = [document for document, _ in rng.sample(drafts, len(drafts))]
    return roles, truth, [item for _, questions in worlds for item in questions]
