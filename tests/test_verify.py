"""verify names each damaged file of a run's folders, and index.parquet never gives wrong ids."""

import re
import shutil

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import T, random_row, small_config, write_rows

from mucpt_jax import verify
from mucpt_jax.errors import UserError
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import file_hash, write_json
from mucpt_jax.formats.manifest import INDEX_SCHEMA, documents_of, read_index, read_manifest, shared_documents
from mucpt_jax.formats.rows import shard_name, target_scores, write_shard
from mucpt_jax.run import checkpoint
from mucpt_jax.step import model, optimizer
from mucpt_jax.weights import hf_write

SHARD = shard_name("music", 0, 1)
CFG = small_config()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Scored rows, a run, its export and documents, below one folder."""
    folder = tmp_path_factory.mktemp("all")
    rows = [random_row(np.random.default_rng(i), scored=True) for i in range(6)]
    stats = [score_sums.stats_of(target_scores(row, ""), "") for row in rows]
    scores = score_sums.of_shards(["music"] * 6, stats) | {"rm_hash": "r", "encoding": "float16"}
    write_rows(folder / "rows", {"music": 6}, rows=rows, scores=scores)
    params = model.init(CFG.model, jax.random.key(0))
    ckpt = checkpoint.manager(folder / "run", CFG)
    checkpoint.save(ckpt, 3, checkpoint.State(params, optimizer.make(CFG).init(params)), CFG, {"seed": 0})
    checkpoint.finish(ckpt, 3)
    (folder / "run/metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')  # as a kill leaves it
    hf_write.write({"model.norm.weight": (4,)}, lambda _: np.ones(4), CFG.model, hf_write.About(f"{folder}/run/hf"))
    (folder / "docs").mkdir()
    texts = pa.table({"text": [f"song {i} " * 30 for i in range(50)]})
    pq.write_table(texts, folder / "docs/part-00000.parquet", compression="none", write_page_checksum=True)
    write_json(folder / "docs/counts.json", {"read": 50, "kept": 50, "dropped": {}})
    return folder


def flip(path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 16
    path.write_bytes(data)


def test_what_is_whole_ends_with_status_0(whole, capsys):
    assert list(verify.verify(whole)) == []
    with pytest.raises(SystemExit) as ended:
        verify.main([str(whole)])
    assert ended.value.code == 0 and capsys.readouterr().out == "nothing is damaged\n"


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (f"rows/{SHARD}", "is damaged or of another folder: its sha256"),
        ("rows/index.parquet", r"index\.parquet is damaged or of another folder"),
        ("run/hf/model.safetensors", r"model\.safetensors is not what SHA256SUMS beside it says"),
        ("docs/part-00000.parquet", r"part-00000\.parquet cannot be read"),
    ],
)
def test_a_flipped_bit_is_one_sentence_and_status_1(whole, tmp_path, capsys, file, sentence):
    shutil.copytree(whole, tmp_path / "all")
    flip(tmp_path / "all" / file)
    assert len(list(verify.verify(tmp_path / "all"))) == 1
    with pytest.raises(SystemExit) as ended:
        verify.main([str(tmp_path / "all")])
    assert ended.value.code == 1
    assert re.search(sentence, capsys.readouterr().out)


def test_a_checkpoint_of_other_arrays_or_meta_is_named(whole, tmp_path):
    shutil.copytree(whole / "run", tmp_path / "run")
    shutil.copytree(whole / "run", tmp_path / "other")
    step = tmp_path / "run/checkpoints/3"
    ckpt = checkpoint.manager(tmp_path / "other", CFG)
    params = model.init(CFG.model, jax.random.key(1))
    checkpoint.save(ckpt, 4, checkpoint.State(params, optimizer.make(CFG).init(params)), CFG, {"seed": 0})
    checkpoint.finish(ckpt, 4)
    shutil.rmtree(step / "params")
    shutil.copytree(tmp_path / "other/checkpoints/4/params", step / "params")
    meta = step / "meta/metadata"
    meta.write_text(meta.read_text().replace('"step":3', '"step":5').replace('"step": 3', '"step": 5'))
    faults = list(verify.verify(tmp_path / "run"))
    assert [fault.partition("checkpoints/3/")[2].split(" ")[:3] for fault in faults] == [
        ["meta", "is", "not"], ["params", "does", "not"],
    ]  # fmt: skip


def test_rows_that_differ_from_manifest_or_index_are_named_though_their_checksums_are_right(whole, tmp_path):
    folder = tmp_path / "rows"
    shutil.copytree(whole / "rows", folder)
    rows = [random_row(np.random.default_rng(i + 50), scored=True) for i in range(6)]
    rows[2]["tokens"][3] = 97  # of 0..96
    manifest = read_json(folder / "manifest.json")
    manifest["shards"][0] |= write_shard(folder / SHARD, rows)
    write_json(folder / "manifest.json", manifest)
    faults = list(verify.verify(folder))
    assert any("record 2 has a token id outside of 0..96" in fault for fault in faults)
    assert any("has other segments than" in fault for fault in faults)
    assert any("differs from its manifest: tokens" in fault for fault in faults)


def test_scores_that_the_manifest_misreports_are_named(whole, tmp_path):
    shutil.copytree(whole / "rows", tmp_path / "rows")
    manifest = read_json(tmp_path / "rows/manifest.json")
    manifest["scores"]["mean_raw_weight"]["1.0"] *= 1.001
    write_json(tmp_path / "rows/manifest.json", manifest)
    faults = list(verify.verify(tmp_path / "rows"))
    assert len(faults) == 1 and "scores.mean_raw_weight.1.0 is not that of the rows" in faults[0]


def test_a_folder_of_nothing_of_ours_is_no_success(tmp_path):
    assert "holds no rows, run, Hugging Face folder or documents" in next(verify.verify(tmp_path))


# index.parquet


def damaged_index(folder, seed: int) -> None:
    data, rng = bytearray((folder / "index.parquet").read_bytes()), np.random.default_rng(seed)
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    (folder / "index.parquet").write_bytes(data)


def test_of_200_flipped_bits_of_an_index_none_hangs_or_gives_other_ids(tmp_path):
    folder = write_rows(tmp_path / "rows", {"music": 30})
    good, shard = (folder / "index.parquet").read_bytes(), read_manifest(folder)["shards"][0]
    readers = (
        lambda: read_index(folder, shard),
        lambda: documents_of(str(folder), [(SHARD, 3)]),
        lambda: shared_documents(str(folder), str(folder)),
    )
    for seed in range(200):
        (folder / "index.parquet").write_bytes(good)
        damaged_index(folder, seed)
        for read in readers:
            with pytest.raises(UserError, match=r"index\.parquet is damaged or of another folder"):
                read()


def test_the_pages_of_an_index_have_checksums_for_what_has_no_manifest(tmp_path):
    folder = write_rows(tmp_path / "rows", {"music": 200})
    (folder / "manifest.json").unlink()
    table, silent = pq.read_table(folder / "index.parquet"), 0
    good = (folder / "index.parquet").read_bytes()
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    for place in range(4, footer, footer // 40):
        data = bytearray(good)
        data[place] ^= 4
        (folder / "index.parquet").write_bytes(data)
        try:
            read = pq.read_table(folder / "index.parquet", page_checksum_verification=True)
            silent += not read.equals(table)
        except (OSError, pa.ArrowException):
            pass
    assert not silent


def test_an_index_of_an_older_manifest_is_read_without_a_hash(tmp_path):
    folder = write_rows(tmp_path / "rows", {"music": 3})
    manifest = read_json(folder / "manifest.json")
    assert manifest.pop("index_sha256") == file_hash(folder / "index.parquet")
    write_json(folder / "manifest.json", manifest)
    table = read_index(folder, manifest["shards"][0])
    assert table.schema.names == INDEX_SCHEMA.names and len(table) == 9
    assert manifest["sequence_length"] == T and list(verify.verify(folder)) == []
