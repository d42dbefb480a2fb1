import gzip
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from data_prep import shard
from data_prep.packing import pack
from mucpt_jax.errors import UserError
from mucpt_jax.formats import rows
from mucpt_jax.formats.files import file_hash
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import NO_LOSS, read_shard, shard_name
from mucpt_jax.formats.tokenizer import tokenizer_hash

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """One token a byte: ids 0..255, and 256 for <|endoftext|>."""
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"), "<|endoftext|>")


def byte_tokenizer(folder: Path, eos: str | None) -> Path:
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if eos:
        made.add_special_tokens([eos])
        config["eos_token"] = eos
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write(path: Path, *documents: dict) -> Path:
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def run(source: Path, output: Path, tokenizer: Path, length: int = 8, *more: str) -> tuple[dict, dict]:
    flags = [f"--input={source}", f"--output={output}", f"--tokenizer={tokenizer}", f"--sequence_length={length}"]
    counts = shard.run([*flags, *more])
    return counts, read_manifest(str(output))


def all_rows(folder: Path, manifest: dict) -> list[dict]:
    length = manifest["sequence_length"]
    return [r for s in manifest["shards"] for r in read_shard(folder / s["name"], length)]


def texts(folder: Path, manifest: dict, tokenizer: Path) -> dict[str, str]:
    """Document id -> its text put together again from rows and index, without the end-of-document token."""
    decode = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).decode
    shards = {s["name"]: list(read_shard(folder / s["name"], manifest["sequence_length"])) for s in manifest["shards"]}
    found = {}
    for entry in pq.read_table(folder / "index.parquet").sort_by("offset").to_pylist():
        row = shards[entry["shard"]][entry["row"]]
        tokens = row["tokens"][rows.segment_numbers(row["segment_ids"]) == entry["segment"]].tolist()
        assert len(tokens) == entry["length"]
        found[entry["document"]] = found.get(entry["document"], []) + tokens
    assert all(tokens[-1] == manifest["eod"] for tokens in found.values())
    return {name: decode(tokens[:-1]) for name, tokens in found.items()}


# Packing


def test_best_fit_decreasing_by_hand():
    # 7 and 6 open rows of 10; 4 fits beside 6 only, filling it; 3 fits beside 7, filling it; 2 opens a third.
    assert pack.pack([2, 4, 7, 3, 6], 10) == [[2, 3], [4, 1], [0]]
    assert pack.pack([5, 5, 5], 5) == [[0], [1], [2]]
    assert pack.pack([], 5) == []


def test_every_segment_once_and_no_row_too_full():
    chance = random.Random(1)
    for _ in range(300):
        capacity = chance.randint(1, 40)
        lengths = [chance.randint(1, capacity) for _ in range(chance.randint(1, 200))]
        packed = pack.pack(lengths, capacity)
        used = [sum(lengths[i] for i in row) for row in packed]
        assert sorted(itertools.chain(*packed)) == list(range(len(lengths)))
        assert max(used) <= capacity
        # Any two rows of a best-fit packing hold more than one row can.
        assert all(a + b > capacity for a, b in itertools.combinations(used, 2))


def test_segments_too_long_are_not_packed():
    with pytest.raises(AssertionError):
        pack.pack([6], 5)


def test_cut_keeps_a_rest_of_one_token():
    assert [(offset, run.tolist()) for offset, run in pack.cut(np.arange(9), 4)] == [
        (0, [0, 1, 2, 3]),
        (4, [4, 5, 6, 7]),
        (8, [8]),
    ]


# Rows on disk


