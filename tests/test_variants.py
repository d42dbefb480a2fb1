"""Questions without an answer, made from ones that have one."""

import json
import re

import pytest

from data_prep import variants
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import alias
from mucpt_jax.formats.questions import read_questions

ASKED = [
    {"id": 1, "lang": "en", "question": 'In which year did Ann Bell release "Blue Door"?', "answer": "1984",
     "entity": "Ann Bell", "evidence": {"document": "d1", "quote": 'Ann Bell released "Blue Door" in 1984.'}},
    {"id": 2, "lang": "en", "question": 'Where was Carl Dunn born?', "answer": "Oslo", "entity": "Carl Dunn"},
    {"id": 3, "lang": "en", "question": 'Who produced "Blue Door"?', "answer": "Eve Fox", "entity": "Eve Fox"},
    {"id": 4, "lang": "zh", "question": "歌手林一的专辑《长夜》是哪一年发行的？", "answer": "2003年", "entity": "林一"},
    {"id": 5, "lang": "zh", "question": "歌手周山在哪里出生？", "answer": "台北", "entity": "周山"},
]  # fmt: skip


def made(tmp_path, *more):
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(q, ensure_ascii=False) + "\n" for q in ASKED))
    variants.run([f"--questions={tmp_path}/q.jsonl", f"--output={tmp_path}/v.jsonl", *more])
    return {q["id"]: q for q in read_questions(f"{tmp_path}/v.jsonl")}


def test_a_decade_is_wrong_by_twenty_years_and_the_true_year_corrects_it(tmp_path, capsys):
    asked = made(tmp_path)
    english, chinese = asked["1~decade"], asked["4~decade"]
    assert english["question"].startswith("In which year of the ") and "1980s" not in english["question"]
    assert "世纪" in chinese["question"] and "21世纪00年代" not in chinese["question"]
    assert alias.is_correct("1984", english["answer"], english["aliases"])
    assert english["of"] == "1" and english["stratum"] == "decade" and english["evidence"]["document"] == "d1"
    assert "decade 2" in capsys.readouterr().out


def test_a_title_goes_to_an_artist_who_has_nothing_to_do_with_it(tmp_path):
    asked = made(tmp_path)
    # Eve Fox is linked to Blue Door by question 3, so Carl Dunn alone is left.
    assert asked["1~namesake"]["question"] == 'In which year did Carl Dunn release "Blue Door"?'
    assert asked["4~namesake"]["question"] == "歌手周山的专辑《长夜》是哪一年发行的？"
    assert not alias.is_correct("1984", asked["1~namesake"]["answer"], asked["1~namesake"]["aliases"])


def test_a_name_inside_a_title_stays():
    of = {"id": 9, "lang": "en", "entity": "Ann Bell", "answer": "x", "aliases": []}
    assert variants.named_once(of | {"question": 'Who wrote "Ann Bell Gold"?'}) is None
    assert variants.named_once(of | {"question": 'Who wrote "Gold" for Ann Bell?'}) == "Ann Bell"


def test_an_invented_name_is_nobodys(tmp_path):
    (tmp_path / "names.tsv").write_text("name\tborn\nAnn Dunn\t1950\nAnn Fox\t1960\n")
    asked = made(tmp_path, f"--names={tmp_path}/names.tsv")
    names = {q["question"] for name, q in asked.items() if name.endswith("~invented")}
    assert len(names) >= 2  # two characters are the name of many a person
    known = {"Ann Bell", "Carl Dunn", "Eve Fox", "林一", "周山", "Ann Dunn", "Ann Fox"}
    assert not [name for name in known for text in names if name in text]


def test_an_invented_chinese_name_has_one_script_and_three_characters():
    names = ["周冠楠", "Red Velvet", "C AllStar", "陈英", "黄安"]
    asked = [{"id": i, "lang": "zh", "question": f"{name}出生于哪年？", "entity": name} for i, name in enumerate(names)]
    asked = [q | {"answer": "1999", "aliases": []} for q in asked]
    made = {q["question"].removesuffix("出生于哪年？") for s in range(20)
            for q in variants.variants("invented", asked, set(), s)}  # fmt: skip
    assert made and all(re.fullmatch("[\u4e00-\u9fff]{3,}|[A-Za-z]+ [A-Za-z]+", name) for name in made)


def test_to_deny_is_right_and_to_invent_is_wrong(tmp_path):
    question = made(tmp_path)["2~invented"]
    replies = {"There is no such person.": True, "查无此人": True, "Oslo": False, "I do not know": False}
    for text, right in replies.items():
        assert alias.is_correct(text, question["answer"], question["aliases"]) == right, text


def test_the_same_seed_makes_the_same_file_and_each_bounds_a_kind(tmp_path):
    assert made(tmp_path) == made(tmp_path)
    assert len([q for q in made(tmp_path, "--each=1").values() if q["stratum"] == "invented"]) == 1


def test_a_genitive_follows_the_new_name():
    assert variants.renamed("Plies' third album", "Plies", "Ann Bell") == "Ann Bell's third album"
    assert variants.renamed("Plies' third album", "Plies", "Al Jones") == "Al Jones' third album"
    assert variants.renamed("Eve's album by Plies", "Plies", "Ann Bell") == "Eve's album by Ann Bell"


def test_less_than_one_question_of_a_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match="--each=-1 must be at least 1"):
        made(tmp_path, "--each=-1")


def test_questions_without_entities_and_years_are_refused(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"id": 1, "question": "Who?", "answer": "A"}\n')
    with pytest.raises(UserError, match=r"q\.jsonl gives no variant"):
        variants.run([f"--questions={tmp_path}/q.jsonl", f"--output={tmp_path}/v.jsonl"])
