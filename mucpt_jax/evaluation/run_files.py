"""What a run left in its folder: read, checked, and put beside others.  Plain files: no jax here.

config.json and metrics.jsonl are the train job's, evaluate.json, predictions.jsonl and config.evaluate.json the
evaluate job's; judge.json and verdicts.jsonl a judge's, harness.json and harness.jsonl the harness's, in the folder or
in one directly below it.  Any of them may be missing.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from mucpt_jax import config
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_json, read_lines, read_log
from mucpt_jax.formats.files import bare_name
from mucpt_jax.formats.questions import Judged
from mucpt_jax.formats.results import ASKED, Evaluated, Harness, HarnessAnswer, Judgement, Prediction, Step
from mucpt_jax.step.objective import OBJECTIVES

# What a result depends on; the other sections are speed, logging and other jobs.
SETTINGS = ("seed", "init_from", "model", "loss", "data", "optimizer", "train.compute_dtype")
IGNORED = {
    "loss.vocab_parts", "data.read_threads", "optimizer.offload",  # speed
    "loss.mean_raw_weight", "loss.rm_hash",  # follow from the data
}  # fmt: skip
PUT = [name for name in ASKED if name != "questions"]  # how a question is put
ALIAS = "alias"  # the judge of the evaluate job


class Measured(NamedTuple):
    """A set of questions that a run answered, and one judge's verdicts."""

    set: str  # stem of the questions' file, or the harness's task
    judge: str  # alias, a model, or choice: the likeliest option
    asked: dict[str, Any]  # how the questions were put
    answers: dict[tuple, dict]  # {what makes a question: its fields, prediction, correct, verdict}


class Asked(TypedDict):
    """Of config.evaluate.json."""

    evaluate: NotRequired[dict[str, Any]]


def read(folder: str) -> dict:
    """{"config", "settings", "metrics", "evaluate", "measured", "parameters"}, empty or None where a file is missing.

    measured: list of Measured, the evaluate job's first; parameters: as parameters().
    """
    path = Path(folder)
    kinds = {"config.json": dict, "evaluate.json": Evaluated, "config.evaluate.json": Asked}
    trained, evaluated, asked = (
        read_json(path / name, kind, "run the job that wrote it again") if (path / name).is_file() else {}
        for name, kind in kinds.items()
    )
    lines = read_log(path / "metrics.jsonl", Step)
    beside = [path, *sorted(f for f in path.glob("*") if f.is_dir())] if path.is_dir() else []
    judged = [one for place in beside for one in judged_sets(place)] + [
        one for place in beside for one in harness_sets(place)
    ]
    if not (trained or evaluated or lines or judged):
        raise UserError(
            f"{folder} is no run: it has no config.json, metrics.jsonl, evaluate.json, judge.json or harness.json; "
            "name the --workdir of a job, or answers that mucpt_jax.judge has judged"
        )
    saved = config.from_saved(trained, str(path / "config.json"))
    values = config.flat(saved) | config.gone_knobs(trained) if trained else {}
    # Older results say how they were asked in the config of the last evaluation alone.
    put = evaluated.get("asked") or asked.get("evaluate", {})
    return {
        "config": values,
        "settings": settings(values),
        "metrics": next((line for line in reversed(lines) if "sources" in line), None),
        "evaluate": evaluated,
        "measured": alias_sets(path, evaluated, put) + judged,
        "parameters": {"evaluate.json": evaluated.get("params_hash")} | parameters(path, beside),
    }


def parameters(path: Path, places: list[Path]) -> dict[str, str | None]:
    """{file of results: params_hash of the model that it is of}"""
    known = {}
    for place in places:
        if (file := place / "judge.json").is_file():
            known[str(file.relative_to(path))] = (read_json(file, Judgement).get("answers") or {}).get("params_hash")
        if (file := place / "harness.json").is_file():
            known[str(file.relative_to(path))] = read_json(file, Harness).get("params_hash")
    return known


def alias_sets(path: Path, evaluated: dict, put: dict) -> list[Measured]:
    """Of the evaluate job: its last questions, and those before, of the same parameters."""
    sets = []
    if evaluated.get("questions"):  # where it is missing, predictions are of an earlier evaluation
        answers = read_answers(path / "predictions.jsonl", evaluated["questions"])
        sets.append(Measured(stem(put.get("questions")), ALIAS, how(put), answers))
    for old in (evaluated.get("earlier") or {}).values():
        answers = read_answers(path / bare_name(old["predictions"], path / "evaluate.json"), old["questions"])
        sets.append(Measured(stem(old["asked"].get("questions")), ALIAS, how(old["asked"]), answers))
    return sets


def how(asked: dict) -> dict:
    return {key: value for key, value in asked.items() if key in PUT}


def stem(questions: str | None) -> str:
    return Path(questions).stem if questions else "questions"


