"""What the other half of the road passes on: questions, answers to them, verdicts on those.  JSONL, a line a question.

questions.jsonl   data_prep.questions, or your own          id, question, answer, aliases, and what is known of them
answers.jsonl     --job=evaluate, mucpt_jax.answer          id, prediction; appended as they come, in any order
verdicts.jsonl    mucpt_jax.judge                           the question's fields, prediction, verdict
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import Count, Number, read_lines
from mucpt_jax.formats.files import text_hash, write_text
from mucpt_jax.formats.ranges import NotNegative
from mucpt_jax.formats.version import Writer

Text = Annotated[str, Meta(min_length=1)]
Verdict = Literal["CORRECT", "INCORRECT", "NOT_ATTEMPTED", "ERROR"]  # ERROR: the judge gave no verdict

RESULTS = {"prediction", "correct", "verdict", "judge", "reply", "retried", "error", "served",
           "prompt_tokens", "completion_tokens"}  # what answers and verdicts add to a question  # fmt: skip


class Evidence(TypedDict):
    """Where the answer stands."""

    document: str  # id
    quote: str


class Question(TypedDict):
    """A line of questions.jsonl, which may have other fields too."""

    id: Any
    question: Text
    answer: Text
    aliases: NotRequired[list[Text] | None]
    lang: NotRequired[str | None]  # zh, en
    answer_type: NotRequired[str | None]  # date, year, place, person, work, number, ...
    entity: NotRequired[str | None]  # the artist, work, ... it asks about: questions share entities
    popularity: NotRequired[Number | None]
    stratum: NotRequired[str | None]  # of the sampling: popular, even
    evidence: NotRequired[Evidence | None]
    margin: NotRequired[NotNegative | None]  # of a number: so far off is right still
    route: NotRequired[str | None]  # the template, or the model, that wrote it


class Answer(TypedDict):
    """A line of answers.jsonl."""

    id: str
    prediction: str
    ended: NotRequired[bool]  # by an end token or a stop text; else it was cut at max_new_tokens


class Answers(TypedDict):
    """answers.json, beside answers.jsonl."""

    model: str  # for the reader
    params_hash: str | None  # none: of an endpoint
    step: NotRequired[Count | None]
    endpoint: bool
    questions: str  # their file
    set: str  # set_hash
    n: Count
    asked: dict[str, Any]  # how: style, texts, stop, max_new_tokens, ...
    asked_hash: str
    written_by: NotRequired[Writer | None]


class Judged(TypedDict):
    """A line of verdicts.jsonl, which has the question's own fields too."""

    id: Any
    question: str
    answer: str
    aliases: NotRequired[list[str] | None]
    prediction: str
    verdict: Verdict


def read_questions(path: str, way_out: str = "mend it, or name another JSONL file") -> list[dict]:
    """The questions with id as text and aliases as a list; other fields are carried along, but for those of results: a
    file of verdicts may be asked again."""
    lines = [{k: v for k, v in line.items() if k not in RESULTS} for line in read_lines(path, Question, way_out)]
    questions = [line | {"id": str(line["id"]), "aliases": line.get("aliases") or []} for line in lines]
    if len({q["id"] for q in questions}) < len(questions) or not questions:
        problem = "the same id twice" if questions else "no question"
        raise UserError(f"{path} holds {problem}; each needs an id of its own")
    return questions


def write_questions(path: str | Path, questions: Iterable[dict]) -> None:
    write_text(path, "".join(json.dumps(question, ensure_ascii=False) + "\n" for question in questions))


def set_hash(questions: list[dict]) -> str:
    """16 hex digits of ids, questions, answers and aliases, in any order: answers and verdicts name it."""
    lines = sorted(repr((q["id"], q["question"], q["answer"], tuple(q["aliases"]))) for q in questions)
    return text_hash("\n".join(lines))[:16]
