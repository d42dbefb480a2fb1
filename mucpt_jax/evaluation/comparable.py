"""Are runs comparable?  The same questions by the same judge or nothing; a sentence for all else that differs."""

from typing import NamedTuple

from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import paired, run_files

NAMED = 3  # ids in a sentence


class Set(NamedTuple):
    """A set of questions, and the answers of the runs that were asked it."""

    name: str
    judge: str
    answers: dict[str, dict[tuple, dict]]  # run -> what makes a question -> answer


def sets(runs: dict, judge: str | None) -> list[Set]:
    """In the order in which runs have them; UserError where runs answered different questions."""
    names = dict.fromkeys(one.set for run in runs.values() for one in run["measured"])
    there = dict.fromkeys(one.judge for run in runs.values() for one in run["measured"])
    if judge and not any(is_named(one, judge) for one in there):
        raise UserError(f"--judge={judge} judged no run here; there is {', '.join(there) or 'none'}")
    chosen = []
    for name in names:
        measured = {run: by_judge(values, name) for run, values in runs.items()}
        measured = {run: of for run, of in measured.items() if of}
        whose = choose(name, measured, judge)
        answers = {run: of[whose].answers for run, of in measured.items() if whose in of}
        check_same(name, answers)
        chosen.append(Set(name, whose, answers))
    return chosen


def by_judge(run: dict, name: str) -> dict:
    """{judge: Measured} of a set; of several by one judge the first counts: the evaluate job's own."""
    return {one.judge: one for one in reversed(run["measured"]) if one.set == name}


def choose(name: str, measured: dict[str, dict], judge: str | None) -> str:
    """The judge whose verdicts count: of those that judged every run a model before the alias judge."""
    known = list(dict.fromkeys(one for of in measured.values() for one in of))
    if judge and any(is_named(one, judge) for one in known):
        known = [one for one in known if is_named(one, judge)]
    shared = [one for one in known if all(one in of for of in measured.values())]
    if not shared:
        of = "; ".join(f"{run}: {', '.join(judges)}" for run, judges in measured.items())
        raise UserError(f"no judge judged all answers to {name} ({of}); judge all alike by mucpt_jax.judge")
    return min(shared, key=lambda one: one == run_files.ALIAS)


def is_named(one: str, judge: str) -> bool:
    """model@prompt, as tables write it, or the model alone."""
    return judge in (one, one.rpartition("@")[0])


def check_same(name: str, answers: dict[str, dict]) -> None:
    first, *others = answers
    for other in others:
        mine, its = answers[first].keys(), answers[other].keys()
        if mine == its:
            continue
        ids = [{key[0] for key in keys} for keys in (mine, its)]
        only = [f"{len(a - b):,} only in {run} ({some(a - b)})" for run, a, b in
                ((first, *ids), (other, *ids[::-1])) if a - b]  # fmt: skip
        edited = {key[0] for key in mine ^ its} & ids[0] & ids[1]
        if edited:
            only.append(f"{len(edited):,} with another text, answer or aliases ({some(edited)})")
        raise UserError(
            f"{first} and {other} answered different questions of {name}: {', '.join(only)}; ask both the same file"
        )


def some(ids: set[str]) -> str:
    shown = sorted(ids)[:NAMED]
    return ", ".join(shown) + ", ..." * (len(ids) > NAMED)


def parts(sets: list[Set], split: list[str] | None, default: tuple[str, ...]) -> list[tuple[Set, tuple | None]]:
    """(set, stratum): the whole set, then its parts by `split`, or by those of `default` that tell questions apart."""
    records = {one.name: [p for of in one.answers.values() for p in of.values()] for one in sets}
    for field in split or ():
        paired.values_of([p for of in records.values() for p in of], field)  # refuses what no question has
    several = {
        name: [field for field in default if 1 < len(paired.distinct(of, field)) <= paired.MAX_VALUES]
        for name, of in records.items()
    }
    given = {name: [field for field in split or () if paired.distinct(of, field)] for name, of in records.items()}
    fields = given if split else several
    return [(one, stratum) for one in sets for stratum in paired.strata(records[one.name], fields[one.name])]


def label(name: str, stratum: tuple | None, several: bool) -> str:
    part = paired.where(stratum)
    return f"{name} {part}".removesuffix(" all") if several else part


