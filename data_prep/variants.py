"""Questions that have no answer, made from ones that have: does a model invent one?

    python -m data_prep.variants --questions=questions.jsonl --output=adversarial.jsonl [--each=100] [--seed=0]
        [--names=catalogue.tsv]

    invented    the entity's name gives way to a name that nobody has, put together from two others
    namesake    a title stays, its artist gives way to another of the questions who has nothing to do with it
    decade      of a year or date: asked for in a decade that is at least twenty years off

The right answer is "no such", in any of the phrases of DENIALS; of a decade also the true year, which corrects the
question.  `of` names the question that it was made from, `stratum` the kind, so that mucpt_jax.compare shows each.
--names (first column, or one a line) are names that an invented one must not be.  The same seed makes the same file.
"""

import collections
import csv
import itertools
import random
import re
from collections.abc import Iterator

from data_prep.jobs import job, options
from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.files import text_hash
from mucpt_jax.formats.questions import read_questions, write_questions

DENIALS = {  # phrases of three letters or more, which the alias judge looks for inside an answer
    "en": ["no such", "does not exist", "doesn't exist", "did not exist", "never existed", "there is no",
           "there was no", "is not a real", "is fictional", "false premise"],
    "zh": ["不存在", "没有这", "并没有", "并非真", "查无此", "不是真实", "是虚构", "前提有误", "前提错误", "没有此",
           "没有该"],
}  # fmt: skip
ASKED = {  # of a year or day, and the same in a decade
    "en": [(r"\b([Ww])h(?:ich|at) year\b", r"\1hich year of the {decade}s"), (r"\bWhen\b", "When in the {decade}s"),
           (r"\b([Oo])n wh(?:ich|at) (day|date)\b", r"\1n which \2 of the {decade}s")],
    "zh": [("哪一?年", "{century}世纪{ten}年代的哪一年"), ("哪一?天|何时|什么时候", "{century}世纪{ten}年代的哪一天")],
}  # fmt: skip
OFF = (-40, -30, -20, 20, 30, 40)  # years
LAST = 2020  # no decade after it is asked for
TITLE = re.compile('《([^》]+)》|["“]([^"”]+)["”]|‘([^’]+)’')
KINDS = ("invented", "namesake", "decade")


def parser():
    flags = options.parser(__doc__)
    flags.add_argument("--questions", required=True, help="JSONL of data_prep.questions, or your own with `entity`")
    flags.add_argument("--output", required=True, help="JSONL of questions to write")
    flags.add_argument("--each", type=int, default=100, help="questions of each kind at most (default %(default)s)")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--names", action="append", default=[], help="catalogue of names; may be repeated")
    return flags


def run(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.each < 1:
        raise UserError(f"--each={args.each} must be at least 1")
    questions = read_questions(args.questions)
    names = set(itertools.chain.from_iterable(map(read_names, args.names)))
    kept, counts = [], collections.Counter()
    for kind in KINDS:
        mine = list(variants(kind, questions, names, args.seed))
        chosen = sorted(mine, key=lambda q: text_hash(f"{args.seed} {q['id']}"))[: args.each]
        kept += chosen
        counts[kind] = len(chosen)
    if not kept:
        raise UserError(
            f"{args.questions} gives no variant: its questions name no `entity` of theirs and ask for no year; "
            "make them by data_prep.questions"
        )
    write_questions(args.output, kept)
    print(", ".join(f"{kind} {n:,}" for kind, n in counts.items()))


def read_names(file: str) -> Iterator[str]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            yield from (row[0].strip() for row in csv.reader(lines, delimiter="\t") if row)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"--names={file} cannot be read ({one_line(error)}); name a TSV or a list of names") from error


def variants(kind: str, questions: list[dict], names: set[str], seed: int) -> Iterator[dict]:
    """Of each question that has a variant of the kind, one; by its own id alone, so the others may change."""
    known = {text.casefold() for q in questions for text in (q.get("entity") or "", q["answer"], *q["aliases"])}
    known |= {name.casefold() for name in names}
    for question in questions:
        pick = random.Random(f"{seed} {kind} {question['id']}")
        others = [q for q in questions if lang_of(q) == lang_of(question) and q.get("entity")]
        text = {"invented": invented, "namesake": namesake, "decade": decade}[kind](question, others, known, pick)
        if text and text != question["question"]:
            yield without_answer(question, kind, text)


