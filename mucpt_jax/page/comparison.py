"""The page of a comparison: a forest plot of the runs, the tables, and every question with what each run answered.

One file that opens from disk; comparison.js filters the questions.  What a model answered is text there, never HTML.
"""

import html
import json
from pathlib import Path

from mucpt_jax.evaluation import paired, tables
from mucpt_jax.formats import pages
from mucpt_jax.formats.files import write_json, write_text
from mucpt_jax.step.objective import OBJECTIVES

QUESTIONS = 2_000  # of a set on the page; those on which runs or judges differ come first
CLIPPED = 600  # characters of an answer or a quote
FIELDS = ("lang", "answer_type", "stratum", "entity", "task")  # of a question, shown and searched


def write(folder: Path, result: dict, runs: dict, titled: list[tuple[str, list[list[str]]]]) -> None:
    """index.html, compare.json, compare.md."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", result)
    write_text(folder / "compare.md", tables.report(result, titled, tables.markdown, "### ") + "\n")
    write_text(folder / "index.html", page(result, runs, titled))


def page(result: dict, runs: dict, titled: list[tuple[str, list[list[str]]]]) -> str:
    here = Path(__file__)
    template, script = here.with_name("comparison.html.template"), here.with_name("comparison.js")
    return pages.page(
        template,
        script.read_text(encoding="utf-8"),
        INTRO=intro(result),
        FORESTS="".join(forest(result, name) for name in dict.fromkeys(q["set"] for q in result["questions"])),
        TABLES="".join(f"<section><h2>{html.escape(title)}</h2>{table(rows)}</section>" for title, rows in titled),
        NOTES="".join(f"<li>{html.escape(note)}</li>" for note in result["notes"]),
        PAYLOAD=payload(result, runs),
    )


def intro(result: dict) -> str:
    pairs = [pair for pair in result["pairs"] if pair["where"] == "all" and pair["difference"] is not None]
    names = short_names(result["runs"])
    sentences = [html.escape(sentence_of(pair, names)) for pair in pairs]
    warned = "".join(f'<p class="warning">{html.escape(warning)}</p>' for warning in result["warnings"])
    return "".join(f"<p>{sentence}</p>" for sentence in sentences[:6]) + warned


def short_names(runs: list[dict]) -> dict[str, str]:
    folders = [run["run"] for run in runs]
    return dict(zip(folders, tables.without_shared(folders), strict=True))


def sentence_of(pair: dict, names: dict[str, str]) -> str:
    """What a difference is worth, in words."""
    points, p = 100 * pair["difference"], pair["p_holm"]
    says = "a difference that chance rarely makes" if p < 0.05 else "no more than chance may make"
    seen = f"; smaller than {100 * pair['smallest']:.1f} points would mostly go unseen" if pair["smallest"] else ""
    return (
        f"{pair['label']}: {names[pair['run']]} against {names[pair['baseline']]} {points:+.1f} points "
        f"({100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}) on {pair['n']:,} questions, "
        f"{says} (Holm p {tables.p_cell(p)}){seen}."
    )


def forest(result: dict, name: str) -> str:
    """Accuracy of every run on a set, with its interval; the baseline's as a line through all."""
    rows = [q for q in result["questions"] if q["set"] == name and q["where"] == "all" and q["n"]]
    if not rows:
        return ""
    base = next((q for q in rows if q["run"] == result["baseline"]), None)
    pairs = {pair["run"]: pair for pair in result["pairs"] if pair["set"] == name and pair["where"] == "all"}
    objectives = {run["run"]: run["objective"] for run in result["runs"]}
    names, (low, high) = short_names(result["runs"]), axis(rows)
    marks = "".join(f"<span>{round(100 * (low + (high - low) * i / 4), 1):g}%</span>" for i in range(5))
    body = "".join(
        forest_row(q | {"run": names[q["run"]]}, pairs.get(q["run"]), base, (low, high), objectives.get(q["run"]))
        for q in rows
    )
    judge = {"alias": "alias accuracy", "choice": "the likeliest option"}.get(rows[0]["judge"], "judge accuracy")
    whose = f"{rows[0]['n']:,} questions, {judge}" + (f" by {rows[0]['judge']}" if judge == "judge accuracy" else "")
    return (
        f'<section class="forest"><h2>{html.escape(name)}</h2><p class="note">{html.escape(whose)}; the bar is its 95% '
        f"Wilson interval, the dashed line the baseline; then the difference, its 95%, McNemar's exact p "
        f'(Holm).</p><ul>{body}</ul><div class="axis" aria-hidden="true">{marks}</div></section>'
    )


def axis(rows: list[dict]) -> tuple[float, float]:
    """Shares from and to which the picture reaches: tens of per cents around all intervals."""
    low, high = min(q["low"] for q in rows), max(q["high"] for q in rows)
    return int(low * 10) / 10, min(1.0, -int(-high * 10 - 0.999) / 10)


