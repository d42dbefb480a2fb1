"""The demo's curves and histogram: matplotlib's SVG in the page's own colours, light and dark."""

import html
import io
import re
from collections.abc import Callable

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

# What matplotlib draws with, and what the page shows in its place: a colour of the style that light and dark share.
INK, SOFT, LINE, ACCENT = "#010101", "#020202", "#030303", "#040404"
PAINT = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", ACCENT: "var(--accent)"}
LOOK = {
    "svg.fonttype": "none", "svg.hashsalt": "demo", "font.size": 10, "text.color": INK, "axes.labelcolor": SOFT,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT,
    "axes.edgecolor": LINE, "grid.color": LINE, "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "ytick.major.size": 0,
}  # fmt: skip
PLAIN = {"Date": None, "Creator": None, "Format": None, "Type": None}


def lines(points: dict[str, list[tuple[int, float]]], colours: dict[str, str], about: str) -> str:
    """A line of (step, nats a token) for each name."""

    def draw(axis) -> None:
        for name, line in points.items():
            axis.plot(*zip(*line, strict=True), color=colours[name], linewidth=1.8)
        axis.set(xlabel="step", ylabel="nats a token", ylim=(0, None))

    return figure(draw, about, {colours[name]: f"var(--{name})" for name in points})


def histogram(edges: list[float], shares: list[float], about: str) -> str:
    """A bar for what lies between two edges; the last has no upper one."""

    def draw(axis) -> None:
        axis.bar(range(len(shares)), shares, align="edge", width=0.92, color=ACCENT)
        axis.set_xticks(range(1, len(shares), 2), [f"{edge:g}" for edge in edges[1:-1:2]])
        axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, 0))
        axis.set(xlabel="r = -log p of the reference model, nats", ylabel="share of tokens")

    return figure(draw, about, {})


def figure(draw: Callable, about: str, paint: dict[str, str]) -> str:
    out = io.StringIO()
    with plt.rc_context(LOOK):
        fig, axis = plt.subplots(figsize=(5, 2.9), layout="constrained")
        draw(axis)
        fig.savefig(out, format="svg", transparent=True, metadata=PLAIN)
        plt.close(fig)
    paint, drawn = PAINT | paint, out.getvalue().partition("<svg")[2]
    picture = re.sub("#[0-9a-f]{6}", lambda colour: paint.get(colour[0], colour[0]), drawn)
    label = html.escape(about)
    return f'<figure><figcaption>{label}</figcaption><svg role="img" aria-label="{label}"{picture}</figure>'
