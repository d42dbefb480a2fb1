import json
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import boilerplate
from data_prep.duplicates import repeats
from data_prep.duplicates.repeats import Options
from data_prep.duplicates.work_files import Plan, Task, Work
from data_prep.jobs.documents import File
from data_prep.text import line_keys
from data_prep.text.line_keys import DATED, STAYS, TEMPLATE, TEXT
from mucpt_jax.errors import UserError

COOKIES = "We use cookies to give you the best experience on our pages, always."
REPRINT = "本文由某某音乐网原创编译，未经许可不得以任何形式转载。"


def keys(*texts: str) -> list[int]:
    return line_keys.describe(texts, np.zeros(len(texts), np.uint64))[0]["key"].tolist()


def forms(*lines: str) -> list[int]:
    return line_keys.describe(["\n".join(lines)], np.zeros(1, np.uint64))[0]["form"].tolist()


def prose(rng: random.Random, lines: int = 3) -> list[str]:
    return [" ".join(f"word{rng.randrange(5000)}" for _ in range(12)) + "." for _ in range(lines)]


def page(rng: random.Random, *footer: str) -> str:
    return "\n\n".join([*prose(rng), *footer])


def write(path: Path, texts: list[str], **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    docs = ({"id": f"{path.stem}-{n:04}", "text": text} | more for n, text in enumerate(texts))
    path.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    return path


def run(source: Path, output: Path, *more: str) -> dict:
    counts = boilerplate.run([f"--input={source}", f"--output={output}", *more])
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    return counts


def texts_of(folder: Path) -> dict[str, str]:
    table = pa.concat_tables([pq.read_table(part) for part in sorted(folder.glob("part-*"))]).to_pydict()
    return dict(zip(table["id"], table["text"], strict=True))


def told(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "lines.jsonl").read_text().splitlines()]


def files(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir())}


# Keys of lines


@pytest.mark.parametrize(
    "same",
    [
        ("Posted by Ann Lee on March 4, 2021 at 9:05 pm", "posted by Li Na on 2020-11-30"),
        ("© 2019 Acme Records. All rights reserved.", "© 2007-2024 ACME records, all rights reserved"),
        ("via: https://a.com/x?u=1 作者：王芳 译者：李伟", "Via：http://b.org 作者：[C D](https://c.com/d)  译者：E"),
        ("校对：[wxy](https://github.com/wxy)", "校对：[Bestony](https://github.com/Bestony), [wxy][1]"),
        ("本文由 [LCTT](https://a.com) 原创编译", "本文由[某某站](http://b.cn/1)原创编译！"),
        ("阅读 3021 次 · 评论 17", "阅读 7 次 · 评论 0"),
        ("12,034 comments", "3 Comments"),
        ("Last updated: 5 May 1999", "last updated: 2021.03.04 12:30"),
        ("发布于2021年3月4日 08:30:12，某某网", "发布于 1999年12月31日 9:05，某某网"),
        ("Write to ann.lee@a.com now", "Write to x@mail.b.org now!"),
        ("ＨＯＭＥ ｜ News ｜ About", "home | news | about"),
    ],
)
def test_lines_of_one_template_have_one_key(same):
    assert len(set(keys(*same))) == 1 and 0 not in keys(*same)


@pytest.mark.parametrize(
    "different",
    [
        ("The village has a population of 70.", "The village has a population of 3100."),
        ("All songs written by Ann Lee.", "All songs written by Bob Ray."),
        ("作者：王芳", "作者：李伟"),  # alone it heads entries of a catalogue
        ("Producer: Ann Lee", "Producer: Bob Ray"),
        ("left right", "right left"),
        ("== Biography ==", "Biography"),
        ("Biography", "Biography (https://a.com)"),
    ],
)
def test_lines_that_say_two_things_have_two_keys(different):
    assert len(set(keys(*different))) == 2


