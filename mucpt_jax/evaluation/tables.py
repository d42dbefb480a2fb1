"""A comparison of runs (compare.py) as tables and as a picture.  No jax here."""

import itertools
import warnings

from rich.cells import cell_len

from mucpt_jax.errors import UserError
from mucpt_jax.step.objective import OBJECTIVES

NOT_MEASURED = "not measured"
PARTS = ("Questions by part", "Against the baseline, by part")  # tables that a terminal shows only where asked to
PATHS = {"init_from", "data.domain", "data.general", "loss.reference"}


def of(result: dict) -> list[tuple[str, list[list[str]]]]:
    """(title, head and rows of cells)."""
    whole, parts = ([q for q in result["questions"] if (q["where"] == "all") == is_all] for is_all in (True, False))
    tables = [
        ("Runs", run_rows(result)),
        ("Held-out loss, nats a token", heldout_rows(result["runs"])),
        ("Questions", question_rows(whole)),
    ]
    if len(result["runs"]) > 1:
        pairs = [pair for pair in result["pairs"] if pair["where"] == "all"]
        tables.append(("Against the baseline, on the same questions", pair_rows(pairs)))
    if parts:
        tables.append((PARTS[0], question_rows(parts)))
        tables.append((PARTS[1], pair_rows([pair for pair in result["pairs"] if pair["where"] != "all"])))
    if result["judges"]:
        tables.append(("Where two judges judged the same answers", judge_rows(result["judges"])))
    if result["seeds"]:
        tables.append(("Questions over seeds", seed_rows(result["seeds"], result["baseline"])))
        tables.append(("Held-out loss over seeds", heldout_seed_rows(result["seeds"])))
    return tables


def run_rows(result: dict) -> list[list[str]]:
    keys = [key for key in result["differ"] if key not in ("loss.kind", "optimizer.steps")]
    columns = {key: setting_cells(result["runs"], key) for key in keys}
    rows = [["run", "objective", *map(short, keys), "steps", "tokens", "weight", "ESS", "general loss"]]
    for i, run in enumerate(result["runs"]):
        steps = f"{run['step']:,}/{run['steps']:,}" if run["step"] and run["steps"] else NOT_MEASURED
        last = [cell(run[name], ".3f") for name in ("mean_weight", "ess", "general_nll")]
        settings = [columns[key][i] for key in keys]
        rows.append([run["run"], run["objective"] or "not trained", *settings, steps, cell(run["tokens"], ",d"), *last])
    return rows


def setting_cells(runs: list[dict], key: str) -> list[str]:
    """A setting of every run; - where its objective does not read it; folders without the levels that they share."""
    values = [run["settings"].get(key) for run in runs]
    if key in PATHS:
        folders = [value for value in values if value]
        ends = dict(zip(folders, without_shared(folders), strict=True))
        values = [ends.get(value) for value in values]
    return [
        NOT_MEASURED if not run["settings"] else "-" if key not in run["settings"] else str(value)
        for run, value in zip(runs, values, strict=True)
    ]


def without_shared(folders: list[str]) -> list[str]:
    """runs/data/wiki/rows, runs/data/web/rows -> wiki/rows, web/rows: at least two levels stay."""
    parts = [folder.split("/") for folder in folders]
    shared = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))
    start = min([len(list(shared)), *(max(len(p) - 2, 0) for p in parts)])
    return ["/".join(p[start:]) for p in parts]


def heldout_rows(runs: list[dict]) -> list[list[str]]:
    sources = list(dict.fromkeys(source for run in runs for source in run["heldout"])) or ["all"]
    rows = [[run["run"], *(cell(run["heldout"].get(source), ".4f") for source in sources)] for run in runs]
    return [["run", *sources], *rows]


def question_rows(questions: list[dict]) -> list[list[str]]:
    rows = [["run", "questions", "judge", "right", "accuracy", "95%", "not attempted", "errors", "F"]]
    for q in questions:
        right = f"{q['k']:,}/{q['n']:,}" if q["n"] else NOT_MEASURED
        counts = [f"{q[name]:,}" if q["n"] else NOT_MEASURED for name in ("not_attempted", "errors")]
        measures = [right, cell(q["accuracy"], ".4f"), interval(q, ".3f"), *counts, cell(q["f"], ".4f")]
        rows.append([q["run"], q["label"], q["judge"], *measures])
    plain = not any(q["not_attempted"] or q["errors"] for q in questions)
    return [row[:6] for row in rows] if plain else rows


def pair_rows(pairs: list[dict]) -> list[list[str]]:
    rows = [
        ["run", "baseline", "questions", "n", "difference", "95%", "boot", "won", "lost", "p", "Holm p", "smallest"]
    ]
    for q in pairs:
        known = q["difference"] is not None
        counts = [f"{q[name]:,}" if known else NOT_MEASURED for name in ("n", "only_run", "only_baseline")]
        by = "cluster" if q["clusters"] else "boot"
        boot = interval({"low": q[f"{by}_low"], "high": q[f"{by}_high"]}, "+.3f")
        difference = [cell(q["difference"], "+.4f"), interval(q, "+.3f"), boot]
        tests = [p_cell(q[name]) for name in ("p", "p_holm")]
        smallest = "none seen" if known and q["smallest"] is None else cell(q["smallest"], ".3f")
        names = [q["run"], q["baseline"] or NOT_MEASURED, q["label"]]
        rows.append([*names, counts[0], *difference, *counts[1:], *tests, smallest])
    return rows


