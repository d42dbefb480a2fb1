"""Figures of every run, paired differences, tables, plot, and which orders hold."""

import datetime
import json
import re
import shutil
from pathlib import Path
from statistics import fmean as mean

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from ablation import run, world
from benchmarks import facts
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.step.objective import OBJECTIVES

ROOT = Path(__file__).parents[1]
RESULT, PLOT, PAGE = (ROOT / "benchmarks/results/ablation.json", ROOT / "docs/ablation.svg", ROOT / "docs/ablation.md")
MARKS = "<!-- ablation: written by python -m ablation.run --publish -->", "<!-- /ablation -->"
RHO1 = "best rho1"  # of its grid: the one with the largest mean
ORDERS = (  # regime, figure, the better, the worse, must it hold?
    ("covered", "all", "mucpt", RHO1, True),
    ("covered", "all", RHO1, "ntp", True),
    ("covered", "all", "ntp", "mucpt_literal", True),
    ("covered", "all", "mucpt", "ntp_seed", False),
    ("covered", "all", "mucpt", "ntp_lr2", False),
    ("covered", "all", "mucpt", "oracle", False),
    ("covered", "all", "mucpt_mix3", "mucpt", False),
    ("partial", "all", "mucpt", "ntp", False),
    ("partial", "covered", "mucpt", "ntp", False),
    ("partial", "uncovered", "mucpt", "ntp", False),
    ("partial", "covered", "mucpt_mix3", "mucpt", False),
    ("partial", "uncovered", "mucpt_mix3", "mucpt", False),
    ("partial", "uncovered", "mucpt_mix3", "ntp", False),
    ("partial", "uncovered", "mucpt_median3", "ntp", False),
    ("partial", "uncovered", "mucpt_names_max2", "ntp", False),
    ("partial", "covered", "mucpt_names_max2", "mucpt", False),
    ("partial", "famous", "mucpt_names_max2", "mucpt", False),
    ("partial", "uncovered", "mucpt_agree", "ntp", False),
    ("partial", "covered", "mucpt_agree", "mucpt", False),
    ("partial", "uncovered", "mucpt_seed_agree", "ntp", False),
    ("partial", "covered", "mucpt_seed_agree", "mucpt", False),
    ("partial", "famous", "mucpt_seed_agree", "mucpt", False),
    ("partial", "all", "mucpt_seed_agree", "ntp_seed", False),
    ("partial", "all", "mucpt", "ntp_seed", False),
    ("weak", "all", "mucpt", "ntp_seed", False),
    ("weak", "all", "mucpt", "ntp", False),
    ("weak", "all", "mucpt_mix3", "ntp", False),
    ("weak", "all", "mucpt_names_mean3", "ntp", False),
    ("weak", "all", "mucpt_seed_agree", "ntp_seed", False),
)
SMOOTH, CONTROL = "C2", "C4"  # colours of rows that are no plain objective


def write(folder: Path, seeds: list[int], regimes: list[str], rows: list[str], publish: bool) -> dict:
    """RUN/results.json, table.md, ablation.svg; prints the tables; returns the results."""
    found = {
        "what": "Ablation of the objectives in small worlds",
        "machine": facts.machine(),
        "versions": facts.versions(),
        "date": datetime.date.today().isoformat(),
        "seconds": round(run.spent(folder / "seconds.json")),
        "settings": read_json(folder / "settings.json"),
        "runs": [
            {"seed": seed, "regime": regime, "row": row}
            | figures(run.workdir_of(folder / f"seed{seed}", row, regime), regime)
            for regime in regimes
            for row in (*run.MODELS, *rows)
            for seed in seeds
        ],
    }
    found["claims"] = claims(found["runs"])
    write_json(folder / "results.json", found)
    text = "\n".join(markdown(found))
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    plot(found["runs"], folder / "ablation.svg")
    print(text)
    if publish:
        publish_results(folder)
    return found


# One run


