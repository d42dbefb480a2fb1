"""Faults: what every document job does with damaged, strange and missing input, and with full disks."""

import gzip
import io
import json
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from conftest import files_of_at_most
from test_shard import byte_tokenizer

from data_prep import pipeline
from data_prep.jobs import documents, notes, progress
from mucpt_jax.errors import DISK_FULL, UserError
from mucpt_jax.formats.decode import read_lines

STAGES = {stage.name: stage for stage in pipeline.STAGES}
SENTENCE = (
    "The band played song number {i} in a small hall, and the people who had come for it stayed until its end; "
    "take {j} of it was sung by the choir of the town in the year {k}, as the old papers tell."
)
CHINESE = "第{i}首歌曲是由这位歌手在{k}年写的，收录于她的第{j}张专辑，发行之后很受听众的欢迎。"


@pytest.fixture(scope="module")
def flags(tmp_path_factory) -> dict[str, list[str]]:
    """Of each job what it needs besides input and output."""
    folder = tmp_path_factory.mktemp("needed")
    questions = folder / "questions.jsonl"
    questions.write_text('{"question": "Who wrote the words of the oldest song of all?", "answer": "nobody"}\n')
    (folder / "tokenizer").mkdir()
    tokenizer = byte_tokenizer(folder / "tokenizer", "<|endoftext|>")
    shard = [f"--tokenizer={tokenizer}", "--sequence_length=64"]
    more = {"dedup": ["--signatures", "--groups"], "decontaminate": [f"--questions={questions}"], "shard": shard}
    return {name: more.get(name, []) for name in STAGES}


@pytest.fixture(params=STAGES)
def command(request, flags):
    """command(source, output) runs one of the jobs in this process."""

    def run(source: Path, output: Path, *beam: str) -> dict:
        more = flags[request.param]
        return STAGES[request.param].run([f"--input={source}", f"--output={output}", *more, *beam])

    return run


def texts(number: int) -> list[str]:
    made = [(CHINESE if i % 3 == 0 else SENTENCE).format(i=i, j=i * 7, k=1000 + i * i) for i in range(number)]
    return made + made[:3]  # duplicates


def lines_of(found: list[str]) -> bytes:
    return b"".join(json.dumps({"id": f"d{i}", "text": t}).encode() + b"\n" for i, t in enumerate(found))


def packed(path: Path, data: bytes) -> Path:
    """With the checksum that the command zstd writes."""
    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor(write_checksum=True).compress}
    path.write_bytes(pack.get(path.suffix, bytes)(data))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def counts_add_up(folder: Path) -> dict:
    counts = json.loads((folder / "counts.json").read_text())
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    return counts


# Damaged files


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 16
    path.write_bytes(data)


def write_part(path: Path) -> None:
    """As jobs write theirs."""
    made = [documents.document({"text": text}, "songs") for text in texts(50)]
    pq.write_table(pa.Table.from_pylist(made, documents.SCHEMA), path, compression="zstd", write_page_checksum=True)


def damaged(path: Path, damage) -> Path:
    write_part(path) if path.suffix == ".parquet" else packed(path, lines_of(texts(50)))
    damage(path)
    return path


@pytest.mark.parametrize(("damage", "name"), [(cut, "songs.jsonl.gz"), (flip, "songs.parquet")])
def test_a_damaged_file_is_named_and_the_earlier_output_stays(tmp_path, command, damage, name):
    (tmp_path / "raw").mkdir()
    packed(tmp_path / "raw/fine.jsonl", lines_of(texts(50)))
    command(tmp_path / "raw", tmp_path / "out")
    before = content(tmp_path / "out")
    damaged(tmp_path / "raw" / name, damage)
    with pytest.raises(UserError, match=f"{name} is damaged, cut short or unreadable") as error:
        command(tmp_path / "raw", tmp_path / "out")
    assert "\n" not in str(error.value) and "while running" not in str(error.value)
    assert content(tmp_path / "out") == before
    assert {f.name for f in tmp_path.iterdir()} == {"raw", "out"}


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_damage_of_every_kind_of_file_is_found(tmp_path, name, damage):
    path = damaged(tmp_path / name, damage)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        list(documents.read_batches(str(path)))


