"""Quality: texts that are neither prose nor a form that holds facts go, under the name of the rule that they broke.

    python -m data_prep.quality --input=clean/ --output=quality/ [--min_words=10 --list_max_digits=0.5 ...]

The rules are those of Gopher (Rae et al. 2021, A1.1), C4 (Raffel et al. 2020) and FineWeb (Penedo et al. 2024), made
right for Chinese: a character is a word, 。 ends a line, 的 is a stop word.  RULES has them all.  A rule's name is its
flag, and the drop reason of documents that break it and no rule before it.  0 switches a min_ off, 1 a max_ of a share.

These are rules for prose.  A text that breaks one is asked for its form (text/forms.py): a list such as a track
listing, personnel or a roster; a table; verse; notation; a definition such as `Yesterday is a song by the Beatles.`
It stays if it keeps the thresholds of that form, where --FORM_RULE stands in place of --RULE.  Lists of prices, paths,
settings, chats and the like are junk, whose thresholds are stricter than those for prose.

--names gives a catalogue: files of names, one a line, or JSONL with name and aliases.  A sentence that says something
of a name is never too short (`Adele sang Hello.`), and a line that is a name counts as an entry of a list.

Adds the column `quality`, 0..1: a product over the rules.  A rule's factor is 1 where the value is `good` or better,
0.32 where its default is reached or broken, and in between on the way.  The flags do not change the score, so scores of
two runs compare; min_ended is no part of it, as verse has no ends of sentences, and rules that a form has its own
thresholds for are no part of the score of a text of that form, but for min_words.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.jobs import documents, job
from data_prep.jobs.options import option
from data_prep.jobs.stage import Stage, each_batch
from data_prep.text import catalogue, measures
from data_prep.text.forms import form_of, is_statement
from mucpt_jax.errors import UserError

Counts = Mapping[str, np.ndarray]
DOUBTFUL = 0.5  # of the score: texts below are asked for their form
WORST, ROOT = 0.01, 4  # of a margin, and of the product of margins: 0.01 ** (1 / 4) is 0.32


class Rule(NamedTuple):
    name: str  # min_... or max_...; the default itself does not break it
    default: float
    good: float  # NaN: no part of the score
    comment: str
    measure: Callable[[Counts], np.ndarray]  # f8[n]; NaN where the rule says nothing of a text


# What the rules measure


def share(part: str, whole: str) -> Callable[[Counts], np.ndarray]:
    """At most 1: a text may have more lines than words."""
    return lambda counts: np.minimum(1, counts[part] / np.maximum(1, counts[whole]))


def words(counts: Counts) -> np.ndarray:
    return counts["words"].astype(np.float64)


def is_chinese(counts: Counts) -> np.ndarray:
    """bool[n]: more than half of the words are characters of a script that sets no blanks between words."""
    return 2 * counts["lone_words"] > counts["words"]


def word_length(counts: Counts) -> np.ndarray:
    """Mean letters of a word; says nothing of Chinese, nor of numbers."""
    spelled = counts["letter_words"] - counts["lone_words"]
    length = (counts["letters"] - counts["lone_words"]) / np.maximum(1, spelled)
    return np.where(is_chinese(counts) | (spelled == 0), np.nan, length)


ENDED = share("ended_words", "words")


def stop_share(chinese: bool) -> Callable[[Counts], np.ndarray]:
    """Stop words, and one added, per word.  A text of few stop words and few ends of sentences is a list: stop words in
    lines that end in no punctuation count half.

    The one is added for stubs, captions and verse, which may lack stop words.  Says nothing of texts in other scripts
    than Latin and Han.
    """

    def measure(counts: Counts) -> np.ndarray:
        applies = (is_chinese(counts) == chinese) & (2 * counts["known_letters"] >= counts["letters"])
        weight = (1 + ENDED(counts)) / 2
        return np.where(applies, (counts["stop_words"] * weight + 1) / np.maximum(1, counts["words"]), np.nan)

    return measure


def spam_share(counts: Counts) -> np.ndarray:
    """Words in pairs of adverts, per word; one pair is free, as any text may hold one.  At most 1, as pairs overlap."""
    return np.minimum(1, 2 * np.maximum(0, counts["spam_pairs"] - 1) / np.maximum(1, counts["words"]))


def symbol_share(counts: Counts) -> np.ndarray:
    signs = counts["characters"] - counts["letters"] - counts["digits"]
    return signs / np.maximum(1, counts["characters"])


def truncated_share(counts: Counts) -> np.ndarray:
    """Share of lines that end in an ellipsis; one such line is free, as it may close a story."""
    return np.maximum(0, counts["ellipsis_lines"] - 1) / np.maximum(1, counts["lines"])


RULES = (
    Rule("min_words", 10, 100, "words; a Chinese character is one", words),
    Rule("max_words", 1_000_000, 500_000, "words", words),
    Rule("min_word_length", 2.5, 3.5, "mean letters of a word; not of Chinese", word_length),
    Rule("max_word_length", 10, 7, "mean letters of a word; not of Chinese", word_length),
    Rule("min_stop_words", 0.06, 0.25, "words such as the, of, und, que to a word; not of Chinese", stop_share(False)),
    Rule("min_stop_words_zh", 0.026, 0.08, "characters such as 的, 是, 與, 年, の to a word", stop_share(True)),
    Rule("max_spam_words", 0.06, 0.01, "share of words in pairs that adverts are made of", spam_share),
    Rule("min_alphabetic", 0.35, 0.8, "share of words that begin with a letter", share("letter_words", "words")),
    Rule("max_digits", 0.4, 0.15, "share of characters", share("digits", "characters")),
    Rule("max_symbols", 0.4, 0.15, "share of characters that are no letters or digits", symbol_share),
    Rule("max_braces", 0.026, 0.005, "share of characters that are {, } or <", share("braces", "characters")),
    Rule("max_urls", 0.65, 0.1, "share of characters", share("url_characters", "characters")),
    Rule("max_bullet_lines", 0.9, 0.3, "share of lines that begin with a bullet", share("bullet_lines", "lines")),
    Rule("max_ellipsis_lines", 0.3, 0.05, "share of lines that end in an ellipsis, but for one", truncated_share),
    Rule("max_hashes", 0.1, 0.02, "# and ellipses to a word; not the #1 of charts", share("hashes", "words")),
    Rule("max_lines", 0.4, 0.15, "lines to a word", share("lines", "words")),
    Rule("min_ended", 0.0, math.nan, "share of words in lines that end in . or 。; 0.1 drops verse", ENDED),
    Rule("max_dup_lines", 0.55, 0.1, "share of lines that stood before", share("dup_lines", "lines")),
    Rule("max_dup_5gram", 0.7, 0.25, "share of words in runs of 5 that stood before", share("dup_5gram", "words")),
    Rule("max_dup_10gram", 0.55, 0.15, "share of words in runs of 10 that stood before", share("dup_10gram", "words")),
    Rule("max_top_2gram", 0.3, 0.15, "share of words in the commonest pair's repeats", share("top_2gram", "words")),
    Rule("max_top_4gram", 0.3, 0.15, "share of words in the commonest four's repeats", share("top_4gram", "words")),
)  # fmt: skip


# Thresholds of a form in place of those for prose; rules that do not stand here hold for a form as for prose.
OF_FORMS = {
    "list": {"min_words": 6, "min_stop_words": 0, "min_stop_words_zh": 0, "min_alphabetic": 0.25, "max_digits": 0.5,
             "max_symbols": 0.45, "max_bullet_lines": 1, "max_lines": 1, "max_dup_lines": 0.7,
             "max_top_2gram": 0.5, "max_top_4gram": 0.5},
    "table": {"min_word_length": 1.5, "min_stop_words": 0, "min_stop_words_zh": 0, "min_alphabetic": 0.1,
              "max_digits": 0.7, "max_symbols": 0.5, "max_lines": 0.6, "max_dup_5gram": 0.85, "max_dup_10gram": 0.8,
              "max_top_2gram": 0.85, "max_top_4gram": 0.6},
    "verse": {"min_word_length": 1.8, "min_stop_words": 0, "min_stop_words_zh": 0, "max_lines": 0.5,
              "max_dup_lines": 0.85, "max_dup_5gram": 0.9, "max_dup_10gram": 0.85, "max_top_2gram": 0.45,
              "max_top_4gram": 0.7},
    "notation": {"min_word_length": 0, "max_word_length": 40, "min_stop_words": 0, "min_stop_words_zh": 0,
                 "min_alphabetic": 0, "max_digits": 0.8, "max_symbols": 0.95, "max_braces": 0.1, "max_hashes": 1,
                 "max_lines": 1, "max_dup_lines": 0.85, "max_dup_5gram": 0.95, "max_dup_10gram": 0.95,
                 "max_top_2gram": 0.85, "max_top_4gram": 0.85},
    "definition": {"min_words": 5, "min_stop_words": 0, "min_stop_words_zh": 0, "max_top_2gram": 0.6,
                   "max_top_4gram": 0.7},
    "junk": {"min_stop_words": 0.2, "min_stop_words_zh": 0.1},
}  # fmt: skip


def judge(
    texts: Sequence[str], limits: Mapping[str, float], names: tuple[str, ...] = ()
) -> tuple[list[str | None], np.ndarray]:
    """Texts, thresholds as in Options, files of names -> the first rule that each text breaks (or None), f8[n] quality.

    A text that breaks a rule for prose, or scores below DOUBTFUL, is asked for its form.  It stays if it keeps the
    thresholds of its form, and but for min_words the rules for which its form has a threshold are no part of its score.
    """
    counts = measures.count(texts)
    values = {rule.name: rule.measure(counts) for rule in RULES}
    margins = {rule.name: margin(values[rule.name], rule) for rule in RULES}
    quality = score(np.stack(list(margins.values())))
    broken: list[list[str]] = [[] for _ in texts]  # rules, in their order
    for name, value in values.items():
        for row in np.flatnonzero(breaks(name, value, limits)).tolist():
            broken[row].append(name)
    for row, rules in enumerate(broken):
        if may_be_excused(rules, bool(names)) if rules else quality[row] < DOUBTFUL:
            form = form_of(texts[row], lambda line: catalogue.is_name(line, names))
            own = {**limits, **own_limits(form, texts[row], limits, names)}
            broken[row] = [name for name in values if breaks(name, values[name][row], own)]
            quality[row] = score(np.array([value[row] for name, value in margins.items() if name not in EXCUSED[form]]))
    low = quality < limits["min_quality"]
    return [(*rules, "min_quality" if low[row] else None)[0] for row, rules in enumerate(broken)], quality


def breaks(name: str, value, limits: Mapping[str, float]):
    return value < limits[name] if name.startswith("min_") else value > limits[name]


def may_be_excused(rules: Sequence[str], named: bool) -> bool:
    """Whether some form has thresholds of its own for all these rules; a name in a text excuses that it is short."""
    left = set(rules) - NAMED.keys() if named else set(rules)
    return any(own.keys() >= left for own in OF_FORMS.values())


def own_limits(form: str, text: str, limits: Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    """{rule: threshold} where they are not those for prose."""
    own = {rule: limits[f"{form}_{rule}"] for rule in OF_FORMS.get(form, ())}
    return own | (NAMED if names and is_statement(text) and catalogue.says_of_name(text, names) else {})


NAMED = {"min_words": 0.0, "max_lines": 1.0}  # in place of those for prose, where a sentence holds a name
# Rules that are no part of the score of a text of the form; a short text says little, whatever its form.
_LIMITS = {rule.name: rule.default for rule in RULES}
EXCUSED = {"prose": set()} | {
    form: {rule for rule, limit in own.items() if breaks(rule, limit, _LIMITS)} - {"min_words"}
    for form, own in OF_FORMS.items()
}


def score(margins: np.ndarray) -> np.ndarray:
    """f8[rules, ...] -> f8[...]"""
    return np.prod(margins, axis=0) ** (1 / ROOT)


def margin(value: np.ndarray, rule: Rule) -> np.ndarray:
    """f8[n] from WORST where the rule's default is reached or broken to 1 where `good` is, or the rule says nothing."""
    way = (value - rule.default) / (rule.good - rule.default)
    return np.clip(np.nan_to_num(way, nan=1.0), WORST, 1.0)