def test_rows_by_hand(tmp_path, tokenizer):
    """T=8, rows of 9.  A: 11 letters + end = 8 + 4.  B: 4 + end = 5.  C: 0 letters: dropped.  4 + 5 = 9: two rows."""
    source = write(
        tmp_path / "songs.jsonl", {"id": "A", "text": "a" * 11}, {"id": "B", "text": "bbbb"}, {"id": "C", "text": ""}
    )
    counts, manifest = run(source, tmp_path / "rows", tokenizer)
    assert counts == {"read": 3, "kept": 2, "dropped": {"no_tokens": 1}}
    a, b = (Tokenizer.from_file(str(tokenizer / "tokenizer.json")).token_to_id(c) for c in "ab")
    first, second = all_rows(tmp_path / "rows", manifest)
    assert first["tokens"].tolist() == [a] * 8 + [0]
    assert first["segment_ids"].tolist() == [1] * 8 + [0]
    assert second["tokens"].tolist() == [b] * 4 + [256] + [a] * 3 + [256]
    assert second["segment_ids"].tolist() == [1] * 5 + [2] * 4
    assert np.isnan(first["rm_nll"]).all() and np.isnan(second["rm_nll"]).all()

    name = "songs-00000-of-00001.array_record"
    assert pq.read_table(tmp_path / "rows/index.parquet").to_pylist() == [
        {"shard": name, "row": 0, "segment": 1, "document": "A", "offset": 0, "length": 8},
        {"shard": name, "row": 1, "segment": 1, "document": "B", "offset": 0, "length": 5},
        {"shard": name, "row": 1, "segment": 2, "document": "A", "offset": 8, "length": 4},
    ]
    # Targets: 7 + 4 + 3, as the first token of a segment is none.
    totals = {"segments": 3, "tokens": 17, "targets": 14, "records": 2}
    assert manifest["sources"] == {"songs": {"documents": 2, **totals}}
    path = tmp_path / "rows" / name
    facts = {"bytes": path.stat().st_size, "sha256": file_hash(path)}
    assert manifest["shards"] == [{"name": name, "source": "songs", **totals, **facts}]
    assert manifest["fill"] == 17 / 18
    assert (manifest["eod"], manifest["vocab_size"], manifest["scores"]) == (256, 257, None)
    assert manifest["tokenizer_hash"] == tokenizer_hash(str(tokenizer))


def corpus(folder: Path) -> dict[str, str]:
    """Three files, two sources in each; returns text by id."""
    folder.mkdir()
    chance, found = random.Random(2), {}
    for name in "xyz":
        made = []
        for i in range(60):
            text = "".join(chance.choices("歌song ♪", k=chance.randint(1, 40)))
            made.append({"id": f"{name}{i}", "source": ("zh", "en")[i % 2], "text": text})
            found[f"{name}{i}"] = text
        write(folder / f"{name}.jsonl", *made)
    return found


def test_every_text_comes_back_from_its_rows(tmp_path, tokenizer):
    written = corpus(tmp_path / "docs")
    _, manifest = run(tmp_path / "docs", tmp_path / "rows", tokenizer, 16, "--rows_per_shard=20")
    assert texts(tmp_path / "rows", manifest, tokenizer) == written
    assert sum(s["tokens"] for s in manifest["shards"]) == sum(len(t.encode()) + 1 for t in written.values())


def test_shards_are_numbered_over_all_files_and_hold_one_source(tmp_path, tokenizer):
    corpus(tmp_path / "docs")
    _, manifest = run(tmp_path / "docs", tmp_path / "rows", tokenizer, 16, "--rows_per_shard=20")
    for source in ("zh", "en"):
        found = [s for s in manifest["shards"] if s["source"] == source]
        assert [s["name"] for s in found] == [shard_name(source, i, len(found)) for i in range(len(found))]
        assert len(found) > 3 and all(s["records"] <= 20 for s in found)
        index = pq.read_table(tmp_path / "rows/index.parquet")
        odd = {s["name"]: source == "en" for s in manifest["shards"] if s["source"] == source}
        for entry in index.to_pylist():
            if entry["shard"] in odd:
                assert int(entry["document"][1:]) % 2 == odd[entry["shard"]]
    assert [s["name"] for s in manifest["shards"]] == sorted(s["name"] for s in manifest["shards"])
    first = {entry["shard"]: entry["document"][0] for entry in index.to_pylist()}
    assert "".join(first[s["name"]] for s in found) == "".join(sorted(first[s["name"]] for s in found))
    on_disk = {f.name for f in (tmp_path / "rows").iterdir()}
    assert on_disk == {s["name"] for s in manifest["shards"]} | {
        "manifest.json",
        "index.parquet",
        "counts.json",
        "composition.json",
    }


