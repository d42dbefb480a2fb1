"""Facts in structured fields: infoboxes of pages, tables (TSV, CSV), JSONL of records, JSON of triples.

A table's rows may be wrong, so they are never asked: they speak for or against what pages say.  Infoboxes and triples
are asked where nothing speaks against them.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_prep.entities import chinese
from data_prep.entities.records import ALBUM, GROUP, PERSON, SONG, Entity, Fact, entities_of
from data_prep.entities.values import key_of, parse_date, simplified
from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.decode import read_json, read_lines

# Name of a field, lower case and with blanks for _, -> what it says.
FIELDS = {
    "born_on": ("born", "birth date", "date of birth", "出生日期", "出生时间"),
    "born_in": ("birth place", "place of birth", "出生地", "出生地点"),
    "died_on": ("died", "death date", "date of death", "逝世日期"),
    "birth_name": ("birth name", "本名", "原名"),
    "performer": ("artist", "performer", "歌曲原唱", "专辑歌手", "歌手", "演唱者", "原唱"),
    "released_on": ("released", "release date", "发行时间", "发行日期"),
    "label": ("label", "唱片公司", "发行公司"),
    "album_of": ("album", "所属专辑"),
    "lyricist": ("lyricist", "填词", "作词"),
    "composer": ("composer", "谱曲", "作曲"),
    "formed_in": ("formed", "founded", "成立时间"),
    "tracks": ("tracks", "曲目数量"),
    "aliases": (
        "aliases", "alias", "also known as", "english name", "别名", "外文名称", "外文名", "中文名称", "中文名",
    ),
    "name": ("name", "title"), "id": ("wiki id", "id"), "kind": ("type", "kind"), "text": ("information",),
}  # fmt: skip
RELATION = {field: relation for relation, fields in FIELDS.items() for field in fields}
OF_WORKS = {"performer", "released_on", "label", "album_of", "lyricist", "composer", "tracks"}
OF_PEOPLE = {"born_on", "born_in", "died_on", "birth_name"}
NOT_ASKED = {"name", "id", "kind", "aliases", "text"}
OF_SONGS = {"album_of", "lyricist", "composer"}
SONG_KINDS = ("song", "single", "单曲", "單曲", "歌曲")


def typed(fields: dict[str, Any]) -> dict[str, list[str]]:
    """{relation: values} of the fields that are known."""
    values: dict[str, list[str]] = {}
    for field, value in fields.items():
        relation = RELATION.get(str(field).lower().replace("_", " ").strip())
        if relation and value not in (None, "", []):
            texts = [" ".join(str(one).split()) for one in (value if isinstance(value, list) else [value])]
            values.setdefault(relation, []).extend(text for text in texts if text)
    return values


def plain_name(title: str) -> str:
    """Without what tells namesakes apart: Flume (musician), 羅生門 (2015年歌曲)."""
    return re.sub(r"\s*[（(][^()（）]*[)）]$", "", title).strip() or title


def kind_of(values: dict[str, list[str]]) -> str:
    """The kind of an entity, by what is known of it."""
    given = values.get("kind", [""])[0].lower()
    if any(word in given for word in SONG_KINDS) or OF_SONGS & values.keys():
        return SONG
    if OF_WORKS & values.keys():
        return ALBUM
    return PERSON if OF_PEOPLE & values.keys() else GROUP if "formed_in" in values else ""


def records(values: dict[str, list[str]], id: str, lang: str, route: str, size: float = 0.0,
            what: str = "", known: Iterable[str] = ()) -> Iterator[Entity | Fact]:  # fmt: skip
    """Of an entity's fields.  `known` are relations that the page's text states: it is the better quote."""
    plain = simplified if lang == "zh" else str
    name, owner = plain(plain_name(values["name"][0])), plain(values.get("performer", [""])[0])
    kind, born = kind_of(values), values.get("born_on", [""])[0]
    parts = (part.strip() for one in values.get("aliases", ()) for part in re.split("[,;、，]", one))
    aliases = tuple(dict.fromkeys(filter(None, parts)))
    yield from entities_of(name, kind, id, owner=owner, born=born, aliases=aliases, size=size)
    year = str((parse_date(values.get("released_on", [""])[0]) or [""])[0])
    shown = {SONG: ("歌曲", "song"), ALBUM: ("专辑", "album")}.get(kind, ("", ""))[lang == "en"]
    for relation in values.keys() - NOT_ASKED - set(known):
        value = re.sub(r"^《\s*(.*?)\s*》$", r"\1", plain(values[relation][0]))
        quote = f"{values['name'][0]}: {label_of(relation, lang)}: {values[relation][0]}"
        doubt = doubt_of(relation, values[relation], owner)
        if relation == "released_on" and kind == SONG:
            doubt = "several_dates"  # with an album, and as a single
        if not doubt and kind in (PERSON, GROUP) and not what:
            doubt = "no_description"
        if relation == "released_on" and not (parse_date(value) or (0, 0, 0))[2]:
            relation = "released_in"
        yield Fact(key_of(name), relation, name, value, lang, id, quote, route, owner=owner, kind=shown, what=what,
                   year=year, doubt=doubt, size=size)  # fmt: skip


def doubt_of(relation: str, values: list[str], owner: str) -> str:
    """several_values of a field with more than one, or of a work by several."""
    listed = re.search(r"[、，,;/&]|\band\b", values[0]) and relation not in ("born_in", "born_on", "released_on")
    return "several_values" if len(values) > 1 or listed or re.search("[、，,;/]", owner) else ""


def label_of(relation: str, lang: str) -> str:
    """A field's name, as the quote has it."""
    return FIELDS[relation][0 if lang == "en" else -1]