LIMITS = [(rule.name, float, option(float(rule.default), rule.comment)) for rule in RULES]
LIMITS += [
    (f"{form}_{rule}", float, option(float(limit), f"of a {form}, in place of {rule}"))
    for form, limits in OF_FORMS.items()
    for rule, limit in limits.items()
]
LIMITS.append(("min_quality", float, option(0.0, "of the score from 0 to 1; above .25 verse begins to go")))
NAMES = ("names", tuple, option((), "files of names: one a line, or JSONL with name and aliases; may be repeated"))
Options = dataclasses.make_dataclass("Options", [*LIMITS, NAMES], frozen=True, namespace={"__module__": __name__})


def judge_batch(batch: pa.RecordBatch, folder: Path, options: Options) -> pa.RecordBatch:
    limits = {name: getattr(options, name) for name, *_ in LIMITS}
    reasons, quality = judge(batch["text"].to_pylist(), limits, options.names)
    at = batch.schema.get_field_index("quality")
    batch = batch.remove_column(at) if at >= 0 else batch  # of a run before
    batch = batch.append_column("quality", pa.array(quality, pa.float64()))
    return documents.keep(batch, reasons, folder)


def check(options: Options) -> None:
    limits = {name: getattr(options, name) for name, *_ in LIMITS}
    shares = {rule.name for rule in RULES if rule.default <= 1} | {"min_quality"}
    for name, value in limits.items():
        if not math.isfinite(value) or value < 0:
            raise UserError(f"--{name}={value:g} is no threshold; give a number, 0 or more")
        if rule_of(name) in shares and value > 1:
            raise UserError(f"--{name}={value:g} is no share; give a number from 0 to 1")
        low = name.replace("max_", "min_")
        least = limits.get(low, 0)
        if least > value:
            raise UserError(f"--{low}={least:g} and --{name}={value:g} leave nothing between them; change one")
    if options.names:
        catalogue.finder(options.names)


def rule_of(name: str) -> str:
    """list_max_digits -> max_digits"""
    return re.sub(f"^(?:{'|'.join(OF_FORMS)})_", "", name)


STAGE = Stage(
    "quality", "rules and a score", __doc__, Options, each_batch(judge_batch), check=check,
    counts={name: name for name in (*(rule.name for rule in RULES), "min_quality")}, reads="names",
)  # fmt: skip
run = STAGE.run

if __name__ == "__main__":
    job.main(run)