def test_headings_turns_and_lines_without_a_word_stay():
    assert forms("## 操作", "== References ==", "", "-----", "2021-03-04", "https://a.com/b") == [STAYS] * 6
    dialogue = ["User: is it on?", "System: Is there anything else that I can help you with today?"]
    assert forms(*dialogue, *dialogue) == [STAYS] * 4
    assert forms("Note: it is on.", "At 9:30 we go", "At 9:45 we go") == [TEXT, DATED, DATED]
    assert forms("via: https://a.com", "© Acme", "[a]: b", "7 shares", "责编：王芳") == [TEMPLATE] * 5


def test_a_key_depends_on_its_line_alone(monkeypatch):
    """Not on the lines around it, nor on where a long text is cut."""
    monkeypatch.setattr(line_keys, "TURNS", 1000)  # which looks at the lines around
    some = "爱 e\u0301t\u00e9_ Straße_ ½_ ﾊﾟ 🎵 歌曲 Love_ 2021-03-04_ 12_ www.a.com_ [x](y)_ ©_ :_"
    units = some.replace("_", "\u3000").split(" ")
    rng = random.Random(1)
    lines = ["".join(rng.choice(units) for _ in range(rng.randrange(9))) for _ in range(500)]
    alone = [keys(line)[0] for line in lines]
    assert keys("\n".join(lines)) == alone
    monkeypatch.setattr(line_keys, "PIECE", 100)
    assert keys(*lines) == alone


def test_a_line_longer_than_a_piece_is_no_boilerplate_and_breaks_nothing():
    long = "word " * 60_000
    assert keys(f"{COOKIES}\n{long}\n\n{COOKIES}") == [keys(COOKIES)[0], 0, 0, keys(COOKIES)[0]]
    assert keys("") == [0] and line_keys.describe([], np.zeros(0, np.uint64))[0].size == 0


# The job


@pytest.fixture
def site(tmp_path) -> Path:
    """200 pages in two files, 60 with a footer of templates."""
    rng = random.Random(2)
    for name in "ab":
        texts = []
        for n in range(100):
            footer = [COOKIES, REPRINT, f"责任编辑：{rng.choice('王李张刘')}{rng.choice('芳伟敏')}", f"{n} comments",
                      f"Posted by Ann {n} on March {1 + n % 28}, 2021"]  # fmt: skip
            texts.append(page(rng, *(footer if n < 30 else ())))
        write(tmp_path / f"site/{name}.jsonl", texts, source="site")
    return tmp_path / "site"


def test_footers_go_and_the_rest_stays_as_it_was(site, tmp_path):
    counts = run(site, tmp_path / "out")
    assert counts["lines"] == {"repeated_line": 300} and counts["changed"] == {"repeated_line": 60}
    lines = "".join((site / f"{name}.jsonl").read_text() for name in "ab").splitlines()
    raw = {doc["id"]: doc["text"] for doc in map(json.loads, lines)}
    assert texts_of(tmp_path / "out") == {name: "\n\n".join(text.split("\n\n")[:3]) for name, text in raw.items()}
    assert run(tmp_path / "out", tmp_path / "again").get("lines") is None


def test_thresholds_count_documents_of_one_source(site, tmp_path):
    assert "lines" not in run(site, tmp_path / "many", "--min_documents=61")
    assert "lines" not in run(site, tmp_path / "share", "--min_share=0.31")
    assert run(site, tmp_path / "at", "--min_documents=60", "--min_share=0.3")["lines"]
    few = write(tmp_path / "few.jsonl", [page(random.Random(n), *[COOKIES] * (n < 7)) for n in range(100)])
    assert run(few, tmp_path / "seven", "--min_documents=2", "--min_share=0.07")["lines"]  # .07 * 100 > 7
    rng = random.Random(3)
    other = write(site / "c.jsonl", [page(rng, COOKIES) for _ in range(19)], source="other")
    run(site, tmp_path / "out")
    stayed = [text for name, text in texts_of(tmp_path / "out").items() if name.startswith(other.stem)]
    assert len(stayed) == 19 and all(COOKIES in text for text in stayed)


