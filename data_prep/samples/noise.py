"""What makes a sampled domain dirty: lines of noise, private strings and duplicates, and the truth about them.

A document is made of lines.  A line has marks, as truth.jsonl keeps them: {"start", "end", ...} in characters, of a
noise or private span ({"kind"}) or of a wrong fact ({"name", "attribute", "stated", "correct"}).
"""

import re
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from data_prep.private.numbers import check_digit
from data_prep.samples import noise_words

DUPLICATES = 0.03
WIDE = {code: code + 0xFEE0 for code in range(0x30, 0x7B) if chr(code).isalnum()}
UPPER = {code: code - 32 for code in range(0x61, 0x7B)}  # as str.upper() may change the length


class Line(NamedTuple):
    text: str
    marks: Sequence[dict] = ()


class Draft(NamedTuple):
    document: dict
    lines: list[Line]  # of its text


def join(lines: Iterable[Line], glue: str) -> Line:
    """One text, with the marks moved to their new offsets."""
    text, marks = "", []
    for number, line in enumerate(lines):
        text += glue if number else ""
        for mark in line.marks:
            moved = {name: mark[name] + len(text) for name in ("start", "end")}
            marks.append({**mark, **moved})
        text += line.text
    return Line(text, marks)


def marked(pattern: str, value: str, what: dict) -> Line:
    """The pattern with the value as {v}; the value is marked."""
    start = pattern.index("{v}")
    mark = {"start": start, "end": start + len(value), **what}
    return Line(pattern.replace("{v}", value), [mark])


def fill(rng: Random, pattern: str) -> str:
    """# becomes a digit, * a letter or digit."""
    choices = {"#": "0123456789", "*": "abcdefghjkmnpqrstuvwxyz23456789"}
    return re.sub(r"[#*]", lambda match: rng.choice(choices[match[0]]), pattern)


def noise_line(rng: Random, lang: str, kinds: Iterable[str]) -> Line:
    kind = rng.choice(list(kinds))
    pools = noise_words.NOISE_WORDS[lang]
    slots = {slot: rng.choice(pool) for slot, pool in pools.items()}
    slots["words"] = " ".join(rng.choices(pools["words"], k=rng.randint(6, 10)))
    text = fill(rng, rng.choice(noise_words.NOISE[lang][kind])).format(**slots)
    return marked("{v}", text, {"kind": kind})


def id_card(rng: Random) -> str:
    """A right check digit, but serial 000, which nobody has."""
    day = f"{rng.randint(1950, 1999)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}"
    digits = f"110101{day}000"
    return digits + check_digit(digits)


def private_line(rng: Random, lang: str) -> Line:
    """A private string that is right in form and nobody's: example.org and 192.0.2.0/24 are reserved."""
    kind, pattern = rng.choice(list(noise_words.PRIVATE[lang].items()))
    if kind == "email":
        value = fill(rng, "******@example.org")
    elif kind == "ip":
        value = f"192.0.2.{rng.randint(1, 254)}"
    else:
        value = id_card(rng)
    return marked(pattern, value, {"kind": kind})


def insert(rng: Random, lines: list[Line], line: Line) -> None:
    lines.insert(rng.randint(0, len(lines)), line)


def finish(draft: Draft, glue: str = "\n") -> tuple[dict, dict]:
    """The document with its text, and its truth."""
    text, marks = join(draft.lines, glue)
    document = {**draft.document, "text": text}
    truth = {
        "id": document["id"],
        "spans": [{**m, "text": text[m["start"] : m["end"]]} for m in marks if "kind" in m],
        "duplicate_of": None,
        "wrong_facts": [m for m in marks if "stated" in m],
    }
    return document, truth


def duplicate(rng: Random, draft: Draft) -> tuple[dict, dict]:
    """The document once more under another id: one in two as it is, the others in other white space, width or case."""
    document, lines = draft
    glue, table = rng.choice([("\n", {})] * 3 + [("\n\n", {}), ("\n", WIDE), ("\n", UPPER)])
    lines = [Line(line.text.translate(table), line.marks) for line in lines]
    copy, truth = finish(Draft({**document, "id": document["id"] + "-copy"}, lines), glue)
    return copy, {**truth, "duplicate_of": document["id"]}


def plant_duplicates(rng: Random, drafts: list[Draft]) -> tuple[list[dict], list[dict]]:
    """(documents, their truth), originals and duplicates mixed."""
    pairs = [finish(draft) for draft in drafts]
    originals = rng.sample(drafts, round(DUPLICATES * len(drafts)))
    pairs += [duplicate(rng, draft) for draft in originals]
    rng.shuffle(pairs)
    return [document for document, _ in pairs], [truth for _, truth in pairs]
