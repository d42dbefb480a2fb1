"""Numbers, text and charts as HTML and SVG for page.py."""

import html
import math
import re

# What would turn the writing direction, show nothing, or be no character at all; joiners within emoji stay.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_COLORS = {"en": 0, "zh-Hans": 1, "zh-Hant": 2, "zh": 1, "other": 6, "": 6, "(other)": 6}
_FREE, _GREY = (3, 4, 5, 7), 6  # colours of the page that no language owns
LANGS_SHOWN, SOURCES_SHOWN, LEAST_SHARE = 7, 20, 0.004
INNER, MIDDLE, OUTER = 80, 146, 196  # radii
WIDEST = 0.7  # of a bold letter or digit in the fonts that the page may be shown in, in sizes of the font


def number(value: float | None) -> str:
    if value is None:
        return "&ndash;"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def short(value: int | None) -> str:
    """Three digits and a unit."""
    if value is None:
        return "&ndash;"
    for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if value >= size:
            digits = 0 if value >= 100 * size else 1 if value >= 10 * size else 2
            return f"{value / size:.{digits}f} <small>{name}</small>"
    return f"{value:,}"


def share(part: float, whole: float | None) -> str:
    if not whole:
        return "&ndash;"
    percent = 100 * part / whole
    return f"{percent:.1f}%" if percent >= 0.1 or not part else "&lt;0.1%"


def visible(text: str, most: int) -> str:
    """HTML of any text, cut to `most` characters; what cannot be seen is named."""
    text = text.encode("utf-8", "replace").decode()  # half characters
    cut = text[:most] + ("…" if len(text) > most else "")
    pieces, last = [], 0
    for hidden in _HIDDEN.finditer(cut):
        pieces += [html.escape(cut[last : hidden.start()]), f"<i class=hidden>U+{ord(hidden[0]):04X}</i>"]
        last = hidden.end()
    return f"<bdi>{''.join([*pieces, html.escape(cut[last:])])}</bdi>" if cut else ""


def named(name: str) -> str:
    """visible(), of a name: it may be broken behind its underscores."""
    return visible(name, 80).replace("_", "_<wbr>")


def bar(value: float | None, most: float | None) -> str:
    """Of length value/most; what is more than nothing shows."""
    width = f"max(1px,{100 * value / most:.2f}%)" if value and most else "0"
    return f'<i style="width:{width}"></i>'


def bars(rows: list[tuple[str, float, str]], most: float, inner: bool = False) -> str:
    """(name as HTML, value, note) as lines with a bar of length value/most."""
    rows = [
        f'<span class="name">{name}</span><span class="track">{bar(value, most)}</span>'
        f'<span class="n">{number(value)}</span><span class="p">{note}</span>'
        for name, value, note in rows
    ]
    return "".join(rows) if inner else f'<div class="bars">{"".join(f"<div>{row}</div>" for row in rows)}</div>'


def section(title: str, note: str, body: str, kind: str = "") -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    return f"<section{kind and f' id={kind}'}><h2>{title}</h2>{note}{body}</section>"


