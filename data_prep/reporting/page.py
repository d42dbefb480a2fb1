"""report.html out of report.json's numbers and a few dropped documents; one function per section.

No command of its own; report.py writes the page.  Whatever a corpus holds goes through visible() before it is HTML.
"""

import json
from pathlib import Path

from data_prep.reporting import charts, losses, small_sections
from data_prep.reporting.charts import bars, named, number, section, share, short, visible
from mucpt_jax.formats import pages
from mucpt_jax.formats.version import as_text

LARGEST_PAGE = 1_900_000  # bytes; fewer samples are shown where it would be larger
LANGS = {
    "en": "English", "zh-Hans": "Chinese, simplified", "zh-Hant": "Chinese, traditional", "zh": "Chinese",
    "other": "other", "": "no language given", "(other)": "other", "ja": "Japanese", "ko": "Korean", "ru": "Russian",
    "de": "German", "fr": "French", "es": "Spanish", "ar": "Arabic",
}  # fmt: skip
HOW = {
    "rows": "Tokens of rows are exact. Those before are estimated, from the tokens per character that each source (or "
    "language, where one is chosen) has in the rows.",
    "sample": "Tokens are estimated, by a tokenizer on a sample of the documents.",
    None: "Tokens were not measured: there are no rows, and no tokenizer was named.",
}


def page(facts: dict, samples: dict[str, dict[str, list[dict]]]) -> str:
    """HTML of less than 2 MB.  samples: {stage: {reason: dropped documents}}."""
    template = Path(__file__).with_name("report.html.template")
    for most in (5, 3, 1, 0):
        fewer = {stage: {why: some[:most] for why, some in by_reason.items()} for stage, by_reason in samples.items()}
        html = pages.page(template, **sections(facts | {"taken": cut(facts["taken"], most)}, fewer))
        if len(html.encode()) < LARGEST_PAGE:
            break
    return html


def cut(taken: list[dict], most: int) -> list[dict]:
    """`most` is 5 where all are shown."""
    return [one | {name: one[name][: 4 * most] for name in ("reasons", "lines")} for one in taken]


def sections(facts: dict, samples: dict) -> dict[str, str]:
    return {
        "TITLE": header(facts), "FUNNEL": funnel(facts), "COMPOSITION": composition(facts),
        "DROPS": drops(facts["stages"], samples) + losses.shown(facts["taken"]),
        "SMALL": small_sections.sections(facts), "RECIPE": small_sections.recipe(facts["recipe"]),
        "PAYLOAD": payload(facts),
    }  # fmt: skip


def header(facts: dict) -> str:
    when = (facts["finished"] or "")[:16].replace("T", " ")
    phrases = [
        f"finished {when} UTC" if when else "",
        f"from {visible(str(facts['input']), 200)}" if facts["input"] else "",
        f"by {as_text(facts['written_by'])}" if facts.get("written_by") else "",
    ]
    line = " &middot; ".join(filter(None, phrases))
    last = facts["funnel"][-1]
    tiles = [tile("documents kept", facts["kept"], f"{share(facts['kept'], facts['read'])} of {number(facts['read'])}")]
    tiles.append(
        tile("characters kept", last["characters"], "not counted" if last["characters"] is None else "of text")
    )
    how = "not measured" if last["tokens"] is None else "exact" if last["exact"] else "estimated"
    tiles.append(tile("tokens kept", last["tokens"], how))
    seconds = sum(stage["seconds"] or 0 for stage in facts["stages"])
    if seconds:
        tiles.append(tile("documents per second", round(facts["read"] / seconds), f"{duration(seconds)} in all"))
    tail = sum_line(facts) + losses.shown_warnings(facts["warnings"])
    return f'<p class="told">{line}</p><dl class="tiles">{"".join(tiles)}</dl>{tail}'


def tile(name: str, value: int | None, note: str) -> str:
    exact = "" if value is None else f' title="{number(value)}"'
    return f"<div><dt>{name}</dt><dd{exact}>{short(value)}</dd><dd>{note}</dd></div>"


