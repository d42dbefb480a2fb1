import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from conftest import one_device_mesh, small_config
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec
from safetensors.numpy import load_file, save_file

from mucpt_jax import config
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import file_hash, write_json
from mucpt_jax.step import model, sharding
from mucpt_jax.weights import hf, hf_write, transfer
from mucpt_jax.weights.hf_write import About

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "data"
NORM = "model.norm.weight"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(GOLDEN / "qwen2_untied", tmp_path / "model")
    return tmp_path / "model"


def load(folder, mesh=None, cfg=None):
    mesh, cfg = mesh or one_device_mesh(), cfg or hf.read_config(folder)
    return cfg, transfer.from_hf(str(folder), cfg, sharding.with_shardings(model.abstract(cfg), mesh))


def tensors(folder):
    return {k: v for file in sorted(Path(folder).glob("*.safetensors")) for k, v in load_file(file).items()}


def change(folder, edit):
    file = folder / "model.safetensors"
    found = load_file(file)
    edit(found)
    save_file(found, file)


@pytest.mark.parametrize("name", ["qwen2_tied", "qwen2_untied"])
@pytest.mark.parametrize("shard_bytes", [10**9, 20_000])
def test_in_and_out_again_is_bit_exact_in_one_file_or_many(tmp_path, name, shard_bytes):
    cfg, params = load(GOLDEN / name)
    transfer.to_hf(params, cfg, About(str(tmp_path / "out"), "float32", shard_bytes, tokenizer=str(GOLDEN)))
    before, after = tensors(GOLDEN / name), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])
    files = list((tmp_path / "out").glob("*.safetensors"))
    assert (len(files) > 1) == (shard_bytes < 10**9)
    if len(files) > 1:
        index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
        assert set(index["weight_map"]) == set(before)
        assert {f.name for f in files} == set(index["weight_map"].values())
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in before.values())


def test_bfloat16_files_round_trip_bit_for_bit(tmp_path, folder):
    change(folder, lambda t: t.update({k: v.astype(ml_dtypes.bfloat16) for k, v in t.items()}))
    cfg, params = load(folder)
    assert params["norm"]["scale"].dtype == np.float32
    transfer.to_hf(params, cfg, About(str(tmp_path / "out"), "bfloat16", 10**9, tokenizer=str(folder)))
    before, after = tensors(folder), tensors(tmp_path / "out")
    for key in before:
        assert after[key].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(before[key].view(np.uint16), after[key].view(np.uint16))


def test_the_exported_config_is_read_as_the_same_model(tmp_path):
    cfg, params = load(GOLDEN / "qwen2_tied")
    transfer.to_hf(params, cfg, About(str(tmp_path / "out"), "float32", 10**9, tokenizer=str(GOLDEN)))
    hf.check_same_model(hf.read_config(tmp_path / "out"), cfg, "out")
    from transformers import AutoConfig

    theirs = AutoConfig.from_pretrained(tmp_path / "out")
    assert (theirs.model_type, theirs.hidden_size, theirs.tie_word_embeddings) == ("qwen2", 32, True)


def test_torch_transformers_gets_the_same_logits_from_our_export(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not a dependency; the golden logits cover this without it")
    from transformers import AutoModelForCausalLM

    cfg, params = load(GOLDEN / "qwen2_untied")
    transfer.to_hf(params, cfg, About(str(tmp_path / "out"), "float32", 10**9, tokenizer=str(GOLDEN)))
    golden = np.load(GOLDEN / "qwen2_untied" / "golden.npz")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        logits = theirs(torch.tensor(golden["tokens"])).logits.numpy()
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-5)


def test_a_folder_is_read_onto_any_mesh(folder):
    cfg, plain = load(folder)
    run = small_config(model=cfg, mesh={"fsdp": 4, "tensor": 2})
    mesh = sharding.make_mesh(run)
    _, split = load(folder, mesh)
    assert split["layers"]["mlp"]["up_proj"]["kernel"].sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(split), strict=True):
        np.testing.assert_array_equal(a, b)


