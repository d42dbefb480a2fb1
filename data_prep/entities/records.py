"""What is read out of pages and catalogues: entities, and facts about them.

A record stands under the key of the name that it is about (values.key_of), so all evidence on a name meets.
"""

from collections.abc import Iterator
from typing import NamedTuple

from data_prep.entities.values import key_of

PERSON, GROUP, SONG, ALBUM = "person", "group", "song", "album"
WORKS = (SONG, ALBUM)


class Entity(NamedTuple):
    key: str  # of the name, or of an alias of it
    name: str
    kind: str  # person, group, song, album, or "" where that is not known
    id: str  # of the page or row, such as enwiki:3374; "" where it has none
    owner: str  # of a work: its artist; "" where that is not known
    born: str  # of a person
    aliases: tuple[str, ...]
    size: float  # popularity; 0 where it is not known
    page: bool  # a page of its own; else a row of a table
    what: str = ""  # a person or group is, as the page says: American singer
    cover: bool = False  # the page says that others recorded it before or after


class Fact(NamedTuple):
    """`value` is `relation` of `subject`, as a document says.  The other fields are what questions may name."""

    key: str  # of the subject
    relation: str  # see relations.py
    subject: str
    value: str  # as it stands in the quote
    lang: str  # en, zh
    document: str  # id
    quote: str
    route: str  # text, field, table (never asked: it only speaks for or against), or the name of a model
    owner: str = ""  # of a work
    kind: str = ""  # of a work, or what is asked for: studio album, 单曲
    what: str = ""  # of a person or group, as the page says: American singer
    year: str = ""  # of a work
    doubt: str = ""  # a reason not to ask that shows on the page alone
    size: float = 0.0  # of its document
    question: str = ""  # of a model's own; else templates write it
    answer_type: str = ""  # of a model's own


def entities_of(
    name: str, kind: str, id: str, owner: str = "", born: str = "", aliases: tuple = (), size: float = 0.0,
    page: bool = False, what: str = "", cover: bool = False,
) -> Iterator[Entity]:  # fmt: skip
    """The entity under its name, and under each alias."""
    for key in {key_of(name), *map(key_of, aliases)} - {""}:
        yield Entity(key, name, kind, id, owner, born, aliases, size, page, what, cover)


def same_owner(one: str, other: str) -> bool:
    """Whether two names can be of one artist: Imagine Dragons; Imagine Dragons featuring Kendrick Lamar."""
    a, b = key_of(one), key_of(other)
    return a == b or (min(len(a), len(b)) >= 3 and (a in b or b in a))
