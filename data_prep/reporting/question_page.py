"""report.html of data_prep.questions: samples to read, types, strata, languages, and what the filters took."""

from collections import Counter
from pathlib import Path

from data_prep.reporting.charts import bars, named, number, section, share, visible
from mucpt_jax.formats import pages
from mucpt_jax.formats.decode import read_lines
from mucpt_jax.formats.version import as_text

SHOWN = 50  # questions to read
REJECTED = 3  # candidates of a reason


def page(report: dict, folder: Path) -> str:
    """Of what lies in the folder: questions.jsonl, dropped.jsonl."""
    questions = read_lines(folder / "questions.jsonl")
    dropped: dict[str, list[dict]] = {}
    for line in read_lines(folder / "dropped.jsonl") if (folder / "dropped.jsonl").is_file() else ():
        dropped.setdefault(line["reason"], []).append(line)
    template = Path(__file__).with_name("questions.html.template")
    return pages.page(
        template, TITLE=title(report), SAMPLES=samples(questions), PLOTS=plots(report, questions),
        FUNNEL=funnel(report, dropped), OVERLAPS=overlaps(report, questions), SETTINGS=settings(report),
    )  # fmt: skip


def title(report: dict) -> str:
    tiles = [
        ("questions", report["kept"], f"of {number(report['read'])} candidates"),
        ("artists", report["entities"], "asked about"),
        ("documents", report["documents"], f"{number(report['stating'])} of them state what can be asked"),
    ]
    if asked := report["asked"]:
        model, writing = visible(asked["model"], 60), asked["writing"]
        tiles.append(("pages shown to a model", writing["prompts"], f"{model}, {number(writing['failed'])} failed"))
    body = "".join(f"<div><dt>{name}</dt><dd>{number(n)}</dd><dd>{note}</dd></div>" for name, n, note in tiles)
    line = f"from {visible(report['input'], 200)} by {as_text(report['written_by'])}"
    gone = sum(report["dropped"].values())
    added = f"{number(report['read'])} read = {number(report['kept'])} kept + {number(gone)} dropped"
    return f'<p class="told">{line}</p><dl class="tiles">{body}</dl><p class="sum">{added}</p>'


def funnel(report: dict, dropped: dict[str, list[dict]]) -> str:
    """What each reason took, with a few of the candidates."""
    ranked = sorted(report["dropped"].items(), key=lambda item: (-item[1], item[0]))
    most = max((n for _, n in ranked), default=1)
    lines = []
    for why, n in ranked:
        line = bars([(named(why), n, share(n, report["read"]))], most, inner=True)
        some = "".join(f"<li>{asked(line)}</li>" for line in dropped.get(why, [])[:REJECTED])
        lines.append(f'<details class="reason"><summary>{line}</summary><ul>{some}</ul></details>' if some
                     else f'<div class="reason">{line}</div>')  # fmt: skip
    note = "Candidates by the first reason that held against them, in shares of all. A reason opens to show some."
    return section("What the filters took", note, "".join(lines), "funnel")


def plots(report: dict, questions: list[dict]) -> str:
    langs = {"en": "English", "zh": "Chinese"}
    parts = [
        ("Languages", {langs.get(name, name): n for name, n in report["langs"].items()}),
        ("Answer types", report["answer_types"]),
        ("Strata", {f"{s['stratum']}, {langs.get(s['lang'], s['lang'])}": s["questions"] for s in report["strata"]}),
        ("Routes and relations", report["routes"]),
        ("Decades of dates and years", dict(sorted(decades(questions).items()))),
    ]
    return "".join(
        section(name, "", bars([(named(key), n, share(n, report["kept"])) for key, n in counts.items()],
                               max(counts.values())))
        for name, counts in parts if counts
    )  # fmt: skip


def decades(questions: list[dict]) -> Counter:
    years = [q["answer"] for q in questions if q["answer_type"] in ("year", "date")]
    digits = (next((part for part in "".join(c if c.isdigit() else " " for c in y).split() if len(part) == 4), "")
              for y in years)  # fmt: skip
    return Counter(f"{year[:3]}0s" for year in digits if year)


def samples(questions: list[dict]) -> str:
    """Evenly out of the set, which is ordered by a hash."""
    step = max(1, len(questions) // SHOWN)
    some = sorted(questions, key=lambda q: q["id"].partition("-")[2])[::step][:SHOWN]
    body = "".join(f"<li>{asked(question)}</li>" for question in some)
    note = "Is the answer right, the only one, and still right in ten years?"
    return section(f"{len(some)} questions to read", note, f'<ol class="asked">{body}</ol>', "samples")


def asked(question: dict) -> str:
    """A question, its answer, and the sentence that says so."""
    aliases = ", ".join(question["aliases"][:6])
    facts = [question["answer_type"], question.get("stratum", ""), question["route"], question["evidence"]["document"]]
    more = f" <small>{visible(aliases, 160)}</small>" if aliases else ""
    return (
        f'<p class="q" dir="auto">{visible(question["question"], 300)}</p>'
        f'<p dir="auto"><b>{visible(question["answer"], 120)}</b>{more}</p>'
        f'<blockquote dir="auto">{visible(question["evidence"]["quote"], 400)}</blockquote>'
        f'<p class="facts">{" ".join(f"<span>{visible(str(fact), 80)}</span>" for fact in facts if fact)}</p>'
    )


def overlaps(report: dict, questions: list[dict]) -> str:
    """Questions that stand in training data."""
    if report["overlaps"] is None:
        return ""
    texts = {question["id"]: question["question"] for question in questions}
    rows = "".join(
        f"<li>{visible(texts[line['question']], 300)}<p class=facts><span>{line['kind']}</span>"
        f"<span>{visible(line['document'], 80)}</span><span>{visible(line['where'], 120)}</span></p></li>"
        for line in report["overlaps"][:SHOWN]
    )
    ids = {line["question"] for line in report["overlaps"]}
    places = ", ".join(report["options"]["against"])
    note = f"{number(len(ids))} of {number(len(questions))} questions stand in {visible(places, 200)}."
    return section("Overlaps with training data", note, f"<ul>{rows}</ul>" if rows else "", "overlaps")


def settings(report: dict) -> str:
    chosen = report["options"]
    rows = [*chosen.items(), ("catalogue files", ", ".join(report["catalogue"]) or "none")]
    rows = [(k, ", ".join(v) if isinstance(v, list | tuple) else v) for k, v in rows if k != "catalogue"]
    body = "".join(f"<div><dt>{named(str(k))}</dt><dd>{visible(str(v), 400)}</dd></div>" for k, v in rows)
    return section("Settings", "", f'<dl class="settings">{body}</dl>')