def test_a_flipped_bit_in_a_part_is_found_wherever_it_is(tmp_path):
    write_part(tmp_path / "good.parquet")
    good, silent = (tmp_path / "good.parquet").read_bytes(), 0
    table = pq.read_table(tmp_path / "good.parquet")
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")  # names and types of columns
    for place in range(4, footer, footer // 60):
        data = bytearray(good)
        data[place] ^= 4
        (tmp_path / "bad.parquet").write_bytes(data)
        try:
            found = pa.Table.from_batches([b for b, _ in documents.read_batches(str(tmp_path / "bad.parquet"))])
            silent += not found.equals(table)
        except (UserError, pa.ArrowException):
            pass
    assert not silent


# Strange and missing documents


def test_documents_and_lines_that_no_memory_should_hold_go_as_too_long(tmp_path, monkeypatch):
    """16 MB of text and 64 MB of a line, here 100 bytes and 400."""
    monkeypatch.setattr(documents, "DOCUMENT_BYTES", 100)
    monkeypatch.setattr(documents, "LINE_BYTES", 400)
    found = ["x" * 100, "x" * 101, "好" * 33, "好" * 34, "x" * 500, "y" * 1300, "end"]
    line = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in found).encode()
    packed(tmp_path / "a.jsonl.gz", line.removesuffix(b"\n"))
    pq.write_table(pa.table({"text": found}), tmp_path / "b.parquet")
    made = [documents.document({"text": text}, "s") for text in found if isinstance(text, str)]
    ours = [{name: "" for name in documents.SCHEMA.names} | {"text": text} for text in found]
    assert made.count("too_long") == 4
    pq.write_table(pa.Table.from_pylist(ours, documents.SCHEMA), tmp_path / "c.parquet")
    for name in ("a.jsonl.gz", "b.parquet", "c.parquet"):
        batches = list(documents.read_batches(str(tmp_path / name)))
        assert [text for batch, _ in batches for text in batch["text"].to_pylist()] == ["x" * 100, "好" * 33, "end"]
        assert [reject for _, rejects in batches for reject in rejects] == [(n, "too_long") for n in (2, 4, 5, 6)]


def test_bad_lines_are_counted_and_the_good_ones_go_on(tmp_path, command):
    bad = [
        b'{"text": "caf\xe9"}',  # Latin-1
        b'{"text": "half a character: \\ud83d"}',
        b'{"text": "cut',
        b'{"words": "none"}',
        b'{"text": null}',
        b"\xff\xfe{\x00}\x00",  # UTF-16
        b"",
        b"  \t ",
    ]
    packed(tmp_path / "a.jsonl", lines_of(texts(20)) + b"\n".join(bad))
    command(tmp_path / "a.jsonl", tmp_path / "out")
    counts = counts_add_up(tmp_path / "out")
    assert counts["read"] == 29 and counts["kept"] >= 20
    assert {name: counts["dropped"][name] for name in ("not_utf8", "not_json", "no_text")} == {
        "not_utf8": 3, "not_json": 1, "no_text": 2,
    }  # fmt: skip


def test_long_rows_of_parquet_are_read_a_few_at_a_time(tmp_path):
    for letters, rows in ((8, 1024), (1_000_000, 8)):  # 8 MiB are 8.4 texts of a million letters
        texts = [str(i) * letters for i in range(10)]
        pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", compression="none")
        assert documents._rows_at_once(pq.ParquetFile(tmp_path / "a.parquet")) == rows
        found = [text for batch, _ in documents.read_batches(str(tmp_path / "a.parquet")) for text in batch["text"]]
        assert [text.as_py() for text in found] == texts


@pytest.mark.parametrize("data", [b"\n \n\n", None])
def test_an_input_without_documents_stops_in_one_sentence(tmp_path, command, data):
    source = tmp_path / "raw"
    source.mkdir()
    if data is not None:
        (source / "a.jsonl").write_bytes(data)
    with pytest.raises(UserError, match="holds no file that ends in" if data is None else "gives no documents"):
        command(source, tmp_path / "out")
    assert [f.name for f in tmp_path.iterdir()] == ["raw"]


def test_an_empty_file_among_others_changes_nothing(tmp_path, command):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        packed(tmp_path / name / "b.jsonl", lines_of(texts(20)))
    packed(tmp_path / "two/c.jsonl", b"")
    packed(tmp_path / "two/d.jsonl.gz", b"\n\n")
    for name in ("one", "two"):
        command(tmp_path / name, tmp_path / f"out-{name}")
    assert content(tmp_path / "out-one") == content(tmp_path / "out-two")


