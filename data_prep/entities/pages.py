"""A document as a page about an entity: its name, its language, and what it states."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from data_prep.entities import chinese, english, fields
from data_prep.entities.records import Entity, Fact
from data_prep.entities.values import simplified
from mucpt_jax.formats.decode import own_field

GENERIC = re.compile(
    r"[（(](?:\d{4} )?(?:song|album|EP|single|band|music group|歌曲|專輯|专辑|單曲|单曲|樂團|乐团|組合|组合)[)）]$"
)
PERSONAL = {"born_on", "born_in", "died_on", "birth_name", "full_name"}


class Page(NamedTuple):
    title: str
    name: str  # without what tells it apart; in simplified characters
    lang: str  # en, zh
    size: float  # popularity
    meta: dict


def page_of(row: dict, column: str) -> Page | None:
    """A document (id, text, lang, meta) as a page; None where it has no name.  `column` holds the popularity."""
    meta = own_field(row["meta"]) if row["meta"].startswith("{") else {}
    title = meta.get("name") or meta.get("title")
    if not isinstance(title, str) or not title.strip():
        return None
    size = float(len(row["text"])) if column == "characters" else fields.number_in(meta.get(column))
    lang = row["lang"][:2] if row["lang"][:2] in ("en", "zh") else "zh" if is_chinese(row["text"][:300]) else "en"
    name = fields.plain_name(title.strip())
    return Page(title.strip(), simplified(name) if lang == "zh" else name, lang, size, meta)


def is_chinese(text: str) -> bool:
    return 3 * len(re.findall("[\u4e00-\u9fff]", text)) > len(text)


def records(row: dict, column: str) -> Iterator[Entity | Fact]:
    """Of a document as page_of takes it.

    meta holds `name` or `title`, and may hold `infobox` ({field: value}), `aliases` and the column of popularity.
    """
    page = page_of(row, column)
    if page is None:
        return
    values = fields.typed({"aliases": page.meta.get("aliases")} | infobox_of(page.meta) | {"name": page.title})
    reader = chinese if page.lang == "zh" else english
    stated, what = set(), ""
    for record in reader.records(page.name, row["text"], row["id"], page.size, tuple(values.get("aliases", ()))):
        what = what or record.what
        if isinstance(record, Fact):
            stated.add(record.relation)
            record = record._replace(doubt=record.doubt or doubt_of(page.title, record), size=page.size)
        yield record
    if len(values) > 1:
        more = fields.records(values, row["id"], page.lang, "field", page.size, what, stated)
        yield from (record for record in more if isinstance(record, Fact))


def infobox_of(meta: dict) -> dict:
    infobox = meta.get("infobox") or {}
    try:
        infobox = own_field(infobox) if isinstance(infobox, str) else infobox
    except ValueError:
        return {}
    return infobox if isinstance(infobox, dict) else {}


def doubt_of(title: str, fact: Fact) -> str:
    """namesake, where the title itself tells the entity apart from others of its name."""
    apart = fields.plain_name(title) != title and (fact.relation in PERSONAL or not GENERIC.search(title))
    return "namesake" if apart and fact.relation in PERSONAL | {"performer"} else ""
