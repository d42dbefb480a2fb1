import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from mucpt_jax import checks, config
from mucpt_jax.errors import UserError

ROOT = Path(__file__).parents[1]
SHIPPED = [
    ("qwen32b_mucpt", None), ("reference", None),
    *[(f"qwen{size}", kind) for size in ("7b", "1_5b") for kind in ("ntp", "rho1", "mucpt", "mucpt_literal")],
    *[("demo", stage) for stage in ("base", "reference", "ntp", "rho1", "mucpt", "mucpt,real")],
]  # fmt: skip


def values(name: str, argument: str | None = None):
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*([argument] if argument else []))


def launch(*arguments: str) -> str:
    """What launch.py says when it refuses."""
    done = subprocess.run([sys.executable, "launch.py", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(("name", "argument"), SHIPPED)
def test_every_shipped_config_is_consistent(name, argument):
    cfg = checks.build(values(name, argument))
    assert cfg.loss.kind in (argument or "mucpt ntp").replace("base", "ntp").replace("reference", "ntp")


def test_help_names_what_a_knob_may_be():
    lines = checks.explained().splitlines()
    assert "  --config.loss.kind='mucpt' (ntp | rho1 | mucpt)" in lines
    assert "  --config.train.on_bad_step='stop' (stop | skip)" in lines and "  --config.loss.alpha=1.0" in lines


def test_the_paper_run_is_two_epochs_of_40_billion_tokens():
    cfg = checks.build(values("qwen32b_mucpt"))
    tokens = cfg.optimizer.steps * cfg.data.batch_rows * cfg.data.sequence_length
    assert abs(tokens / 80e9 - 1) < 1e-4
    assert (cfg.optimizer.peak_lr, cfg.optimizer.final_lr, cfg.optimizer.warmup_fraction) == (6e-5, 3e-5, 5e-4)
    assert cfg.mesh.fsdp == 256


def test_every_knob_is_explained_beside_its_default():
    source = (ROOT / "mucpt_jax" / "config.py").read_text()
    knobs = config.keys()
    for key in knobs:
        name = key.rsplit(".", 1)[-1]
        assert re.search(rf"^    {name}: [^\n]* = [^\n]*  # \w+", source, re.M), f"{key} has no comment"


def test_command_line_errors_name_the_nearest_key_or_value():
    assert launch("--config=configs/demo.py", "--config.loss.alfa=2").endswith("did you mean loss.alpha?")
    assert "could not convert string to float" in launch("--config=configs/demo.py", "--config.loss.alpha=much")
    assert launch("--config=configs/qwen7b.py:rho").endswith("did you mean rho1?")
    assert launch("--config=configs/absent.py") == (
        "error: the config file configs/absent.py cannot be read (No such file or directory); "
        "name another, such as configs/demo.py"
    )
    assert launch("--config=mucpt_jax/errors.py").startswith("error: the config file has no get_config();")
    assert "--config is missing" in launch()
    assert launch("train", "--config=configs/demo.py") == "error: 'train' is no flag; did you mean --job=train?"
    assert launch("--config=configs/demo.py", "job=score") == "error: 'job=score' is no flag; did you mean --job=score?"


def test_a_config_file_with_a_misspelt_key_is_refused_in_one_sentence(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from mucpt_jax import config\n"
        "def get_config():\n    c = config.default()\n    c.loss.alfa = 2.0\n    return c\n"
    )
    assert launch(f"--config={file}") == "error: the config sets alfa, there is no such key; did you mean loss.alpha?"


def test_help_lists_jobs_flags_and_all_keys():
    done = subprocess.run([sys.executable, "launch.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for line in ("train ", "plan ", "--workdir ", "--config.train.keep='newest'", "--config.seed=0"):
        assert f"\n  {line}" in done.stdout
    assert all(f"  --config.{key}=" in done.stdout for key in config.keys())  # noqa: SIM118 (a function)


@pytest.mark.parametrize(("name", "argument"), SHIPPED)
def test_every_variant_of_a_config_has_a_workdir_of_its_own(name, argument):
    """As launch.py is called: the flag is parsed, the file found, the name of the folder taken from both."""
    code = (
        "import sys, launch; launch.parse(sys.argv); from ml_collections import config_flags; "
        "print(launch.default_workdir(config_flags.get_config_filename(launch.flags.FLAGS['config'])))"
    )
    flag = f"--config=configs/{name}.py" + (f":{argument}" if argument else "")
    done = subprocess.run([sys.executable, "-c", code, flag], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"runs/{name}" + (f"-{argument}" if argument else "")


@pytest.mark.parametrize(
    ("model", "changes", "sentence"),
    [
        ("qwen2.5-7b", {"mesh.tensor": 8}, "does not divide num_key_value_heads=4 of qwen2.5-7b; use tensor=4"),
        ("tiny", {"mesh.fsdp": 3}, "data.batch_rows=16 must be a multiple of 3 .* use 15"),
        ("tiny", {"mesh.fsdp": 8, "train.micro_batches": 3}, "must be a multiple of 24 .* micro_batches=3.*; use 24"),
        ("tiny", {"mesh.context": 3}, "mesh.context=3 does not divide data.sequence_length=128"),
        ("tiny", {"mesh.fsdp": -1, "mesh.replica": -1}, "at most one -1"),
        ("tiny", {"loss.kind": "mucptt"}, "did you mean mucpt"),
        ("tiny", {"loss.rm_floor": 0.0}, "rm_floor=0.0 must be > 0"),
        ("tiny", {"loss.keep": 1.5}, "keep=1.5 must be <= 1.0"),
        ("tiny", {"data.general_fraction": 1.5}, "general_fraction"),
        ("tiny", {"data.sequence_length": 8192}, "longer than max_position_embeddings=4096 of tiny"),
        ("tiny", {"model.num_key_value_heads": 3}, "num_key_value_heads=3 must divide num_attention_heads=4 .* use 2"),
        ("tiny", {"optimizer.final_lr": 1.0}, "final_lr=1.0"),
        ("tiny", {"mesh.tensor": -1}, "mesh.tensor=-1 must be >= 1"),
        ("tiny", {"model.num_hidden_layers": 0}, "model.num_hidden_layers=0 must be >= 1"),
        ("tiny", {"optimizer.b2": 1.5}, "optimizer.b2=1.5 must be < 1.0"),
        ("tiny", {"loss.mean_raw_weight": -2.0}, "mean_raw_weight=-2.0 must be > 0"),
        ("tiny", {"train.log_every": 0}, "train.log_every=0 must be >= 1"),
        ("tiny", {"train.keep": "best"}, r"add --config\.train\.evaluate_every=STEPS"),
        ("tiny", {"train.patience": 3, "train.evaluate_every": 5}, "patience=3 stops a run that keeps its best state"),
        ("tiny", {"train.patience": -1}, "train.patience=-1 must be >= 0"),
        ("tiny", {"evaluate.prompt": "Q:"}, "evaluate.prompt='Q:' must hold {question}"),
    ],
)  # fmt: skip
def test_an_inconsistent_config_is_refused(model, changes, sentence):
    c = config.default(model)
    for key, value in changes.items():
        section, name = key.split(".")
        c[section][name] = value
    with pytest.raises(UserError, match=sentence):
        checks.build(c)


# Numbers that may be 0 or negative; all others must be above 0.
MAY_BE_ZERO = {
    "seed", "model.rms_norm_eps", "loss.min_weight", "data.general_fraction", "optimizer.final_lr", "optimizer.b1",
    "optimizer.warmup_fraction", "optimizer.b2", "optimizer.weight_decay", "train.evaluate_every", "train.patience",
    "train.gradient_norms_every", "train.watchdog", "train.evaluate_questions", "score.worker",
}  # fmt: skip


NUMBERS = {key: {hint, *get_args(hint)} & {int, float} for key, hint in config.type_of_keys().items()}


@pytest.mark.parametrize("key", [key for key, kind in NUMBERS.items() if kind])
def test_no_number_is_nan_infinite_or_out_of_range(key):
    section, _, name = key.rpartition(".")
    beyond = [-2.0, math.nan, math.inf, -math.inf, 1e300] if float in NUMBERS[key] else [-2, 2**80]
    for number in beyond + [0] * (key not in MAY_BE_ZERO):
        c = config.default()
        (c[section] if section else c)[name] = number
        with pytest.raises(UserError, match=rf"{key}=.* must be"):
            checks.build(c)


def test_an_override_of_none_empties_a_knob_and_only_one_that_may_be_empty(tmp_path):
    given = ["launch.py", "--config=x", "--config.loss.reference=rm", "--config.loss.reference=None",
             "--config.init_from=None", "--config.init_from=base", "--config.loss.max_weight", "None"]  # fmt: skip
    left, unset = checks.without_unset(given)
    assert unset == ["loss.reference", "loss.max_weight"]  # the last one counts
    assert left == ["launch.py", "--config=x", "--config.loss.reference=rm", "--config.init_from=base"]
    c = config.default()
    c.loss.reference, c.loss.max_weight, c.loss.weight_norm = "rm", 3.0, "none"
    checks.unset(c, unset)
    assert checks.build(c).loss == config.Loss(weight_norm="none")
    with pytest.raises(UserError, match=r"optimizer\.steps=None: optimizer\.steps always has a value"):
        checks.without_unset(["--config.optimizer.steps=None"])


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean qwen2\.5-32b"):
        config.default("qwen2.5-32")


def test_build_is_the_inverse_of_the_defaults():
    assert checks.build(config.default()) == config.Config()


def test_a_new_line_may_come_from_a_shell():
    values = config.default("tiny")
    values.evaluate.prompt, values.evaluate.stop = r"问题：{question}\n答案：", r"\n"
    ask = checks.build(values).evaluate
    assert (ask.prompt, ask.stop) == ("问题：{question}\n答案：", "\n")
    values.evaluate.prompt = "\\\\n {question}\n\\d"  # a backslash that is meant is written twice
    assert checks.build(values).evaluate.prompt == "\\n {question}\n\\d"