def columns(edges: list[float], counts: list[int]) -> str:
    """A histogram of upright bars."""
    most = max(counts) or 1
    bars = [
        f'<i style="height:{100 * n / most:.2f}%" title="{low:.2f} to {high:.2f}: {n:,} documents"></i>'
        for n, low, high in zip(counts, edges, edges[1:], strict=False)
    ]
    ticks = "".join(f"<span>{tick:g}</span>" for tick in (edges[0], edges[len(edges) // 2], edges[-1]))
    return (
        f'<div class="columns"><b>{most:,}</b><div role="img" aria-label="Histogram of scores">{"".join(bars)}</div>'
        f'<p class="ticks">{ticks}</p></div>'
    )


# Sunburst


def groups(rows: list[dict], unit: str, names: dict[str, str]) -> list[dict]:
    """Languages of a composition with their sources; what is small goes together.

    [{name, code, size, documents, color, parts: [{name, size, documents, shade}]}], largest first; size is in `unit`.
    """
    by_lang: dict[str, list[dict]] = {}
    for row in rows:
        by_lang.setdefault(row["lang"], []).append(row)
    ranked = sorted(by_lang, key=lambda lang: (lang == "(other)", -_sum(by_lang[lang], unit), lang))
    shown, rest = ranked[:LANGS_SHOWN], ranked[LANGS_SHOWN:]
    large, free = _large(rows, unit), iter(_FREE)
    groups = [_group(names.get(lang, lang), lang, by_lang[lang], unit, large) for lang in shown]
    for group in groups:
        own = _COLORS.get(group["code"])
        group["color"] = next(free, _GREY) if own is None else own
    if rest:
        others = [row for lang in rest for row in by_lang[lang]]
        groups.append(_group(f"{len(rest)} more languages", "", others, unit, set()) | {"color": _GREY})
    return groups


def _large(rows: list[dict], unit: str) -> set[tuple[str, str]]:
    """(lang, source) of those that are shown by name."""
    least = LEAST_SHARE * _sum(rows, unit)
    named = [row for row in rows if row["source"] != "(other)" and (row[unit] or 0) >= least]
    ranked = sorted(named, key=lambda row: (-(row[unit] or 0), row["source"], row["lang"]))
    return {(row["lang"], row["source"]) for row in ranked[:SOURCES_SHOWN]}


def _group(name: str, code: str, rows: list[dict], unit: str, large: set[tuple[str, str]]) -> dict:
    shown = [row for row in rows if (row["lang"], row["source"]) in large]
    small = [row for row in rows if (row["lang"], row["source"]) not in large]
    if len(small) == 1 and small[0]["source"] != "(other)":  # one alone keeps its name
        shown, small = rows, []
    shown = sorted(shown, key=lambda row: (-(row[unit] or 0), row["source"]))
    parts = [{"name": row["source"], **_sized([row], unit)} for row in shown]
    for place, part in enumerate(parts):
        part["shade"] = 0.88 - 0.5 * place / max(len(parts) - 1, 1)
    if small:
        sources = len({row["source"] for row in small})
        title = f"{sources:,} {'more ' if shown else ''}source{'s' * (sources > 1)}"
        parts.append({"name": title, "shade": 0.22, **_sized(small, unit)})
    return {"name": name, "code": code, "parts": parts, **_sized(rows, unit)}


def _sized(rows: list[dict], unit: str) -> dict:
    return {"size": _sum(rows, unit), "documents": _sum(rows, "documents")}


def _sum(rows: list[dict], key: str) -> int:
    return sum(row[key] or 0 for row in rows)


def sunburst(groups: list[dict], unit: str) -> str:
    """SVG: languages inside, their sources around them."""
    whole, turn, arcs = sum(group["size"] for group in groups) or 1, 0.0, []
    for group in groups:
        angle = 2 * math.pi * group["size"] / whole
        arcs.append(arc(INNER, MIDDLE, turn, angle, group, 1, whole))
        start = turn
        for part in group["parts"]:
            size = 2 * math.pi * part["size"] / whole
            arcs.append(arc(MIDDLE + 2, OUTER, start, size, part | {"color": group["color"]}, part["shade"], whole))
            start += size
        arcs.append(arc_label(turn + angle / 2, angle, group))
        turn += angle
    head = '<svg viewBox="-200 -200 400 400" role="img" aria-label="Shares of languages and sources">'
    return f"{head}{''.join(arcs)}{hole(whole, unit)}</svg>"


def hole(whole: int, unit: str) -> str:
    """The sum, in letters that the hole holds, however long it is."""
    figure, *names = [*re.sub("<.*?>", "", short(whole)).split(" "), unit]
    size = min(38, 1.6 * INNER / (WIDEST * len(figure)))
    lines = [f'<text class="big" y="-4" style="font-size:{size:.1f}px">{figure}</text>']
    return "".join(lines + [f'<text y="{20 + 18 * i}">{name}</text>' for i, name in enumerate(names)])


def arc(inner: float, outer: float, start: float, angle: float, part: dict, shade: float, whole: int) -> str:
    angle = min(angle, 2 * math.pi - 1e-4)  # a whole turn would end where it begins, and draw nothing
    if angle < 1e-5:
        return ""
    (a, b), (c, d) = point(outer, start), point(outer, start + angle)
    (e, f), (g, h) = point(inner, start + angle), point(inner, start)
    large = int(angle > math.pi)
    there = f"M{a:.3f} {b:.3f}A{outer} {outer} 0 {large} 1 {c:.3f} {d:.3f}"
    path = f"{there}L{e:.3f} {f:.3f}A{inner} {inner} 0 {large} 0 {g:.3f} {h:.3f}Z"
    title = f"<title>{visible(part['name'], 80)}: {share(part['size'], whole)}</title>"
    title = re.sub("</?(?:bdi|i)[^>]*>", "", title)  # a title holds text alone
    return f'<path d="{path}" fill="var(--c{part["color"]})" fill-opacity="{shade:.2f}">{title}</path>'


def point(radius: float, turn: float) -> tuple[float, float]:
    """Clockwise from the top."""
    return radius * math.sin(turn), -radius * math.cos(turn)


def arc_label(turn: float, angle: float, group: dict) -> str:
    """The language's code in the middle of its arc, where it fits."""
    code = re.sub("<.*?>", "", visible(group["code"], 8))
    letters = len(html.unescape(code))
    size = min(12.5, (MIDDLE - INNER - 10) / (WIDEST * max(letters, 1)))
    x, y = point((INNER + MIDDLE) / 2, turn)
    corners = [(x + a * WIDEST * size * letters / 2, y + b * size / 2) for a in (-1, 1) for b in (-1, 1)]
    if not code or not all(within(*corner, turn, angle) for corner in corners):
        return ""
    place = f'x="{x:.1f}" y="{y + 0.35 * size:.1f}" style="font-size:{size:.1f}px"'
    return f'<text class="on{group["color"]}" {place}>{code}</text>'


def within(x: float, y: float, turn: float, angle: float) -> bool:
    """Does the place lie in the inner ring, within half of `angle` of `turn`?"""
    aside = math.remainder(math.atan2(x, -y) - turn, 2 * math.pi)
    return INNER < math.hypot(x, y) < MIDDLE and abs(aside) < angle / 2
