import json
from pathlib import Path

import numpy as np
import pytest
from conftest import T, random_row, write_rows

from mucpt_jax.errors import UserError
from mucpt_jax.formats.manifest import documents_of, read_manifest
from mucpt_jax.formats.rows import COLUMNS, decode_row, encode_row, read_shard, shard_name, target_mask, write_shard
from mucpt_jax.formats.tokenizer import tokenizer_hash


def test_a_row_of_4096_tokens_is_32776_bytes_and_comes_back_equal():
    row = {
        "tokens": np.arange(4097, dtype=np.int32) + 150_000,
        "segment_ids": np.repeat([1, 2], [4000, 97]).astype(np.uint16),
        "rm_nll": np.linspace(0, 30, 4097).astype(np.float16),
    }
    record = encode_row(row)
    assert len(record) == 32_776
    for name, array in decode_row(record, 4096).items():
        np.testing.assert_array_equal(array, row[name])


def test_targets_are_neither_first_tokens_nor_padding():
    np.testing.assert_array_equal(
        target_mask(np.array([1, 1, 2, 2, 2, 3, 0, 0])), [True, False, True, True, False, False, False]
    )


def test_shards_keep_order_and_facts(tmp_path):
    rows = [random_row(np.random.default_rng(i)) for i in range(5)]
    facts = write_shard(tmp_path / "a.array_record", rows)
    assert facts["records"] == 5 and facts["bytes"] == (tmp_path / "a.array_record").stat().st_size
    back = list(read_shard(tmp_path / "a.array_record", T))
    np.testing.assert_array_equal([r["tokens"] for r in back], [r["tokens"] for r in rows])
    assert not list(tmp_path.glob("*.writing"))


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [random_row(np.random.default_rng(i)) for i in range(5)]
    a = write_shard(tmp_path / "a.array_record", rows)
    assert a == write_shard(tmp_path / "b.array_record", rows)


def test_a_shard_cut_short_is_named_with_its_records(tmp_path):
    folder = write_rows(tmp_path / "rows", {"music": 9})
    shard = folder / shard_name("music", 0, 1)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"music-00000-of-00001.array_record is cut short.*records 0\.\.8"):
        read_manifest(folder)
    shard.unlink()
    with pytest.raises(UserError, match=r"music-00000-of-00001.array_record is missing"):
        read_manifest(folder)


def test_a_record_of_another_length_is_named_with_file_and_number(tmp_path):
    write_shard(tmp_path / "a.array_record", [random_row(np.random.default_rng(0))] * 2)
    with pytest.raises(UserError, match=r"a.array_record record 0 has 264 bytes, a row of T=64 has 520"):
        list(read_shard(tmp_path / "a.array_record", 64))


def test_a_folder_without_manifest_or_of_another_schema_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json is missing; write rows there"):
        read_manifest(tmp_path)
    folder = write_rows(tmp_path / "rows", {"music": 1})
    manifest = json.loads((folder / "manifest.json").read_text()) | {"schema": 99}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="schema 99"):
        read_manifest(folder)


def test_the_index_takes_a_row_back_to_its_documents(tmp_path):
    folder = write_rows(tmp_path / "rows", {"music": 3})
    found = documents_of(folder, [(shard_name("music", 0, 1), 2)])[0]
    assert found == ["music-2-1", "music-2-2", "music-2-3"]


def test_the_tokenizer_hash_follows_the_content_of_its_files(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        tokenizer_hash(tmp_path)
    (tmp_path / "merges.txt").write_text("a b")
    before = tokenizer_hash(tmp_path)
    (tmp_path / "merges.txt").write_text("a c")
    assert tokenizer_hash(tmp_path) != before


def test_a_shard_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    class Full:
        def __init__(self, path, options):
            Path(path).touch()

        def write(self, record):
            raise RuntimeError("write() failed: No space left on device\nmore")

    monkeypatch.setattr("array_record.python.array_record_module.ArrayRecordWriter", Full)
    row = {name: np.zeros(5, dtype) for name, dtype in COLUMNS}
    with pytest.raises(UserError, match=r"x\.array_record could not be written \(write\(\) failed: No space"):
        write_shard(tmp_path / "x.array_record", [row])
    assert list(tmp_path.iterdir()) == []
