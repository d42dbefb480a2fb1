"""What a folder's config.json may say, and what an export's says."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from mucpt_jax.errors import UserError
from mucpt_jax.formats import checksums
from mucpt_jax.weights import hf

GOLDEN = Path(__file__).parent / "data"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(GOLDEN / "qwen2_untied", tmp_path / "model")
    return tmp_path / "model"


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
     ("quantization_config", {"quant_method": "awq"}), ("is_causal", False), ("rope_scaling", "linear"),
     ("architectures", ["Qwen2ForSequenceClassification"]), ("rope_parameters", {"rope_type": "yarn", "factor": 4.0}),
     ("rope_parameters", {"full_attention": {"rope_type": "default"}}),
     ("dual_chunk_attention_config", {"chunk_size": 8192, "local_size": 1024})],
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


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"type": "yarn"}}, "rope_scaling="),
        ({"rope_theta": 1e6, "rope_parameters": {"rope_theta": 1e4}}, r"has rope_theta \[10000\.0, 1000000\.0\]"),
        ({"hidden_size": "32", "head_dim": 8}, r"Expected `int`, got `str` - at `\$\.hidden_size`"),
        ({"num_hidden_layers": 2**40}, r"Expected `int` <= 2147483647 - at `\$\.num_hidden_layers`"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3 must divide num_attention_heads=4"),
        ({"num_key_value_heads": None}, "has no num_key_value_heads"),
        ({"num_attention_heads": 0, "head_dim": None}, r"Expected `int` >= 1 - at `\$\.num_attention_heads`"),
        ({"head_dim": True}, r"Expected `int`, got `bool` - at `\$\.head_dim`"),
        ({"vocab_size": 97.5}, r"Expected `int`, got `float` - at `\$\.vocab_size`"),
        ({"rms_norm_eps": -1e-6}, r"Expected `float` >= 0.0 - at `\$\.rms_norm_eps`"),
        ({"rms_norm_eps": float("-inf")}, "malformed: invalid character"),
        ({"rope_theta": float("nan")}, "malformed: invalid character"),
        ({"rope_theta": 1e300}, r"Expected `float` <= 1e\+30 - at `\$\.rope_theta`"),
        ({"rope_theta": [1e6]}, r"Expected `float`, got `array` - at `\$\.rope_theta`"),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": -1.0}}, r"Expected `float` > 0.0"),
    ],
)  # fmt: skip
def test_fields_that_contradict_each_other_or_are_no_numbers_are_refused(folder, fields, sentence):
    change_config(folder, **fields)
    with pytest.raises(UserError, match=sentence):
        hf.read_config(folder)


def test_null_is_no_value_and_long_context_folders_of_plain_attention_are_taken(folder, caplog):
    chunks = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
    change_config(folder, head_dim=None, rope_scaling=None, rope_theta=1e7, dual_chunk_attention_config=chunks)
    cfg = hf.read_config(folder)
    assert (cfg.head_dim, cfg.rope_theta, caplog.records) == (8, 1e7, [])


def test_an_export_keeps_of_another_config_what_is_still_true(folder):
    cfg = dataclasses.replace(hf.read_config(folder), max_position_embeddings=131_072)  # the base model's
    change_config(folder, dtype="float32", auto_map={"AutoModel": "code.py"}, _name_or_path="/home/me", pad_token_id=3)
    found = hf.config_json(cfg, "bfloat16", str(folder), None)
    assert not found.keys() & {"dtype", "auto_map", "_name_or_path"}
    assert (found["torch_dtype"], found["pad_token_id"], found["max_position_embeddings"]) == ("bfloat16", 3, 512)


def test_an_index_of_weights_reads_no_file_of_another_folder(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "../a.safetensors"}}')
    with pytest.raises(UserError, match=r"index\.json names the file '\.\./a\.safetensors', which is no name"):
        hf.weight_files(tmp_path)


def test_checksums_of_other_tools_are_read_too(tmp_path):
    """Of sha256sum in its two modes and below folders; those of other folders are not for us."""
    digest = "0" * 64
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  a b\n{digest} *c\n{digest}  ./d\n{digest}  sub/e\n")
    assert checksums.sums_of(tmp_path) == {"a b": digest, "c": digest, "d": digest}
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  a\n{digest[1:]}  b\n")
    with pytest.raises(UserError, match="SHA256SUMS line 2 is no sha256 and name"):
        checksums.sums_of(tmp_path)
