"""A catalogue: names of a domain, and where they stand in text.

A file has a name a line, or is JSONL of entities: {"name": "Yesterday", "aliases": ["..."]}.  Names are found as they
are written, with their capitals: a song may be called Home.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mucpt_jax.errors import UserError

SHORTEST = 2  # characters of a name that is looked for in text


class Entity(msgspec.Struct):
    name: str
    aliases: list[str] = []


def read_names(file: str) -> list[str]:
    """Sorted, each once.  UserError where the file cannot be read or holds none."""
    try:  # utf-8-sig: utf-8 with a byte order mark or without
        lines = Path(file).read_text(encoding="utf-8-sig").split("\n")
        lists = [names_of(line.strip()) if file.endswith(".jsonl") else [line] for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise UserError(f"the names in {file} cannot be read ({error}); name a text file, a name a line") from error
    names = sorted({name.strip() for some in lists for name in some} - {""})
    if not names:
        raise UserError(f"{file} holds no names; write one a line")
    return names


def names_of(line: str) -> list[str]:
    entity = msgspec.json.decode(line, type=Entity)
    return [entity.name, *entity.aliases]


@functools.cache
def finder(files: tuple[str, ...]):
    """An automaton of all names of the files, of which the longest that begins leftmost is found."""
    import ahocorasick_rs  # here, as a process without a catalogue needs none

    names = {name for file in files for name in read_names(file) if len(name) >= SHORTEST}
    return ahocorasick_rs.AhoCorasick(list(names), matchkind=ahocorasick_rs.MatchKind.LeftmostLongest)


def places(text: str, files: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """(start, end) of each name, whole words only; Han and kana are words by themselves."""
    for _, start, end in finder(files).find_matches_as_indexes(text) if files else ():
        if not (goes_on(text[max(0, start - 1) : start + 1]) or goes_on(text[end - 1 : end + 1])):
            yield start, end


def says_of_name(text: str, files: tuple[str, ...]) -> bool:
    """Whether text holds a name and words besides names."""
    spans = list(places(text, files))
    ends = [0, *(end for _, end in spans)]
    between = "".join(text[end:start] for end, (start, _) in zip(ends, [*spans, (len(text), 0)], strict=True))
    return bool(spans) and bool(re.search(r"\w", between))


def is_name(text: str, files: tuple[str, ...]) -> bool:
    return next(places(text, files), None) == (0, len(text))


def goes_on(pair: str) -> bool:
    """Do both characters belong to one word?"""
    return bool(re.fullmatch(r"[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{2}", pair))
