"""Verdicts on answers: by a language model behind an endpoint, or without one by alias match ("alias accuracy").

    python -m mucpt_jax.judge --questions=questions.jsonl --answers=FOLDER --output=FOLDER
        [--endpoint=https://host/v1 --model=NAME --cache=replies.sqlite] [--calibrate=labels.jsonl]

Writes OUTPUT/verdicts.jsonl as verdicts arrive, and at the end OUTPUT/judge.json.  A second start asks only what has no
verdict yet; another judge, or other answers, start anew, and the old files are moved beside.  --answers is a folder
with answers.jsonl (or the predictions.jsonl of an evaluate job), or such a file.

--calibrate measures the judge against people: lines {id, verdict} on these answers, or lines of a verdicts.jsonl
(question, answer, prediction of their own) whose verdict a person gave.  At least 200, picked at random.

ERROR is a question without a verdict: the judge's reply was none twice, or none came.  It counts among the n, never as
an answer; the same command asks it again.
"""

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from mucpt_jax import llm
from mucpt_jax.endpoint.spent import cost
from mucpt_jax.errors import TRY_AGAIN, UserError, exiting
from mucpt_jax.evaluation import alias, calibrate, llm_judge
from mucpt_jax.formats.decode import read_json, read_lines, read_log
from mucpt_jax.formats.files import locked, text_hash, writable, write_json, write_text
from mucpt_jax.formats.questions import Answer, Judged, Text, read_questions, set_hash
from mucpt_jax.formats.ranges import NotNegative
from mucpt_jax.formats.results import JudgedAnswers, Prediction
from mucpt_jax.formats.version import written_by

ALIAS = {
    "kind": "alias",
    "hash": "alias-2",
}  # rules of alias.py: 2 has denials, short texts, dates and numbers as values
PARTS = ("stratum", "lang", "answer_type")  # fields of a question by which the result is split
WHOSE = ("question", "answer", "aliases", "margin", "prediction")  # what a verdict is about
AGAIN = "the same command asks them again"
Judge = Callable[[list[dict], Callable[[dict], None]], llm.Spent]


class Labelled(TypedDict):
    """A line of --calibrate; without a prediction it is about the answers that are judged."""

    id: Any
    verdict: Literal["CORRECT", "INCORRECT", "NOT_ATTEMPTED"]
    question: NotRequired[Text]
    answer: NotRequired[Text]
    aliases: NotRequired[list[Text] | None]
    margin: NotRequired[NotNegative | None]
    prediction: NotRequired[str]


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    flags = parser().parse_args(argv)
    with exiting():
        result = judge(flags.questions, flags.answers, Path(flags.output), llm.settings_of(flags), flags.calibrate)
        print(as_text(result))
    if result["no_reply"]:  # judged in part: the numbers above are no result
        print(f"error: {result['no_reply']} questions got no reply, as verdicts.jsonl says; {AGAIN}", file=sys.stderr)
        sys.exit(TRY_AGAIN)


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--questions", required=True, metavar="FILE", help="JSONL of id, question, answer, aliases")
    flags.add_argument("--answers", required=True, metavar="FOLDER", help="with answers.jsonl, or such a file")
    flags.add_argument("--output", required=True, metavar="FOLDER")
    flags.add_argument("--calibrate", metavar="FILE", help="JSONL of verdicts that people gave")
    llm.add_options(flags)
    return flags


def judge(questions_file: str, answers_file: str, output: Path, settings: llm.Settings | None, labels: str | None):
    """The result, as in OUTPUT/judge.json."""
    questions = read_questions(questions_file, "mend it, or name another file by --questions")
    answers, about = read_answers(answers_file)
    check_same_set(questions, questions_file, answers, answers_file, about)
    items = [question | {"prediction": answers[question["id"]]} for question in questions]
    labelled = read_labels(labels, {item["id"]: item for item in items}) if labels else []
    who = llm_judge.about(settings) if settings else ALIAS
    by = by_model(settings) if settings else by_alias
    with writable(f"--output={output}"):
        output.mkdir(parents=True, exist_ok=True)
    with locked(output, f"--output={output}"):
        lines = judged(items, output / "verdicts.jsonl", who["hash"], by)
        measured = judged(labelled, output / "calibration.jsonl", who["hash"], by) if labels else []
        result = summed(lines) | {"written_by": written_by()}
        known = {"judge": who, "label": "judge accuracy" if settings else "alias accuracy", "questions": questions_file}
        known |= {"set": set_hash(questions), "answers": about}
        if settings:
            result["cut"] = sum(len(item["prediction"]) > llm_judge.LONGEST for item in items)
        if settings and (settings.price_in or settings.price_out):
            result["cost"] = cost(settings, **result["tokens"])
        if labels:
            pairs = [(line["label"], line["verdict"]) for line in measured]
            result["calibration"] = calibrate.calibration(pairs, result["counts"]["CORRECT"], result["n"])
        write_json(output / "judge.json", known | result)  # last: where it stands, all stands
    return known | result


# What is judged


