"""Runs side by side: settings, held-out loss, questions with intervals, paired tests against a baseline.

    python -m mucpt_jax.compare runs/ntp runs/rho1 runs/mucpt [--baseline=runs/ntp] [--page=runs/compared]
        [--split=covered] [--judge=alias] [--paper] [--markdown] [--output=table.json] [--plot=questions.svg]

A run is a folder: the workdir of a train or evaluate job, or answers of an endpoint with what mucpt_jax.judge made of
them; verdicts and harness results are looked for in it and in the folders directly below.  What it lacks is "not
measured".  Runs are paired on the same questions alone: where their questions differ, nothing is compared.  Runs that
differ in the seed alone (and in --by_seed, what goes with a seed) are averaged too, and each is paired with the
baseline of its seed.
"""

import argparse
import os
import statistics
from pathlib import Path

from mucpt_jax import config
from mucpt_jax.errors import UserError, exiting
from mucpt_jax.evaluation import comparable, paired, paper, run_files, tables
from mucpt_jax.formats.files import write_json
from mucpt_jax.page import comparison
from mucpt_jax.step.objective import OBJECTIVES

SPLIT = ("stratum", "lang", "answer_type")  # fields of data_prep.questions, where the questions have them


def main(argv: list[str] | None = None) -> None:
    flags = parser().parse_args(argv)
    with exiting():
        by_seed = list(filter(None, flags.by_seed.split(",")))
        runs, baseline = read(flags.run, flags.baseline, by_seed)
        result = compared(runs, baseline, flags.split, by_seed, flags.judge)
        titled = tables.of(result) + (paper.tables(result, flags.row) if flags.paper else [])
        if flags.plot:
            tables.plot(result, flags.plot)
        if flags.output:
            write_json(Path(flags.output), result)
        if flags.page:
            comparison.write(Path(flags.page), result, runs, titled)
    draw = tables.markdown if flags.markdown else tables.text
    shown = [one for one in titled if flags.split or one[0] not in tables.PARTS]
    print(tables.report(result, shown, draw, "### " * flags.markdown))


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("run", nargs="+", help="folder of a run")
    flags.add_argument("--baseline", help="one of the runs; default: the first")
    flags.add_argument(
        "--split", metavar="FIELD", action="append",
        help=f"of the questions: the same for each of its values; may be repeated; of the page: {', '.join(SPLIT)}",
    )  # fmt: skip
    flags.add_argument("--judge", help="whose verdicts count, where there are several; default: a model's before alias")
    flags.add_argument(
        "--by_seed", default="init_from", metavar="KEY,...", help="settings that go with a seed; %(default)s"
    )
    flags.add_argument("--page", metavar="FOLDER", help="writes index.html, compare.json and compare.md there")
    flags.add_argument("--output", metavar="FILE", help="JSON of all of it; null is not measured")
    flags.add_argument("--markdown", action="store_true")
    flags.add_argument("--plot", metavar="FILE", help="SVG of the accuracies")
    flags.add_argument("--paper", action="store_true", help="also the paper's tables, with its figures beside these")
    flags.add_argument(
        "--row", metavar="NAME=RUN", action="append", default=[],
        help="which run stands for a row of the paper's tables, such as 1.5b/mucpt=runs/qwen1_5b-mucpt",
    )  # fmt: skip
    return flags


def compare(folders: list[str], baseline: str | None, split: str | None, by_seed: list[str]) -> dict:
    """As compared(), of folders; `split` a field or None."""
    runs, baseline = read(folders, baseline, by_seed)
    return compared(runs, baseline, [split] if split else None, by_seed, None)


def read(folders: list[str], baseline: str | None, by_seed: list[str]) -> tuple[dict[str, dict], str]:
    """({folder: what it holds}, the baseline)."""
    folders = [os.path.normpath(folder) for folder in folders]
    baseline = os.path.normpath(baseline) if baseline else folders[0]
    check_names(folders, baseline, by_seed)
    return {folder: run_files.read(folder) for folder in folders}, baseline