def sum_line(facts: dict) -> str:
    gone = sum(facts["dropped"].values())
    line = f"{number(facts['read'])} read = {number(facts['kept'])} kept + {number(gone)} dropped"
    if facts["adds_up"]:
        return f'<p class="sum">{line}</p>'
    return f'<p class="sum wrong">{line} does not hold: these stages did not all run one after the other.</p>'


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds / 60), int(seconds // 3600)
    return f"{hours:,} h {minutes - 60 * hours} min" if hours else f"{minutes} min"


# Funnel


def funnel(facts: dict) -> str:
    body = "".join(funnel_row(i, facts["funnel"]) for i in range(len(facts["funnel"])))
    body += "".join(map(left_out_row, facts["left_out"]))
    names = ("after", "documents", "characters", "tokens", "documents dropped")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    table = f'<table class="funnel"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
    return f'<p class="note">{HOW[facts["tokens"]]}<span id="whose"></span></p>{table}'


def funnel_row(i: int, points: list[dict]) -> str:
    point, first = points[i], points[0]
    cells = []
    for name in ("documents", "characters", "tokens"):
        line = charts.bar(point[name], max(first[name] or 0, point[name] or 0))
        guess = name == "tokens" and not point["exact"] and point[name] is not None
        text = number(point[name]) if point[name] is not None else "not measured"
        cells.append(
            f'<td data-label="{name}"{" class=guess" if guess else ""}><b>{text}</b>'
            f'<span class="track">{line}</span></td>'
        )
    gone = points[i - 1]["documents"] - point["documents"] if i else None
    lost = "" if gone is None else f"<b>{number(gone)}</b> <small>{share(gone, points[i - 1]['documents'])}</small>"
    name = f"{point['stage']}<small>{point['does']}</small>"
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}<td class="lost" data-label="dropped">{lost}</td></tr>'