def judge_rows(judges: list[dict]) -> list[list[str]]:
    rows = [["run", "questions", "judges", "n", "agree", "kappa", "differ"]]
    for q in judges:
        counts = [f"{q['n']:,}", cell(q["agree"], ".4f"), cell(q["kappa"], ".3f"), f"{len(q['differ']):,}"]
        rows.append([q["run"], q["set"], " and ".join(q["judges"]), *counts])
    return rows


def seed_rows(seeds: list[dict], baseline: str) -> list[list[str]]:
    rows = [["runs", "seeds", "questions", "accuracy", "difference"]]
    for group in seeds:
        numbers = " ".join(map(str, group["seeds"]))
        difference = spread_cell(group["difference"], "+.3f") if baseline not in group["runs"] else "baseline"
        accuracy = spread_cell(group["accuracy"], ".3f")
        rows.append([group["group"], numbers, group["where"], accuracy, difference])
    return rows


def heldout_seed_rows(seeds: list[dict]) -> list[list[str]]:
    groups = list({group["group"]: group for group in reversed(seeds)}.values())[::-1]  # the same losses in every part
    sources = list(dict.fromkeys(source for group in groups for source in group["heldout"])) or ["all"]
    rows = [
        [group["group"], *(spread_cell(group["heldout"].get(s), ".4f", each=False) for s in sources)]
        for group in groups
    ]
    return [["runs", *sources], *rows]


def spread_cell(spread: dict | None, form: str, each: bool = True) -> str:
    """+0.123 ± 0.021 (+0.150 +0.100 +0.120)"""
    if spread is None or spread["mean"] is None:
        return NOT_MEASURED
    sd = f" ± {spread['sd']:{form.lstrip('+')}}" if spread["sd"] is not None else ""
    values = f" ({' '.join(cell(value, form) for value in spread['values'])})" if each else ""
    return f"{spread['mean']:{form}}{sd}{values}"


def cell(value, form: str) -> str:
    return NOT_MEASURED if value is None else format(value, form)


def p_cell(p: float | None) -> str:
    return "<0.0001" if p is not None and p < 1e-4 else cell(p, ".4f")


def interval(bounds: dict, form: str) -> str:
    return NOT_MEASURED if bounds["low"] is None else f"{bounds['low']:{form}} .. {bounds['high']:{form}}"


def short(key: str) -> str:
    """loss.rm_floor -> rm_floor; model.name and the data folders keep their section."""
    return key if key.startswith(("model.", "data.")) else key.rpartition(".")[2]


def report(result: dict, titled: list[tuple[str, list[list[str]]]], draw, mark: str = "") -> str:
    """All tables, then warnings and notes, as text for a terminal or Markdown; `draw` is text() or markdown()."""
    parts = [f"{mark}{title}\n\n{draw(rows)}\n" for title, rows in titled]
    warned = [f"- warning: {warning}" for warning in result["warnings"]]
    return "\n".join(parts + warned + [f"- {note}" for note in result["notes"]])


def text(rows: list[list[str]]) -> str:
    """Aligned columns; Chinese characters are two wide."""
    rows = [list(map(one_line, row)) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(c + " " * (w - cell_len(c)) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown(rows: list[list[str]]) -> str:
    head, *body = [[one_line(c).replace("|", "\\|") for c in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *body])


def one_line(cell: str) -> str:
    """Characters that could end a row or steer a terminal are spelled: \\n, \\x1b."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cell)


def plot(result: dict, file: str) -> None:
    """SVG: the accuracy of every run with its interval, and the baseline's as a line."""
    first = next((q["set"] for q in result["questions"] if q["n"]), None)
    shown = [q for q in result["questions"] if q["where"] == "all" and q["n"] and q["set"] == first][::-1]
    if not shown:
        raise UserError("no run has answered questions, so there is nothing to plot; run --job=evaluate with them")
    import matplotlib  # half a second that the tables do not need

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    known = [run for run in result["runs"] if run["objective"] in OBJECTIVES]
    colours = {run["run"]: OBJECTIVES[run["objective"]].colour for run in known}
    # Text stays text, so the viewer's fonts draw it and matplotlib need not know its glyphs; the same file each time.
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "compare"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        fig, axis = plt.subplots(figsize=(8, 1.2 + 0.4 * len(shown)), layout="constrained")
        for y, q in enumerate(shown):
            colour = colours.get(q["run"], "0.4")
            axis.plot([q["low"], q["high"]], [y, y], color=colour, linewidth=2)
            axis.plot(q["accuracy"], y, "o", color=colour)
            axis.annotate(f"{q['k']:,}/{q['n']:,}", (q["accuracy"], y), (0, 6), textcoords="offset points", ha="center")
            if q["run"] == result["baseline"]:
                axis.axvline(q["accuracy"], color="0.6", linestyle="--", linewidth=1, zorder=0)
        axis.set_yticks(range(len(shown)), [q["run"] for q in shown], parse_math=False)
        axis.set(xlabel="accuracy, 95% (Wilson); dashed: the baseline", ylim=(-0.6, len(shown) - 0.4))
        axis.spines[["top", "right"]].set_visible(False)
        fig.savefig(file, format="svg", metadata={"Date": None})
        plt.close(fig)