def read_answers(name: str) -> tuple[dict[str, str], dict]:
    """{id: prediction}, and answers.json; of an id that was answered twice the last answer counts."""
    path = Path(name)
    if path.is_dir():
        files = [path / "answers.jsonl", path / "predictions.jsonl"]
        path = next((file for file in files if file.is_file()), files[0])
    if not path.is_file():
        raise UserError(f"{path} is missing; name by --answers a folder with answers.jsonl, or such a file")
    if path.name.startswith("predictions"):  # of an evaluate job, which has the questions too
        lines = read_lines(path, Prediction, "evaluate again")
        about = {
            "set": set_hash([line | {"id": str(line["id"]), "aliases": line.get("aliases") or []} for line in lines])
        }
    else:
        lines, file = read_log(path, Answer), path.with_suffix(".json")
        beside = path.name.startswith("answers") and file.is_file()  # answers-HASH too, of an earlier set
        about = read_json(file, JudgedAnswers, "answer again") if beside else {}
    if not lines:
        raise UserError(f"{path} holds no answer; answer the questions first")
    return {str(line["id"]): line["prediction"] for line in lines}, about


def check_same_set(questions: list[dict], file: str, answers: dict[str, str], answers_file: str, about: dict) -> None:
    """UserError with the difference, where the answers are not to these questions, all of them."""
    ids = [question["id"] for question in questions]
    without, unknown = [i for i in ids if i not in answers], sorted(answers.keys() - set(ids))
    if without or unknown:
        parts = [f"{len(without)} of {len(ids)} questions have no answer (first: {without[0]})"] if without else []
        parts += [f"{len(unknown)} of {len(answers)} answers have no question (first: {unknown[0]})"] if unknown else []
        way_out = "go on answering" if not unknown else "name the questions that were answered by --questions"
        raise UserError(f"{answers_file} and {file} differ: {' and '.join(parts)}; {way_out}")
    if about.get("set") not in (None, set_hash(questions)):
        other = about.get("questions")
        raise UserError(
            f"{answers_file} answers another set than {file}, of the same ids{edited(questions, other)}; "
            f"name the questions that were answered{f' ({other})' if other else ''}, or answer these"
        )


def edited(questions: list[dict], other: str | None) -> str:
    """: the first question that was changed, where the other file still tells."""
    if not other or not Path(other).is_file():
        return ""
    asked = {question["id"]: question for question in read_questions(other)}
    for question in questions:
        before = asked.get(question["id"], {})
        for name in ("question", "answer", "aliases"):
            if before and before[name] != question[name]:
                return (
                    f": {name} of {question['id']} was {str(before[name])[:80]!r} and is {str(question[name])[:80]!r}"
                )
    return ""


def read_labels(file: str, items: dict[str, dict]) -> list[dict]:
    """Items as those that are judged, with `label`: the verdict of a person."""
    lines = read_lines(file, Labelled, "mend it; it needs id and verdict: CORRECT, INCORRECT or NOT_ATTEMPTED")
    labelled = []
    for line in lines:
        item = line | {"id": str(line["id"])}
        if "prediction" not in line:
            if item["id"] not in items:
                raise UserError(
                    f"{file} labels {item['id']}, which is no question here; add its question and prediction"
                )
            item = items[item["id"]] | {"verdict": line["verdict"]}
        elif "question" not in line or "answer" not in line:
            raise UserError(f"{file}: {item['id']} has a prediction of its own but no question and answer; add both")
        labelled.append(item | {"label": item.pop("verdict"), "aliases": item.get("aliases") or []})
    if len({item["id"] for item in labelled}) < len(labelled) or not labelled:
        raise UserError(f"{file} holds {'an id twice' if labelled else 'no label'}; each label needs an id of its own")
    return labelled


# Judging


def judged(items: list[dict], file: Path, who: str, by: Judge) -> list[dict]:
    """The items with verdicts, in their order; `file` has them as they arrive, and those of an earlier start."""
    known = earlier(items, file, who)
    open_items = [item for item in items if item["id"] not in known]
    if known:
        logging.info("%s: %d verdicts are there, %d are missing", file.name, len(known), len(open_items))
    with file.open("a", encoding="utf-8") as out:

        def done(item: dict) -> None:
            known[item["id"]] = item | {"judge": who}
            out.write(json.dumps(known[item["id"]], ensure_ascii=False) + "\n")
            out.flush()

        spent = by(open_items, done)
    llm.end(spent, file.name) if spent.calls or spent.stopped else None
    lines = [known[item["id"]] for item in items]
    write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return lines


