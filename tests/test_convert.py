import dataclasses
import json
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from conftest import one_device_mesh, small_config
from jax.sharding import PartitionSpec
from safetensors.numpy import load_file, save_file

from mucpt_jax import checkpoint, convert, export, model, sharding
from mucpt_jax.records import UserError

GOLDEN = Path(__file__).parent / "data"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(GOLDEN / "qwen2_untied", tmp_path / "model")
    return tmp_path / "model"


def load(folder, mesh=None, cfg=None):
    mesh, cfg = mesh or one_device_mesh(), cfg or convert.read_config(folder)
    shapes = sharding.with_shardings(model.abstract(cfg), mesh)
    return cfg, convert.from_hf(str(folder), cfg, mesh, shapes)


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
    convert.to_hf(params, cfg, str(tmp_path / "out"), str(GOLDEN), "float32", shard_bytes)
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
    convert.to_hf(params, cfg, str(tmp_path / "out"), str(folder), "bfloat16", 10**9)
    before, after = tensors(folder), tensors(tmp_path / "out")
    for key in before:
        assert after[key].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(before[key].view(np.uint16), after[key].view(np.uint16))


def test_the_exported_config_is_read_as_the_same_model(tmp_path):
    cfg, params = load(GOLDEN / "qwen2_tied")
    convert.to_hf(params, cfg, str(tmp_path / "out"), str(GOLDEN), "float32", 10**9)
    convert.check_same_model(convert.read_config(tmp_path / "out"), cfg, "out")
    from transformers import AutoConfig

    theirs = AutoConfig.from_pretrained(tmp_path / "out")
    assert (theirs.model_type, theirs.hidden_size, theirs.tie_word_embeddings) == ("qwen2", 32, True)


def test_torch_transformers_gets_the_same_logits_from_our_export(tmp_path):
    torch = pytest.importorskip(
        "torch", reason="torch is not a dependency; the golden logits cover this without it"
    )
    from transformers import AutoModelForCausalLM

    cfg, params = load(GOLDEN / "qwen2_untied")
    convert.to_hf(params, cfg, str(tmp_path / "out"), str(GOLDEN), "float32", 10**9)
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
        (lambda t: t.update(extra=np.zeros(2)), "holds extra, which model has no place for"),
        (lambda t: t.update({"model.norm.weight": np.zeros(7)}), r"norm\.weight .* has shape \(7,\), .* needs \(32,\)"),
        (lambda t: t["model.norm.weight"].__setitem__(3, np.nan), r"model\.norm\.weight .* NaN or infinity"),
    ],
)  # fmt: skip
def test_weights_that_are_not_this_model_are_refused_by_name(folder, edit, sentence):
    change(folder, edit)
    with pytest.raises(UserError, match=sentence):
        load(folder)


def test_a_truncated_file_is_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model_type", "llama"), ("hidden_act", "gelu"), ("use_sliding_window", True),
     ("rope_scaling", {"rope_type": "yarn", "factor": 4.0})],
)  # fmt: skip
def test_another_architecture_is_refused_naming_the_field(folder, field, value):
    values = json.loads((folder / "config.json").read_text())
    values.pop("rope_parameters")
    (folder / "config.json").write_text(json.dumps(values | {field: value}))
    with pytest.raises(UserError, match=rf"config\.json: {field}="):
        convert.read_config(folder)


def test_a_config_of_another_size_is_refused_with_the_override_that_mends_it(folder):
    cfg = dataclasses.replace(convert.read_config(folder), num_hidden_layers=3)
    with pytest.raises(
        UserError, match=r"num_hidden_layers=2, .* has 3; .*--config.model.num_hidden_layers=2"
    ):
        load(folder, cfg=cfg)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        convert.read_config(folder / "absent")


def test_export_carries_the_tokenizer_and_replaces_only_an_export(tmp_path, folder, monkeypatch):
    (folder / "tokenizer.json").write_text("{}")
    cfg, params = load(folder)
    monkeypatch.setattr(checkpoint, "load_params", lambda *_: params)
    run = small_config(
        model=cfg, init_from=str(folder), export={"path": str(tmp_path / "out"), "dtype": "float32"}
    )
    for _ in range(2):  # a second export takes the first one's place
        export.export(run, one_device_mesh(), tmp_path / "run")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert not (tmp_path / "out.writing").exists()
    # A run, a downloaded model, any folder: never removed, though a run has a config.json too.
    for precious in (folder, tmp_path / "run"):
        precious.mkdir(exist_ok=True)
        (precious / "config.json").touch()
        other = dataclasses.replace(run, export=dataclasses.replace(run.export, path=str(precious)))
        with pytest.raises(UserError, match="exists and is no export of ours"):
            export.export(other, one_device_mesh(), tmp_path / "run")
        assert (precious / "config.json").is_file()
