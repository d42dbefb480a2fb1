"""The music part of SimpleQA and Chinese SimpleQA, as questions that the other commands ask, judge and compare.

    python -m data_prep.simpleqa simple_qa_test_set.csv chinese_simpleqa.jsonl --output=music_simpleqa.jsonl
        [--topics=Music,音乐,中国音乐] [--any_word]

A question stays where its topic is one of --topics and, in Chinese, a word of music stands in it or in its answer: the
topics there hold operas' actors, comedians and software too.  --any_word keeps those.  Ids are a hash of the text, so
they stay when files are read in another order.  Each drop is counted by its reason.

Files are those of openai/simple-evals (CSV: metadata, problem, answer) and OpenStellarTeam/ChineseSimpleQA (JSONL: id,
question, answer, primary_category, secondary_category); both may be downloaded from their repositories.
"""

import ast
import collections
import re
from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

from data_prep.jobs import job, options
from data_prep.text.contamination import csv_rows
from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.decode import checked, read_lines
from mucpt_jax.formats.files import text_hash
from mucpt_jax.formats.questions import write_questions

WAY_OUT = "name a file of SimpleQA or Chinese SimpleQA as it is published"
TOPICS = "Music,音乐,中国音乐"
# A work's title alone is no music: films and plays have titles too.
MUSIC = re.compile(
    "歌|唱|曲(?!艺)|专辑|專輯|单曲|單曲|乐(?!园)|樂|琴|鼓(?!词)|笛|箫|箏|筝|琵琶|二胡|吉他|贝斯|音律|平均律|旋律|节拍|和声|唱片|作词|填词|指挥|"
    "演奏|组合|偶像|出道|巡演|演唱会|劲歌|榜单"
)
STAGE = re.compile("戏曲|戏剧|京剧|越剧|豫剧|川剧|黄梅戏|梆子|昆山腔|相声|小品|滑稽|话剧|软件|宣传片|节目")


class Metadata(TypedDict):
    topic: str
    answer_type: NotRequired[str]


class Chinese(TypedDict):
    id: str
    question: str
    answer: str
    secondary_category: str


def parser():
    flags = options.parser(__doc__)
    flags.add_argument("files", nargs="+", help=".csv of SimpleQA, .jsonl of Chinese SimpleQA")
    flags.add_argument("--output", required=True, help="JSONL of questions to write")
    flags.add_argument("--topics", default=TOPICS, help="comma-separated (default %(default)s)")
    flags.add_argument("--any_word", action="store_true", help="keep a topic's questions that name nothing of music")
    return flags


def run(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    topics, counts, kept = set(args.topics.split(",")), collections.Counter(), {}
    for file in args.files:
        for question in read(file):
            reason = drop_reason(question, topics, args.any_word) or ("twice" if question["id"] in kept else "kept")
            counts[reason] += 1
            if reason == "kept":
                kept[question["id"]] = question
    if not kept:
        raise UserError(f"no question has a topic of --topics={args.topics}; name some that the files have")
    write_questions(args.output, kept.values())
    print(", ".join(f"{reason} {n:,}" for reason, n in counts.most_common()))


def drop_reason(question: dict, topics: set[str], any_word: bool) -> str | None:
    if question["topic"] not in topics:
        return "other topic"
    if not question["question"] or not question["answer"]:
        return "empty"
    text = question["question"] + question["answer"]
    chinese = question["lang"] == "zh" and not any_word
    return "no word of music" if chinese and (STAGE.search(text) or not MUSIC.search(text)) else None


def read(file: str) -> Iterator[dict]:
    """Questions with their topic."""
    if file.endswith(".csv"):
        for number, row in enumerate(csv_rows(file, WAY_OUT), 1):
            where = f"{file} question {number}"
            about = checked(metadata(row, where), Metadata, where, WAY_OUT)
            kind = about.get("answer_type", "").lower() or None
            yield question_of(row["problem"], row["answer"], "en", about["topic"], kind, "simpleqa")
    else:
        for row in read_lines(file, Chinese, WAY_OUT):
            yield question_of(row["question"], row["answer"], "zh", row["secondary_category"], None, "chinese_simpleqa")


def question_of(question: str, answer: str, lang: str, topic: str, kind: str | None, route: str) -> dict:
    question, answer = question.strip(), answer.strip()
    return {
        "id": f"{route}-{text_hash(question)[:12]}", "lang": lang, "question": question, "answer": answer,
        "aliases": aliases(answer), "answer_type": kind, "topic": topic, "route": route,
    }  # fmt: skip


def aliases(answer: str) -> list[str]:
    """赌徒(Gambler) -> 赌徒, Gambler; 《梦》 -> 梦: what the answer itself offers.  Brackets of a title stay in it."""
    inner = re.fullmatch(r"([\u4e00-\u9fff·]+)\s*[(（]([^()（）\u4e00-\u9fff]+)[)）]", answer)
    given = [*(inner.groups() if inner else ()), re.sub("[《》〈〉「」]", "", answer)]
    return list(dict.fromkeys(one.strip() for one in given if one.strip() and one.strip() != answer))


def metadata(row: dict, where: str) -> Any:
    """SimpleQA writes it as a Python literal."""
    try:
        checked(row, dict[str, str], where, WAY_OUT)
        return ast.literal_eval(row["metadata"]) if row["problem"] and row["answer"] else None
    except (KeyError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UserError(f"{where} has no metadata, problem and answer ({one_line(error)}); {WAY_OUT}") from error


if __name__ == "__main__":
    job.main(run)
