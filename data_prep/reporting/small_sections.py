"""The small sections of report.html: duplicates, scores, counters, time, settings; one function each.

No command of its own; page.py puts them on the page.
"""

import json

from data_prep.reporting.charts import bars, columns, named, number, section, share, visible


def sections(facts: dict, lines: list[dict]) -> str:
    """lines: those that boilerplate repeats, {source, text, documents}."""
    parts = [
        duplicates(facts["copies"]),
        quality(facts["quality"]),
        counted(facts, "masked", "Private data, masked", "values by type"),
        counted(facts, "lines", "Lines removed", "by reason", repeated(lines)),
        counted(facts, "changed", "Documents changed", "one may count in several"),
        speed(facts["stages"]),
    ]
    return "".join(parts)


def duplicates(copies: dict | None) -> str:
    if copies is None:
        return ""
    alone = sum(group["groups"] for group in copies["groups"] if group["size"] == "1")
    groups = [group for group in copies["groups"] if group["size"] != "1"]
    note = f"{number(alone)} kept documents had no duplicate."
    if groups:
        largest = number(copies["largest"])
        note += f" The others by size of their group, and the documents in those; the largest has {largest}."
    rows = [(f"{g['size'].replace('-', '&ndash;')} alike", g["groups"], number(g["documents"])) for g in groups]
    return section("Duplicate groups", note, bars(rows, max((g["groups"] for g in groups), default=1)), "copies")


def quality(scores: dict | None) -> str:
    if scores is None:
        return ""
    note = "Documents by score" + (f"; mean {scores['mean']:.2f}." if scores["mean"] is not None else ".")
    if scores["outside"]:
        note += f" {number(scores['outside'])} are outside 0 to 1."
    return section("Quality", note, columns(scores["edges"], scores["counts"]), "quality")


def counted(facts: dict, key: str, title: str, note: str, more: str = "") -> str:
    """Counters of all stages under `key`; `documents` is no type but the documents that had any."""
    sums: dict[str, int] = {}
    for stage in facts["stages"]:
        for name, n in stage[key].items():
            sums[name] = sums.get(name, 0) + n
    touched = sums.pop("documents", None)
    if not any(sums.values()) and not more:
        return ""
    ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:60]
    whole = facts["read"] if key == "changed" else sum(sums.values())
    rows = [(named(name), n, share(n, whole)) for name, n in ranked]
    note = f"{number(sum(sums.values()))} {note}" if key != "changed" else f"Documents; {note}"
    note += f", in {number(touched)} documents." if touched is not None else "."
    return section(title, note, bars(rows, max(sums.values(), default=1)) + more, key)


def repeated(lines: list[dict]) -> str:
    """Of lines.jsonl."""
    items = []
    for line in lines:
        shown = f'<div dir="auto" class="text">{visible(line["text"], 160)}</div>'
        where = visible(line["source"], 60)
        items.append(f"<li><b>{number(line['documents'])}</b>{shown}<small>{where}</small></li>")
    if not items:
        return ""
    title = "<summary>Lines that repeat, with the number of their documents</summary>"
    return f'<details class="all">{title}<ol class="lines">{"".join(items)}</ol></details>'


def speed(stages: list[dict]) -> str:
    timed = [stage for stage in stages if stage["seconds"]]
    if not timed:
        return ""
    rows = [(s["stage"], s["seconds"], f"{number(round(s['read'] / s['seconds']))}/s") for s in timed]
    return section(
        "Time", "Seconds, and documents read a second.", bars(rows, max(s["seconds"] for s in timed)), "time"
    )


def recipe(settings_of_run: dict | None) -> str:
    if not settings_of_run:
        return ""
    plain = {name: value for name, value in settings_of_run.items() if not isinstance(value, dict)}
    parts = ([("run", plain)] if plain else []) + [(k, v) for k, v in settings_of_run.items() if isinstance(v, dict)]
    cards = "".join(
        f"<div><h3>{visible(name, 60)}</h3><dl>{settings(values)}</dl></div>" for name, values in parts[:30]
    )
    return section("Recipe", "The settings of this run.", f'<div class="recipe">{cards}</div>', "recipe")


def settings(values: dict) -> str:
    def as_text(value: object) -> str:
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 200)

    return "".join(
        f"<div><dt>{visible(str(k), 60)}</dt><dd>{as_text(v)}</dd></div>" for k, v in list(values.items())[:50]
    )
