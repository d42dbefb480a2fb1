"""What is kept of lm-eval's results: a line a question, k and n with their interval a task, averages, a table."""

import math

import numpy as np

from mucpt_jax.evaluation import alias


def of_task(name: str, samples: list[dict], values: dict, about: dict) -> dict:
    """{"task": its entry in harness.json, "lines": of harness.jsonl} of lm-eval's samples and metrics."""
    # A task may read an answer in several ways; the first counts, `metrics` has all.
    samples = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    metric, lines = metric_of(samples), []
    for sample in samples:
        line = {"id": f"{name}/{sample['doc_id']}", "task": name}
        line |= {"correct": bool(sample[metric])} if metric else {}
        lines.append(line | answer_of(sample))
    entry = alias.grades(sum(line["correct"] for line in lines), len(lines)) if metric else {"n": len(lines)}
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float) and "stderr" not in key}
    return {"task": entry | {"metric": metric, "metrics": numbers} | about, "lines": lines}


def metric_of(samples: list[dict]) -> str | None:
    """The metric that says whether a question is answered rightly; None where there is none, as for a perplexity."""
    return next((m for m in ("acc", "exact_match") if all(sample.get(m) in (0, 1) for sample in samples)), None)


def answer_of(sample: dict) -> dict:
    """log p of the options (nats) and which is taken; or the text that was generated."""
    first, *others = answers = [responses[0] for responses in sample["resps"]]
    if isinstance(first, str):
        return {"prediction": first, "answer": sample["target"]}
    lls = [answer[0] if isinstance(answer, tuple) else answer for answer in answers]
    if "acc_mutual_info" in sample["metrics"]:  # behind the options the same without the question
        lls = lls[: len(lls) // 2]
    return {"lls": lls, "choice": int(np.argmax(lls)), "answer": sample["target"]} if others else {"lls": lls}


def averages(tasks: list[dict]) -> dict:
    """micro: all questions alike, with Wilson's interval; macro: all tasks alike, its interval from those of the tasks.

    The mean of independent accuracies has the root of the sum of their squared half-widths, over their number.
    """
    mean = sum(task["accuracy"] for task in tasks) / len(tasks)
    half = math.hypot(*((task["high"] - task["low"]) / 2 for task in tasks)) / len(tasks)
    macro = {"accuracy": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 1.0), "tasks": len(tasks)}
    return {"micro": alias.grades(sum(t["k"] for t in tasks), sum(t["n"] for t in tasks)), "macro": macro}


def summary(entries: dict[str, dict]) -> dict:
    """What harness.json says of the tasks together."""
    graded = {name: entry for name, entry in entries.items() if "k" in entry}
    groups = dict.fromkeys(entry["group"] for entry in graded.values() if entry["group"])
    seconds = sum(entry["seconds"] for entry in entries.values())
    return {
        "tasks": graded,
        "measures": {name: entry for name, entry in entries.items() if "k" not in entry},  # perplexities and the like
        "groups": {g: averages([entry for entry in graded.values() if entry["group"] == g]) for g in groups},
        **(averages(list(graded.values())) if graded else {"micro": None, "macro": None}),
        "truncated": sum(entry["truncated"] for entry in entries.values()),  # requests
        "rate": sum(entry["n"] for entry in entries.values()) / max(seconds, 1e-9),  # questions a second
    }


def table(result: dict) -> str:
    """What the command prints."""
    lines = [f"{name:32} {as_text(task)} of {task['n']}" for name, task in result["tasks"].items()]
    for name, task in result["measures"].items():
        lines.append(f"{name:32} " + "  ".join(f"{key} {value:.4f}" for key, value in task["metrics"].items()))
    for name, group in {**result["groups"], "all": result}.items():
        if group["micro"]:
            lines.append(f"{name + ', micro':32} {as_text(group['micro'])} of {group['micro']['n']}")
            lines.append(f"{name + ', macro':32} {as_text(group['macro'])} of {group['macro']['tasks']} tasks")
    lines.append(
        f"95% intervals; {result['truncated']} requests lost the beginning of their context; "
        f"{result['rate']:.1f} questions/s"
    )
    return "\n".join(lines)


def as_text(grades: dict) -> str:
    return "{accuracy:.4f} ({low:.4f}..{high:.4f})".format(**grades)