def test_a_megabyte_of_one_word_is_a_document_like_others(tmp_path, command):
    """Kept or dropped for a reason, and in seconds."""
    strange = ["abcdefghij" * 100_000, "好" * 300_000, "x " * 500_000, "\n" * 1_000_000 + "end"]
    packed(tmp_path / "a.jsonl", lines_of([*texts(20), *strange]))
    started = time.process_time()
    command(tmp_path / "a.jsonl", tmp_path / "out")
    assert counts_add_up(tmp_path / "out")["read"] == 27
    assert time.process_time() - started < 20


# A disk that fills


def test_a_full_disk_is_one_sentence_and_the_earlier_output_stays(tmp_path, command):
    out = tmp_path / "out"
    command(packed(tmp_path / "a.jsonl", lines_of(texts(20))), out)
    before = content(out)
    packed(tmp_path / "b.jsonl", lines_of(texts(400)) + b"bad\n" * 300)
    for size in (16, 3000, 15_000):  # of notes, of work files, of parts
        with files_of_at_most(size), pytest.raises(UserError, match="make room") as error:
            command(tmp_path / "b.jsonl", out)
        assert "\n" not in str(error.value) and "File too large" in str(error.value)
        assert content(out) == before
        assert {f.name for f in tmp_path.iterdir()} == {"a.jsonl", "b.jsonl", "out"}


def test_progress_that_cannot_be_written_stops_nothing(tmp_path):
    progress.write(tmp_path / "nowhere/note", 1, 2)


def test_the_pipeline_on_a_full_disk_ends_in_one_sentence(tmp_path, flags):
    packed(tmp_path / "a.jsonl", lines_of(texts(300)))
    argv = [f"--input={tmp_path / 'a.jsonl'}", f"--output={tmp_path / 'out'}", f"--config={pipeline.RECIPE}:plain"]
    for size, written in ((16, []), (3000, ["config.json"])):
        code = (
            f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
            "from data_prep import pipeline; from data_prep.jobs import job; job.main(pipeline.run)"
        )
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
        assert done.returncode == DISK_FULL and "Traceback" not in done.stderr, done.stderr
        told = done.stderr.splitlines()[-1]
        assert told.startswith("error: ") and "File too large" in told
        assert [f.name for f in (tmp_path / "out").glob("*.json")] == written


def test_log_lines_stand_above_the_bar(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    handler = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with progress.shown("some/clean", tmp_path, 100, readings=2):
        progress.write(tmp_path / "a.progress", 40, 200)
        time.sleep(0.8)
        logging.getLogger().warning("line 7: not_json")
    told = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", handler.stream.getvalue())
    assert handler.stream is sys.stderr and "line 7: not_json" in re.split(r"[\r\n]+", told)
    assert re.search(r"\rclean .*100% 20 documents, \d\d?/s", told)


@pytest.mark.parametrize(("name", "reason"), [("clean", "too_short"), ("dedup", "exact_duplicate")])
def test_documents_may_hold_every_character_that_ends_a_line_elsewhere(tmp_path, flags, name, reason):
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei\rj"  # str.splitlines() splits at each
    kept = [{"id": f"{odd}{i}", "text": SENTENCE.format(i=i, j=i, k=i)} for i in range(2)]
    gone = [{"id": f"{odd}gone", "text": odd}] * 2
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in kept + gone))
    counts = STAGES[name].run([f"--input={tmp_path / 'a.jsonl'}", f"--output={tmp_path / 'out'}", *flags[name]])
    assert counts["dropped"] == {reason: 2 if name == "clean" else 1}
    (sample,) = {s["id"]: s for s in read_lines(tmp_path / "out" / "samples.jsonl", notes.Sample)}.values()
    assert (sample["id"], sample["reason"]) == (f"{odd}gone", reason)
    assert sample["text"] == ("a\nb\nc\nd\ne\nf\ng\nh\ni\nj" if name == "clean" else odd)  # clean writes newlines
    ids = pq.read_table(tmp_path / "out" / "part-00000-000.parquet")["id"].to_pylist()
    assert {d["id"] for d in kept} <= set(ids)
