"""RUN/report.html: questions answered, answers, the demo's table, loss curves, what was dropped.  One file, no scripts;
links to audit.html and to the curation reports."""

import html
from pathlib import Path

import numpy as np

from demo import pictures
from demo.results import cells
from mucpt_jax.formats import pages
from mucpt_jax.formats.decode import read_lines, read_log
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.step.objective import OBJECTIVES

GROUPS = 5  # of questions by who answers them, the largest ones
ROLES = {"base": "the start of all the others", "reference": "trained on the seed alone; scores the corpus"}


def write(run: Path, table: dict) -> None:
    names = [row["objective"] for row in table["rows"] if "weight_rest" in row]
    colours = "".join(f"--{name}: color-mix(in oklab, {OBJECTIVES[name].colour}, var(--lift)); " for name in names)
    page = pages.page(
        Path(__file__).with_name("report.html.template"),
        COLOURS=colours, INTRO=intro(run, table), BARS=bars(table["rows"]), ANSWERS=answers(run, names),
        TABLE=html_table(cells(table), {}), CURVES=curves(run, names), HISTOGRAM=histogram(run),
        CURATION=html_table(funnel_rows(table), {role: f"data/{role}/report.html" for role in reports(run, table)}),
        MACHINE=html.escape(", ".join(f"{k} {v}" for k, v in table["machine"].items())),
    )  # fmt: skip
    (run / "report.html").write_text(page, encoding="utf-8")


def intro(run: Path, table: dict) -> str:
    mode = html.escape(str(table["corpus"].get("mode", "")))
    spans, weighed = table["noise_spans"], table["rows"][-1]
    share = weighed["noise_tokens"] / (weighed["noise_tokens"] + weighed["rest_tokens"])
    pages_beside = {"compared/index.html": "every question and test", "audit.html": "every token by weight"}
    links = {page: about for page, about in pages_beside.items() if (run / page).is_file()}
    links |= {f"data/{role}/report.html": f"curation: {role}" for role in reports(run, table)}
    return (
        f"<p>Corpus: {mode}. {spans['found']:,} planted noise spans reached the rows, {share:.0%} of the domain tokens."
        f" Made on {table['date']} in {table['seconds'] / 60:.1f} minutes on {table['machine']['cores']} cores.</p>"
        f'<nav aria-label="Other pages">{"".join(link(*item) for item in links.items())}</nav>'
    )


def reports(run: Path, table: dict) -> list[str]:
    """Roles whose curation report lies beside this page."""
    return [role for role in table["counts"] if (run / "data" / role / "report.html").is_file()]


def link(to: str, text: str) -> str:
    return f'<a href="{html.escape(to)}">{html.escape(text)}</a>'


# Questions


def bars(rows: list[dict]) -> str:
    """Share of right answers and its interval, the reference model last: what could be known of the domain."""
    ranked = sorted(rows, key=lambda row: row["objective"] == "reference")
    axis = "".join(f"<span>{percent}%</span>" for percent in (0, 25, 50, 75, 100))
    return f'<ul class="bars">{"".join(map(bar, ranked))}</ul><div class="axis" aria-hidden="true">{axis}</div>'


def bar(row: dict) -> str:
    name, q = row["objective"], row["questions"]
    role = f"<small>{ROLES[name]}</small>" if name in ROLES else ""
    low, high = 100 * q["low"], 100 * q["high"]
    return (
        f'<li style="--own:var(--{name})"{" class=hollow" if role else ""}><span><b>{name}</b>{role}</span>'
        f'<span class="track" aria-hidden="true"><i style="width:{100 * q["accuracy"]:.2f}%"></i>'
        f'<u style="left:{low:.2f}%;width:{high - low:.2f}%"></u></span>'
        f'<span class="n">{q["k"]} of {q["n"]} <small>{low:.1f}% to {high:.1f}%</small></span></li>'
    )


def answers(run: Path, names: list[str]) -> str:
    """A table of questions, an objective a column, in groups of questions that the same objectives answer."""
    asked = list(zip(*(read_lines(run / name / "predictions.jsonl") for name in names), strict=True))
    groups = {}
    for answered in asked:
        groups.setdefault(tuple(answer["correct"] for answer in answered), []).append(answered)
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))[:GROUPS]
    body = "".join(group(names, right, answered, len(asked)) for right, answered in largest)
    heads = "".join(f'<th scope="col" style="--own:var(--{name})"><i class="dot"></i>{name}</th>' for name in names)
    head = f'<thead><tr><th scope="col">question</th>{heads}</tr></thead>'
    return f'<table class="answers">{head}{body}</table>'