def test_on_a_mesh_with_replicas_no_device_holds_a_whole_tensor(folder, capfd):
    cfg, plain = load(folder)
    mesh = sharding.make_mesh(small_config(model=cfg, mesh={"replica": 2, "fsdp": 2, "context": 2}))
    capfd.readouterr()
    _, split = load(folder, mesh)  # XLA warns where it compiles; such small programs are not cached
    assert "full rematerialization" not in capfd.readouterr().err
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(split), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda t: t.pop("model.layers.1.self_attn.q_proj.bias"), r"layers\.1\..*bias is missing .*found 26 of 27"),
        (lambda t: t.update(extra=np.zeros(2, np.float32)), "holds extra, which model has no place for"),
        (lambda t: t.update({NORM: np.zeros(7, np.float32)}), r"norm\.weight .* has shape \(7,\), .* needs \(32,\)"),
        (lambda t: t[NORM].__setitem__(3, np.nan), r"model\.norm\.weight .* NaN or infinity"),
        (lambda t: t.update({NORM: t[NORM].astype(np.float64)}), r"norm\.weight .* is F64, not one of F32, F16, BF16"),
    ],
)  # fmt: skip
def test_weights_that_are_not_this_model_are_refused_by_name(folder, edit, sentence):
    change(folder, edit)
    with pytest.raises(UserError, match=sentence):
        load(folder)


def test_all_hosts_together_read_every_byte_once(folder, monkeypatch):
    cfg = hf.read_config(folder)
    mesh = sharding.make_mesh(small_config(model=cfg, mesh={"fsdp": 4, "tensor": 2}))
    rows = {}

    def read(tensor, index=...):
        part = plain(tensor, index)
        rows.setdefault(tensor.name, []).append(len(part))
        return part

    plain = hf.Tensor.read
    monkeypatch.setattr(hf.Tensor, "read", read)
    load(folder, mesh)
    shapes = {name: tensor.shape for name, tensor in hf.open_tensors(folder).items()}
    assert {name: sum(found) for name, found in rows.items()} == {name: s[0] for name, s in shapes.items()}
    assert set(rows["model.embed_tokens.weight"]) == {160 // 8}  # each device its rows


def test_float16_files_and_a_head_beside_tied_weights_are_read(tmp_path):
    shutil.copytree(GOLDEN / "qwen2_tied", tmp_path / "model")
    change(tmp_path / "model", lambda t: t.update({k: v.astype(np.float16) for k, v in t.items()}))
    change(tmp_path / "model", lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"]}))
    _, params = load(tmp_path / "model")
    wanted = tensors(GOLDEN / "qwen2_tied")[NORM].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(params["norm"]["scale"], wanted)


def test_a_head_of_its_own_is_not_dropped_for_tied_weights(tmp_path):
    shutil.copytree(GOLDEN / "qwen2_tied", tmp_path / "model")
    change(tmp_path / "model", lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 2}))
    with pytest.raises(UserError, match=r"lm_head\.weight .* is not the embedding, though .*tie_word_embeddings"):
        load(tmp_path / "model")


def test_files_of_one_size_may_mix_dtypes_and_a_bad_tensor_is_named_with_its_file(folder):
    kinds = (np.float16, np.float32, ml_dtypes.bfloat16)
    change(folder, lambda t: t.update({k: v.astype(kinds[i % 3]) for i, (k, v) in enumerate(sorted(t.items()))}))
    _, params = load(folder)
    for i in (0, 1):
        wanted = tensors(folder)[f"model.layers.{i}.mlp.up_proj.weight"].T.astype(np.float32)
        np.testing.assert_array_equal(params["layers"]["mlp"]["up_proj"]["kernel"][i], wanted)
    save_file({NORM: np.ones(32, np.float32)}, folder / "again.safetensors")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(UserError, match=r"norm\.weight is in .*again\.safetensors and in .*other\.safetensors"):
        load(folder)
    (folder / "again.safetensors").unlink()
    (folder / "other.safetensors").rename(folder / "model.safetensors")
    change(folder, lambda t: t[NORM].__setitem__(3, np.nan))
    with pytest.raises(UserError, match=r"norm\.weight in .*model\.safetensors holds NaN"):
        load(folder)