def test_placeholders_are_read_but_are_no_targets(tmp_path, tokenizer):
    text = "打电话<|phone|>，或写信给<|email|>。 <|title|>"  # the last one is no type of private data
    source = write(tmp_path / "a.jsonl", {"id": "d", "text": text})
    _, manifest = run(source, tmp_path / "rows", tokenizer, 100, "--no_loss=<|{type}|>")
    (row,) = all_rows(tmp_path / "rows", manifest)
    letters = {
        number: letter for letter, number in zip(sorted(pre_tokenizers.ByteLevel.alphabet()), range(256), strict=True)
    }
    marked = "".join(letters[t] for t in row["tokens"][row["segment_ids"] >= NO_LOSS].tolist())
    assert marked == "<|phone|><|email|>"
    length = len(text.encode()) + 1
    assert manifest["sources"]["a"] == {
        "documents": 1,
        "segments": 1,
        "tokens": length,
        "targets": length - 1 - 18,
        "records": 1,
    }
    assert texts(tmp_path / "rows", manifest, tokenizer) == {"d": text}
    _, manifest = run(source, tmp_path / "all", tokenizer, 100)
    assert manifest["sources"]["a"]["targets"] == length - 1


def test_full_shards_are_written_while_more_is_read(tmp_path):
    """T=4, two rows a shard: 10 tokens fill a shard, the third row's segment waits for more."""
    shards, run = [], pack.run_of(range(5))
    segments = [pack.Segment(run, str(i), 0) for i in range(3)]
    assert shard.write_full(segments[:1], shards, tmp_path / "a", (4, 2), last=False) == segments[:1]
    assert shards == []
    assert shard.write_full(segments, shards, tmp_path / "a", (4, 2), last=False) == segments[2:]
    assert [s["records"] for s in shards] == [2]
    assert shard.write_full(segments[2:], shards, tmp_path / "a", (4, 2), last=True) == []
    assert [s["records"] for s in shards] == [2, 1]


def test_texts_come_back_when_segments_wait_over_batches(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr("data_prep.jobs.documents.BATCH_BYTES", 500)
    chance = random.Random(3)
    made = [{"id": str(i), "text": "x" * chance.randint(1, 70)} for i in range(300)]
    _, manifest = run(write(tmp_path / "a.jsonl", *made), tmp_path / "rows", tokenizer, 32, "--rows_per_shard=10")
    held = [s["records"] for s in manifest["shards"]]
    assert held[:-1] == [10] * (len(held) - 1) and len(held) > 10
    assert texts(tmp_path / "rows", manifest, tokenizer) == {m["id"]: m["text"] for m in made}


def test_same_input_same_bytes(tmp_path, tokenizer):
    corpus(tmp_path / "docs")
    for out in ("one", "two"):
        run(tmp_path / "docs", tmp_path / out, tokenizer, 16, "--rows_per_shard=20")
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / out).iterdir()} for out in ("one", "two"))
    assert one == two


def test_text_cannot_forge_the_end_of_a_document(tmp_path, tokenizer):
    source = write(tmp_path / "a.jsonl", {"id": "A", "text": "x<|endoftext|>y"})
    _, manifest = run(source, tmp_path / "rows", tokenizer, 32)
    (row,) = all_rows(tmp_path / "rows", manifest)
    assert (row["tokens"] == 256).sum() == 1
    assert texts(tmp_path / "rows", manifest, tokenizer) == {"A": "x<|endoftext|>y"}


# Bad input