def test_headings_short_lines_dialogues_and_choruses_stay(tmp_path):
    rng = random.Random(4)
    bye = "System: Is there anything else that I can help you with today?"
    chorus = "And we will sing it until the morning comes again"
    heading = "## 收录曲目与演出人员以及制作团队名单一览"
    others = ["References", "- 生抽 8 ml", bye, "User: No.", bye]
    texts = ["\n".join([heading, *prose(rng), *others]) for _ in range(40)]
    song = "\n".join([chorus] * 30)
    run(write(tmp_path / "a.jsonl", [*texts, song]), tmp_path / "out")
    assert list(texts_of(tmp_path / "out").values()) == [*texts, song]


def test_a_date_may_be_what_a_line_is_about(tmp_path):
    """Only where a site sets one under all its pages does the line go."""
    rng = random.Random(10)
    laws = [page(rng, f"第四十三条 本条例自{1990 + n % 30}年1月1日起施行，原条例同时废止。") for n in range(40)]
    source = write(tmp_path / "in/laws.jsonl", [*laws, *(page(rng) for _ in range(160))])
    write(
        tmp_path / "in/news.jsonl",
        [page(rng, f"某某新闻网于2021年3月{n % 28}日 9:{n + 10}首发，编辑整理") for n in range(40)],
    )
    run(source.parent, tmp_path / "out")
    assert [line["source"] for line in told(tmp_path / "out")] == ["news"]


def test_a_page_crawled_many_times_makes_none_of_its_lines_boilerplate(tmp_path):
    """Nor does it where a line of its own differs, and a footer that it shares with other pages goes from it too."""
    rng = random.Random(5)
    crawled = [prose(rng, 40) for _ in range(2)]
    texts = [page(rng, COOKIES) for _ in range(60)]
    texts += ["\n\n".join([*crawled[0], COOKIES])] * 40
    texts += ["\n\n".join([*crawled[1], *prose(rng, 1), COOKIES]) for _ in range(40)]
    counts = run(write(tmp_path / "a.jsonl", texts), tmp_path / "out")
    assert counts["lines"] == {"repeated_line": 140}
    assert [text.replace(f"\n\n{COOKIES}", "") for text in texts] == list(texts_of(tmp_path / "out").values())


def test_copies_do_not_bring_a_line_of_few_pages_over_the_bar(tmp_path):
    """19 pages have it, four times over in several files: 76 documents, but still 19 pages."""
    rng = random.Random(11)
    texts = [page(rng, COOKIES) for n in range(19)]
    for name in "abcd":
        again = [f"{text}\n{n + ord(name)} views".upper() for n, text in enumerate(texts)]
        write(tmp_path / f"in/{name}.jsonl", again, source="s")
    assert "lines" not in run(tmp_path / "in", tmp_path / "out")
    assert run(tmp_path / "in", tmp_path / "at", "--min_documents=19")["lines"] == {"repeated_line": 152}


def test_a_document_of_nothing_else_is_dropped_with_its_reason(tmp_path):
    rng = random.Random(6)
    texts = [page(rng, COOKIES, REPRINT) for _ in range(40)] + [f"{COOKIES}\n\n{REPRINT}"]
    counts = run(write(tmp_path / "a.jsonl", texts), tmp_path / "out")
    assert counts["dropped"] == {"only_repeated_lines": 1} and counts["kept"] == 40
    sample = json.loads((tmp_path / "out/samples.jsonl").read_text())
    assert sample["reason"] == "only_repeated_lines" and sample["id"] == "a-0040"