# Catalogue files


def read_catalogue(path: str, column: str) -> Iterator[Entity | Fact]:
    """Records of a file of tables, records or triples; `column` holds the popularity."""
    rows = json_rows(path) if path.endswith((".jsonl", ".json")) else table_rows(path)
    used = 0
    for number, (fields, route) in enumerate(rows, 1):
        values = typed(fields)
        if "name" in values:
            used += 1
            file, name = Path(path), plain_name(values["name"][0])
            own = f"{file.name}:{number}" if route == "table" else f"{file.parent.name}:{name}"
            yield from of_row(values, values.get("id", [own])[0], route, number_in(fields.get(column)), column)
    if not used:
        raise UserError(f"--catalogue={path} has no column `name` or `title` with values; name another file")


def of_row(values: dict[str, list[str]], id: str, route: str, size: float, column: str) -> Iterator[Entity | Fact]:
    """Of a row or record; its `text` is a page of its own."""
    lang = "zh" if re.search("[\u4e00-\u9fff]", "".join(v for some in values.values() for v in some)) else "en"
    what, known, name = "", set(), simplified(plain_name(values["name"][0]))
    for text in map(without_blanks, values.get("text", ())[:1]):
        size = size or (float(len(text)) if column == "characters" else 0.0)
        page = list(chinese.records(name, text, id, size, ()))
        known = {record.relation for record in page if isinstance(record, Fact)}
        what = next((record.what for record in page if record.what), "")
        yield from (r._replace(size=size) if isinstance(r, Fact) else r for r in page)
    yield from records(values, id, lang, route, size, what, known)
    if size and column != "characters" and values.get("performer"):  # an artist is as popular as the best known work
        yield from entities_of(values["performer"][0], "", "", size=size)


def without_blanks(text: str) -> str:
    """Without the blanks that stand beside Chinese characters."""
    return re.sub(r"(?<=[^\x00-\x7f]) +| +(?=[^\x00-\x7f])", "", text)


def number_in(value: Any) -> float:
    try:
        return max(0.0, float(value))
    except (TypeError, ValueError):
        return 0.0


def table_rows(path: str) -> Iterator[tuple[dict, str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            if path.endswith(".csv"):
                yield from ((row, "table") for row in csv.DictReader(lines))
                return
            head = lines.readline().rstrip("\r\n").split("\t")
            for line in lines:  # quotes are part of a title
                yield dict(zip(head, line.rstrip("\r\n").split("\t"), strict=False)), "table"
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"--catalogue={path} cannot be read ({one_line(error)}); give TSV, CSV, JSONL or JSON"
        ) from error


def json_rows(path: str) -> Iterator[tuple[dict, str]]:
    """JSONL of records; or JSON that holds triples {name, attrname, attrvalue} anywhere, a record of each name."""
    if path.endswith(".jsonl"):
        yield from ((row, "field") for row in read_lines(path, dict, "give TSV, CSV, JSONL or JSON"))
        return
    values: dict[str, dict[str, list[str]]] = {}
    for name, attribute, value in triples(read_json(path, Any, "give TSV, CSV, JSONL or JSON")):
        several = values.setdefault(name, {}).setdefault(attribute, [])
        if value not in several:
            several.append(value)
    yield from (({"name": name} | fields, "field") for name, fields in values.items())


def triples(value: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, dict):
        if {"name", "attrname", "attrvalue"} <= value.keys():
            yield str(value["name"]), str(value["attrname"]), str(value["attrvalue"])
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        yield from triples(one)