def payload(facts: dict) -> str:
    """What the selector of the funnel shows: {label, group, points: [[documents, characters, tokens] or null]}."""
    points = facts["funnel"]
    series = [{"key": "", "label": "the whole corpus", "group": "", "points": [triple(p) for p in points]}]
    for group, by in (("language", "by_language"), ("source", "by_source")):
        names = {name: 0 for point in points for name in point[by] or {}}
        for name in names:
            sizes = [(p[by] or {}).get(name) if p[by] is not None else None for p in points]
            known = [p[by] is not None for p in points]
            if by == "by_language" and points[1]["stage"] == "clean":
                known[0] = False  # languages are clean's: what the input called them is another matter
            values = [triple(f or {}) if k else None for f, k in zip(sizes, known, strict=True)]
            label = LANGS.get(name, name) if group == "language" else name
            series.append({"key": f"{group}:{name[:80]}", "label": label[:80], "group": group, "points": values})
    return json.dumps({"series": series}, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


def triple(sizes: dict) -> list[int | None]:
    return [sizes.get(name, 0) for name in ("documents", "characters", "tokens")]


def left_out_row(stage: dict) -> str:
    why = f"{stage['stage']}<small>{stage['does']}; did not run: {visible(stage['why'], 200)}</small>"
    return f'<tr class="out"><th scope="row" colspan="5">{why}</th></tr>'


# Composition


def composition(facts: dict) -> str:
    rows = facts["composition"]
    if not rows:
        return section(
            "What the corpus is made of", "", '<p class="none">No composition was written.</p>', "composition"
        )
    unit = "tokens" if all(row["tokens"] is not None for row in rows) else "characters"
    estimated = unit == "tokens" and not facts["funnel"][-1]["exact"]
    groups = charts.groups(rows, unit, LANGS)
    note = f"Shares of {unit}{', estimated' if estimated else ''}: languages inside, their sources around them."
    chart = charts.sunburst(groups, unit)
    body = f'<div class="beside"><figure>{chart}</figure>{composition_table(groups, unit)}</div>{sources(facts)}'
    return section("What the corpus is made of", note, body, "composition")


def composition_table(groups: list[dict], unit: str) -> str:
    whole = sum(group["size"] for group in groups)
    lines = []
    for group in groups:
        lines.append(composition_row("lang", group, group["color"], 1, whole))
        lines += [composition_row("", part, group["color"], part["shade"], whole) for part in group["parts"]]
    heads = f'<th scope="col" class="aside">documents</th><th scope="col">{unit}</th><th scope="col">share</th>'
    head = f'<thead><tr><th scope="col">language and source</th>{heads}</tr></thead>'
    return f'<div class="scroll"><table class="numbers">{head}<tbody>{"".join(lines)}</tbody></table></div>'


def composition_row(kind: str, part: dict, color: int, shade: float, whole: int) -> str:
    swatch = f'<i class="swatch" style="background:var(--c{color});opacity:{shade:.2f}"></i>'
    documents = f'<td class="aside">{number(part["documents"])}</td>'
    numbers = f"{documents}<td>{number(part['size'])}</td><td>{share(part['size'], whole)}</td>"
    return f'<tr class="{kind}"><th scope="row">{swatch}<span>{named(part["name"])}</span></th>{numbers}</tr>'


def sources(facts: dict) -> str:
    """Every source with a name of its own: what was read, what stayed."""
    known = [point["by_source"] for point in facts["funnel"] if point["by_source"]]
    first, last = facts["funnel"][0]["by_source"] or {}, known[-1] if known else {}
    names = sorted({**first, **last}, key=lambda name: (-(last.get(name, {}).get("characters") or 0), name))
    body = "".join(source_row(name, first.get(name, {}), last.get(name, {}), facts["tokens"]) for name in names)
    heads = ["source", "documents read", "documents kept", "share", "characters kept"]
    heads += ["tokens kept"] * bool(facts["tokens"])
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    table = f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    title = f"<summary>By source, read and kept ({number(len(names))})</summary>"
    return f'<details class="all">{title}<div class="scroll">{table}</div></details>'


def source_row(name: str, read: dict, kept: dict, tokens: str | None) -> str:
    cells = [number(read.get("documents")), number(kept.get("documents", 0))]
    cells += [share(kept.get("documents", 0), read.get("documents")), number(kept.get("characters", 0))]
    cells += [number(kept.get("tokens", 0))] * bool(tokens)
    return f'<tr><th scope="row">{named(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


# Drops


def drops(stages: list[dict], samples: dict) -> str:
    most = max((n for stage in stages for n in stage["dropped"].values()), default=1)
    quiet = [stage["stage"] for stage in stages if not stage["dropped"]]
    parts = [stage_drops(stage, samples.get(stage["stage"], {}), most) for stage in stages if stage["dropped"]]
    if quiet:
        names = " and ".join(filter(None, [", ".join(quiet[:-1]), quiet[-1]]))
        parts.append(f'<p class="none">{names} dropped nothing.</p>')
    note = "Documents by reason, in shares of what the stage read. A reason opens to show some of its documents."
    return section("Why documents were dropped", note, "".join(parts), "drops")


def stage_drops(stage: dict, samples: dict, most: int) -> str:
    ranked = sorted(stage["dropped"].items(), key=lambda item: (-item[1], item[0]))[:100]
    gone = sum(stage["dropped"].values())
    title = f"{stage['stage']} <small>{number(gone)} of {number(stage['read'])}, {share(gone, stage['read'])}</small>"
    lines = [reason(why, n, stage["read"], most, samples.get(why, [])) for why, n in ranked]
    return f'<div class="stage"><h3>{title}</h3>{"".join(lines)}</div>'


def reason(why: str, n: int, read: int, most: int, samples: list[dict]) -> str:
    line = bars([(named(why), n, share(n, read))], most, inner=True)
    if not samples:
        return f'<div class="reason">{line}</div>'
    shown = f'<ul class="samples">{"".join(map(sample, samples))}</ul>'
    return f'<details class="reason"><summary>{line}</summary>{shown}</details>'


def sample(document: dict) -> str:
    facts = [visible(str(document.get(name) or ""), 80) for name in ("source", "lang", "id")]
    head = "".join(f"<span>{fact}</span>" for fact in facts if fact)
    text = visible(str(document.get("text") or ""), 300)
    return f'<li><p>{head}</p><div class="text" dir="auto">{text or "<em>no text</em>"}</div></li>'
