"""What the rules for prose take of lists, and what the thresholds of forms (data_prep/text/forms.py) take of them.

    python -m benchmarks.forms --data=../shared/data

Real documents whole, and sections of biographies each alone, where most lists of works stand; written texts of
tests/data.  Both sides get the same texts; `as prose` gives every form the thresholds for prose.
"""

import argparse
import dataclasses
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks import facts
from data_prep import quality

ROOT = Path(__file__).parents[1]
LINKS = re.compile("link|reference|see also|further reading|sources|notes", re.I)
FORMS = {field.name: field.default for field in dataclasses.fields(quality.Options) if field.name != "names"}
PROSE = FORMS | {f"{form}_{rule}": FORMS[rule] for form, rules in quality.OF_FORMS.items() for rule in rules}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="music/ and general/ with real text")
    args = parser.parse_args()
    facts.write("forms", "Documents that quality drops: by rules for prose alone, and with thresholds of forms",
                [row(*group) for group in groups(args.data)])  # fmt: skip


def groups(data: Path) -> Iterator[tuple[str, list[str]]]:
    for name in ("music", "general"):
        for lang in ("en", "zh"):
            files = sorted(file for file in (data / name).glob("*.jsonl.gz") if is_chinese(file) == (lang == "zh"))
            yield f"{name}, {lang}: documents", [text for file in files for text in texts_of(file)]
    sections = [part for name in ("music/music_en_bios", "general/general_meetups_bios_nonmusic")
                for text in texts_of(data / f"{name}.jsonl.gz") for part in sections_of(text)]  # fmt: skip
    yield "biographies: sections", [text for head, text in sections if not LINKS.search(head)]
    yield "biographies: links and references", [text for head, text in sections if LINKS.search(head)]
    for name, file in (("lists, tables, verse, notation", "forms_texts"), ("menus, shops, logs, chats", "forms_bad")):
        yield f"written: {name}", [text for _, text in written(file)]
    later = written("forms_held_out")
    yield "written later: facts", [text for head, text in later if not head.startswith("bad")]
    yield "written later: junk", [text for head, text in later if head.startswith("bad")]


def written(file: str) -> list[tuple[str, str]]:
    """(head, text)"""
    blocks = (ROOT / f"tests/data/{file}.txt").read_text(encoding="utf-8").split("=== ")[1:]
    return [(head, text.strip("\n")) for head, _, text in (block.partition("\n") for block in blocks)]


def is_chinese(file: Path) -> bool:
    return "_zh_" in file.name


def texts_of(file: Path) -> list[str]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def sections_of(text: str) -> Iterator[tuple[str, str]]:
    """(heading, text) of each of 60 characters or more."""
    parts = re.split(r"\n=+ (.*?) =+\n", "\n" + text)
    pairs = ((head, part.strip()) for head, part in zip(parts[1::2], parts[2::2], strict=True))
    yield from (pair for pair in pairs if len(pair[1]) >= 60)


def row(name: str, texts: list[str]) -> dict:
    prose, form = (sum(map(bool, quality.judge(texts, limits)[0])) for limits in (PROSE, FORMS))
    return {"texts": name, "n": len(texts), "dropped_as_prose": prose, "dropped_by_form": form}


if __name__ == "__main__":
    main()