def figures(workdir: Path, regime: str) -> dict:
    """Shares of questions answered exactly; plain loss on general text, nats; ess of the domain's weights.

    Where the regime's reference model was told all facts, all count as covered.
    """
    lines = (workdir / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    for question in asked:
        question["covered"] |= world.REGIMES[regime].all_facts
    artists = [q for q in asked if not q["famous"]]
    found = split(artists) | {"famous": exact(q for q in asked if q["famous"])}
    found["general_loss"] = read_json(workdir / "evaluate.json")["heldout"]["general"]["nll"]
    found |= step_figures(workdir / "metrics.jsonl")
    lengths = sorted(set(world.LENGTHS.values()))
    found["by_length"] = {str(n): split([q for q in artists if q["length"] == n]) for n in lengths}
    weights = workdir / "weights.json"
    return found | ({"weights": read_json(weights)} if weights.is_file() else {})


def split(asked: list[dict]) -> dict:
    return {
        "all": exact(asked),
        "covered": exact(q for q in asked if q["covered"]),
        "uncovered": exact(q for q in asked if not q["covered"]),
    }


def exact(asked) -> float | None:
    """Share of predictions that are the answer, word for word; None of no questions."""
    right = [q["prediction"] == q["answer"] for q in asked]
    return sum(right) / len(right) if right else None


def step_figures(metrics: Path) -> dict:
    """Means over the logged steps: gradient norm, and the domain tokens' effective share (sum w)^2 / (n sum w^2)."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    shares = [share for line in lines if (share := domain_ess(line["sources"])) is not None]
    return {"ess": mean(shares) if shares else None, "grad_norm": mean(line["grad_norm"] for line in lines)}


def domain_ess(sources: dict[str, dict]) -> float | None:
    """Of all domain sources of a step together, from each one's tokens, mean weight and ess."""
    domain = [s for s in sources.values() if s["is_domain"]]
    tokens = sum(s["tokens"] for s in domain)
    total = sum(s["tokens"] * s["mean_weight"] for s in domain)
    squares = sum(s["tokens"] * s["mean_weight"] ** 2 / s["ess"] for s in domain if s["ess"])
    return total**2 / (tokens * squares) if squares else None


# Over seeds


def values(runs: list[dict], regime: str, row: str, figure: str) -> dict[int, float]:
    """Seed -> figure; {} where there is none."""
    found = [r for r in runs if (r["regime"], r["row"]) == (regime, row)]
    return {r["seed"]: r[figure] for r in found if r[figure] is not None}


def best_rho1(runs: list[dict], regime: str, figure: str) -> str | None:
    grid = [name for name in run.ROWS if name.startswith("rho1") and values(runs, regime, name, figure)]
    return max(grid, key=lambda name: mean(values(runs, regime, name, figure).values()), default=None)


def differences(runs: list[dict], regime: str, better: str, worse: str, figure: str) -> list[float]:
    """Paired: of the same seed, in order of seeds."""
    a, b = values(runs, regime, better, figure), values(runs, regime, worse, figure)
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def claims(runs: list[dict]) -> list[dict]:
    """The ORDERS that were run: the mean paired difference decides."""
    found = []
    for regime, figure, better, worse, must in ORDERS:
        names = [best_rho1(runs, regime, figure) if name == RHO1 else name for name in (better, worse)]
        gaps = differences(runs, regime, *names, figure)
        if gaps:
            says = " > ".join(f"best rho1 ({n})" if n.startswith("rho1") else n for n in names)
            found.append({"regime": regime, "figure": figure, "says": says, "must": must, "holds": mean(gaps) > 0,
                          "mean": mean(gaps), "per_seed": gaps})  # fmt: skip
    return found


# Text


def markdown(found: dict) -> list[str]:
    runs = found["runs"]
    lines = []
    for regime in dict.fromkeys(r["regime"] for r in runs):
        lines += [f"### Regime {regime}", "", f"Told to the reference model: {world.REGIMES[regime].told()}.", ""]
        lines += [*main_table(runs, regime), ""]
        lines += ["Exact match by words of the answer:", "", *length_table(runs, regime), ""]
        if not world.REGIMES[regime].all_facts:
            lines += ["Mean weight by kind of token:", "", *weight_table(runs, regime), ""]
    lines += ["### Orders", "", *map(sentence, found["claims"]), "", "### Rows", "", *legend(runs), ""]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    minutes = f"{found['seconds'] / 60:.0f} minutes"
    return [*lines, f"({found['machine']}; {versions}; {found['date']}; {minutes}; `benchmarks/results/ablation.json`)"]


def main_table(runs: list[dict], regime: str) -> list[str]:
    whole = world.REGIMES[regime].all_facts
    asked = ("all",) if whole else ("all", "covered", "uncovered")
    head = ["row"]
    for figure in asked:
        head += [figure, "- ntp"]
    table = [[*head, "famous", "general loss", "ess"]]
    for row in rows_of(runs, regime):
        cells = [row]
        for figure in asked:
            gaps = [] if row == "ntp" else differences(runs, regime, row, "ntp", figure)
            cells += [mean_cell(runs, regime, row, figure), paired_cell(gaps)]
        rest = [mean_cell(runs, regime, row, name) for name in ("famous", "general_loss", "ess")]
        table.append([*cells, *rest])
    return aligned(table)


def length_table(runs: list[dict], regime: str) -> list[str]:
    sides = ("all",) if world.REGIMES[regime].all_facts else ("covered", "uncovered")
    lengths = sorted(world.LENGTHS.values())
    table = [["row", *(f"{n} {side}" if len(sides) > 1 else str(n) for side in sides for n in lengths)]]
    for row in rows_of(runs, regime):
        mine = [r for r in runs if (r["regime"], r["row"]) == (regime, row)]
        cells = [mean(r["by_length"][str(n)][side] for r in mine) for side in sides for n in lengths]
        table.append([row, *(f"{cell:.2f}" for cell in cells)])
    return aligned(table)


def weight_table(runs: list[dict], regime: str) -> list[str]:
    mine = [r for r in runs if r["regime"] == regime and "weights" in r]
    kinds = [kind for kind in world.KINDS if any(kind in r["weights"] for r in mine)]
    table = [["row", *(world.KINDS[kind] for kind in kinds)]]
    for row in dict.fromkeys(r["row"] for r in mine):
        cells = [mean(r["weights"][kind] for r in mine if r["row"] == row) for kind in kinds]
        table.append([row, *(f"{cell:.2f}" for cell in cells)])
    return aligned(table)


def legend(runs: list[dict]) -> list[str]:
    about = run.MODELS | {name: row.about for name, row in run.ROWS.items()}
    return [f"- `{name}`: {about[name]}" for name in rows_of(runs, runs[0]["regime"])]


def rows_of(runs: list[dict], regime: str) -> list[str]:
    return list(dict.fromkeys(r["row"] for r in runs if r["regime"] == regime))


def mean_cell(runs: list[dict], regime: str, row: str, figure: str) -> str:
    found = values(runs, regime, row, figure)
    return f"{mean(found.values()):.3f}" if found else "-"


def paired_cell(gaps: list[float]) -> str:
    """[.1, .2] -> +0.150 (+.100 +.200)."""
    if not gaps:
        return "-"
    each = " ".join(f"{gap:+.3f}".replace("0.", ".", 1) for gap in gaps)
    return f"{mean(gaps):+.3f} ({each})"


def sentence(claim: dict) -> str:
    verdict = "holds" if claim["holds"] else "**does not hold**"
    asked = "" if claim["must"] else " (not required)"
    figure = f"{claim['regime']}, {claim['figure']}"
    return f"- {figure}: {claim['says']}{asked}: {verdict}, {paired_cell(claim['per_seed'])}"


def aligned(table: list[list[str]]) -> list[str]:
    widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
    padded = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
    padded.insert(1, " | ".join("-" * width for width in widths))
    return [f"| {line} |" for line in padded]


# Picture


def plot(runs: list[dict], file: Path) -> None:
    """A panel per regime, a line per row: exact match on covered facts (full) and uncovered ones (hollow)."""
    regimes = list(dict.fromkeys(r["regime"] for r in runs))
    rows = rows_of(runs, regimes[0])
    fig, axes = plt.subplots(1, len(regimes), figsize=(3.9 * len(regimes) + 1, 5.4), sharey=True, squeeze=False)
    for axis, regime in zip(axes[0], regimes, strict=True):
        for at, row in enumerate(rows):
            means = [draw(axis, at, row, runs, regime, side) for side in ("covered", "uncovered")]
            if None not in means:
                axis.plot(means, [at, at], color=color(row), lw=1, zorder=1)
        level = mean(values(runs, regime, "ntp", "all").values())
        axis.axvline(level, color=color("ntp"), lw=1, ls=":", zorder=0)
        axis.set_title(f"{regime}\nreference model told {world.REGIMES[regime].told()}", fontsize=9)
        axis.set(xlabel="questions answered exactly", xlim=(-0.03, 1.03))
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
    axes[0][0].set_yticks(range(len(rows)), rows)
    axes[0][0].invert_yaxis()
    fig.suptitle(
        "full: facts that the reference model was told, hollow: the others; small: one seed each; dotted: ntp",
        fontsize=9,
    )
    fig.tight_layout()
    plt.rcParams["svg.hashsalt"] = "ablation"  # the same figures, the same file
    fig.savefig(file, format="svg", metadata={"Date": None})
    plt.close(fig)


def draw(axis, at: int, row: str, runs: list[dict], regime: str, side: str) -> float | None:
    """The seeds' dots and their mean; returns the mean."""
    found = list(values(runs, regime, row, side).values())
    if not found:
        return None
    style = {"facecolor": color(row) if side == "covered" else "white", "edgecolor": color(row)}
    axis.scatter(found, [at] * len(found), s=14, lw=0.7, alpha=0.7, zorder=2, **style)
    axis.scatter([mean(found)], [at], s=70, lw=1.5, zorder=3, **style)
    return mean(found)


def color(row: str) -> str:
    if row.endswith(("3", "max2", "agree")):
        return SMOOTH
    if row in ("ntp_seed", "ratio_clip", "oracle"):
        return CONTROL
    return OBJECTIVES["ntp" if row in run.MODELS else row.partition("_")[0]].colour


# Into the checkout


def publish_results(folder: Path) -> None:
    """Figures, plot, and the table between the marks of docs/ablation.md."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    pattern = re.compile(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", re.DOTALL)
    if not pattern.search(page):
        raise UserError(f"{PAGE} has no lines {MARKS[0]} and {MARKS[1]} for the table; write them where it shall stand")
    shutil.copy(folder / "results.json", RESULT)
    shutil.copy(folder / "ablation.svg", PLOT)
    table = (folder / "table.md").read_text(encoding="utf-8")
    text = f"{MARKS[0]}\n\n![The ablation](ablation.svg)\n\n{table}\n{MARKS[1]}"
    PAGE.write_text(pattern.sub(lambda _: text, page), encoding="utf-8")
