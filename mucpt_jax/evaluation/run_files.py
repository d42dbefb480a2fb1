"""What a run left in its workdir: read, checked, and put beside others.  Plain files: no jax here.

config.json and metrics.jsonl are the train job's, evaluate.json, predictions.jsonl and config.evaluate.json the
evaluate job's; any of them may be missing.
"""

import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from mucpt_jax import config
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_json, read_lines, read_log
from mucpt_jax.formats.results import Evaluated, Prediction, Step
from mucpt_jax.step.objective import OBJECTIVES

# What a result depends on; the other sections are speed, logging and other jobs.
SETTINGS = ("seed", "init_from", "model", "loss", "data", "optimizer", "train.compute_dtype")
IGNORED = {
    "loss.vocab_parts", "data.read_threads", "optimizer.offload",  # speed
    "loss.mean_raw_weight", "loss.rm_hash",  # follow from the data
}  # fmt: skip
ASKED = ("prompt", "stop", "max_new_tokens")  # of evaluate.*: how a question is put


class Asked(TypedDict):
    """Of config.evaluate.json."""

    evaluate: NotRequired[dict[str, Any]]


def read(folder: str) -> dict:
    """{"config", "settings", "metrics", "evaluate", "asked", "answers"}, empty or None where a file is missing.

    answers: {(id, question, answer, aliases): prediction}, so that an edited question is another question.
    """
    path = Path(folder)
    kinds = {"config.json": dict, "evaluate.json": Evaluated, "config.evaluate.json": Asked}
    trained, evaluated, asked = (
        read_json(path / name, kind, "run the job that wrote it again") if (path / name).is_file() else {}
        for name, kind in kinds.items()
    )
    lines = read_log(path / "metrics.jsonl", Step)
    if not (trained or evaluated or lines):
        raise UserError(
            f"{folder} is no run: it has no config.json, metrics.jsonl or evaluate.json; name the --workdir of a job"
        )
    saved = config.from_saved(trained, str(path / "config.json"))
    values = config.flat(saved) | config.gone_knobs(trained) if trained else {}
    graded = evaluated.get("questions")  # where it is missing, predictions are of an earlier evaluation
    return {
        "config": values,
        "settings": settings(values),
        "metrics": next((line for line in reversed(lines) if "sources" in line), None),
        "evaluate": evaluated,
        "asked": {key: value for key, value in asked.get("evaluate", {}).items() if key in ASKED},
        "answers": read_answers(path / "predictions.jsonl", graded) if graded else None,
    }


def read_answers(path: Path, graded: dict) -> dict[tuple, dict]:
    if not path.is_file():
        raise UserError(f"{path} is missing though evaluate.json has grades; run --job=evaluate again")
    answers = {
        (str(p["id"]), p["question"], p["answer"], tuple(p.get("aliases") or [])): p
        for p in read_lines(path, Prediction, "run --job=evaluate again")
    }
    right = sum(p["correct"] for p in answers.values())
    if (right, len(answers)) != (graded.get("k"), graded.get("n")):
        raise UserError(
            f"{path} has {right} right of {len(answers)}, evaluate.json beside it says {graded.get('k')} of "
            f"{graded.get('n')}, so they are of two evaluations; run --job=evaluate again"
        )
    return answers


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
