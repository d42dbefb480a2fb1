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
from jax.sharding import PartitionSpec
from safetensors.numpy import load_file, save_file

from mucpt_jax import config, convert, hf, hf_write, model, records, sharding
from mucpt_jax.hf_write import About
from mucpt_jax.records import UserError

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "data"
NORM = "model.norm.weight"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(GOLDEN / "qwen2_untied", tmp_path / "model")
    return tmp_path / "model"


def load(folder, mesh=None, cfg=None):
    mesh, cfg = mesh or one_device_mesh(), cfg or hf.read_config(folder)
    return cfg, convert.from_hf(str(folder), cfg, sharding.with_shardings(model.abstract(cfg), mesh))


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
    convert.to_hf(params, cfg, About(str(tmp_path / "out"), "float32", shard_bytes, tokenizer=str(GOLDEN)))
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
    convert.to_hf(params, cfg, About(str(tmp_path / "out"), "bfloat16", 10**9, tokenizer=str(folder)))
    before, after = tensors(folder), tensors(tmp_path / "out")
    for key in before:
        assert after[key].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(before[key].view(np.uint16), after[key].view(np.uint16))


def test_the_exported_config_is_read_as_the_same_model(tmp_path):
    cfg, params = load(GOLDEN / "qwen2_tied")
    convert.to_hf(params, cfg, About(str(tmp_path / "out"), "float32", 10**9, tokenizer=str(GOLDEN)))
    hf.check_same_model(hf.read_config(tmp_path / "out"), cfg, "out")
    from transformers import AutoConfig

    theirs = AutoConfig.from_pretrained(tmp_path / "out")
    assert (theirs.model_type, theirs.hidden_size, theirs.tie_word_embeddings) == ("qwen2", 32, True)


def test_torch_transformers_gets_the_same_logits_from_our_export(tmp_path):
    torch = pytest.importorskip(
        "torch", reason="torch is not a dependency; the golden logits cover this without it"
    )
    from transformers import AutoModelForCausalLM

    cfg, params = load(GOLDEN / "qwen2_untied")
    convert.to_hf(params, cfg, About(str(tmp_path / "out"), "float32", 10**9, tokenizer=str(GOLDEN)))
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


def test_an_index_is_followed_and_its_holes_are_named(tmp_path, folder):
    cfg, params = load(folder)
    convert.to_hf(params, cfg, About(str(tmp_path / "out"), "float32", 20_000))
    shutil.copy(
        tmp_path / "out" / "model-00001-of-00006.safetensors", tmp_path / "out" / "of_an_adapter.safetensors"
    )
    load(tmp_path / "out")  # a file that the index does not name is none of the model's
    (tmp_path / "out" / "model-00002-of-00006.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-00002-of-00006\.safetensors cannot be read"):
        load(tmp_path / "out")
    (tmp_path / "out" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match=r"index\.json has no weight_map"):
        load(tmp_path / "out")


def test_a_truncated_file_is_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load(folder)


def change_config(folder, **fields):
    values = json.loads((folder / "config.json").read_text())
    values.pop("rope_parameters", None)
    (folder / "config.json").write_text(json.dumps(values | fields))


@pytest.mark.parametrize(
    ("field", "value"),
    [("model_type", "llama"), ("hidden_act", "gelu"), ("use_sliding_window", True),
     ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}), ("rope_scaling", {"type": "linear", "factor": 2.0}),
     ("layer_types", ["full_attention", "sliding_attention"]), ("attention_bias", False), ("mlp_bias", True),
     ("use_mrope", True), ("partial_rotary_factor", 0.5), ("attention_dropout", 0.1),
     ("quantization_config", {"quant_method": "awq"})],
)  # fmt: skip
def test_another_architecture_is_refused_naming_the_field(folder, field, value):
    change_config(folder, **{field: value})
    with pytest.raises(UserError, match=rf"config\.json: {field}="):
        hf.read_config(folder)


def test_fields_of_released_configs_are_taken_and_unknown_ones_are_named(folder, caplog):
    change_config(
        folder, bos_token_id=151643, eos_token_id=151643, initializer_range=0.02, max_window_layers=24, use_mrope=False,
        sliding_window=32768, use_sliding_window=False, torch_dtype="bfloat16", transformers_version="4.40.1",
        attention_dropout=0.0, use_cache=True,
    )  # fmt: skip
    with caplog.at_level("WARNING"):
        hf.read_config(folder)
    assert not caplog.records
    change_config(folder, flux_capacitor=1)
    with caplog.at_level("WARNING"):
        hf.read_config(folder)
    assert "flux_capacitor not known here" in caplog.text