def test_a_tokenizer_must_be_a_folder_with_an_end_token(tmp_path, tokenizer):
    source = write(tmp_path / "a.jsonl", {"text": "x"})
    with pytest.raises(UserError, match=r"Qwen2\.5-0\.5B is not a folder, so it holds no tokenizer\.json"):
        run(source, tmp_path / "rows", Path("Qwen/Qwen2.5-0.5B"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        run(source, tmp_path / "rows", tmp_path / "empty")
    (tmp_path / "endless").mkdir()
    with pytest.raises(UserError, match="eos_token"):
        run(source, tmp_path / "rows", byte_tokenizer(tmp_path / "endless", None))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded"):
        run(source, tmp_path / "rows", tmp_path / "broken")


def test_another_end_token_serves_where_endoftext_is_unknown(tmp_path):
    (tmp_path / "t").mkdir()
    tokenizer = byte_tokenizer(tmp_path / "t", "</s>")
    _, manifest = run(write(tmp_path / "a.jsonl", {"text": "x"}), tmp_path / "rows", tokenizer)
    assert all_rows(tmp_path / "rows", manifest)[0]["tokens"][1] == manifest["eod"] == 256


@pytest.mark.parametrize(
    "flag",
    [
        "--sequence_length=1",
        "--rows_per_shard=0",
        "--held_out=1",
        "--only_held_out",
        "--no_loss={type}",  # a word, such as phone
    ],
)
def test_sizes_that_hold_nothing_are_refused(tmp_path, tokenizer, flag):
    with pytest.raises(UserError, match=flag):
        run(write(tmp_path / "a.jsonl", {"text": "x"}), tmp_path / "rows", tokenizer, 8, flag)


def test_a_source_for_each_page_is_refused(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr("data_prep.packing.shards.MAX_SOURCES", 3)
    pages = [{"text": "x", "source": f"page-{i}"} for i in range(4)]
    (tmp_path / "docs").mkdir()
    run(write(tmp_path / "docs/a.jsonl", *pages[:3]), tmp_path / "rows", tokenizer)
    with pytest.raises(UserError, match=r"b\.jsonl has more than 3 sources, for example page-0; .* a corpus"):
        run(write(tmp_path / "b.jsonl", *pages), tmp_path / "rows", tokenizer)
    write(tmp_path / "docs/b.jsonl", *pages[2:])  # no file has too many, both together have
    with pytest.raises(UserError, match="--input has more than 3 sources"):
        run(tmp_path / "docs", tmp_path / "rows", tokenizer)


def test_tokenizers_bring_no_code(tokenizer, tmp_path, monkeypatch):
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    def asks(_, **more):
        raise AssertionError(more)

    for loader in (AutoTokenizer, PreTrainedTokenizerFast):
        monkeypatch.setattr(loader, "from_pretrained", asks)
    shard.load_tokenizer.__wrapped__(str(tokenizer))  # from tokenizer.json, by the tokenizers library alone
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(UserError, match=r"'trust_remote_code': False, 'local_files_only': True"):
        shard.load_tokenizer.__wrapped__(str(tmp_path))


def test_rows_without_documents_are_an_error(tmp_path, tokenizer):
    with pytest.raises(UserError, match="gives no documents"):
        run(write(tmp_path / "a.jsonl", {"text": ""}), tmp_path / "rows", tokenizer)
    assert not (tmp_path / "rows").exists()


# Real text


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real text: shared/data beside the repository")
@pytest.mark.parametrize("name", ["music_en_wiki", "music_zh_wiki"])
def test_real_text_fills_rows(tmp_path, name):
    with gzip.open(SHARED / f"music/{name}.jsonl.gz", "rt", encoding="utf-8") as f:
        (tmp_path / f"{name}.jsonl").write_text("".join(itertools.islice(f, 400)), encoding="utf-8")
    _, manifest = run(tmp_path / f"{name}.jsonl", tmp_path / "rows", SHARED / "tokenizer/qwen2", 512)
    assert manifest["fill"] >= 0.99
    assert manifest["eod"] == 151643
