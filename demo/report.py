"""RUN/report.html: the demo's table, loss curves, what was dropped.  One file, no scripts; links to audit.html."""

import html
import io
import itertools
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np

from demo.results import cells
from mucpt_jax.formats.manifest import read_manifest

STYLE = """
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { white-space: nowrap; padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #ddd } th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto } svg { min-width: 640px; max-width: 100%; height: auto }
.note { color: #666; font-size: .9rem }
"""  # noqa: E501


def write(run: Path, table: dict) -> None:
    parts = [
        "<h1>From raw text to a domain model</h1>",
        f"<p>{intro(table)}</p>",
        "<h2>Objectives</h2>",
        html_table(cells(table)),
        "<p class=note>Held-out loss is plain -log p in nats a token (lower is better). Weighted objectives do not "
        "minimise it: they also sharpen towards the reference model, so read it beside the questions. Questions: "
        "greedy answers, normalised alias match, 95% Wilson interval. Weights: mean over noise tokens that were "
        "planted in the domain corpus, and over its other tokens; for rho1 by the start model's excess loss.</p>",
        "<h2>Training</h2>",
        curves(run, table),
        "<h2>What the reference model thinks of the corpus</h2>",
        histogram(run),
        "<h2>Documents by weight</h2>",
        '<p><a href="audit.html">audit.html</a>: documents with every token shaded by its weight, with floor, alpha, '
        "objective and smoothing to play with; the planted noise should be pale.</p>",
        "<h2>Curation</h2>",
        html_table(funnel_rows(table)),
        f"<p class=note>{html.escape(', '.join(f'{k} {v}' for k, v in table['machine'].items()))}</p>",
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mucpt_jax demo</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    (run / "report.html").write_text(page, encoding="utf-8")


def intro(table: dict) -> str:
    mode = html.escape(str(table["corpus"].get("mode", "")))
    spans, weighed = table["noise_spans"], table["rows"][-1]
    share = weighed["noise_tokens"] / (weighed["noise_tokens"] + weighed["rest_tokens"])
    return (
        f"Corpus: {mode}. {spans['found']} planted noise spans reached the rows, {share:.0%} of the domain tokens. "
        f"Made on {table['date']} in {table['seconds'] / 60:.1f} minutes on {table['machine']['cores']} cores."
    )


def funnel_rows(table: dict) -> list[list[str]]:
    rows = [["role", "read", "kept", "dropped"]]
    for role, counts in table["counts"].items():
        dropped = ", ".join(f"{reason} {n}" for reason, n in counts["dropped"].items()) or "none"
        rows.append([role, str(counts["read"]), str(counts["kept"]), dropped])
    return rows


def html_table(rows: list[list[str]]) -> str:
    head, *body = [[html.escape(cell) for cell in row] for row in rows]
    lines = ["<tr>" + "".join(f"<th>{c}</th>" for c in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in body]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def curves(run: Path, table: dict) -> str:
    """Plain training loss of domain and general text, an objective a line."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
    for name in (row["objective"] for row in table["rows"] if "weight_rest" in row):
        lines = [json.loads(line) for line in (run / name / "metrics.jsonl").read_text().splitlines()]
        for axis, kind in zip(axes, ("domain", "general"), strict=True):
            points = [(line["step"], plain_loss(line, kind)) for line in lines]
            axis.plot(*zip(*points, strict=True), label=name)
            axis.set(title=f"{kind} text, plain training loss", xlabel="step")
    axes[0].set_ylabel("nats a token")
    axes[0].legend()
    return svg(fig)


def plain_loss(line: dict, kind: str) -> float:
    chosen = [s for s in line["sources"].values() if s["is_domain"] == (kind == "domain")]
    chosen = [s for s in chosen if s["nll"] is not None]  # a step that was left out
    return sum(s["nll"] * s["tokens"] for s in chosen) / max(sum(s["tokens"] for s in chosen), 1)


def histogram(run: Path) -> str:
    scores = read_manifest(run / "data" / "domain" / "scored")["scores"]
    edges, counts = scores["histogram"]["edges"], np.array(scores["histogram"]["counts"])
    fig, axis = plt.subplots(figsize=(10, 2.8))
    labels = [f"{a:g}-{b:g}" for a, b in itertools.pairwise(edges)]
    labels[-1] = f">{edges[-2]:g}"
    axis.bar(labels, counts / counts.sum())
    axis.set(xlabel="r = -log p_RM, nats", ylabel="share of tokens")
    axis.tick_params(axis="x", rotation=45)
    return svg(fig)


def svg(fig) -> str:
    out = io.StringIO()
    fig.tight_layout()
    fig.savefig(out, format="svg")
    plt.close(fig)
    picture = "<svg" + out.getvalue().partition("<svg")[2]
    return f'<div class="wide">{picture}</div>'
