"""Runs side by side: settings, held-out loss, questions with intervals, paired tests against a baseline.

    python -m mucpt_jax.compare runs/ntp runs/rho1 runs/mucpt [--baseline=runs/ntp] [--split=covered]
        [--markdown] [--output=table.json] [--plot=questions.svg]

A run is the workdir of a train job, an evaluate job or both; what it lacks is "not measured".  Runs that differ in the
seed alone (and in --by_seed, what goes with a seed) are averaged too, and each is paired with the baseline of its seed.
"""

import argparse
import os
import statistics
from pathlib import Path

from mucpt_jax import config
from mucpt_jax.errors import UserError, exiting
from mucpt_jax.evaluation import paired, run_files, tables
from mucpt_jax.formats.files import write_json
from mucpt_jax.step.objective import OBJECTIVES


def main(argv: list[str] | None = None) -> None:
    flags = parser().parse_args(argv)
    with exiting():
        result = compare(flags.run, flags.baseline, flags.split, list(filter(None, flags.by_seed.split(","))))
        if flags.plot:
            tables.plot(result, flags.plot)
        if flags.output:
            write_json(Path(flags.output), result)
    draw = tables.markdown if flags.markdown else tables.text
    parts = [f"{'### ' * flags.markdown}{title}\n\n{draw(rows)}\n" for title, rows in tables.of(result)]
    warned = [f"- warning: {warning}" for warning in result["warnings"]]
    print("\n".join(parts + warned + [f"- {note}" for note in result["notes"]]))


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("run", nargs="+", help="workdir of a run")
    flags.add_argument("--baseline", help="one of the runs; default: the first")
    flags.add_argument("--split", metavar="FIELD", help="of the questions: the same for each of its values")
    flags.add_argument(
        "--by_seed", default="init_from", metavar="KEY,...", help="settings that go with a seed; %(default)s"
    )
    flags.add_argument("--output", metavar="FILE", help="JSON of all of it; null is not measured")
    flags.add_argument("--markdown", action="store_true")
    flags.add_argument("--plot", metavar="FILE", help="SVG of the accuracies")
    return flags


def compare(folders: list[str], baseline: str | None, split: str | None, by_seed: list[str]) -> dict:
    """{"baseline", "differ", "runs", "questions", "pairs", "seeds", "warnings", "notes"}; None: not measured."""
    folders = [os.path.normpath(folder) for folder in folders]
    baseline = os.path.normpath(baseline) if baseline else folders[0]
    check_names(folders, baseline, by_seed)
    runs = {folder: run_files.read(folder) for folder in folders}
    groups, parts = run_files.seed_groups(runs, by_seed), paired.strata(runs, split)
    questions = [
        {"run": name, "where": paired.where(part)} | paired.grade(runs[name], part) for part in parts for name in runs
    ]
    pairs = [
        {"run": name, "baseline": other, "where": paired.where(part)} | paired.pair(runs, name, other, part)
        for part in parts
        for name, other in partners(runs, groups, baseline)
    ]
    tested = [pair for pair in pairs if pair["p"] is not None]
    for pair, p in zip(tested, paired.holm([pair["p"] for pair in tested]), strict=True):
        pair["p_holm"] = p
    differ = run_files.differing([run["settings"] for run in runs.values()])
    described = {name: describe(name, run) for name, run in runs.items()}
    several = [group for group in groups if len(group) > 1]
    keys = [key for key in differ if key not in {"seed", *by_seed}]
    seeds = [
        over_seeds(described, group, paired.where(part), questions, pairs, keys) for part in parts for group in several
    ]
    return {
        "baseline": baseline,
        "differ": differ,
        "runs": list(described.values()),
        "questions": questions,
        "pairs": pairs,
        "seeds": seeds,
        "warnings": training_warnings(described)
        + evaluation_warnings(runs, described)
        + across_seeds(pairs, described),
        "notes": notes(described, len(tested), bool(several)),
    }


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