def group(names: list[str], right: tuple[bool, ...], answered: list[list[dict]], asked: int) -> str:
    able = [name for name, is_right in zip(names, right, strict=True) if is_right]
    who = "all are right" if all(right) else f"{' and '.join(able)} right" if able else "none is right"
    title = f'<tr><th class="group" scope="rowgroup" colspan="{len(names) + 1}">{who}'
    first_of_language = {answer[0].get("lang", ""): answer for answer in reversed(answered)}
    rows = "".join(question_row(names, answer) for _, answer in sorted(first_of_language.items()))
    return f"<tbody>{title}<small>{len(answered)} of {asked} questions</small></th></tr>{rows}</tbody>"


def question_row(names: list[str], answered: list[dict]) -> str:
    asked = f"{pages.bdi(answered[0]['question'][:200])}<small>right: {pages.bdi(answered[0]['answer'][:200])}</small>"
    answers = "".join(
        f'<td data-label="{name}" class="{"right" if a["correct"] else "wrong"}">'
        f'<b role="img" aria-label="{"right" if a["correct"] else "wrong"}">{"✓" if a["correct"] else "✗"}</b>'
        f"{pages.bdi(a['prediction'].strip()[:200]) or '<em>no answer</em>'}</td>"
        for name, a in zip(names, answered, strict=True)
    )
    return f"<tr><td>{asked}</td>{answers}</tr>"


# Tables


def funnel_rows(table: dict) -> list[list[str]]:
    rows = [["role", "read", "kept", "dropped"]]
    for role, counts in table["counts"].items():
        dropped = ", ".join(f"{reason} {n:,}" for reason, n in counts["dropped"].items()) or "none"
        rows.append([role, f"{counts['read']:,}", f"{counts['kept']:,}", dropped])
    return rows


def html_table(rows: list[list[str]], links: dict[str, str]) -> str:
    """links: of cells, by their text."""
    shown = [[link(links[cell], cell) if cell in links else html.escape(cell) for cell in row] for row in rows]
    head = "".join(f'<th scope="col">{cell}</th>' for cell in shown[0])
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
        for first, *others in shown[1:]
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


# Pictures


def curves(run: Path, names: list[str]) -> str:
    """Plain training loss of domain and general text, an objective a line."""
    steps = {name: read_log(run / name / "metrics.jsonl") for name in names}
    drawn, colours = [], {name: OBJECTIVES[name].colour for name in names}
    for kind in ("domain", "general"):
        points = {name: [(line["step"], plain_loss(line, kind)) for line in lines] for name, lines in steps.items()}
        drawn.append(pictures.lines(points, colours, f"{kind} text, plain training loss"))
    key = "".join(f'<li style="--own:var(--{name})"><i class="dot"></i>{name}</li>' for name in names)
    return f'<ul class="key">{key}</ul><div class="pictures">{"".join(drawn)}</div>'


def plain_loss(line: dict, kind: str) -> float:
    chosen = [s for s in line["sources"].values() if s["is_domain"] == (kind == "domain")]
    chosen = [s for s in chosen if s["nll"] is not None]  # a step that was left out
    return sum(s["nll"] * s["tokens"] for s in chosen) / max(sum(s["tokens"] for s in chosen), 1)


def histogram(run: Path) -> str:
    scores = read_manifest(run / "data" / "domain" / "scored")["scores"]
    counts = np.array(scores["histogram"]["counts"])
    shares = (counts / counts.sum()).tolist()
    drawn = pictures.histogram(scores["histogram"]["edges"], shares, "Domain tokens by r")
    there = f" {link('audit.html', 'audit.html')} shades every token by its weight." * (run / "audit.html").is_file()
    return (
        f'<div class="pictures">{drawn}<p>A token that the reference model expects (left) is of the kind that the seed '
        "holds; what surprises it (right) is noise, or a fact that the seed lacked. mucpt weighs a token by "
        f"1 / max(r, floor), so the planted noise should be pale.{there}</p></div>"
    )
