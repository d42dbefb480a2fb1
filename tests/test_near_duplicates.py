import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import dedup
from data_prep.duplicates import buckets, signatures, work_files
from mucpt_jax.errors import UserError

HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 2000)]
ENGLISH = [f"word{n}" for n in range(2000)]


def text(rng: random.Random, words: int = 120, units: list[str] = HAN) -> list[str]:
    return [rng.choice(units) for _ in range(words)]


def edited(units: list[str], edits: int, rng: random.Random) -> list[str]:
    """So many words changed, each alone in its shingles."""
    made = list(units)
    for place in rng.sample(range(5, len(units) - 5, 11), edits):
        made[place] = rng.choice(("新", "new"))
    return made


def document(name: str, units: list[str], **more) -> dict:
    return {"id": name, "text": ("" if units[0] in HAN else " ").join(units), **more}


def write(path: Path, docs: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    return path


def run(source: Path, output: Path, *more: str) -> dict:
    counts = dedup.run([f"--input={source}", f"--output={output}", *more])
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    return counts


def table(folder: Path, name: str = "") -> dict[str, list]:
    parts = sorted((folder / name).glob("part-*"))
    return pa.concat_tables([pq.read_table(part) for part in parts]).to_pydict()


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture
def crawl(tmp_path) -> Path:
    """40 families in both languages: an original, an exact copy, a near one (J = 101/131 to 111/121), and a far one."""
    rng = random.Random(5)
    for n in range(4):
        docs = []
        for m in range(10):
            units = text(rng, units=(HAN, ENGLISH)[m % 2])
            name = f"{n}{m}"
            docs += [document(f"{name}a", units), document(f"{name}b", units)]
            docs += [document(f"{name}c", edited(units, 1, rng)), document(f"{name}d", edited(units, 8, rng))]
        rng.shuffle(docs)
        write(tmp_path / f"crawl/{n}.jsonl", docs)
    return tmp_path / "crawl"


def test_of_originals_copies_near_and_far_ones_two_of_four_stay(crawl, tmp_path):
    counts = run(crawl, tmp_path / "out", "--groups")
    assert counts["dropped"] == {"exact_duplicate": 40, "near_duplicate": 40} and counts["kept"] == 80
    stayed = table(tmp_path / "out")
    copies = dict(zip(stayed["id"], stayed["copies"], strict=True))
    assert sorted(copies.values()) == [1] * 40 + [3] * 40
    assert {name for name, n in copies.items() if n == 1} == {f"{n}{m}d" for n in range(4) for m in range(10)}
    gone = table(tmp_path / "out", "groups")
    for name, kept, reason in zip(*gone.values(), strict=True):
        assert kept[:2] == name[:2] and copies[kept] == 3 and name not in copies, reason


def test_a_similarity_of_zero_leaves_all_but_exact_ones(crawl, tmp_path):
    assert run(crawl, tmp_path / "out", "--similarity=0")["dropped"] == {"exact_duplicate": 40}


def test_a_lower_similarity_takes_the_far_ones_too(crawl, tmp_path):
    counts = run(crawl, tmp_path / "out", "--similarity=0.5")  # 8 edits of 116 shingles: 76/156
    assert counts["dropped"]["near_duplicate"] > 70


def test_the_output_does_not_depend_on_workers_and_says_the_same_twice(crawl, tmp_path):
    flags = ["--groups", "--signatures", "--paragraphs=40"]
    run(crawl, tmp_path / "one", *flags)
    run(crawl, tmp_path / "two", *flags, "--direct_num_workers=3", "--direct_running_mode=multi_threading")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_killed_run_leaves_no_output_and_the_next_one_gives_the_same(crawl, tmp_path):
    run(crawl, tmp_path / "whole")
    command = [sys.executable, "-m", "data_prep.dedup", f"--input={crawl}", f"--output={tmp_path / 'again'}"]
    job = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    writing = tmp_path / ".again.writing"
    while not list(writing.glob("run-*/work-*/*.signature")) and job.poll() is None:
        time.sleep(0.002)
    job.kill()
    job.wait()
    assert writing.is_dir() and not (tmp_path / "again").exists()
    run(crawl, tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "whole")
    assert not list(tmp_path.glob(".again*"))


def test_a_second_run_in_one_process_sees_its_own_input(tmp_path):
    for n in range(2):
        rng = random.Random(n)
        units = [text(rng) for _ in range(5 + n)]
        source = write(tmp_path / "a.jsonl", [document(f"{m:03}", u) for m, u in enumerate([*units, units[n]])])
        assert run(source, tmp_path / "out", "--groups")["dropped"] == {"exact_duplicate": 1}
        assert table(tmp_path / "out", "groups")["kept"] == [f"{n:03}"]


def test_a_chain_of_near_texts_is_one_group_though_its_ends_are_far(tmp_path):
    rng = random.Random(6)
    units = text(rng, 150)
    chain = [units]
    for n in range(12):
        chain.append([*chain[-1][: n * 10], "新", "歌", *chain[-1][n * 10 + 2 :]])
    source = write(tmp_path / "a.jsonl", [document(f"{n:02}", link) for n, link in enumerate(chain)])
    assert run(source, tmp_path / "out")["dropped"] == {"near_duplicate": 12}


def test_quality_then_length_then_source_then_id_decide(tmp_path):
    rng = random.Random(7)
    base = [text(rng) for _ in range(4)]
    longer = [*base[1], "尾", "声"]
    docs = [
        document("a1", base[0], quality=0.2), document("a2", edited(base[0], 1, rng), quality=0.9),
        document("b1", base[1], quality=0.5), document("b2", longer, quality=0.5),
        document("c1", base[2], quality=0.5, source="web"), document("c2", base[2], quality=0.5, source="wiki"),
        document("d2", base[3], quality=0.5), document("d1", base[3], quality=0.5),
    ]  # fmt: skip
    columns = {name: [doc.get(name, "") for doc in docs] for name in ("id", "text", "source", "lang", "meta")}
    pq.write_table(pa.table(columns | {"quality": [doc["quality"] for doc in docs]}), tmp_path / "a.parquet")
    run(tmp_path / "a.parquet", tmp_path / "out", "--sources=wiki,web")
    assert table(tmp_path / "out")["id"] == ["a2", "b2", "c2", "d1"]
    run(tmp_path / "a.parquet", tmp_path / "other", "--sources=web")
    assert table(tmp_path / "other")["id"] == ["a2", "b2", "c1", "d1"]


def test_a_missing_quality_comes_last_and_words_for_it_are_refused(tmp_path):
    assert dedup.quality(batch({"quality": pa.array([None, 2, 1], pa.int32())})).tolist() == [-np.inf, 2, 1]
    assert dedup.quality(batch({"text": pa.array(["a"])})) == 0.0
    with pytest.raises(UserError, match="column quality holds string"):
        dedup.quality(batch({"quality": pa.array(["good"])}))


def batch(columns: dict) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def test_a_new_crawl_is_compared_with_what_an_earlier_one_kept(tmp_path):
    rng = random.Random(8)
    old, new = text(rng), text(rng, units=ENGLISH)
    write(tmp_path / "one/a.jsonl", [document("old1", old), document("old2", edited(old, 1, rng))])
    run(tmp_path / "one", tmp_path / "kept", "--signatures")
    write(
        tmp_path / "two/a.jsonl",
        [
            document("same", old),
            document("near", [*edited(old, 1, rng), *"比旧文更长"]),
            document("fresh", new),
            document("fresh2", edited(new, 1, rng)),
        ],
    )
    counts = run(tmp_path / "two", tmp_path / "out", f"--against={tmp_path / 'kept'}", "--groups")
    assert counts["dropped"] == {
        "exact_duplicate_of_earlier": 1, "near_duplicate": 1, "near_duplicate_of_earlier": 1,
    }  # fmt: skip
    groups = table(tmp_path / "out", "groups")
    assert dict(zip(groups["id"], groups["kept"], strict=True)) == {"same": "old1", "near": "old1", "fresh2": "fresh"}
    assert run(tmp_path / "two", tmp_path / "alone")["kept"] == 2


def test_signatures_that_cannot_be_compared_are_refused(tmp_path, monkeypatch):
    write(tmp_path / "a.jsonl", [document("1", text(random.Random(1)))])
    run(tmp_path / "a.jsonl", tmp_path / "out")
    with pytest.raises(UserError, match="holds no signatures/; write it again with --signatures"):
        run(tmp_path / "a.jsonl", tmp_path / "new", f"--against={tmp_path / 'out'}")
    run(tmp_path / "a.jsonl", tmp_path / "out", "--signatures")
    monkeypatch.setattr(signatures, "VERSION", "another")
    with pytest.raises(UserError, match="signatures of another kind"):
        run(tmp_path / "a.jsonl", tmp_path / "new", f"--against={tmp_path / 'out'}")


@pytest.mark.parametrize("flags", [["--similarity=0.3"], ["--similarity=0", "--signatures"], ["--paragraphs=-1"]])
def test_flags_that_make_no_sense_are_refused_before_anything_is_read(tmp_path, flags):
    with pytest.raises(UserError):
        run(tmp_path / "nowhere", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_a_bucket_of_many_alike_gives_a_link_a_member_and_not_a_pair_for_two(tmp_path):
    work = work_files.Work(tmp_path, 1, 0.8)
    one = text(random.Random(1))
    signature = signatures.describe(["".join(one)])[2]
    facts = np.zeros(3000, work_files.FACTS)
    work_files.write_signed(work, 0, [(facts, [b"x"] * 3000, np.repeat(signature, 3000, axis=0), np.zeros(0))])
    buckets.write_bands(work, 0, np.ones(3000, np.int64))
    links = np.concatenate(list(buckets.near_links(work_files.Task(0, 0, 1), [(0, 3000)], work)))
    assert len(links) == 2999 and (links[:, 1] == 0).all()


def test_members_unlike_the_first_of_their_bucket_are_compared_with_their_neighbours(tmp_path):
    work = work_files.Work(tmp_path, 1, 0.8)
    rng = np.random.default_rng(0)
    signature = rng.integers(0, 256, (3, 256), np.uint8)[[0, 1, 1, 2, 1]]
    signature[:, :8] = 7  # one band that all five share
    work_files.write_signed(work, 0, [(np.zeros(5, work_files.FACTS), [b"x"] * 5, signature, np.zeros(0))])
    buckets.write_bands(work, 0, np.ones(5, np.int64))
    links = np.concatenate(list(buckets.near_links(work_files.Task(0, 0, 1), [(0, 5)], work)))
    assert sorted(map(tuple, links.tolist())) == [(2, 1), (4, 1), (4, 2)]


def test_slices_of_the_tables_hold_every_document_once(tmp_path):
    work = work_files.Work(tmp_path, 9, 0.0)
    rng = np.random.default_rng(0)
    for number in range(3):
        hashes = rng.integers(0, 1 << 64, 500, np.uint64, endpoint=False)
        hashes[:3] = 0, (1 << 64) - 1, 1 << 63
        work_files.write_table(work, number, "digests", [hashes], np.arange(500, dtype=np.uint32))
    tasks = [work_files.Task(0, part, 7) for part in range(7)]
    keys = np.concatenate([work_files.read_slice(work, range(3), "digests", 1, task)[1] for task in tasks])
    assert len(keys) == len(np.unique(keys)) == 1500


def test_paragraphs_that_repeat_go_but_short_lines_stay(tmp_path):
    rng = random.Random(9)
    footer, own = "".join(text(rng, 80)), ["".join(text(rng, 100)) for _ in range(4)]
    docs = [
        {"id": "1", "text": f"歌词\n{own[0]}\n{footer}"},
        {"id": "2", "text": f"歌词\n{own[1]}\n{footer}！\n{own[2]}\n{own[2]}"},
        {"id": "3", "text": f"{own[1]}\n{own[0]}\n\n"},
        {"id": "4", "text": own[3]},
    ]
    source = write(tmp_path / "a.jsonl", docs)
    counts = run(source, tmp_path / "out", "--paragraphs", "--similarity=0")
    assert counts["dropped"] == {"repeated_paragraphs": 1}
    found = table(tmp_path / "out")
    assert found["id"] == ["1", "2", "4"]
    assert found["text"] == [docs[0]["text"], f"歌词\n{own[1]}\n{own[2]}", own[3]]
    assert "".join(table(tmp_path / "out")["text"]).count(footer) == 1
    assert run(source, tmp_path / "all", "--similarity=0")["dropped"] == {}


def test_what_its_repeated_paragraphs_cost_is_not_stored_as_kept(tmp_path):
    lines = ["".join(text(random.Random(n), 90)) for n in range(2)]
    docs = [{"id": "1", "text": lines[0]}, {"id": "2", "text": lines[1]}, {"id": "3", "text": "\n".join(lines)}]
    run(write(tmp_path / "a.jsonl", docs), tmp_path / "out", "--paragraphs", "--signatures", "--groups")
    assert table(tmp_path / "out", "signatures")["id"] == ["1", "2"]
    assert not (tmp_path / "out/groups").exists()


def test_a_paragraph_of_a_dropped_document_does_not_cost_the_one_that_stays(tmp_path):
    rng = random.Random(10)
    lines = ["".join(text(rng, 90)) for _ in range(3)]
    docs = [{"id": "2", "text": "\n".join(lines)}, {"id": "1", "text": "\n\n".join(lines)}]
    assert run(write(tmp_path / "a.jsonl", docs), tmp_path / "out", "--paragraphs")["dropped"] == {"exact_duplicate": 1}
    assert table(tmp_path / "out")["text"] == ["\n\n".join(lines)]


def test_documents_without_a_word_are_near_nothing(tmp_path):
    docs = [{"id": str(n), "text": t} for n, t in enumerate(["...", "!!!", "♪♪♪♪", "?", "♪ ♪♪"])]
    assert run(write(tmp_path / "a.jsonl", docs), tmp_path / "out")["kept"] == 5