def key_of(question: dict) -> tuple:
    """What makes a question: one that was edited is another."""
    return str(question["id"]), question["question"], question["answer"], tuple(question.get("aliases") or [])


def read_answers(path: Path, graded: dict) -> dict[tuple, dict]:
    if not path.is_file():
        raise UserError(f"{path} is missing though evaluate.json has grades; run --job=evaluate again")
    answers = {key_of(p): p for p in read_lines(path, Prediction, "run --job=evaluate again")}
    right = sum(p["correct"] for p in answers.values())
    if (right, len(answers)) != (graded.get("k"), graded.get("n")):
        raise UserError(
            f"{path} has {right} right of {len(answers)}, evaluate.json beside it says {graded.get('k')} of "
            f"{graded.get('n')}, so they are of two evaluations; run --job=evaluate again"
        )
    return answers


def judged_sets(path: Path) -> list[Measured]:
    """Of mucpt_jax.judge."""
    if not (path / "judge.json").is_file():
        return []
    result = read_json(path / "judge.json", Judgement, "run mucpt_jax.judge again")
    lines = read_lines(path / "verdicts.jsonl", Judged, "run mucpt_jax.judge again")
    answers = {key_of(p): p | {"correct": p["verdict"] == "CORRECT"} for p in lines}
    if len(answers) != result["n"]:
        raise UserError(
            f"{path}/verdicts.jsonl has {len(answers)} verdicts, judge.json beside it says {result['n']}; "
            "run mucpt_jax.judge again"
        )
    asked = (result.get("answers") or {}).get("asked") or {}
    return [Measured(stem(result["questions"]), judge_name(result["judge"]), how(asked), answers)]


def judge_name(judge: dict) -> str:
    """alias, or model@prompt: verdicts of another prompt or temperature are another judge's."""
    if judge["kind"] == ALIAS:
        return ALIAS
    return f"{judge.get('model') or 'unnamed'}@{(judge.get('hash') or 'unknown')[:6]}"


def harness_sets(path: Path) -> list[Measured]:
    """Of mucpt_jax.harness: a set for each group of tasks."""
    if not (path / "harness.json").is_file():
        return []
    result = read_json(path / "harness.json", Harness, "run mucpt_jax.harness again")
    groups: dict[str, dict[tuple, dict]] = {}
    lines = read_lines(path / "harness.jsonl", HarnessAnswer, "run mucpt_jax.harness again")
    for line in (line for line in lines if "correct" in line):
        task = result["tasks"].get(line["task"])
        if task is None:
            raise UserError(
                f"{path}/harness.jsonl names the task {line['task']}, which harness.json beside it does not; "
                "run mucpt_jax.harness again"
            )
        groups.setdefault(task.get("group") or line["task"], {})[line["id"],] = line
    return [Measured(name, "choice", result.get("settings") or {}, answers) for name, answers in groups.items()]


def settings(values: dict) -> dict:
    """What a result depends on, of a flat config; knobs that the objective does not read are left out."""
    kind = values.get("loss.kind")
    return {
        key: value
        for key, value in values.items()
        if (key in SETTINGS or key.partition(".")[0] in SETTINGS) and key not in IGNORED and used(key, kind)
    }


def used(key: str, kind: str) -> bool:
    section, _, name = key.rpartition(".")
    if section != "loss" or name == "kind":
        return True
    objective = OBJECTIVES.get(kind)
    # What another version knew, an objective or a knob, may have counted there.
    unknown = objective is None or not hasattr(config.Loss, name)
    return unknown or name in objective.knobs or (name == "reference" and objective.needs_scores)


def differing(settings_of_runs: list[dict]) -> list[str]:
    """Keys with several values; where models differ, model.name stands for their sizes."""
    keys = dict.fromkeys([*config.keys(), *(key for s in settings_of_runs for key in s)])  # in the config's order
    values = {key: {json.dumps(s[key]) for s in settings_of_runs if key in s} for key in keys}
    differ = [key for key in keys if len(values[key]) > 1 and key != "loss.kind"]
    if "model.name" in differ:
        differ = [key for key in differ if key == "model.name" or not key.startswith("model.")]
    return differ


def seed_groups(runs: dict, by_seed: list[str]) -> list[list[str]]:
    """Groups of runs that agree but for seed and by_seed, by seed; where a seed comes twice, each run is a group."""
    alike = {}
    for name, run in runs.items():
        fixed = {k: v for k, v in run["settings"].items() if k not in {"seed", *by_seed}}
        alike.setdefault(json.dumps(fixed or name, sort_keys=True), []).append(name)
    groups = []
    for names in alike.values():
        seeds = {seed(runs[name]): name for name in names}
        several = len(seeds) == len(names) > 1
        groups += [[seeds[s] for s in sorted(seeds)]] if several else [[name] for name in names]
    return groups


def seed(run: dict) -> int | None:
    return run["config"].get("seed")
