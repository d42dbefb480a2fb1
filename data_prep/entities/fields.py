"""Facts in structured fields: infoboxes of pages, tables (TSV, CSV), JSONL of records, JSON of triples.

A table's rows may be wrong, so they are never asked: they speak for or against what pages say.  Infoboxes and triples
are asked where nothing speaks against them.
"""

import csv
import re
from collections.abc import Iterator
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
            what: str = "", known: set[str] = frozenset()) -> Iterator[Entity | Fact]:  # fmt: skip
    """Of an entity's fields.  `known` are relations that the page's text states: it is the better quote."""
    name = plain_name(values["name"][0])
    name = simplified(name) if lang == "zh" else name
    kind, owner = kind_of(values), values.get("performer", [""])[0]
    owner = simplified(owner) if lang == "zh" else owner
    aliases = tuple(
        dict.fromkeys(
            alias for one in values.get("aliases", ()) for alias in re.split("[,;、，]", one) if alias.strip()
        )
    )
    born = values.get("born_on", [""])[0]
    yield from entities_of(name, kind, id, owner=owner, born=born, aliases=tuple(a.strip() for a in aliases), size=size)
    year = str((parse_date(values.get("released_on", [""])[0]) or [""])[0])
    shown = {SONG: ("歌曲", "song"), ALBUM: ("专辑", "album")}.get(kind, ("", ""))[lang == "en"]
    described = what or kind not in (PERSON, GROUP)
    for relation, options in values.items():
        if relation in ("name", "id", "kind", "aliases", "text") or relation in known:
            continue
        several = len(options) > 1 or (
            re.search(r"[、，,;/&]|\band\b", options[0]) and relation not in ("born_in", "born_on", "released_on")
        )
        value = simplified(options[0]) if lang == "zh" else options[0]
        value = re.sub(r"^《\s*(.*?)\s*》$", r"\1", value)
        if relation == "released_on" and not (parse_date(value) or (0, 0, 0))[2]:
            relation = "released_in"
        quote = f"{values['name'][0]}: {RELATION_TEXT[relation, lang]}: {options[0]}"
        yield Fact(
            key_of(name), relation, name, value, lang, id, quote, route, owner=owner, kind=shown, year=year, what=what,
            doubt="several_values" if several else "" if described else "no_description",
        )  # fmt: skip


RELATION_TEXT = {
    (relation, lang): FIELDS[relation if relation != "released_in" else "released_on"][0 if lang == "en" else -1]
    for relation in (*FIELDS, "released_in") for lang in ("en", "zh")
}  # fmt: skip


# Catalogue files


def read_catalogue(path: str, column: str) -> Iterator[Entity | Fact]:
    """Records of a file of tables, records or triples; `column` holds the popularity."""
    rows = json_rows(path) if path.endswith((".jsonl", ".json")) else table_rows(path)
    used = 0
    for number, (fields, route) in enumerate(rows, 1):
        values = typed(fields)
        if "name" not in values:
            continue
        used += 1
        id = values.get(
            "id",
            [
                f"{Path(path).name}:{number}"
                if route == "table"
                else f"{Path(path).parent.name}:{plain_name(values['name'][0])}"
            ],
        )[0]
        lang = "zh" if re.search("[\u4e00-\u9fff]", "".join(map(str, fields.values()))) else "en"
        size = number_in(fields.get(column))
        size = size or (float(len(values["text"][0])) if "text" in values and column == "characters" else 0.0)
        what, known = "", set()
        for text in values.get("text", ())[:1]:
            page = [
                r for r in chinese.records(simplified(plain_name(values["name"][0])), text, id, size or len(text), ())
            ]
            known = {r.relation for r in page if isinstance(r, Fact)}
            what = next((r.what for r in page if isinstance(r, Fact)), "") or chinese.description(
                simplified(plain_name(values["name"][0])), simplified(text[:600]), chinese.ROLES)  # fmt: skip
            yield from page
        yield from records(values, id, lang, route, size, what, known)
        if size and values.get("performer"):  # an artist is as popular as the most popular work
            yield from entities_of(values["performer"][0], "", "", size=size)
    if not used:
        raise UserError(f"--catalogue={path} has no column `name` or `title` with values; name another file")


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