def forest_row(q: dict, pair: dict | None, base: dict | None, ends: tuple[float, float], objective: str | None) -> str:
    def at(share: float) -> float:
        return 100 * (share - ends[0]) / max(ends[1] - ends[0], 1e-9)

    colour = OBJECTIVES[objective].colour if objective in OBJECTIVES else "var(--accent)"
    line = f'<s style="left:{at(base["accuracy"]):.2f}%"></s>' if base else ""
    difference = "baseline" if pair is None else "not compared"
    if pair and pair["difference"] is not None:
        difference = (
            f"{100 * pair['difference']:+.1f} <small>{100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}, "
            f"p {html.escape(tables.p_cell(pair['p_holm']))}</small>"
        )
    errors = f", {q['errors']:,} errors" if q["errors"] else ""
    return (
        f'<li style="--own:{colour}"><span class="name">{pages.bdi(q["run"])}'
        f"<small>{q['k']:,} of {q['n']:,}{errors}</small></span>"
        f'<span class="track" role="img" aria-label="{100 * q["accuracy"]:.1f}%, {100 * q["low"]:.1f} to '
        f'{100 * q["high"]:.1f}">{line}'
        f'<u style="left:{at(q["low"]):.2f}%;width:{at(q["high"]) - at(q["low"]):.2f}%"></u>'
        f'<i style="left:{at(q["accuracy"]):.2f}%"></i></span>'
        f'<span class="n">{100 * q["accuracy"]:.1f}%</span><span class="n">{difference}</span></li>'
    )


def table(rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in rows[0])
    body = "".join(
        f'<tr><th scope="row">{pages.bdi(first)}</th>{"".join(f"<td>{html.escape(cell)}</td>" for cell in others)}</tr>'
        for first, *others in rows[1:]
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


# Questions


def payload(result: dict, runs: dict) -> str:
    """JSON in which nothing can end the script element that holds it."""
    names = list(dict.fromkeys(q["set"] for q in result["questions"]))
    sets = [questions_of(name, runs) for name in names]
    data = {"runs": list(short_names(result["runs"]).values()), "sets": [one for one in sets if one["questions"]]}
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")


def questions_of(name: str, runs: dict) -> dict:
    """{"name", "total", "judges", "questions"}: what each run answered, and how each judge of it judged."""
    measured = [[one for one in run["measured"] if one.set == name] for run in runs.values()]
    judges = list(dict.fromkeys(one.judge for of in measured for one in of))
    asked = list(dict.fromkeys(key for of in measured for one in of for key in one.answers))
    rows = [row_of(key, measured, judges) for key in asked]
    rows.sort(key=lambda row: -row["differ"])  # stable: the order of the questions within
    return {"name": name, "total": len(rows), "judges": judges, "questions": rows[:QUESTIONS]}


def row_of(key: tuple, measured: list[list], judges: list[str]) -> dict:
    """A question: its fields; for each run its answer and a verdict of each judge; do runs (1) or judges (2) differ?"""
    records = [{one.judge: one.answers[key] for one in of if key in one.answers} for of in measured]
    first = next(record for of in records for record in of.values())
    answers = [
        {"text": clipped(answer_of(next(iter(of.values())))), "verdicts": [verdict(of.get(judge)) for judge in judges],
         "reply": clipped(next((r["reply"] for r in of.values() if r.get("reply")), ""))} if of else None
        for of in records
    ]  # fmt: skip
    seen = [{v for v in answer["verdicts"] if v} for answer in answers if answer]
    by_judge = [{answer["verdicts"][i] for answer in answers if answer} - {None} for i in range(len(judges))]
    differ = 2 * any(len(of) > 1 for of in seen) + any(len(of) > 1 for of in by_judge)
    evidence = first.get("evidence") or {}
    return {
        "id": key[0],
        "question": clipped(str(first.get("question") or "")),
        "right": " / ".join([str(first["answer"]), *(first.get("aliases") or [])]) if "answer" in first else "",
        "about": " · ".join(paired.as_text(first[field]) for field in FIELDS if first.get(field)),
        "evidence": clipped(str(evidence.get("quote") or "")),
        "document": str(evidence.get("document") or ""),
        "answers": answers,
        "differ": differ,
    }  # fmt: skip


def answer_of(record: dict) -> str:
    return str(record["prediction"] if "prediction" in record else record.get("choice", ""))


def verdict(record: dict | None) -> str | None:
    return record and (record.get("verdict") or ("CORRECT" if record["correct"] else "INCORRECT"))


def clipped(text: str) -> str:
    return text if len(text) <= CLIPPED else text[:CLIPPED] + " ..."
