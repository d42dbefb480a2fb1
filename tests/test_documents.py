"""Documents and the running of jobs; mask, which drops nothing, stands for any job."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from apache_beam.testing.util import assert_that, equal_to

from data_prep import clean, mask
from data_prep.jobs import documents, notes, progress, taken
from data_prep.jobs.stage import each_batch
from mucpt_jax.errors import UserError


def write_lines(path: Path, *lines: bytes) -> Path:
    data = b"".join(line + b"\n" for line in lines)
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(data))
    return path


def run(source: Path, output: Path, *more: str) -> dict:
    return mask.run([f"--input={source}", f"--output={output}", *more])


def rows(folder: Path) -> list[dict]:
    return [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


def test_document_of_a_bare_text():
    assert documents.parse_line(b'{"text": "abc"}', "songs") == {
        "id": "ba7816bf8f01cfea414140de5dae2223",  # the published SHA-256 of "abc" begins so
        "text": "abc",
        "source": "songs",
        "lang": "",
        "meta": "{}",
    }


def test_other_fields_go_to_meta():
    line = '{"id": 7, "text": "晴天", "lang": "zh", "source": "a/b", "year": 2003, "meta": {"by": "周杰伦"}}'
    made = documents.parse_line(line.encode(), "songs")
    assert (made["id"], made["source"], made["lang"]) == ("7", "a_b_c14cdd", "zh")
    assert json.loads(made["meta"]) == {"by": "周杰伦", "year": 2003}
    assert json.loads(documents.document({"text": "x", "meta": "{half"}, "s")["meta"]) == {"meta": "{half"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'["text"]', "no_text"),
        (b'{"title": "x"}', "no_text"),
        (b'{"text": 3}', "no_text"),
        (b'{"text": "caf\xe9"}', "not_utf8"),
        (b'{"text": "half a character: \\ud83d"}', "not_utf8"),
    ],
)
def test_reasons_of_bad_lines(line, reason):
    assert documents.parse_line(line, "songs") == reason


def test_source_is_the_file_name_up_to_the_first_dot():
    assert documents.source_of("/data/music_zh.v2.jsonl.gz") == "music_zh"


def test_safe_names_keep_every_script_and_never_merge():
    for name in ("歌词-Lyrics_2", "музыка", "μουσική", "x" * 55):
        assert documents.safe_name(name) == name
    changed = ["a/b", "a b", "a_b", "", "e\u0301", "x" * 56, "x" * 57, "\ud83d"]
    safe = [documents.safe_name(name) for name in changed]
    assert len(set(safe)) == len(changed) and all(re.fullmatch(r"[\w-]{1,55}", name) for name in safe)
    assert [documents.safe_name(name) for name in safe] == safe


def test_meta_is_json_where_numbers_are_none():
    made = documents.parse_line(b'{"text": "x", "bpm": NaN, "all": [Infinity, 1.5], "by": "\xe6\x99\xb4"}', "s")
    found = json.loads(made["meta"], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found == {"bpm": "NaN", "all": ["Infinity", 1.5], "by": "晴"}
    assert "晴" in made["meta"]


def test_bad_lines_are_counted_and_listed_without_their_text(tmp_path):
    source = write_lines(
        tmp_path / "songs.jsonl.gz",
        b'\xef\xbb\xbf{"text": "first"}',
        b"",
        b"SECRET not json",
        b'{"text": "second \xe2\x80\xa8 line"}',  # U+2028 ends a line of text, not a line of JSONL
        b'{"words": "SECRET"}',
    )
    counts = run(source, tmp_path / "out")
    assert counts == {"read": 4, "kept": 2, "dropped": {"no_text": 1, "not_json": 1}}
    assert json.loads((tmp_path / "out/counts.json").read_text()) == counts
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").open()]
    assert [(r["line"], r["reason"]) for r in rejects] == [(3, "not_json"), (5, "no_text")]
    assert {r["file"] for r in rejects} == {str(source)}
    assert "SECRET" not in (tmp_path / "out/rejects.jsonl").read_text()
    assert [row["text"] for row in rows(tmp_path / "out")] == ["first", "second \u2028 line"]


def test_a_folder_of_documents_reads_its_parts_only(tmp_path):
    run(write_lines(tmp_path / "songs.jsonl", b'{"text": "kept"}', b"bad"), tmp_path / "one")
    assert run(tmp_path / "one", tmp_path / "two") == {"read": 1, "kept": 1, "dropped": {}}
    assert rows(tmp_path / "two") == rows(tmp_path / "one")


def test_a_glob_reads_what_it_names(tmp_path):
    for name in ("a1.jsonl", "a2.jsonl", "b.jsonl"):
        write_lines(tmp_path / name, b'{"text": "x"}')
    assert run(tmp_path / "a*.jsonl", tmp_path / "out")["read"] == 2
    assert [row["source"] for row in rows(tmp_path / "out")] == ["a1", "a2"]


def test_columns_that_jobs_added_stay(tmp_path):
    table = pa.table({name: ["x"] for name in documents.SCHEMA.names} | {"quality": [0.5]})
    pq.write_table(table, tmp_path / "part-0.parquet")
    run(tmp_path / "part-0.parquet", tmp_path / "out")
    assert rows(tmp_path / "out") == [dict.fromkeys(documents.SCHEMA.names, "x") | {"quality": 0.5}]


def test_foreign_parquet_becomes_documents(tmp_path):
    pq.write_table(pa.table({"id": [7, 8], "text": ["x", None], "tempo": [120, 90]}), tmp_path / "beats.parquet")
    assert run(tmp_path / "beats.parquet", tmp_path / "out")["dropped"] == {"no_text": 1}
    made = {"id": "7", "text": "x", "source": "beats", "lang": "", "meta": '{"tempo": 120}'}
    assert rows(tmp_path / "out") == [made]
    assert json.loads((tmp_path / "out/rejects.jsonl").read_text())["line"] == 2


@pytest.mark.parametrize("column", [{"content": ["x"]}, {"text": [b"x"]}, {"text": [7]}])
def test_parquet_without_strings_of_text_names_its_columns(tmp_path, column):
    pq.write_table(pa.table(column), tmp_path / "songs.parquet")
    (name,) = column
    with pytest.raises(UserError, match=rf"songs\.parquet has no column `text`.*columns: {name}: .*--columns=text="):
        run(tmp_path / "songs.parquet", tmp_path / "out")


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_with_strings_of_other_kinds_is_read(tmp_path, kind):
    pq.write_table(pa.table({"text": pa.array(["x", "y"]).cast(kind)}), tmp_path / "songs.parquet")
    assert run(tmp_path / "songs.parquet", tmp_path / "out")["kept"] == 2


def test_rejects_are_numbered_over_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "BATCH_BYTES", 10)
    lines = [b'{"text": "0123456789"}', b"bad"] * 3
    found = [rejects for _, rejects in documents.read_batches(str(write_lines(tmp_path / "a.jsonl", *lines)))]
    assert [line for rejects in found for line, _ in rejects] == [2, 4, 6] and len(found) > 2
    texts = ["x"] * 1500  # Parquet is read 1,024 rows at a time
    texts[3] = texts[1400] = None
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    found = [rejects for _, rejects in documents.read_batches(str(tmp_path / "a.parquet"))]
    assert [line for rejects in found for line, _ in rejects] == [4, 1401]


def test_batches_hold_about_two_megabytes(tmp_path):
    line = json.dumps({"text": "x" * 100_000}).encode()
    write_lines(tmp_path / "a.jsonl", *[line] * 70)  # 21 texts pass 2 MiB = 2,097,152 bytes
    rows_read = [batch.num_rows for batch, _ in documents.read_batches(str(tmp_path / "a.jsonl"))]
    assert rows_read == [21, 21, 21, 7]
    run(tmp_path / "a.jsonl", tmp_path / "out")
    part = tmp_path / "out/part-00000-000.parquet"
    assert all(1 <= b.nbytes / 1e6 <= 4 for b, _ in documents.read_batches(str(part)))


def test_batches_count_every_column_and_rows(tmp_path, monkeypatch):
    html = json.dumps({"text": "x", "html": "<p>" * 333_333}).encode()  # 1 MB; 3 of these pass 2 MiB
    write_lines(tmp_path / "a.jsonl", *[html] * 7)
    assert [batch.num_rows for batch, _ in documents.read_batches(str(tmp_path / "a.jsonl"))] == [3, 3, 1]
    write_lines(tmp_path / "b.jsonl", *[b'{"text": ""}'] * (documents.BATCH_ROWS + 1))
    assert [batch.num_rows for batch, _ in documents.read_batches(str(tmp_path / "b.jsonl"))] == [16_384, 1]
    pq.write_table(pa.table({"text": ["x"] * 200, "html": ["<p>" * 333_333] * 200}), tmp_path / "c.parquet")
    assert documents._rows_at_once(pq.ParquetFile(tmp_path / "c.parquet")) == 67  # of 1 MB, though stored once


def test_fields_that_no_memory_should_hold_go_as_too_long(tmp_path, monkeypatch):
    """8 MB besides the text, here 1,000 bytes; nothing of a longer line is made that is not looked at."""
    monkeypatch.setattr(documents, "FIELDS_BYTES", 1000)
    lists = json.dumps([[]] * 400)
    lines = [f'{{"text": "x", "a": {lists}}}', f'{{"text": {lists}}}', lists, f'{{"text": "x", "a": {lists}',
             json.dumps({"text": "y" * 3000, "a": 1}), f'{{"a": {json.dumps("z" * 990)}, "text": ""}}']  # fmt: skip
    reasons = ["too_long", "no_text", "no_text", "not_json"]
    found = [documents.parse_line(line.encode(), "s") for line in lines]
    assert found[:4] == reasons and found[4]["text"] == "y" * 3000 and found[5] == "too_long"
    assert documents.parse_line(lines[4].replace("text", "body").encode(), "s", {"text": "body"})["text"] == "y" * 3000
    pq.write_table(pa.table({"text": ["x", "y"], "a": [[[]] * 400, [[]]]}), tmp_path / "a.parquet")
    ours = [{name: "x" for name in documents.SCHEMA.names} | {"meta": "m" * n} for n in (1001, 1)]
    pq.write_table(pa.Table.from_pylist(ours, documents.SCHEMA), tmp_path / "b.parquet")
    for name in ("a.parquet", "b.parquet"):
        batches = list(documents.read_batches(str(tmp_path / name)))
        assert [reject for _, rejects in batches for reject in rejects] == [(1, "too_long")]
        assert sum(batch.num_rows for batch, _ in batches) == 1


def test_a_part_ends_at_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "BATCH_BYTES", 100)
    monkeypatch.setattr(documents, "PART_BYTES", 250)
    write_lines(tmp_path / "a.jsonl", *[json.dumps({"text": "x" * 100}).encode()] * 7)
    run(tmp_path / "a.jsonl", tmp_path / "out")
    parts = sorted((tmp_path / "out").glob("part-*"))
    assert [pq.read_metadata(p).num_rows for p in parts] == [3, 3, 1]


def document(name: str, text: str = "x") -> dict[str, str]:
    return {"id": name, "text": text, "source": "s", "lang": "en", "meta": "{}"}


def test_keep_drops_rows_with_a_reason(tmp_path):
    batch = pa.RecordBatch.from_pylist([document("a"), document("b")], documents.SCHEMA)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        batches = pipeline | beam.Create([batch.replace_schema_metadata({"part": "00000"})])
        kept = batches | beam.Map(documents.keep, [None, "rude"], tmp_path)
        assert_that(kept | beam.FlatMap(lambda b: b["id"].to_pylist()), equal_to(["a"]))


def test_fields_of_other_names_stand_for_ours(tmp_path):
    lines = [{"content": "A song.", "url": "https://a.example/1", "site": "a", "id": 7, "text": "not this"}] * 2
    write_lines(tmp_path / "a.jsonl.zst", *(json.dumps(line).encode() for line in lines))
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "b.parquet")
    run(tmp_path, tmp_path / "out", "--columns=text=content,id=url,source=site")
    for row in rows(tmp_path / "out"):
        assert (row["id"], row["text"], row["source"]) == ("https://a.example/1", "A song.", "a")
    assert len(rows(tmp_path / "out")) == 4


def test_columns_that_say_nothing_are_refused(tmp_path, capsys):
    write_lines(tmp_path / "a.jsonl", b'{"text": "x"}')
    with pytest.raises(SystemExit):
        run(tmp_path / "a.jsonl", tmp_path / "out", "--columns=content")
    assert "write text=THEIR_NAME" in capsys.readouterr().err


def test_a_few_dropped_documents_of_each_reason_are_shown_without_private_data(tmp_path):
    texts = [f"mail {i}.b@example.org <script>" for i in range(100)] + ["", "ä" * 400]
    batch = pa.RecordBatch.from_pylist([document(f"d{i}", text) for i, text in enumerate(texts)], documents.SCHEMA)
    batch = batch.replace_schema_metadata({"part": "00003"})
    kept = documents.keep(batch, ["rude"] * 100 + ["empty", "long"], tmp_path)
    notes.merge(tmp_path)
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert kept.num_rows == 0 and [s["reason"] for s in samples].count("rude") == notes.SAMPLES
    assert {s["text"] for s in samples if s["reason"] == "rude"} == {"mail <email> <script>"}
    assert {(s["id"], s["source"], s["lang"], len(s["text"])) for s in samples if s["reason"] != "rude"} == {
        ("d100", "s", "en", 0), ("d101", "s", "en", 300),
    }  # fmt: skip


def test_a_sample_is_cut_in_the_raw_text_so_that_no_half_masked_value_shows():
    url = "https://a.example/?" + "email=a.b@example.org&" * 2
    text = f"{url} {url} ".ljust(590, "x") + " 13800138000"
    shown = notes.masked(text, 300)
    assert "138" not in shown and "example.org" not in shown and len(shown) <= 300
    assert notes.masked("x" * 295 + " 13800138000 y", 300) == "x" * 295 + " <phone>"


def test_raw_files_named_like_our_notes_are_read(tmp_path):
    write_lines(tmp_path / "samples.jsonl", b'{"text": "A song."}')
    assert run(tmp_path, tmp_path / "out")["kept"] == 1
    assert run(tmp_path / "out", tmp_path / "again")["read"] == 1


def test_the_composition_counts_documents_and_characters_by_source_and_language(tmp_path):
    write_lines(
        tmp_path / "a.jsonl",
        *[json.dumps({"text": f"晴天 {i}", "lang": "zh", "source": "s"}).encode() for i in range(3)],
    )
    write_lines(tmp_path / "b.jsonl", b'{"text": "A song."}', b'{"text": ""}', b"no json")
    clean.run([f"--input={tmp_path}", f"--output={tmp_path / 'out'}", "--min_chars=0"])
    found = json.loads((tmp_path / "out/composition.json").read_text())
    zh = {"source": "s", "documents": 3, "characters": 12, "bytes": 24}
    assert found["read"] == [
        {"source": "b", "lang": "", "documents": 2, "characters": 7, "bytes": 7},
        {"source": "s", "lang": "zh"} | zh,
    ]
    assert [row | {"lang": ""} for row in found["kept"]] == [
        {"source": "b", "lang": "", "documents": 1, "characters": 7, "bytes": 7},
        {"source": "s", "lang": ""} | zh,
    ]


def test_what_a_job_takes_is_noted_by_source_and_survives_a_second_attempt(tmp_path):
    footer = "Copyright 2009 The Ferrymen. All rights reserved."
    song = "The tune was first written down in 1793 by a fiddler from Northumberland.\n"
    documents_ = [{"text": song + footer, "source": "site"}] * 3 + [{"text": "Kite", "source": "site"}]
    documents_ += [{"text": song, "source": "book"}]
    write_lines(tmp_path / "a.jsonl", *[json.dumps(document).encode() for document in documents_])
    for _ in range(2):
        clean.run([f"--input={tmp_path / 'a.jsonl'}", f"--output={tmp_path / 'out'}"])
    composition = json.loads((tmp_path / "out/composition.json").read_text())
    assert composition["dropped"] == [{"source": "site", "reason": "too_short", "documents": 1}]
    assert composition["lines"] == [{"source": "site", "lines": 3}]
    (line,) = (tmp_path / "out/lines.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
    assert json.loads(line) == {"source": "site", "documents": 3, "text": footer}
    assert {f.name for f in (tmp_path / "out").iterdir()} == {
        "part-00000-000.parquet", "samples.jsonl", "lines.jsonl", "composition.json", "counts.json",
    }  # fmt: skip


def test_lines_of_each_source_are_those_of_most_documents(tmp_path):
    batch = pa.RecordBatch.from_pydict({"source": ["a", "a", "b"]}).replace_schema_metadata({"part": "00000"})
    for n in range(40):
        lines = [f"line {n}", f"line {n}"]
        taken.add_lines(batch, [lines, lines if n < 5 else [], ["call 13800138000\u2028now"]], tmp_path)
    rows = taken.frequent_lines(tmp_path)
    assert rows[0] == {"source": "b", "documents": 40, "text": "call <|phone|>\u2028now"}
    assert [row["documents"] for row in rows[1:]] == [2] * 5 + [1] * 15
    assert taken.merged(tmp_path)["lines"] == [{"source": "a", "lines": 90}, {"source": "b", "lines": 40}]


def test_progress_is_told_while_a_job_runs(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS", 0.01)
    write_lines(tmp_path / "a.jsonl", *[b'{"text": "one more song"}'] * 20_000)
    with caplog.at_level("INFO"):
        run(tmp_path / "a.jsonl", tmp_path / "out")
    told = [r.getMessage() for r in caplog.records if "documents/s" in r.getMessage() and "% read" in r.getMessage()]
    assert any(re.search(r"out: 100% read, 20000 documents, \d+ documents/s", line) for line in told)
    assert not list((tmp_path / "out").glob("*.progress"))


# Bad input


def cut_gzip(path: Path) -> Path:
    write_lines(path, *[json.dumps({"text": f"song {i * i}"}).encode() for i in range(1000)])
    path.write_bytes(path.read_bytes()[:-500])
    return path


def damaged_parquet(path: Path) -> Path:
    pq.write_table(pa.table({"text": [f"song {i * i}" for i in range(1000)]}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[50:500] = bytes(450)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "name"), [(cut_gzip, "cut.jsonl.gz"), (damaged_parquet, "a.parquet"), (Path.write_bytes, "no.parquet")]
)
def test_damaged_files_are_named_and_leave_nothing(tmp_path, make, name):
    if make is Path.write_bytes:
        (tmp_path / name).write_bytes(b"not parquet at all")
    else:
        make(tmp_path / name)
    with pytest.raises(UserError, match=f"{name} is damaged, cut short or unreadable") as error:
        run(tmp_path / name, tmp_path / "out")
    assert "while running" not in str(error.value) and "\n" not in str(error.value)
    assert [f.name for f in tmp_path.iterdir()] == [name]


def test_missing_input_is_found_before_anything_starts(tmp_path):
    for missing in ("nothing", "nothing.jsonl", "*.jsonl"):
        with pytest.raises(UserError, match="does not exist"):
            run(tmp_path / missing, tmp_path / "out")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="holds no file that ends in"):
        run(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("lines", [[], [b"not json"], [b"{}"]])
def test_an_output_without_documents_is_an_error(tmp_path, lines):
    write_lines(tmp_path / "a.jsonl", *lines)
    with pytest.raises(UserError, match="gives no documents"):
        run(tmp_path / "a.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_output_replaces_its_own_kind_only(tmp_path):
    source, out = write_lines(tmp_path / "a.jsonl", b'{"text": "new"}'), tmp_path / "out"
    run(write_lines(tmp_path / "old.jsonl", b'{"text": "old"}', b"bad"), out)
    run(source, out)
    assert [row["text"] for row in rows(out)] == ["new"]
    assert not (out / "rejects.jsonl").exists()
    (out / "thesis.tex").write_text("dear")
    with pytest.raises(UserError, match=r"holds thesis\.tex"):
        run(source, out)
    assert (out / "thesis.tex").read_text() == "dear"
    with pytest.raises(UserError, match="folder of the input"):
        run(source, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        run(source, source)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", b'{"text": "x"}')
    with pytest.raises(UserError, match=r"a\.jsonl/below/out cannot be made or written .*; name a folder"):
        run(source, source / "below/out")


@pytest.mark.parametrize("runner", ["Foo", "no.such.Runner", "apache_beam.NoRunner"])
def test_an_unknown_runner_is_one_sentence(tmp_path, runner):
    source = write_lines(tmp_path / "a.jsonl", b'{"text": "x"}')
    with pytest.raises(UserError, match=r"Apache Beam cannot start here .*; check --runner") as error:
        run(source, tmp_path / "out", f"--runner={runner}")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_failed_run_keeps_the_earlier_output(tmp_path):
    run(write_lines(tmp_path / "a.jsonl", b'{"text": "old"}'), tmp_path / "out")
    with pytest.raises(UserError):
        run(cut_gzip(tmp_path / "cut.jsonl.gz"), tmp_path / "out")
    assert [row["text"] for row in rows(tmp_path / "out")] == ["old"]


def test_a_document_lost_without_a_reason_stops_the_job(tmp_path):
    write_lines(tmp_path / "a.jsonl", b'{"text": "x"}', b'{"text": "y"}')

    lossy = mask.STAGE._replace(build=each_batch(lambda batch, folder, options: batch.slice(1)))
    with pytest.raises(AssertionError, match="lost or doubled"):
        lossy.run([f"--input={tmp_path / 'a.jsonl'}", f"--output={tmp_path / 'out'}"])


@pytest.mark.parametrize("flag", ["--min_chrs", "--min_char"])  # the second is not taken for a short form
def test_misspelt_flags_are_refused(tmp_path, flag):
    write_lines(tmp_path / "a.jsonl", b'{"text": "x"}')
    with pytest.raises(UserError, match=f"knows {flag};"):
        run(tmp_path / "a.jsonl", tmp_path / "out", f"{flag}=3")


def test_the_command_ends_in_one_sentence(tmp_path):
    command = [sys.executable, "-m", "data_prep.clean", f"--input={cut_gzip(tmp_path / 'cut.jsonl.gz')}"]
    done = subprocess.run([*command, f"--output={tmp_path / 'out'}"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "cut.jsonl.gz is damaged" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and "apitools" not in done.stderr
