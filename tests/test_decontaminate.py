import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_prep import decontaminate
from data_prep.text import contamination
from mucpt_jax.errors import UserError

REAL = Path(__file__).parents[2] / "shared" / "data"
QUESTIONS = [
    {"id": "en", "question": "In which year did the band The Example Birds release their second studio album, Nest?",
     "answer": "1987", "aliases": ["nineteen eighty-seven"]},
    {"id": "zh", "question": "歌手陈例子的第二张录音室专辑叫什么名字？", "answer": "夜航"},
    {"id": "short", "question": "Who sang Hello?", "answer": "Adele Example"},
]  # fmt: skip


@pytest.fixture
def questions(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(q, ensure_ascii=False) + "\n" for q in QUESTIONS), encoding="utf-8")
    return str(file)


def found(text: str, questions: str):
    return contamination.find(contamination.words_of([text])[0], contamination.load((questions,)))


def test_a_whole_question_is_found_in_any_dress(questions):
    asked = "Quiz: IN WHICH YEAR did the band “The Example Birds” release their second studio album (Nest)? ..."
    assert found(asked, questions) == ("en", "whole")
    assert found("問：歌手陈例子的第二张录音室专辑，叫什么名字", questions) == ("zh", "whole")


def test_a_part_counts_only_with_an_answer_nearby(questions):
    part = "year did the band the example birds release their second studio album nest at last"
    assert found(f"{part} It was 1987.", questions) == ("en", "near")
    assert found(f"{part} It was nineteen eighty-seven", questions) == ("en", "near")
    assert found(f"1987! {part}", questions) == ("en", "near")
    assert found(part, questions) is None
    assert found(f"{part} {'word ' * 101} 1987", questions) is None
    assert found("the band the example birds release their second studio album 1987", questions) is None  # 10 words


def test_a_stated_fact_is_no_leak(questions):
    assert found("The Example Birds released their second studio album, Nest, in 1987.", questions) is None
    assert found("陈例子的第二张录音室专辑是《夜航》。", questions) is None


def test_a_short_question_needs_its_answer(questions):
    assert found("who sang hello, asked the host", questions) is None
    assert found("Who sang Hello? Adele Example did.", questions) == ("short", "near")


@pytest.mark.parametrize(
    ("answer", "aliases", "words"),
    [
        ("Paris", "Lutetia Parisiorum", [1, 2]),  # of a CSV, an alias is one string
        (1969, None, [1]),
        (["a b", "c"], ["d"], [2, 1, 1]),
        ("", ["", "x"], [1]),
        ("你好", [], [2]),
    ],
)
def test_answers_are_texts_numbers_or_lists(answer, aliases, words):
    row = {"question": "what is it", "answer": answer, "aliases": aliases}
    assert [len(found) for found in contamination.question_of(row, "x").answers] == words


def test_the_answer_of_a_multiple_choice_is_its_text(tmp_path):
    file = tmp_path / "cmmlu.csv"
    file.write_text("Question,A,B,C,D,Answer\n下列哪一首是示例作曲家的作品,甲曲,乙曲,丙曲,丁曲,C\n", encoding="utf-8")
    (question,) = contamination.load((str(file),)).questions
    np.testing.assert_array_equal(question.answers[0], contamination.words_of(["丙曲"])[0])


def test_documents_go_and_the_hits_are_told_without_texts(tmp_path, questions):
    source = tmp_path / "docs.jsonl"
    texts = {"leak": QUESTIONS[1]["question"], "fact": "陈例子的第二张录音室专辑是《夜航》。", "other": "Another text."}
    source.write_text("".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in texts.items()))
    counts = decontaminate.run([f"--input={source}", f"--output={tmp_path / 'out'}", f"--questions={questions}"])
    assert counts == {"read": 3, "kept": 2, "dropped": {"contaminated": 1}}
    kept = [name for part in (tmp_path / "out").glob("part-*") for name in pq.read_table(part)["id"].to_pylist()]
    assert kept == ["fact", "other"]
    (line,) = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(line) == {"id": "leak", "reason": "contaminated", "question": "zh", "kind": "whole"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no question"),
        ('{"answer": "x"}\n', "1 has no `question`"),
        ("{", "line 1 cannot be read as JSON"),
        ("[" * 9999, "cannot be read as JSON"),
    ],
)
def test_bad_questions_are_one_sentence(tmp_path, text, sentence):
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        contamination.load((str(file),))
    with pytest.raises(UserError, match="names no file"):
        contamination.load((str(tmp_path / "none.jsonl"),))


@pytest.mark.skipif(not REAL.is_dir(), reason="real text lies beside the project only where it is developed")
def test_real_text_holds_no_question_until_one_is_planted():
    file = str(REAL / "eval/music_proxy/music_simpleqa_proxy.jsonl")
    asked = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    with gzip.open(REAL / "music/music_zh_wiki.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines][: len(asked)]
    table = contamination.load((file,))
    clean = [contamination.find(words, table) for words in contamination.words_of(texts)]
    assert sum(one is not None for one in clean) == 0
    planted = [f"{text[: len(text) // 2]}\n{q['question']}\n{text}" for text, q in zip(texts, asked, strict=False)]
    hits = [contamination.find(words, table) for words in contamination.words_of(planted)]
    long = [len(words) >= contamination.WHOLE for words in contamination.words_of([q["question"] for q in asked])]
    assert [hit is not None for hit, is_long in zip(hits, long, strict=False) if is_long].count(False) == 0
