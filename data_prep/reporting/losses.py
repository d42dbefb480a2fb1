"""What was taken from each source, in its own words, and where it fell on the seed; for report.py and its page."""

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from data_prep.reporting.charts import bars, named, number, section, share, visible

MOST = 20  # reasons and lines of a source
SOURCES = 40  # on the page
LEAST, SURE = 10, 2.0  # documents or lines, and standard deviations, from which more is no chance


def by_source(compositions: Mapping[str, dict], lines: Mapping[str, Iterable[dict]]) -> list[dict]:
    """[{source, documents, dropped, reasons, lines_removed, lines}] of sources that lost anything, the largest first.

    compositions and lines (rows of lines.jsonl) by stage, in their order.
    """
    documents = totals(next(iter(compositions.values()), {}).get("read"), "documents")
    sources: dict[str, dict] = {}
    for stage, composition in compositions.items():
        for row in composition.get("dropped") or ():
            reason = {"stage": stage, "reason": row["reason"], "documents": row["documents"]}
            entry(sources, row["source"], documents)["reasons"].append(reason)
        for source, gone in totals(composition.get("lines"), "lines").items():
            entry(sources, source, documents)["lines_removed"] += gone
    for stage, rows in lines.items():
        for row in rows:
            if isinstance(row.get("text"), str) and isinstance(row.get("documents"), int):
                line = {"stage": stage, "documents": row["documents"], "text": row["text"]}
                entry(sources, str(row.get("source")), documents)["lines"].append(line)
    for losses in sources.values():
        losses["dropped"] = sum(reason["documents"] for reason in losses["reasons"])
        for name in ("reasons", "lines"):
            losses[name] = sorted(losses[name], key=lambda row: -row["documents"])[:MOST]
    return sorted(sources.values(), key=lambda losses: (-losses["documents"], losses["source"]))


def entry(sources: dict[str, dict], source: str, documents: Mapping[str, int]) -> dict:
    new = {"source": source, "documents": documents.get(source, 0), "dropped": 0, "reasons": []}
    return sources.setdefault(source, new | {"lines_removed": 0, "lines": []})


def totals(rows: Iterable[dict] | None, key: str) -> dict[str, int]:
    """{source: sum}"""
    sums: dict[str, int] = {}
    for row in rows or ():
        sums[row["source"]] = sums.get(row["source"], 0) + row[key]
    return sums


def warnings(compositions: Mapping[str, dict], seed: Sequence[str]) -> list[str]:
    """A sentence for each stage that takes documents or lines from the seed's sources more often than from others.

    seed: names of sources, or patterns such as music_*.  A difference that chance may have made says nothing.
    """
    kinds = (("dropped", "documents", "documents", 100, "documents of 100"),
             ("lines", "lines", "characters", 1_000_000, "lines of a million characters"))  # fmt: skip
    sentences = []
    for stage, composition in compositions.items():
        for kind, counted, of, per, unit in kinds:
            read, gone = totals(composition.get("read"), of), totals(composition.get(kind), counted)
            (a, m), (b, n) = (
                [sum(size for source, size in sizes.items() if is_seed(source, seed) == side) for sizes in (gone, read)]
                for side in (True, False)
            )
            if m and n and a >= LEAST and is_more(a, m, b, n):
                verb = "drops" if kind == "dropped" else "removes"
                sentences.append(f"{stage} {verb} {per * a / m:.3g} {unit} of the seed, and {per * b / n:.3g} of other "
                                 f"sources: see what, below by source, and loosen --config.{stage}")  # fmt: skip
    return sentences


def is_seed(source: str, seed: Sequence[str]) -> bool:
    return any(fnmatchcase(source, pattern) for pattern in seed)


def is_more(a: int, m: int, b: int, n: int) -> bool:
    """Is a of m more than b of n, beyond chance?  Counts as Poisson's."""
    expected = (a + b) * m / (m + n)
    return a > expected and a - expected > SURE * math.sqrt(expected * n / (m + n))


def shown_warnings(sentences: Sequence[str]) -> str:
    return "".join(f'<p class="sum wrong">WARNING: {visible(sentence, 400)}</p>' for sentence in sentences)


def shown(sources: Sequence[dict]) -> str:
    """The section of the page."""
    if not sources:
        return ""
    note = "The most frequent reasons and removed lines of each source; a number is that of the documents."
    parts = [one_source(losses) for losses in sources[:SOURCES]]
    rest = len(sources) - len(parts)
    more = f'<p class="none">{number(rest)} smaller sources are in report.json.</p>' if rest else ""
    return section("What was taken, by source", note, "".join(parts) + more, "taken")


def one_source(losses: dict) -> str:
    gone = f"{number(losses['dropped'])} of {number(losses['documents'])} documents"
    gone += f", {share(losses['dropped'], losses['documents'])}"
    title = f"{named(losses['source'])} <small>{gone}; {number(losses['lines_removed'])} lines</small>"
    reasons = losses["reasons"]
    highest = max((reason["documents"] for reason in reasons), default=1)
    rows = [(f"{row['stage']}: {named(row['reason'])}", row["documents"], share(row["documents"], losses["documents"]))
            for row in reasons]  # fmt: skip
    lines = "".join(
        f'<li><b>{number(line["documents"])}</b><div dir="auto" class="text">{visible(line["text"], 160)}</div>'
        f"<small>{line['stage']}</small></li>"
        for line in losses["lines"]
    )
    lists = (bars(rows, highest) if rows else "") + (f'<ol class="lines">{lines}</ol>' if lines else "")
    return f'<details class="all"><summary>{title}</summary>{lists}</details>'