def compared(runs: dict, baseline: str, split: list[str] | None, by_seed: list[str], judge: str | None) -> dict:
    """{"baseline", "differ", "runs", "questions", "pairs", "judges", "seeds", "warnings", "notes"}.

    None in it: not measured.  questions, pairs: a row for each set of questions, part of it, and run.
    """
    groups = run_files.seed_groups(runs, by_seed)
    sets = comparable.sets(runs, judge)
    parts = comparable.parts(sets, split, SPLIT)
    several_sets = len(sets) > 1
    questions, pairs = [], []
    for one, stratum in parts:
        where = {"set": one.name, "judge": one.judge, "where": paired.where(stratum)}
        where |= {"label": comparable.label(one.name, stratum, several_sets)}
        answers = {name: paired.chosen(one.answers.get(name, {}), stratum) for name in runs}
        questions += [{"run": name, **where, **paired.grade(answers[name])} for name in runs]
        pairs += [
            {"run": name, "baseline": other, **where, **paired.pair(answers[name], answers.get(other, {}))}
            for name, other in partners(runs, groups, baseline)
        ]
    adjust(pairs)
    differ = run_files.differing([run["settings"] for run in runs.values()])
    described = {name: describe(name, run) for name, run in runs.items()}
    several = [group for group in groups if len(group) > 1]
    keys = [key for key in differ if key not in {"seed", *by_seed}]
    labels = list(dict.fromkeys((q["set"], q["label"]) for q in questions)) or [("questions", "all")]
    seeds = [over_seeds(described, group, label, questions, pairs, keys) for label in labels for group in several]
    return {
        "baseline": baseline,
        "differ": differ,
        "runs": list(described.values()),
        "questions": questions,
        "pairs": pairs,
        "judges": comparable.judges(runs),
        "seeds": seeds,
        "warnings": comparable.training_warnings(described)
        + comparable.evaluation_warnings(runs, described, sets)
        + comparable.across_seeds(pairs, described),
        "notes": notes(described, pairs, bool(several)),
    }


def adjust(pairs: list[dict]) -> None:
    """Holm's p over the tests of a family: all questions of every set, or the parts by one field."""
    families: dict[str, list[dict]] = {}
    for pair in pairs:
        if pair["p"] is not None:
            families.setdefault(pair["where"].partition("=")[0], []).append(pair)
    for family in families.values():
        for pair, p in zip(family, paired.holm([pair["p"] for pair in family]), strict=True):
            pair["p_holm"] = p


def check_names(folders: list[str], baseline: str, by_seed: list[str]) -> None:
    real = [os.path.realpath(folder) for folder in folders]
    twice = [folder for folder, path in zip(folders, real, strict=True) if real.count(path) > 1]
    if twice:
        raise UserError(f"{twice[0]} and {twice[1]} are the same run; name each run once")
    if baseline not in folders:
        raise UserError(f"--baseline={baseline} is none of the runs; name it among them too")
    known = config.keys()
    for key in by_seed:
        if key not in known:
            raise UserError(f"--by_seed={key} is no key of the config; {config.nearest(key, known)}")


def partners(runs: dict, groups: list[list[str]], baseline: str) -> list[tuple[str, str | None]]:
    """(run, baseline to pair it with): of the run's seed, where the baseline has several; None where none has it."""
    group = next(group for group in groups if baseline in group)
    if len(group) == 1:
        return [(name, baseline) for name in runs if name != baseline]
    of_seed = {run_files.seed(runs[name]): name for name in group} | {None: baseline}
    return [(name, of_seed.get(run_files.seed(run))) for name, run in runs.items() if name not in group]


def describe(name: str, run: dict) -> dict:
    """What is known of a run, without its answers; tokens: positions of all steps, padding included."""
    values, metrics = run["config"], run["metrics"] or {}
    step, sources = metrics.get("step"), metrics.get("sources", {})
    known = values and step is not None
    return {
        "run": name,
        "objective": values.get("loss.kind"),
        "seed": run_files.seed(run),
        "settings": run["settings"],
        "step": step,
        "steps": values.get("optimizer.steps"),
        "tokens": step * values["data.batch_rows"] * values["data.sequence_length"] if known else None,
        **last_step(list(sources.values())),
        "heldout": {source: s["nll"] for source, s in heldout_of(run).items() if s["tokens"]},
    }


