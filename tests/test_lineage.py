"""Which model a job's parameters and tokenizer come from: what was not meant is refused."""

import re
import shutil

import jax
import numpy as np
import pytest
from conftest import one_device_mesh, small_config, write_rows
from test_evaluate import write_tokenizer

from mucpt_jax import config, evaluate, score, train
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import answers
from mucpt_jax.formats import checksums
from mucpt_jax.formats import tokenizer as tokenizers
from mucpt_jax.formats.files import file_hash, write_json
from mucpt_jax.run import checkpoint, early_stop, lineage
from mucpt_jax.step import model, optimizer
from mucpt_jax.weights import hf_write, transfer

CFG = small_config()


def save(workdir, step: int = 3, **knobs) -> None:
    """A run with one checkpoint, as train leaves it."""
    cfg = small_config(**knobs)
    params = model.init(cfg.model, jax.random.key(0))
    ckpt = checkpoint.manager(workdir, cfg)
    checkpoint.save(ckpt, step, checkpoint.State(params, optimizer.make(cfg).init(params)), cfg, {"seed": 0})
    checkpoint.finish(ckpt, step)
    write_json(workdir / "config.json", config.to_saved(cfg))


def test_a_run_from_one_start_model_does_not_go_on_as_one_from_another(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second, run = str(tmp_path / "first"), str(tmp_path / "second"), tmp_path / "run"
    save(run, init_from=first)
    with pytest.raises(UserError) as refused:
        lineage.with_start(small_config(init_from=second), run)
    assert f"{run} was started from {first}, now init_from={second}; leave init_from out to go on" in str(refused.value)
    for given in (None, first, f"{tmp_path}/second/../first"):
        assert lineage.with_start(small_config(init_from=given), run).init_from == first
    save(tmp_path / "random")
    with pytest.raises(UserError, match=rf"was started from random parameters, now init_from={re.escape(first)}"):
        lineage.with_start(small_config(init_from=first), tmp_path / "random")
    assert lineage.with_start(CFG, tmp_path / "random") == CFG
    (tmp_path / "new").mkdir()  # nothing to go on from: what is given counts
    assert lineage.with_start(small_config(init_from=second), tmp_path / "new").init_from == second


def test_training_itself_refuses_the_other_start_model_and_leaves_config_json(tmp_path):
    first, second, run = tmp_path / "first", tmp_path / "second", tmp_path / "run"
    for folder in (first, second):
        save(folder)
    save(run, init_from=str(first))
    rows = {"general": str(write_rows(tmp_path / "rows", {"web": 8})), "general_fraction": 1.0}
    before = (run / "config.json").read_bytes()
    with pytest.raises(UserError, match=r"was started from .*first, now init_from=.*second; leave init_from out"):
        train.train(small_config(data=rows, init_from=str(second)), one_device_mesh(), run)
    assert (run / "config.json").read_bytes() == before


def test_a_run_whose_start_was_the_best_is_not_over_for_another_start_model(tmp_path):
    """It has no checkpoint, so nothing but config.json tells that the start is another."""
    rows = str(write_rows(tmp_path / "rows", {"web": 8}))
    keep = {"keep": "best", "evaluate_every": 1, "patience": 1}
    cfg, other = (small_config(train=keep, evaluate={"rows": rows}, init_from=name) for name in ("first", "second"))
    run = tmp_path / "run"
    run.mkdir()
    write_json(run / "config.json", config.to_saved(cfg))
    line = {"step": 0, "nll": 4.0, "sources": {}}
    ended = early_stop.rule_of(cfg, {"seed": 0})
    write_json(run / "best.json", line | {"params_hash": "p", "before": line, "ended": ended})
    assert early_stop.ended(cfg, run, 0, 0, {"seed": 0})
    assert not early_stop.ended(other, run, 0, 0, {"seed": 0})


@pytest.mark.parametrize(("knobs", "said"), [
    ({"steps": 100}, False), ({"steps": 400}, True), ({"steps": 400, "schedule_steps": 100}, False),
    ({"steps": 100, "peak_lr": 2e-2}, True),
])  # fmt: skip
def test_a_branch_whose_rate_jumps_says_so(tmp_path, caplog, knobs, said):
    rates = {"steps": 100, "peak_lr": 1e-2, "final_lr": 1e-3}
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run/config.json", config.to_saved(small_config(optimizer=rates)))
    branch = small_config(init_from=str(tmp_path / "run"), init_state="all", optimizer=rates | knobs)
    lineage.warn_of_rate(branch, 80)
    # 0.001 + 0.009 (1 + cos(0.81 pi)) / 2
    assert ("THE LEARNING RATE JUMPS FROM 0.00178 TO " in caplog.text) == said
    assert ("set --config.optimizer.schedule_steps=100," in caplog.text) == said


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export of ours with its tokenizer, and rows of it."""
    folder = tmp_path_factory.mktemp("exported")
    tokenizer = write_tokenizer(folder / "tokenizer")
    about = hf_write.About(str(folder / "hf"), "float32", tokenizer=tokenizer)
    transfer.to_hf(model.init(CFG.model, jax.random.key(0)), CFG.model, about)
    write_rows(folder / "rows", {"web": 8}, tokenizer_hash=tokenizers.tokenizer_hash(tokenizer))
    return folder


def flip(path) -> None:
    """One bit of the last digit, or of the last letter where there is none: it stays JSON."""
    data = bytearray(path.read_bytes())
    last = [m.start() for m in re.finditer(rb"[0-9]", data)] or [m.start() for m in re.finditer(rb"[a-z]", data)]
    data[last[-1]] ^= 1
    path.write_bytes(data)


@pytest.fixture
def damaged(exported, tmp_path):
    """Gives (file) -> a copy of the export in which one bit of the file is another."""

    def copy(name: str) -> str:
        shutil.copytree(exported / "hf", tmp_path / name / "hf")
        flip(tmp_path / name / "hf" / name)
        return str(tmp_path / name / "hf")

    return copy


@pytest.mark.parametrize("job", [train.train, score.score, evaluate.evaluate], ids=lambda job: job.__name__)
def test_an_export_whose_tokenizer_has_a_flipped_bit_is_refused_by_what_uses_it(exported, damaged, tmp_path, job):
    rows, start = str(exported / "rows"), damaged("tokenizer.json")
    cfg = small_config(
        init_from=start, data={"general": rows, "general_fraction": 1.0}, evaluate={"rows": rows},
        score={"input": rows, "output": str(tmp_path / "scored")},
    )  # fmt: skip
    with pytest.raises(UserError, match=r"hf/tokenizer\.json is not what SHA256SUMS beside it says; copy it again"):
        job(cfg, one_device_mesh(), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists() and not (tmp_path / "scored").exists()


def test_what_is_read_beside_an_exports_tokenizer_is_compared_too(exported, damaged, tmp_path):
    whole = tokenizers.load_tokenizer(str(exported / "hf"))
    with pytest.raises(UserError, match=r"tokenizer_config\.json is not what SHA256SUMS beside it says"):
        tokenizers.load_tokenizer(damaged("tokenizer_config.json"))
    folder = tmp_path / "with_ends"
    shutil.copytree(exported / "hf", folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": 5}')
    with pytest.raises(UserError, match=r"SHA256SUMS has no line for generation_config\.json; .* or add its line"):
        answers.end_ids(whole, small_config(tokenizer=str(folder)), tmp_path)
    with open(folder / checksums.SUMS, "a") as sums:
        sums.write(f"{file_hash(folder / 'generation_config.json')}  generation_config.json\n")
    assert answers.end_ids(whole, small_config(tokenizer=str(folder)), tmp_path) == (0, 5)
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')
    with pytest.raises(UserError, match=r"generation_config\.json is not what SHA256SUMS beside it says"):
        answers.end_ids(whole, small_config(tokenizer=str(folder)), tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_an_export_of_an_export_takes_no_damage_along(damaged, tmp_path, name):
    start, out = damaged(name), tmp_path / "out"
    about = hf_write.About(str(out), tokenizer=start, like=start)
    with pytest.raises(UserError, match=rf"{name} is not what SHA256SUMS beside it says"):
        hf_write.write({"norm": (4,)}, lambda _: np.ones(4), CFG.model, about)
    assert not out.exists()
