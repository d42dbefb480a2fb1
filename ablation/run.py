"""Which objective learns what, in small worlds where the truth is known: three regimes, a row per objective.

    python -m ablation.run [--run=runs/ablation] [--seeds=3] [--regimes=partial] [--rows=mucpt,rho1_40]

A seed is a world with a base model of its own.  Regimes differ in what the reference model was told:

    covered   all facts
    partial   those of 30% of the artists
    weak      all, but so seldom that it learns how such sentences go and not the facts

Everything goes the real way in one process on one CPU device: documents, rows, reference model, score job, loader,
jitted step, greedy answers.  What is evaluated is not done again, so a second start goes on where the first was
stopped.  Writes RUN/results.json, RUN/table.md and RUN/ablation.svg; --publish copies them into benchmarks/results
and docs.  Ends with status 1 where an order that must hold does not.
"""

import argparse
import functools
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from ablation import world
from mucpt_jax import config
from mucpt_jax.errors import UserError, exiting
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json


class Row(NamedTuple):
    about: str
    changes: dict  # against the config's defaults
    lr: float = 1.0  # times the peak learning rate
    domain: str = "{regime}/scored"  # folder of the domain rows, in the seed's
    role: str = "domain"  # whose documents they hold


NTP = {"loss.kind": "ntp"}
ROWS = {  # without {regime} in the folder: one run for all regimes
    "ntp": Row("plain loss", NTP, domain="rows/domain"),
    "ntp_lr2": Row("plain loss, twice the learning rate", NTP, 2.0, "rows/domain"),
    "ntp_seed": Row("plain loss, 17% of the domain's tokens are seed documents", NTP, domain="rows/mixed_{regime}"),
    "rho1_40": Row("rho1, keep=.4", {"loss.kind": "rho1", "loss.keep": 0.4}),
    "rho1_60": Row("rho1, keep=.6", {"loss.kind": "rho1", "loss.keep": 0.6}),
    "rho1_80": Row("rho1, keep=.8", {"loss.kind": "rho1", "loss.keep": 0.8}),
    "mucpt": Row("mucpt, rm_floor=1", {"loss.rm_floor": 1.0}),
    "mucpt_floor.1": Row("mucpt, rm_floor=.1", {"loss.rm_floor": 0.1}),
    "mucpt_literal": Row(
        "mucpt, rm_floor=1e-3, weight_norm=none", {"loss.rm_floor": 1e-3, "loss.weight_norm": "none"}
    ),
    "mucpt_mean3": Row(
        "mucpt, r is the mean of 3 tokens, rm_floor=.5", {"loss.rm_floor": 0.5}, domain="{regime}/smooth_mean"
    ),
    "mucpt_median3": Row(
        "mucpt, r is the median of 3 tokens, rm_floor=.5", {"loss.rm_floor": 0.5}, domain="{regime}/smooth_median"
    ),
    "mucpt_mix3": Row(  # .01: below 1 / the largest weight, see scores.py
        "mucpt, .6 of the mean's weight with floor .3 and .4 of the median's with floor .5", {"loss.rm_floor": 0.01},
        domain="{regime}/smooth_mix",
    ),
    "mucpt_names_mean3": Row(
        "mucpt, r is the mean of 3 words or names, rm_floor=1", {"loss.rm_floor": 1.0},
        domain="{regime}/smooth_names_mean",
    ),
    "mucpt_names_median3": Row(
        "mucpt, r is the median of 3 words or names, rm_floor=1", {"loss.rm_floor": 1.0},
        domain="{regime}/smooth_names_median",
    ),
    "mucpt_names_max2": Row(
        "mucpt_names_mean3 with max_weight=2", {"loss.rm_floor": 1.0, "loss.max_weight": 2.0},
        domain="{regime}/smooth_names_mean",
    ),
    "mucpt_seed": Row(
        "mucpt, rm_floor=1, 17% of the domain's tokens are seed documents", {"loss.rm_floor": 1.0},
        domain="{regime}/scored_mixed", role="mixed_{regime}",
    ),
    "mucpt_agree": Row(
        "mucpt, rm_floor=1, r of names in agreed claims at most 1.5", {"loss.rm_floor": 1.0}, domain="{regime}/agreed",
    ),
    "mucpt_seed_agree": Row(
        "mucpt_seed with mucpt_agree's scores", {"loss.rm_floor": 1.0},
        domain="{regime}/agreed_mixed", role="mixed_{regime}",
    ),
    "ratio_clip": Row(  # 0.2: 1 / the upper cap, see scores.py
        "weight CE_base / CE_RM between .1 and 5", {"loss.rm_floor": 0.2}, domain="{regime}/scored_ratio"
    ),
    "oracle": Row(
        "weight 1 on all text but noise and wrong answers, which have 0", {"loss.rm_floor": 1.0},
        domain="scored_oracle",
    ),
}  # fmt: skip
MODELS = {"base": "the model that all start from", "rm": "the reference model itself"}  # in every table