def heldout_of(run: dict) -> dict:
    return dict(sorted((run["evaluate"].get("heldout") or {}).items()))


def last_step(sources: list[dict]) -> dict:
    """Over all sources of a step: mean weight and effective share of domain tokens, plain loss of general tokens."""
    domain, general = ([s for s in sources if s["is_domain"] == kind and s["tokens"]] for kind in (True, False))
    means = dict.fromkeys(("mean_weight", "ess", "general_nll"))
    if domain and all(None not in (s["ess"], s["mean_weight"]) for s in domain):
        n, w = sum(s["tokens"] for s in domain), sum(s["mean_weight"] * s["tokens"] for s in domain)
        # A source of which rho1 chose nothing has no effective tokens, and no squares.
        squares = sum(s["mean_weight"] ** 2 * s["tokens"] / s["ess"] for s in domain if s["ess"])
        means |= {"mean_weight": w / n, "ess": w * w / (n * squares) if squares else 0.0}
    if general and all(s["nll"] is not None for s in general):
        total = sum(s["nll"] * s["tokens"] for s in general)
        means["general_nll"] = total / sum(s["tokens"] for s in general)
    return means


def over_seeds(described: dict, group: list[str], part: tuple, questions: list, pairs: list, keys: list) -> dict:
    """Mean, standard deviation and every seed's value of what was measured, over a group's seeds."""
    settings = described[group[0]]["settings"]
    named = [f"{tables.short(key)}={settings[key]}" for key in keys if key in settings]
    accuracies = {q["run"]: q["accuracy"] for q in questions if (q["set"], q["label"]) == part}
    differences = {pair["run"]: pair["difference"] for pair in pairs if (pair["set"], pair["label"]) == part}
    heldout = dict.fromkeys(source for name in group for source in described[name]["heldout"])
    return {
        "group": " ".join([settings["loss.kind"], *named]),
        "set": part[0],
        "where": part[1],
        "runs": group,
        "seeds": [described[name]["seed"] for name in group],
        "accuracy": spread([accuracies.get(name) for name in group]),
        "difference": spread([differences.get(name) for name in group]),
        "heldout": {s: spread([described[name]["heldout"].get(s) for name in group]) for s in heldout},
    }


def spread(values: list[float | None]) -> dict:
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "values": values,
    }


def notes(described: dict, pairs: list[dict], several: bool) -> list[str]:
    sentences = ["weight and ESS (effective share) of domain tokens, general loss: of the last logged training step"]
    tested = [pair for pair in pairs if pair["p"] is not None]
    if tested:
        whole = [pair for pair in tested if pair["where"] == "all"]
        sentences.append(
            "95%: Wilson's interval of an accuracy, Newcombe's of a paired difference; boot: its bootstrap over "
            "questions, over entities where questions share them; won, lost: questions that only the run, only the "
            "baseline got right; p: exact McNemar test, two-sided; Holm p: adjusted for the "
            f"{len(whole)} test{'s'[: len(whole) > 1]} on all questions, and for those of each field apart"
        )
        widest = max((pair["smallest"] for pair in whole if pair["smallest"]), default=None)
        if widest:
            sentences.append(
                f"smallest: a true difference below it (up to {100 * widest:.1f} points here) is missed more than once "
                "in five comparisons of as many questions"
            )
    if several:
        sentences.append(
            "over seeds: mean ± standard deviation (the seeds), a difference within its seed but for pairs across seeds"
        )
    if any(OBJECTIVES[run["objective"]].needs_scores for run in described.values() if run["objective"] in OBJECTIVES):
        sentences.append(
            "weighted objectives do not minimise the plain loss on domain text, they also sharpen towards the "
            "reference model: rank objectives by questions and general loss, not by domain loss"
        )
    return sentences


if __name__ == "__main__":
    main()
