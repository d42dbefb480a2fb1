"""verify names each damaged file of a run's folders, and index.parquet never gives wrong ids."""

import json
import logging
import re
import shutil

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import T, random_row, small_config, write_rows

from mucpt_jax import config, verify
from mucpt_jax.errors import UserError
from mucpt_jax.formats import decode, score_sums
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
    write_json(folder / "run/config.json", config.to_saved(CFG))
    (folder / "run/metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')  # as a kill leaves it
    hf_write.write({"model.norm.weight": (4,)}, lambda _: np.ones(4), CFG.model, hf_write.About(f"{folder}/run/hf"))
    (folder / "docs").mkdir()
    texts = pa.table({"text": [f"song {i} " * 30 for i in range(50)]})
    pq.write_table(texts, folder / "docs/part-00000-000.parquet", compression="none", write_page_checksum=True)
    write_json(folder / "docs/counts.json", {"read": 50, "kept": 50, "dropped": {}})
    return folder


@pytest.fixture
def copied(whole, tmp_path):
    """Without the checkpoint, which takes a second to read."""
    return shutil.copytree(whole, tmp_path / "all", ignore=shutil.ignore_patterns("checkpoints"))


def faults(folder) -> list[str]:
    return [fault for fault in verify.verify(folder) if not isinstance(fault, verify.Unsummed)]


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
        ("docs/part-00000-000.parquet", r"part-00000-000\.parquet cannot be read"),
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


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("rows/manifest.json", r"rows/manifest\.json is missing; write rows there"),
        (f"rows/{SHARD}", rf"{SHARD} is missing, its manifest lists 6 records there"),
        ("rows/index.parquet", r"index\.parquet cannot be read"),
        ("run/config.json", r"run/config\.json is missing, which belongs to a run; copy"),
        ("run/hf/SHA256SUMS", r"SHA256SUMS is missing or empty; copy or export"),
        ("run/hf/model.safetensors", r"model\.safetensors is missing; copy it again"),
        ("run/hf/config.json", r"hf/config\.json is missing; copy it again"),
        ("docs/counts.json", r"docs/counts\.json is missing, which belongs to documents"),
    ],
)
def test_a_file_that_is_gone_is_said_by_what_it_leaves_behind(copied, file, sentence):
    (copied / file).unlink()
    assert re.search(sentence, "\n".join(faults(copied)))


def test_checkpoints_and_documents_that_are_gone_are_missed_by_the_files_about_them(whole, tmp_path):
    copied = shutil.copytree(whole, tmp_path / "all")
    line = {"step": 3, "nll": 4.0, "sources": {}}
    write_json(copied / "run/best.json", line | {"params_hash": "p", "before": line, "ended": {"steps": 9}})
    write_json(copied / "docs/composition.json", {})
    assert faults(copied) == []
    shutil.rmtree(copied / "run/checkpoints")
    (copied / "docs/part-00000-000.parquet").unlink()
    assert [fault.partition("all/")[2] for fault in faults(copied)] == [
        "docs holds 0 documents, its counts.json says 50; write them again",
        "run/checkpoints/3 is missing, the state that best.json names; copy it again",
    ]


LINE = b'{"phase": "step", "step": 7, "seconds": 0.5}\n'


@pytest.mark.parametrize(
    ("wrong", "place", "damaged"),
    [
        (LINE[:20], 3, False),  # the last, as a kill leaves it
        (LINE[:20] + b"\n", 1, False),  # the next start has ended it
        (LINE[:20] + LINE, 1, False),  # the next start's first line stands behind it
        (LINE.replace(b": 7", b"; 7"), 1, True),
        (LINE.replace(b"7", b'"7"'), 1, True),  # JSON, but no step
        (LINE.replace(b'"step"', b'"st\x00p"'), 2, True),
    ],
)
def test_of_a_log_lines_that_a_kill_cut_off_are_no_damage_and_others_are(copied, caplog, wrong, place, damaged):
    lines = [LINE] * 3
    (copied / "run/goodput.jsonl").write_bytes(b"".join([*lines[:place], wrong, *lines[place:]]))
    caplog.set_level(logging.INFO, verify.__name__)
    said = faults(copied)
    if damaged:
        assert len(said) == 1 and f"goodput.jsonl line {place + 1} " in said[0] and "copy it again; until" in said[0]
    else:
        assert said == [] and "goodput.jsonl: lines that a kill cut off, which are left out: 1" in caplog.text