@pytest.mark.parametrize("size", [name for name in config.MODELS if name.startswith("qwen")])
def test_every_released_size_has_a_place_for_every_tensor(tmp_path, size):
    cfg = config.MODELS[size]
    (tmp_path / "config.json").write_text(json.dumps(hf.config_json(cfg, "bfloat16", None, None)))
    hf.check_same_model(hf.read_config(tmp_path), cfg, size)
    places = convert.tensor_places(model.abstract(cfg), cfg)
    assert len(places) == 12 * cfg.num_hidden_layers + (2 if cfg.tie_word_embeddings else 3)
    assert (
        ("lm_head.weight" in places) == (not cfg.tie_word_embeddings) == (int(size[8:-1].split(".")[0]) >= 7)
    )
    assert places["model.embed_tokens.weight"][2] == (cfg.vocab_size, cfg.hidden_size)
    first, *_, last = places
    assert (first, last) == (
        "model.embed_tokens.weight", "model.norm.weight" if cfg.tie_word_embeddings else "lm_head.weight",
    )  # fmt: skip


def test_a_config_of_another_size_is_refused_with_the_override_that_mends_it(folder):
    cfg = dataclasses.replace(hf.read_config(folder), num_hidden_layers=3)
    with pytest.raises(
        UserError, match=r"num_hidden_layers=2, .* has 3; .*--config.model.num_hidden_layers=2"
    ):
        load(folder, cfg=cfg)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        hf.read_config(folder / "absent")


# From folder to folder, and what an export holds


def run_convert(*args):
    return subprocess.run(
        [sys.executable, "-m", "mucpt_jax.convert", *map(str, args)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_command_converts_a_folder_and_carries_what_belongs_to_it(tmp_path, folder):
    change_config(folder, eos_token_id=7, sliding_window=32768, rope_theta=10_000.0)
    for name, text in (("generation_config.json", '{"top_p": 0.8}'), ("tokenizer.json", "{}")):
        (folder / name).write_text(text)
    out = tmp_path / "out"
    done = run_convert(folder, out, "--dtype=bfloat16", "--max_shard_bytes=30000")
    assert (done.returncode, done.stdout) == (0, f"wrote {out}\n"), done.stderr
    before, after = tensors(folder), tensors(out)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor.astype(ml_dtypes.bfloat16), after[name])
    values = records.read_json(out / "config.json")
    assert (values["eos_token_id"], values["sliding_window"], values["torch_dtype"]) == (7, 32768, "bfloat16")
    assert (out / "generation_config.json").read_text() == '{"top_p": 0.8}'
    for line in (out / hf_write.SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert records.file_hash(out / name) == digest
    assert len((out / hf_write.SUMS).read_text().splitlines()) == len(list(out.iterdir())) - 1
    again = run_convert(out, tmp_path / "back", "--dtype=bfloat16", "--max_shard_bytes=30000")
    assert again.returncode == 0
    for file in out.glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "back" / file.name).read_bytes()
    refused = run_convert(folder, folder)
    assert refused.returncode == 1 and "is no export of ours" in refused.stderr


def test_a_full_disk_leaves_nothing_under_the_name_and_the_old_export_whole(tmp_path, folder, monkeypatch):
    cfg, params = load(folder)
    about = About(str(tmp_path / "out"), "float32")
    room = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: room)
        with pytest.raises(UserError, match=r"has 0\.0 GB free, the export needs"):
            convert.to_hf(params, cfg, about)
    assert list(tmp_path.glob("out*")) == []
    convert.to_hf(params, cfg, about)
    before = (tmp_path / "out" / hf_write.SUMS).read_text()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        convert.to_hf(params, cfg, about)
    assert [path.name for path in tmp_path.glob("out*")] == ["out"]
    assert (tmp_path / "out" / hf_write.SUMS).read_text() == before


def test_weights_that_are_not_finite_are_never_written(tmp_path, folder):
    cfg, params = load(folder)
    params["norm"]["scale"] = params["norm"]["scale"].at[3].set(np.inf)
    with pytest.raises(UserError, match=r"model\.norm\.weight holds NaN or infinity"):
        convert.to_hf(params, cfg, About(str(tmp_path / "out")))
    assert list(tmp_path.glob("out*")) == []