def lang_of(question: dict) -> str:
    given = question.get("lang") or ("zh" if re.search("[\u4e00-\u9fff]", question["question"]) else "en")
    return "zh" if given.startswith("zh") else "en"


def without_answer(question: dict, kind: str, text: str) -> dict:
    lang = lang_of(question)
    first, *more = DENIALS[lang]
    other = DENIALS["en" if lang == "zh" else "zh"]  # a model may answer in either
    true = [question["answer"], *question["aliases"]] if kind == "decade" else []
    carried = {name: question[name] for name in ("entity", "popularity", "evidence") if question.get(name)}
    return {
        "id": f"{question['id']}~{kind}", "lang": lang, "question": text, "answer": first,
        "aliases": [*more, *other, *true], "answer_type": "none", "stratum": kind, "of": question["id"], **carried,
        "route": "variant",
    }  # fmt: skip


def invented(question: dict, others: list[dict], known: set[str], pick: random.Random) -> str | None:
    """The begin of one name and the end of another, where nobody has that name."""
    name = named_once(question)
    if not name:
        return None
    halves = [half for q in others if (half := split(q["entity"]))]
    for _ in range(20 if len(halves) > 1 else 0):
        (begin, _), (_, end) = pick.choice(halves), pick.choice(halves)
        other = f"{begin}{end}" if is_chinese(begin) else f"{begin} {end}"
        # Two characters are the name of many a person; a name of two scripts is none.
        if other.casefold() not in known and is_chinese(begin) == is_chinese(end) and len(other) > 2:
            return renamed(question["question"], name, other)
    return None


def is_chinese(text: str) -> bool:
    return "\u4e00" <= text[0] <= "\u9fff"


def renamed(text: str, name: str, other: str) -> str:
    """With the other name's own genitive: Plies' album -> Ann Bell's album."""
    if name.endswith("s") and not other.endswith("s"):
        text = re.sub(re.escape(name) + "(['’])(?!s)", lambda match: f"{name}{match[1]}s", text)
    return text.replace(name, other)


def named_once(question: dict) -> str | None:
    """The entity, where the question names it once, and not as part of a title."""
    name, text = question.get("entity") or "", question["question"]
    return name if name and text.count(name) == 1 and not any(name in title for title in titles_of(text)) else None


def split(name: str) -> tuple[str, str] | None:
    """A person's name of two words, or of two to four Chinese characters, in two."""
    if words := re.fullmatch(r"([^\W\d_]+) ([^\W\d_]+)", name):
        return words[1], words[2]
    return (name[0], name[1:]) if re.fullmatch("[\u4e00-\u9fff]{2,4}", name) else None


def namesake(question: dict, others: list[dict], known: set[str], pick: random.Random) -> str | None:
    """Another artist in place of the title's own: one whose questions do not name the title."""
    name, titles = named_once(question), titles_of(question["question"])
    if not name or not titles:
        return None
    linked = {q["entity"] for q in others if any(title in said_of(q) for title in titles)}
    free = sorted(
        {q["entity"] for q in others if q["entity"] not in linked and q["entity"] not in question["question"]}
    )
    return renamed(question["question"], name, pick.choice(free)) if free else None


def titles_of(text: str) -> set[str]:
    return {next(filter(None, groups)) for groups in TITLE.findall(text)}


def said_of(question: dict) -> str:
    """All that is known of a question's entity there."""
    return " ".join([question["question"], question["answer"], (question.get("evidence") or {}).get("quote") or ""])


def decade(question: dict, others: list[dict], known: set[str], pick: random.Random) -> str | None:
    """The year asked for in a decade at least twenty years off the true one."""
    years = set(re.findall(r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)", question["answer"]))
    if len(years) != 1 or re.search(r"(?<!\d)(?:1[5-9]\d\d|20\d\d)(?!\d)", question["question"]):
        return None
    true = int(years.pop()) // 10 * 10
    wrong = pick.choice([true + off for off in OFF if true + off < LAST])
    words = {"decade": wrong, "century": wrong // 100 + 1, "ten": f"{wrong % 100:02d}"}
    for pattern, put in ASKED[lang_of(question)]:
        if re.search(pattern, question["question"]):
            return re.sub(pattern, put.format(**words), question["question"], count=1)
    return None


if __name__ == "__main__":
    job.main(run)
