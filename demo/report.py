"""RUN/report.html: the demo's table, loss curves, and documents shaded by weight.  One file, no scripts."""

import html
import io
import itertools
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from transformers import AutoTokenizer

from demo.results import cells
from mucpt_jax import records

STYLE = """
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { white-space: nowrap; padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd } th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto } svg { max-width: 100%; height: auto }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #fafafa; padding: 1rem; border-radius: 6px; font: inherit; line-height: 1.7 }
.note { color: #666; font-size: .9rem }
"""  # noqa: E501
SHOWN = 4  # documents with their weights


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
        curves(run),
        "<h2>What the reference model thinks of the corpus</h2>",
        histogram(run),
        "<h2>Documents by weight</h2>",
        "<p class=note>mucpt weight of every token: <b>dark</b> counts much, "
        '<span style="color:#bbb">pale</span> counts little, as the planted noise should.</p>',
        *shaded_rows(run),
        "<h2>Curation</h2>",
        html_table(funnel_rows(table)),
        f"<p class=note>{html.escape(json.dumps(table['machine']))}</p>",
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mucpt_jax demo</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    (run / "report.html").write_text(page, encoding="utf-8")


def intro(table: dict) -> str:
    mode = html.escape(str(table["corpus"].get("mode", "")))
    return (
        f"Corpus: {mode}. Made on {table['date']} with {table['machine']['cores']} cores in "
        f"{table['seconds'] / 60:.1f} minutes. {table['noise']['spans']} planted noise spans reached the rows."
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


def curves(run: Path) -> str:
    """Plain training loss of domain and general text, an objective a line."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
    for name in ("ntp", "rho1", "mucpt"):
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
    return sum(s["nll"] * s["tokens"] for s in chosen) / max(sum(s["tokens"] for s in chosen), 1)


def histogram(run: Path) -> str:
    scores = records.read_manifest(run / "data" / "domain" / "scored")["scores"]
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
    return out.getvalue().partition("<svg")[1] + out.getvalue().partition("<svg")[2]


def shaded_rows(run: Path) -> list[str]:
    """The first rows of each scored shard, a token's darkness by 1 / max(r, 1 nat)."""
    folder = run / "data" / "domain" / "scored"
    manifest = records.read_manifest(folder)
    corpus = json.loads((run / "raw" / "corpus.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(corpus["tokenizer"], trust_remote_code=False)
    shown = []
    for shard in manifest["shards"][:SHOWN]:
        row = next(records.read_shard(folder / shard["name"], manifest["sequence_length"]))
        first = row["segment_ids"] == 1
        shown.append(f"<pre>{shade(row['tokens'][first], row['rm_nll'][first], tokenizer)}</pre>")
    return shown


def shade(tokens: np.ndarray, scores: np.ndarray, tokenizer) -> str:
    """Tokens grouped so that a Chinese character split over several byte tokens stays whole."""
    parts, held = [], []
    for token, r in zip(tokens.tolist(), scores.astype(float), strict=True):
        held.append((token, 1.0 if np.isnan(r) else 1 / max(r, 1.0)))
        text = tokenizer.decode([t for t, _ in held])
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            weight = sum(w for _, w in held) / len(held)
            title = f"w={weight:.2f}"
            parts.append(
                f'<span style="color:rgba(0,0,0,{0.18 + 0.82 * weight:.2f})" title="{title}">{html.escape(text)}</span>'
            )
            held = []
    return "".join(parts)
