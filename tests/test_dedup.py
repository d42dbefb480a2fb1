import json
from pathlib import Path

import pyarrow.parquet as pq

from data_prep import dedup
from data_prep.duplicates.signatures import digest


def write(path: Path, documents: list[tuple[str, str]]) -> None:
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in documents))


def run(source: Path, output: Path, *more: str) -> dict:
    return dedup.run([f"--input={source}", f"--output={output}", *more])


def ids(folder: Path) -> list[str]:
    return [name for part in sorted(folder.glob("part-*")) for name in pq.read_table(part)["id"].to_pylist()]


def test_case_width_blanks_and_punctuation_do_not_count():
    same = ["Hello, World!", "hello world", "ＨＥＬＬＯ　ＷＯＲＬＤ", "«Hello»\nWorld…", "hello_world"]
    assert len({digest(text) for text in same}) == 1


def test_symbols_letters_and_accents_count():
    different = ["in C", "in C♯", "in C+", "in D", "in Ç", "in 5€", "in 5", "在 C"]
    assert len({digest(text) for text in different}) == len(different)


def test_texts_of_punctuation_alone_are_not_one_document():
    assert digest("...") != digest("!!!")


def test_the_smallest_id_stays_wherever_it_lies(tmp_path):
    write(tmp_path / "a.jsonl", [("3", "Sunny day"), ("5", "Rain"), ("9", "sunny DAY!")])
    write(tmp_path / "b.jsonl", [("1", "sunny day"), ("6", "Snow"), ("4", "rain.")])
    counts = run(tmp_path / "*.jsonl", tmp_path / "out")
    assert counts == {"read": 6, "kept": 3, "dropped": {"exact_duplicate": 3}}
    assert ids(tmp_path / "out") == ["1", "6", "4"]


def test_of_equal_ids_the_first_row_of_the_first_file_stays(tmp_path):
    write(tmp_path / "a.jsonl", [("1", "Rain"), ("1", "rain"), ("1", "Snow")])
    write(tmp_path / "b.jsonl", [("1", "rain!"), ("1", "Sun")])
    assert run(tmp_path / "*.jsonl", tmp_path / "out")["dropped"] == {"exact_duplicate": 2}
    texts = [t for part in sorted((tmp_path / "out").glob("part-*")) for t in pq.read_table(part)["text"].to_pylist()]
    assert texts == ["Rain", "Snow", "Sun"]


def test_rows_are_found_again_over_many_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.jobs.documents.BATCH_BYTES", 10)
    write(tmp_path / "a.jsonl", [(f"{i:02}", f"song number {i % 7}") for i in range(20)])
    run(tmp_path / "a.jsonl", tmp_path / "out")
    assert ids(tmp_path / "out") == [f"{i:02}" for i in range(7)]


def test_bad_lines_are_counted_once_though_files_are_read_twice(tmp_path):
    write(tmp_path / "a.jsonl", [("1", "Rain"), ("2", "rain")])
    with open(tmp_path / "a.jsonl", "a") as f:
        f.write("not json\n")
    assert run(tmp_path / "a.jsonl", tmp_path / "out") == {
        "read": 3,
        "kept": 1,
        "dropped": {"exact_duplicate": 1, "not_json": 1},
    }


def test_same_input_same_bytes(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.jsonl", [(f"{name}{i:03}", f"song {i % 50}") for i in range(200)])
    found = []
    for out in (tmp_path / "one", tmp_path / "two"):
        assert run(tmp_path / "*.jsonl", out)["kept"] == 50
        found.append({f.name: f.read_bytes() for f in out.iterdir()})
    assert found[0] == found[1]
    assert ids(tmp_path / "one") == [f"a{i:03}" for i in range(50)]