def test_people_can_read_what_went_without_private_data(tmp_path):
    rng = random.Random(7)
    call = "Call the editor: 13812345678, or write to ann.lee@a.com"
    texts = [page(rng, call, *[COOKIES] * (n < 30)) for n in range(40)]
    run(write(tmp_path / "a.jsonl", texts, source="s"), tmp_path / "out")
    lines = told(tmp_path / "out")
    assert lines[1] == {"source": "s", "documents": 30, "text": COOKIES}
    assert lines[0]["documents"] == 40 and lines[0]["text"].startswith("Call the editor: <|phone|>")
    assert "ann.lee" not in lines[0]["text"]


def test_the_output_does_not_depend_on_workers_slices_or_the_order_of_files(site, tmp_path, monkeypatch):
    run(site, tmp_path / "one")
    run(site, tmp_path / "two", "--direct_num_workers=3", "--direct_running_mode=multi_threading")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    for name, value in (
        ("duplicates.repeats.RUN", 50),
        ("duplicates.repeats.PIECE", 7),
        ("duplicates.work_files.SLICE", 30),
        ("jobs.documents.BATCH_BYTES", 999),
    ):
        monkeypatch.setattr(f"data_prep.{name}", value)
    (site / "a.jsonl").rename(site / "z.jsonl")
    run(site, tmp_path / "small")
    assert texts_of(tmp_path / "small") == texts_of(tmp_path / "one")
    assert told(tmp_path / "small") == told(tmp_path / "one")


def test_a_killed_run_leaves_no_output_and_the_next_one_gives_the_same(site, tmp_path):
    run(site, tmp_path / "whole")
    command = [sys.executable, "-m", "data_prep.boilerplate", f"--input={site}", f"--output={tmp_path / 'again'}"]
    job = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    writing = tmp_path / ".again.writing"
    while not list(writing.glob("run-*/work-*/*.lines")) and job.poll() is None:
        time.sleep(0.002)
    job.kill()
    job.wait()
    assert writing.is_dir() and not (tmp_path / "again").exists()
    run(site, tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "whole")


def test_what_beam_passes_on_does_not_grow_with_the_corpus(tmp_path):
    """Of lines that do not repeat nothing; of a file, its number and a few counts."""
    sizes = []
    for documents in (50, 2000):
        rng = random.Random(8)
        path = write(tmp_path / f"{documents}.jsonl", [page(rng, COOKIES) for _ in range(documents)], source="s")
        work = Work(tmp_path / f"work{documents}", 1, 0.0)
        work.folder.mkdir()
        plan = Plan(tmp_path, {}, Options(), work)
        scanned = [repeats.scan(File(0, str(path)), plan)]
        assert not list(repeats.copies(Task(0, 0, 1), scanned, work))
        counted = [repeats.count((0, {"documents": [scanned[0][1]], "copies": []}), work)]
        found = [repeats.candidates(Task(0, part, 3), counted, plan) for part in range(3)]
        counts = repeats.recount(counted[0], found, counted, plan)
        assert sum(map(len, found)) == 1 and counts.tolist() == [documents, documents]
        sizes.append(len(pickle.dumps([scanned, counted, found, counts])))
    assert abs(sizes[1] - sizes[0]) < 50


def test_an_empty_text_and_bad_lines_keep_the_counts_right(tmp_path):
    rng = random.Random(9)
    path = write(tmp_path / "a.jsonl", ["", *(page(rng, COOKIES) for _ in range(25)), "\n\n"])
    with open(path, "ab") as f:
        f.write(b"not json\n\xff\n")
    counts = run(path, tmp_path / "out")
    assert counts["dropped"] == {"not_json": 1, "not_utf8": 1} and counts["read"] == 29
    assert texts_of(tmp_path / "out")["a-0000"] == ""


@pytest.mark.parametrize("flag", ["--min_documents=1", "--min_share=1.5", "--min_letters=0"])
def test_thresholds_out_of_range_are_told_by_name(flag, tmp_path):
    with pytest.raises(UserError, match=flag):
        boilerplate.STAGE.parse(["--input=x", f"--output={tmp_path}", flag])