def over_seeds(described: dict, group: list[str], part: str, questions: list, pairs: list, keys: list) -> dict:
    """Mean, standard deviation and every seed's value of what was measured, over a group's seeds."""
    settings = described[group[0]]["settings"]
    named = [f"{tables.short(key)}={settings[key]}" for key in keys if key in settings]
    accuracies = {q["run"]: q["accuracy"] for q in questions if q["where"] == part}
    differences = {pair["run"]: pair["difference"] for pair in pairs if pair["where"] == part}
    heldout = dict.fromkeys(source for name in group for source in described[name]["heldout"])
    return {
        "group": " ".join([settings["loss.kind"], *named]),
        "where": part,
        "runs": group,
        "seeds": [described[name]["seed"] for name in group],
        "accuracy": spread([accuracies[name] for name in group]),
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


def training_warnings(described: dict) -> list[str]:
    """A sentence for each way in which the runs' trainings are not comparable."""
    sentences = []
    for seed in dict.fromkeys(run["seed"] for run in described.values() if run["settings"]):
        mine = [run for run in described.values() if run["settings"] and run["seed"] == seed]
        starts = {run["run"]: run["settings"]["init_from"] or "random" for run in mine}
        sentences += unlike(f"start models differ (seed {seed})", starts)
    budgets = {run["run"]: f"{run['tokens']:,}" for run in described.values() if run["tokens"]}
    sentences += unlike("token budgets differ", budgets)
    for run in described.values():
        if run["step"] and run["steps"] and run["step"] < run["steps"]:
            sentences.append(f"{run['run']} stopped at step {run['step']:,} of {run['steps']:,}")
    return sentences


def evaluation_warnings(runs: dict, described: dict) -> list[str]:
    """A sentence for each way in which the runs' evaluations are not comparable."""
    sentences = []
    for name, run in runs.items():
        asked_at, last = run["evaluate"].get("step"), described[name]["step"]
        if asked_at is not None and last is not None and asked_at != last:
            sentences.append(f"{name} was evaluated at step {asked_at:,}, its last metrics are of step {last:,}")
    heldout = {name: heldout_of(run) for name, run in runs.items()}
    rows = {n: ", ".join(f"{s} {v['tokens']:,} tokens" for s, v in h.items()) for n, h in heldout.items() if h}
    sentences += unlike("held-out rows differ, their losses do not compare", rows)
    asked = {name: str(run["asked"]) for name, run in runs.items() if run["asked"] and run["answers"]}
    sentences += unlike("questions were put differently", asked)
    sets = {name: set(run["answers"]) for name, run in runs.items() if run["answers"]}
    shared = set.intersection(*sets.values()) if sets else set()
    if any(answers != shared for answers in sets.values()):
        counts = ", ".join(f"{name} {len(answers):,}" for name, answers in sets.items())
        sentences.append(f"question sets differ ({counts}; {len(shared):,} in all): a pair counts what both answered")
    models = {name: run["evaluate"].get("params_hash") for name, run in runs.items()}
    for model in dict.fromkeys(filter(None, models.values())):
        same = [name for name in models if models[name] == model]
        if len(same) > 1:
            sentences.append(f"{' and '.join(same)} were evaluated with the same parameters")
    return sentences


def across_seeds(pairs: list[dict], described: dict) -> list[str]:
    """[], or one sentence that names the runs whose baseline has another seed, which adds noise to the difference."""
    named = []
    for run, baseline in dict.fromkeys((pair["run"], pair["baseline"]) for pair in pairs if pair["baseline"]):
        seeds = described[run]["seed"], described[baseline]["seed"]
        if None not in seeds and seeds[0] != seeds[1]:
            named.append(f"{run} (seed {seeds[0]}) with {baseline} (seed {seeds[1]})")
    return [f"paired across seeds: {'; '.join(named)}"] if named else []


def unlike(what: str, values: dict[str, str]) -> list[str]:
    """[], or one sentence that names the runs by value."""
    names = {value: [n for n, v in values.items() if v == value] for value in values.values()}
    named = "; ".join(f"{value}: {', '.join(those)}" for value, those in names.items())
    return [f"{what}: {named}"] if len(names) > 1 else []


def notes(described: dict, tests: int, several: bool) -> list[str]:
    sentences = ["weight and ESS (effective share) of domain tokens, general loss: of the last logged training step"]
    if tests:
        sentences.append(
            "95%: Wilson's interval of an accuracy, Newcombe's of a paired difference; won, lost: questions that only "
            "the run, only the baseline got right; p: exact McNemar test, two-sided; Holm p: adjusted for the "
            f"{tests} test{'s'[: tests > 1]} printed"
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