def earlier(items: list[dict], file: Path, who: str) -> dict[str, dict]:
    """Verdicts of an earlier start, by id; where the file has others than of these answers by this judge, it moves."""
    lines = {str(line["id"]): line for line in read_log(file, Judged)}
    mine = {item["id"]: item for item in items}
    same = {
        i: mine[i] | {name: line[name] for name in line if name not in mine[i]}
        for i, line in lines.items()
        if i in mine and line.get("judge") == who and all(line.get(n) == mine[i].get(n) for n in WHOSE)
    }
    if len(same) < len(lines):
        word = text_hash(file.read_text(encoding="utf-8", errors="replace"))[:8]
        for old in (file, file.with_name("judge.json")):
            if old.is_file():
                old.replace(old.with_name(f"{old.stem}-{word}{old.suffix}"))
        logging.info("%s was of another judge or other answers: it is %s-%s.jsonl now", file, file.stem, word)
    kept = {i: line for i, line in same.items() if line["verdict"] != "ERROR"}
    if file.is_file() or kept:  # ends with a whole line, whatever a kill has left
        write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept.values()))
    return kept


def by_alias(items: list[dict], done: Callable[[dict], None]) -> llm.Spent:
    for item in items:
        done(item | {"verdict": alias.verdict(item, item["prediction"])})
    return llm.Spent()


def by_model(settings: llm.Settings) -> Judge:
    def judge_all(items: list[dict], done: Callable[[dict], None]) -> llm.Spent:
        asked = {item["id"]: item for item in items if item["prediction"].strip()}
        for item in items:
            if item["id"] not in asked:
                done(item | {"verdict": "NOT_ATTEMPTED"})

        def answered(number: str, reply: llm.Reply) -> None:
            tokens = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
            given = {
                "verdict": reply.value or "ERROR",
                "reply": reply.text and reply.text[:2000],
                "retried": reply.retried,
            }
            given |= {"error": reply.error} if reply.error else {}
            done(asked[number] | given | tokens | {"served": reply.served})

        prompts = [(number, llm_judge.prompt(item, item["prediction"])) for number, item in asked.items()]
        return llm.ask(prompts, settings, answered, llm_judge.verdict, llm_judge.AGAIN, "judging")

    return judge_all


# What comes of it


def summed(lines: list[dict]) -> dict:
    """Counts, accuracy with interval, F (SimpleQA's: harmonic mean of correct and correct given attempted), parts."""
    counts = {verdict: 0 for verdict in (*llm_judge.VERDICTS, "ERROR")} | Counter(line["verdict"] for line in lines)
    right, attempted = counts["CORRECT"], counts["CORRECT"] + counts["INCORRECT"]
    strata: dict[str, dict] = {}
    for field in PARTS:
        for value in sorted({str(line[field]) for line in lines if line.get(field)}):
            part = [line for line in lines if str(line.get(field)) == value]
            strata.setdefault(field, {})[value] = alias.grades(sum(p["verdict"] == "CORRECT" for p in part), len(part))
    tokens = {name: sum(line.get(name, 0) for line in lines) for name in ("prompt_tokens", "completion_tokens")}
    return {
        "n": len(lines),
        "counts": counts,
        "accuracy": alias.grades(right, len(lines)),
        "correct_given_attempted": right / attempted if attempted else None,
        "f": 2 * right / (len(lines) + attempted),
        "strata": strata,
        "empty": sum(not line["prediction"].strip() for line in lines),
        "no_reply": sum(line["verdict"] == "ERROR" and line.get("reply") is None for line in lines),
        "retried": sum(line.get("retried", False) for line in lines),
        "served": sorted({line["served"] for line in lines if line.get("served")}),
        "tokens": tokens,
        "calibration": None,
    }


def as_text(result: dict) -> str:
    def line(name: str, grades: dict) -> str:
        return "{}: {k}/{n} = {accuracy:.4f} (95% {low:.4f}..{high:.4f})".format(name, **grades)

    counts = ", ".join(f"{count} {verdict}" for verdict, count in result["counts"].items())
    lines = [line(result["label"], result["accuracy"]), f"{counts}; {result['empty']} answers are empty"]
    half = 50 * (result["accuracy"]["high"] - result["accuracy"]["low"])
    lines.append(f"{result['n']} questions: known to +-{half:.1f} points; mucpt_jax.compare tests differences")
    given, f = result["correct_given_attempted"], result["f"]
    lines.append(f"correct given attempted {'-' if given is None else f'{given:.4f}'}, F {f:.4f}")
    lines += [
        line(f"  {field} {value}", g) for field, values in result["strata"].items() for value, g in values.items()
    ]
    if errors := result["counts"]["ERROR"]:
        lines.append(f"{errors} questions have no verdict; {AGAIN}")
    if result["calibration"]:
        lines += calibration_lines(result["calibration"])
    return "\n".join(lines)


def calibration_lines(measured: dict) -> list[str]:
    lines = [f"against {measured['n']} labels of people:"]
    for human, row in measured["confusion"].items():
        lines.append(f"  {human} by people: {', '.join(f'{count} {verdict}' for verdict, count in row.items())}")
    for name in ("agreement", "kappa", "sensitivity", "specificity", "corrected"):
        value = measured[name]
        point = value and next(value[key] for key in ("share", "kappa", "accuracy") if key in value)
        known = f"{point:.4f} (95% {value['low']:.4f}..{value['high']:.4f})" if value else "cannot be known"
        lines.append(f"  {'corrected accuracy' if name == 'corrected' else name} {known}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