def judges(runs: dict) -> list[dict]:
    """{"run", "set", "judges", "n", "agree", "kappa", "differ"} of every two judges of the same answers."""
    rows = []
    for name, run in runs.items():
        for title in dict.fromkeys(one.set for one in run["measured"]):
            of = list(by_judge(run, title).items())[::-1]
            for i, (first, a) in enumerate(of):
                for second, b in of[i + 1 :]:
                    agreed = paired.agreement(a.answers, b.answers)
                    differ = [key[0] for key in agreed.pop("differ")]
                    rows.append({"run": name, "set": title, "judges": [first, second], **agreed, "differ": differ})
    return rows


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


def evaluation_warnings(runs: dict, described: dict, sets: list[Set]) -> list[str]:
    """A sentence for each way in which the runs' evaluations are not comparable."""
    sentences = []
    for name, run in runs.items():
        asked_at, last = run["evaluate"].get("step"), described[name]["step"]
        if asked_at is not None and last is not None and asked_at != last:
            sentences.append(f"{name} was evaluated at step {asked_at:,}, its last metrics are of step {last:,}")
    heldout = {name: dict(sorted((run["evaluate"].get("heldout") or {}).items())) for name, run in runs.items()}
    rows = {n: ", ".join(f"{s} {v['tokens']:,} tokens" for s, v in h.items()) for n, h in heldout.items() if h}
    sentences += unlike("held-out rows differ, their losses do not compare", rows)
    for one in sets:
        asked = {name: str(by_judge(runs[name], one.name)[one.judge].asked) for name in one.answers}
        sentences += unlike(f"questions of {one.name} were put differently", asked)
    sentences += of_two_models(runs) + several_of_a_name(runs) + other_answers(runs) + two_names(sets)
    models = {name: run["evaluate"].get("params_hash") for name, run in runs.items()}
    for model in dict.fromkeys(filter(None, models.values())):
        same = [name for name in models if models[name] == model]
        if len(same) > 1:
            sentences.append(f"{' and '.join(same)} were evaluated with the same parameters")
    return sentences


def of_two_models(runs: dict) -> list[str]:
    """A sentence for each run whose results are of several parameters: trained on, and not all measured again."""
    sentences = []
    for name, run in runs.items():
        known = {file: word for file, word in run["parameters"].items() if word}
        if len(set(known.values())) > 1:
            named = ", ".join(f"{file} {word[:8]}" for file, word in known.items())
            sentences.append(f"{name} has results of different parameters ({named}); measure or judge it again")
    return sentences


def several_of_a_name(runs: dict) -> list[str]:
    """A sentence where a run's sets of one name hold different questions: they are files of one name."""
    sentences = []
    for name, run in runs.items():
        first: dict[tuple, dict] = {}
        for one in run["measured"]:
            if first.setdefault((one.set, one.judge), one.answers).keys() != one.answers.keys():
                sentences.append(f"{name} has several sets named {one.set} by {one.judge}: the first counts")
    return list(dict.fromkeys(sentences))


def other_answers(runs: dict) -> list[str]:
    """A sentence where two judges of a run judged different answers to the same questions."""
    sentences = []
    for name, run in runs.items():
        for title in dict.fromkeys(one.set for one in run["measured"]):
            first, *others = list(by_judge(run, title).values())[::-1]
            for other in others:
                shared = first.answers.keys() & other.answers.keys()
                differ = [q for q in shared if said(first.answers[q]) != said(other.answers[q])]
                if differ:
                    sentences.append(
                        f"{name}: {first.judge} and {other.judge} judged different answers to {len(differ):,} "
                        f"questions of {title}; judge the last ones again"
                    )
    return sentences


def said(answer: dict) -> str | None:
    return answer.get("prediction")


def two_names(sets: list[Set]) -> list[str]:
    """A sentence for each two sets with questions in common: runs that answered a copy are not paired."""
    keys = [(one.name, next(iter(one.answers.values())).keys()) for one in sets]
    return [
        f"{first} and {second} have {len(a & b):,} questions in common, but a set is known by the name of its file or "
        "task: runs are paired within one"
        for i, (first, a) in enumerate(keys) for second, b in keys[i + 1 :] if a & b
    ]  # fmt: skip


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
