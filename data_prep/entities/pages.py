"""A document as a page about an entity: its name, its language, and what it states."""

import re
from collections.abc import Iterator

from data_prep.entities import chinese, english, fields
from data_prep.entities.records import Entity, Fact
from data_prep.entities.values import simplified
from mucpt_jax.formats.decode import own_field

GENERIC = re.compile(
    r"[（(](?:\d{4} )?(?:song|album|EP|single|band|music group|歌曲|專輯|专辑|單曲|单曲|樂團|乐团|組合|组合)[)）]$"
)
PERSONAL = {"born_on", "born_in", "died_on", "birth_name"}


def records(row: dict, column: str) -> Iterator[Entity | Fact]:
    """Of a document (id, text, lang, meta); none where it has no name.

    meta holds `name` or `title`, and may hold `infobox` ({field: value}), `aliases` and the column of popularity.
    """
    meta = own_field(row["meta"]) if row["meta"].startswith("{") else {}
    title = meta.get("name") or meta.get("title")
    if not isinstance(title, str) or not title.strip():
        return
    size = float(len(row["text"])) if column == "characters" else fields.number_in(meta.get(column))
    is_chinese = row["lang"].startswith("zh") or 3 * len(re.findall("[\u4e00-\u9fff]", row["text"][:300])) > len(
        row["text"][:300]
    )
    lang, reader = ("zh", chinese) if is_chinese else ("en", english)
    name = fields.plain_name(title.strip())
    name = simplified(name) if is_chinese else name
    values = fields.typed(infobox_of(meta) | {"name": title})
    aliases = tuple(values.get("aliases", ()))
    stated, what = set(), ""
    for record in reader.records(name, row["text"], row["id"], size, aliases):
        if isinstance(record, Fact):
            stated.add(record.relation)
            what = what or record.what
            record = record._replace(doubt=record.doubt or doubt_of(title, record), size=size)
        yield record
    if len(values) > 1:
        yield from (
            r for r in fields.records(values, row["id"], lang, "field", size, what, stated) if isinstance(r, Fact)
        )


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
    if apart and fact.relation in PERSONAL | {"performer"}:
        return "namesake"
    return "short_title" if fact.relation == "performer" and not is_telling(fact.subject, fact.lang) else ""


def is_telling(title: str, lang: str) -> bool:
    """Whether few works can have this title: three words, or six Chinese characters."""
    han = len(re.findall("[\u4e00-\u9fff]", title))
    return han >= 5 or len(re.findall(r"[^\W\d_]{2,}", re.sub("[\u4e00-\u9fff]", "", title))) + han // 2 >= 3
