"""What jobs leave in a workdir, as types: each file is written by one room and read by several.  Losses are in nats."""

from typing import Any, NotRequired, TypedDict

from mucpt_jax.formats.decode import Count, Number
from mucpt_jax.formats.version import Writer


class Heldout(TypedDict):
    """Mean loss of a source's held-out rows."""

    nll: Number
    tokens: Count  # targets


class Evaluation(TypedDict):
    """A line of heldout.jsonl."""

    step: Count
    nll: Number  # over all sources
    sources: dict[str, Heldout]


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


class Evaluated(TypedDict, total=False):
    """evaluate.json"""

    params_hash: str
    step: Count | None
    heldout: dict[str, Heldout] | None
    questions: Grades | None
    written_by: Writer | None


class Prediction(TypedDict):
    """A line of predictions.jsonl, which has the question's own fields too."""

    id: Any
    question: str
    answer: str
    aliases: NotRequired[list[str] | None]
    prediction: str
    correct: bool


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