def test_where_one_host_finds_bad_files_all_hosts_end(folder, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: np.array([own, True]))
    with pytest.raises(UserError, match="the weights are bad on host 1, whose log tells why"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no \*\.safetensors"):
        load(folder)


def test_an_index_is_followed_and_its_holes_are_named(tmp_path, folder):
    cfg, params = load(folder)
    transfer.to_hf(params, cfg, About(str(tmp_path / "out"), "float32", 20_000))
    shutil.copy(tmp_path / "out" / "model-00001-of-00006.safetensors", tmp_path / "out" / "of_an_adapter.safetensors")
    load(tmp_path / "out")  # a file that the index does not name is none of the model's
    (tmp_path / "out" / "model-00002-of-00006.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-00002-of-00006\.safetensors cannot be read"):
        load(tmp_path / "out")
    for text in ("{}", "[]", '{"weight_map": {"a": 3}}'):
        (tmp_path / "out" / "model.safetensors.index.json").write_text(text)
        with pytest.raises(UserError, match=r"index\.json is damaged"):
            load(tmp_path / "out")


def test_a_truncated_file_is_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load(folder)


@pytest.mark.parametrize("size", [name for name in config.MODELS if name.startswith("qwen")])
def test_every_released_size_has_a_place_for_every_tensor(tmp_path, size):
    cfg = config.MODELS[size]
    (tmp_path / "config.json").write_text(json.dumps(hf.config_json(cfg, "bfloat16", None, None)))
    hf.check_same_model(hf.read_config(tmp_path), cfg, size)
    places = transfer.tensor_places(model.abstract(cfg), cfg)
    assert len(places) == 12 * cfg.num_hidden_layers + (2 if cfg.tie_word_embeddings else 3)
    assert ("lm_head.weight" in places) == (not cfg.tie_word_embeddings) == (int(size[8:-1].split(".")[0]) >= 7)
    assert places["model.embed_tokens.weight"][2] == (cfg.vocab_size, cfg.hidden_size)
    first, *_, last = places
    assert (first, last) == (
        "model.embed_tokens.weight", "model.norm.weight" if cfg.tie_word_embeddings else "lm_head.weight",
    )  # fmt: skip


def test_a_config_of_another_size_is_refused_with_the_override_that_mends_it(folder):
    cfg = dataclasses.replace(hf.read_config(folder), num_hidden_layers=3, rms_norm_eps=1e-5)
    for told in ("num_hidden_layers=2, .* has 3; ", "--config.model.num_hidden_layers=2 --config.model.rms_norm_eps"):
        with pytest.raises(UserError, match=told):
            load(folder, cfg=cfg)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        hf.read_config(folder / "absent")


# From folder to folder, and what an export holds


def run_convert(*args):
    return subprocess.run(
        [sys.executable, "-m", "mucpt_jax.convert", *map(str, args)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_command_converts_a_folder_and_carries_what_belongs_to_it(tmp_path, folder):
    values = read_json(folder / "config.json")
    values.pop("rope_parameters")
    values |= {"eos_token_id": 7, "sliding_window": 32768, "rope_theta": 10_000.0}
    write_json(folder / "config.json", values)
    for name, text in (("generation_config.json", '{"top_p": 0.8}'), ("tokenizer.json", "{}")):
        (folder / name).write_text(text)
    out = tmp_path / "out"
    done = run_convert(folder, out, "--dtype=bfloat16", "--max_shard_bytes=30000")
    assert (done.returncode, done.stdout) == (0, f"wrote {out}\n"), done.stderr
    before, after = tensors(folder), tensors(out)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor.astype(ml_dtypes.bfloat16), after[name])
    values = read_json(out / "config.json")
    assert (values["eos_token_id"], values["sliding_window"], values["torch_dtype"]) == (7, 32768, "bfloat16")
    assert (out / "generation_config.json").read_text() == '{"top_p": 0.8}'
    for line in (out / hf_write.SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert file_hash(out / name) == digest
    assert len((out / hf_write.SUMS).read_text().splitlines()) == len(list(out.iterdir())) - 1
    again = run_convert(out, tmp_path / "back", "--dtype=bfloat16", "--max_shard_bytes=30000")
    assert again.returncode == 0
    for file in out.glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "back" / file.name).read_bytes()
    for source, reason in ((folder, "would be replaced by its own conversion"), (out, "is no export of ours")):
        refused = run_convert(source, folder)
        assert refused.returncode == 1 and reason in refused.stderr


def test_a_full_disk_leaves_nothing_under_the_name_and_the_old_export_whole(tmp_path, folder, monkeypatch):
    cfg, params = load(folder)
    about = About(str(tmp_path / "out"), "float32")
    room = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: room)
        with pytest.raises(UserError, match=r"has 0\.0 GB free, the export needs"):
            transfer.to_hf(params, cfg, about)
    assert list(tmp_path.glob("*out*")) == []
    transfer.to_hf(params, cfg, about)
    before = (tmp_path / "out" / hf_write.SUMS).read_text()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written to the end .*No space left on device.*; make room"):
        transfer.to_hf(params, cfg, about)
    assert [path.name for path in tmp_path.glob("*out*")] == ["out"]
    assert (tmp_path / "out" / hf_write.SUMS).read_text() == before


def test_weights_that_are_not_finite_are_never_written(tmp_path, folder):
    cfg, params = load(folder)
    params["norm"]["scale"] = params["norm"]["scale"].at[3].set(np.inf)
    with pytest.raises(UserError, match=r"model\.norm\.weight holds NaN or infinity"):
        transfer.to_hf(params, cfg, About(str(tmp_path / "out")))
    assert list(tmp_path.glob("*out*")) == []
