"""The music part of two published sets of questions; their rows here are our own."""

import json

import pytest

from data_prep import simpleqa
from mucpt_jax.errors import UserError
from mucpt_jax.formats.questions import read_questions

CHINESE = [
    ("a", "歌曲《长夜》是哪一年发行的？", "2011", "音乐"),
    ("b", "《长夜》这出越剧是谁写的剧本？", "某人", "音乐"),  # an opera under the topic
    ("c", "谁写了《长夜》？", "某人（Some One）", "音乐"),  # a title alone tells nothing
    ("d", "歌手甲的首张专辑叫什么？", "《夜（Night）》", "中国音乐"),
    ("e", "最长的河是哪一条？", "尼罗河", "地理"),
]


def write(folder):
    names = ("id", "question", "answer", "secondary_category")
    lines = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in CHINESE]
    (folder / "zh.jsonl").write_text("".join(lines), encoding="utf-8")
    rows = ["\"{'topic': 'Music', 'answer_type': 'Date'}\",When did song X appear?,1 May 1990"]
    rows += ["\"{'topic': 'Art'}\",Who painted Y?,Z"]
    (folder / "en.csv").write_text("\n".join(["metadata,problem,answer", *rows]) + "\n")
    return [str(folder / "en.csv"), str(folder / "zh.jsonl")]


def test_questions_of_music_stay_and_each_drop_has_its_reason(tmp_path, capsys):
    files = write(tmp_path)
    simpleqa.run([*files, f"--output={tmp_path}/q.jsonl"])
    asked = read_questions(f"{tmp_path}/q.jsonl")
    assert [(q["lang"], q["answer"], q["aliases"]) for q in asked] == [
        ("en", "1 May 1990", []), ("zh", "2011", []), ("zh", "《夜（Night）》", ["夜（Night）"]),
    ]  # fmt: skip
    assert asked[0]["answer_type"] == "date"
    counted = sorted(capsys.readouterr().out.strip().split(", "))
    assert counted == ["kept 3", "no word of music 2", "other topic 2"]
    simpleqa.run([*files[::-1], f"--output={tmp_path}/other.jsonl", "--any_word"])
    more = read_questions(f"{tmp_path}/other.jsonl")
    assert len(more) == 5 and {q["id"] for q in asked} <= {q["id"] for q in more}  # in any order the same ids


def test_a_name_in_brackets_behind_a_chinese_name_is_an_alias_and_a_titles_brackets_are_not():
    assert simpleqa.aliases("某人（Some One）") == ["某人", "Some One"]
    assert simpleqa.aliases("Kiss Me (Again)") == []


def test_a_question_without_an_answer_goes(tmp_path, capsys):
    files = write(tmp_path)
    with open(files[1], "a", encoding="utf-8") as file:
        file.write('{"id": "f", "question": "这首歌是谁唱的？", "answer": " ", "secondary_category": "音乐"}\n')
    simpleqa.run([*files, f"--output={tmp_path}/q.jsonl"])
    assert "empty 1" in capsys.readouterr().out and len(read_questions(f"{tmp_path}/q.jsonl")) == 3


def test_files_of_another_kind_are_refused(tmp_path):
    files = write(tmp_path)
    (tmp_path / "bad.csv").write_text("metadata,problem,answer\n__import__('os'),q,a\n")
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "question": "q"}\n')
    for given, sentence in (
        ([f"{tmp_path}/bad.csv"], r"bad\.csv question 1 has no metadata"),
        ([f"{tmp_path}/bad.jsonl"], r"bad\.jsonl line 1 is damaged"),
        ([f"{tmp_path}/absent.csv"], r"absent\.csv cannot be read"),
        ([*files, "--topics=Sport"], "no question has a topic of --topics=Sport"),
    ):
        with pytest.raises(UserError, match=sentence):
            simpleqa.run([*given, f"--output={tmp_path}/q.jsonl"])
    assert not (tmp_path / "q.jsonl").exists()
