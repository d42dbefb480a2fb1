"""What jobs leave in a workdir, as types: each file is written by one room and read by several.  Losses are in nats."""

from typing import Any, Literal, NotRequired, TypedDict

from mucpt_jax.formats.decode import Count, Number
from mucpt_jax.formats.version import Writer


class Heldout(TypedDict):
    """Mean loss of a source's held-out rows."""

    nll: Number
    tokens: Count  # targets


class Evaluation(TypedDict):
    """Of the state after a step."""

    step: Count
    nll: Number  # over all sources
    sources: dict[str, Heldout]


class Noted(Evaluation):
    """A line of heldout.jsonl."""

    params_hash: NotRequired[str]  # with keep=best, of a state that was better than all before


class Best(Evaluation):
    """best.json"""

    params_hash: str
    before: Evaluation  # of the start
    ended: dict[str, Any] | None  # the rule by which training is over


class Grades(TypedDict):
    k: Count  # right
    n: Count  # asked
    accuracy: Number
    low: Number
    high: Number


ASKED = ("questions", "style", "prompt", "stop", "max_new_tokens")  # of evaluate.*: what is asked and how


class Asked(TypedDict, total=False):
    """evaluate.* that grades depend on; results of 0.1 and 0.2 do not say it."""

    questions: str  # file
    style: str  # missing: prompt
    prompt: str
    stop: str
    max_new_tokens: Count


class Earlier(TypedDict):
    """Answers of the same parameters to what was asked before."""

    questions: Grades
    asked: Asked
    predictions: str  # name of their file


class Evaluated(TypedDict, total=False):
    """evaluate.json"""

    params_hash: str
    step: Count | None
    heldout: dict[str, Heldout] | None
    rows: dict[str, str] | None  # source -> the folder it was measured on
    questions: Grades | None
    asked: Asked | None
    earlier: dict[str, Earlier] | None  # by a hash of what was asked
    written_by: Writer | None


class Prediction(TypedDict):
    """A line of predictions.jsonl, which has the question's own fields too."""

    id: Any
    question: str
    answer: str
    aliases: NotRequired[list[str] | None]
    prediction: str
    correct: bool


class Judge(TypedDict):
    """Who gave verdicts."""

    kind: Literal["alias", "llm"]
    model: NotRequired[str | None]  # none: the alias judge
    hash: NotRequired[str | None]  # of prompts, model and parameters


class JudgedAnswers(TypedDict, total=False):
    """Of the answers.json that was judged; answers of old evaluations have none."""

    asked: dict[str, Any] | None
    params_hash: str | None
    set: str | None  # hash of the questions
    questions: str | None  # their file


class Judgement(TypedDict):
    """judge.json, beside verdicts.jsonl"""

    judge: Judge
    questions: str  # their file
    n: Count
    answers: NotRequired[JudgedAnswers | None]


class Task(TypedDict):
    """A task of lm-eval."""

    k: Count  # right
    n: Count
    group: NotRequired[str | None]


class Harness(TypedDict):
    """harness.json, beside harness.jsonl"""

    tasks: dict[str, Task]
    params_hash: NotRequired[str | None]
    settings: NotRequired[dict[str, Any] | None]  # shots, delimiter, ...: what a number depends on


class HarnessAnswer(TypedDict):
    """A line of harness.jsonl: a question of a task."""

    id: str  # TASK/NUMBER
    task: str
    correct: NotRequired[bool]  # of a question that has a right answer


class SourceStep(TypedDict):
    """A source's part of a step; null: not finite, or nothing was chosen."""

    is_domain: bool
    nll: Number | None
    mean_weight: Number | None
    ess: Number | None  # effective share of the tokens
    tokens: Count


class Step(TypedDict):
    """A line of metrics.jsonl."""

    step: Count
    sources: NotRequired[dict[str, SourceStep]]


class Counted(TypedDict):
    """counts.json of a job of data_prep, as far as it is read here."""

    kept: Count  # documents