def test_what_is_written_whole_has_no_cut_line(copied):
    answer = {"id": "1", "question": "who?", "answer": "x", "prediction": "y", "correct": False}
    (copied / "run/predictions.jsonl").write_text(json.dumps(answer) + "\n" + json.dumps(answer)[:30])
    (copied / "own.jsonl").write_text('{"rating": NaN}\n{"of": "a user"}')
    (fault,) = faults(copied)
    assert "predictions.jsonl line 2 cannot be read as JSON" in fault


def test_json_of_another_kind_is_one_sentence(copied):
    write_json(copied / "docs/counts.json", {"read": 50, "kept": "fifty"})
    write_json(copied / "run/evaluate.json", {"asked": 3})
    (copied / "scored/parts").mkdir(parents=True)
    write_json(copied / "scored/parts" / f"{SHARD}.json", {"facts": [1]})
    said = [fault.partition("all/")[2] for fault in faults(copied)]
    for file in ("docs/counts.json", "run/evaluate.json", f"scored/parts/{SHARD}.json"):
        assert sum(fault.startswith(f"{file} is damaged or of another kind") for fault in said) == 1
    assert any(fault.startswith("scored/scoring.json is missing") for fault in said) and len(said) == 4


def test_what_has_no_checksum_is_counted(whole, tmp_path, capsys):
    copied = shutil.copytree(whole, tmp_path / "all")
    manifest = read_json(copied / "rows/manifest.json")
    del manifest["index_sha256"]
    write_json(copied / "rows/manifest.json", manifest)
    meta = copied / "run/checkpoints/3/meta/metadata"
    kept = {key: value for key, value in read_json(meta).items() if not key.endswith("_hash")}
    meta.write_text(json.dumps(kept))
    for name in ("SHA256SUMS", "mucpt_jax_export.json"):  # as from the hub
        (copied / "run/hf" / name).unlink()
    with pytest.raises(SystemExit) as ended:
        verify.main([str(copied)])
    told = capsys.readouterr()
    # The index; meta, params and opt_state; config.json and model.safetensors.
    assert told.out.count("NO CHECKSUM: ") == 6 and ended.value.code == 0
    assert told.out.endswith("nothing is damaged; 6 without a checksum to compare, where a flipped bit does not show\n")
    assert f"{copied / 'rows'}: rows" in told.err  # what it is at


def test_a_mistyped_path_is_no_damage(whole, capsys):
    for name, state in (("nowhere", "does not exist"), (f"rows/{SHARD}", "is a file")):
        with pytest.raises(SystemExit) as ended:
            verify.main([str(whole), str(whole / name)])
        assert str(ended.value.code).startswith(f"error: {whole / name} {state}; name a folder of rows, a run")
    assert capsys.readouterr().out == ""


def test_folders_that_a_job_is_writing_are_not_judged(copied):
    shutil.copytree(copied / "rows", copied / ".rows.writing/run-01234567")
    (copied / ".rows.writing/run-01234567/manifest.json").unlink()
    assert faults(copied) == []


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
    assert manifest["sequence_length"] == T and faults(folder) == []


def test_a_line_is_cut_where_it_is_the_start_of_an_object():
    line = '{"step": 2, "x": -1.5e-05, "t": "é\\u2028", "ok": true, "sources": {"a": {"l": [2.5, {}]}}}'.encode()
    for end in range(1, len(line)):
        assert decode.is_cut(line[:end] + b"\n"), line[:end]
        assert decode.is_cut(line[:end] + line + b"\n"), line[:end]
    for damaged in (line, line[:-1] + b"|", b"\0" * 90, b"\xff\xfe\x12", line[1:30], b'{"' * 90, b'{"a":' * 90_000):
        assert not decode.is_cut(damaged + b"\n"), damaged[:90]