def main() -> None:
    args = arguments().parse_args()
    with exiting():
        if args.publish and (args.rows or args.regimes):
            raise UserError("--publish takes the whole table: leave out --rows and --regimes")
        regimes = chosen(args.regimes, world.REGIMES, "--regimes")
        rows = chosen(f"ntp,{args.rows}" if args.rows else "", ROWS, "--rows")
        found = run(Path(args.run), range(args.seeds), regimes, rows, args.publish)
    if not all(claim["holds"] for claim in found["claims"] if claim["must"]):
        sys.exit("error: an order that must hold does not; see above")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/ablation", help="everything is written below this folder")
    parser.add_argument("--seeds", type=int, default=3, help="how many worlds (3)")
    parser.add_argument("--regimes", default="", help=f"some of {','.join(world.REGIMES)}; default: all")
    parser.add_argument("--rows", default="", help=f"some of {','.join(ROWS)}; ntp always; default: all")
    parser.add_argument("--publish", action="store_true", help="copy all figures, table and plot into the checkout")
    return parser


def chosen(given: str, known: dict, flag: str) -> list[str]:
    """The named ones in the order in which they are known; all of them where none is named."""
    asked = [name for name in given.split(",") if name] or list(known)
    for name in asked:
        if name not in known:
            raise UserError(f"{flag}: {name!r} is unknown; {config.nearest(name, known)}")
    return [name for name in known if name in asked]


def run(folder: Path, seeds, regimes: list[str], rows: list[str], publish=False, size=None, budget=None) -> dict:
    """All that is not done yet, then tables and plot; returns what results.json holds."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax  # here: --help needs none

    from ablation import jobs, table

    size, budget = size or world.Size(), budget or jobs.Budget()
    told = {name: list(regime) for name, regime in world.REGIMES.items()}
    claim(folder, {"size": size._asdict(), "budget": budget._asdict(), "regimes": told}, rows)
    mesh = jobs.start(folder)
    todo = []
    for seed in seeds:
        place = jobs.Place(folder / f"seed{seed}", folder / "tokenizer", seed, size, budget, mesh)
        todo += jobs_of(place, regimes, rows)
    with jax.set_mesh(mesh):
        do(todo, folder / "seconds.json")
    return table.write(folder, list(seeds), regimes, rows, publish)


def claim(folder: Path, settings: dict, rows: list[str]) -> None:
    """Figures of two settings never meet in one folder, nor two rows of one name."""
    folder.mkdir(parents=True, exist_ok=True)
    note, mine = folder / "settings.json", {name: list(ROWS[name])[1:] for name in rows}
    found = read_json(note) if note.is_file() else settings
    known = found.pop("rows", {})
    if found != settings or any(known.get(name, row) != row for name, row in mine.items()):
        raise UserError(f"{folder} was made with other settings ({note}); name another --run or delete it")
    write_json(note, settings | {"rows": known | mine})


def jobs_of(place, regimes: list[str], rows: list[str]) -> list[tuple[Path, functools.partial]]:
    """(workdir, what to do) in an order in which each finds what it needs."""
    from ablation import jobs

    def training(name: str, regime: str | None) -> tuple:
        row, own = ROWS[name], workdir_of(place.folder, name, regime)
        domain, role = str(place.folder / row.domain.format(regime=regime)), row.role.format(regime=regime)
        lr = row.lr * place.budget.peak_lr
        changes = row.changes | {"optimizer.peak_lr": lr, "optimizer.final_lr": lr / 10}
        return own, functools.partial(jobs.continued, place, domain, role, changes, own)

    base = place.folder / "base"
    found = [(base, functools.partial(jobs.base, place, base))]
    found += [training(name, None) for name in rows if free(name)]
    for regime in regimes:
        rm = workdir_of(place.folder, "rm", regime)
        found.append((rm, functools.partial(jobs.reference, place, regime, rm)))
        found += [training(name, regime) for name in rows if not free(name)]
    return found


def free(name: str) -> bool:
    """Does the row need no reference model?"""
    return name == "base" or (name in ROWS and "{regime}" not in ROWS[name].domain)


def workdir_of(seed_folder: Path, name: str, regime: str | None) -> Path:
    return seed_folder / name if free(name) else seed_folder / regime / name


def do(todo: list[tuple[Path, functools.partial]], note: Path) -> None:
    """Runs what has no evaluate.json; adds the seconds of each run to those in the note."""
    left = [(workdir, job) for workdir, job in todo if not (workdir / "evaluate.json").is_file()]
    done, before, started = len(todo) - len(left), spent(note), time.monotonic()
    for number, (workdir, job) in enumerate(left, 1):
        job()
        seconds = time.monotonic() - started
        write_json(note, {"seconds": before + seconds})
        minutes = seconds / number * (len(left) - number) / 60
        print(f"run {done + number}/{len(todo)}  {workdir}  about {minutes:.1f} minutes left", flush=True)


def spent(note: Path) -> float:
    """Seconds of all starts together."""
    return read_json(note)["seconds"] if note.is_file() else 0.0


if __name__ == "__main__":
    main()
