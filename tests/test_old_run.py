"""Runs outlive versions: a workdir, rows and scores that an older version wrote, see data/old_run/make.py."""

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest
from conftest import one_device_mesh

from mucpt_jax import config, export, score, train
from mucpt_jax.errors import UserError
from mucpt_jax.formats import version
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.run import checkpoint, lineage

FILES = Path(__file__).parent / "data" / "old_run" / "files.tar.gz"


@pytest.fixture
def old(tmp_path, monkeypatch):
    with tarfile.open(FILES) as tar:
        tar.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def losses(workdir):
    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return {str(line["step"]): line["loss"] for line in map(json.loads, lines)}


def saved(workdir):
    return lineage.saved_config(workdir)


def change(cfg, **sections):
    return dataclasses.replace(
        cfg, **{name: dataclasses.replace(getattr(cfg, name), **values) for name, values in sections.items()}
    )


def test_an_old_run_goes_on_with_the_losses_that_the_old_code_had(old, caplog):
    caplog.set_level("INFO")
    train.train(saved("run"), one_device_mesh(), Path("run"))
    assert "going on from" in caplog.text
    wanted = read_json(old / "trace.json")
    assert losses("run") == {step: pytest.approx(loss, rel=1e-5) for step, loss in wanted.items()}
    assert read_json(old / "run" / "config.json")["written_by"] == version.written_by()


def test_an_old_run_with_another_value_of_a_knob_is_refused_a_newer_format_too(old):
    for changed, sentence in (
        (change(saved("run"), loss={"alpha": 2.0}), r"was trained with loss\.alpha=1\.0, now it is 2\.0"),
        (change(saved("run"), optimizer={"b2": 0.9}), r"optimizer\.b2=0\.95, now it is 0\.9"),
    ):
        with pytest.raises(UserError, match=sentence):
            train.train(changed, one_device_mesh(), Path("run"))
    meta = old / "run" / "checkpoints" / "4" / "meta" / "metadata"
    meta.write_text(json.dumps(read_json(meta) | {"format": 99, "written_by": {"version": "9.0", "commit": None}}))
    with pytest.raises(UserError, match=r"has format 99, this version reads up to 2; .* wrote it \(mucpt_jax 9\.0\)"):
        train.train(saved("run"), one_device_mesh(), Path("run"))


def test_an_old_reference_model_kept_its_best_state_and_must_go_on_so(old):
    rm = saved("rm")
    assert (rm.train.keep, rm.train.patience) == ("best", 2)
    train.train(rm, one_device_mesh(), Path("rm"))  # has ended
    assert checkpoint.manager(Path("rm")).all_steps() == [8]
    longer = change(rm, optimizer={"steps": 12})
    train.train(longer, one_device_mesh(), Path("rm"))
    best = read_json(old / "rm" / "best.json")
    assert best["step"] == checkpoint.newest_step(Path("rm")) and best["before"]["nll"] == pytest.approx(
        4.58888, abs=1e-4
    )
    for saves_newest in (longer, change(longer, train={"evaluate_every": 0})):
        wrong = change(saves_newest, train={"keep": "newest", "patience": 0})
        with pytest.raises(UserError, match=r"keeps its best state, now train\.keep=newest; .*train\.patience=2"):
            train.train(wrong, one_device_mesh(), Path("rm"))


def test_an_old_run_that_ended_early_stays_ended(old, caplog):
    caplog.set_level("INFO")
    best = read_json(old / "rm" / "best.json")
    best["ended"]["steps"] = 99
    write_json(old / "rm" / "best.json", best)
    train.train(change(saved("rm"), optimizer={"steps": 99}), one_device_mesh(), Path("rm"))
    assert "trained already: no step after 8 was better" in caplog.text


def test_an_old_reference_model_scores_as_it_did(old):
    job = change(saved("rm"), score={"input": "domain", "output": "again"})
    score.score(job, one_device_mesh(), Path("rm"))
    before, after = read_manifest("scored")["scores"], read_manifest("again")["scores"]
    assert after["rm_hash"] == before["rm_hash"] == "c47ab34fa54bd225"
    assert after["mean_nll"] == pytest.approx(before["mean_nll"], rel=1e-4)
    assert read_manifest("again")["written_by"] == version.written_by()


def test_an_old_run_is_exported_with_its_own_model_and_tokenizer(old):
    cfg = lineage.of_run(config.Config(), Path("run"), named=set())
    assert (cfg.model, cfg.tokenizer) == (saved("run").model, "tokenizer")
    export.export(cfg, one_device_mesh(), Path("run"))
    assert (old / "run" / "hf" / "tokenizer.json").read_bytes() == (old / "tokenizer" / "tokenizer.json").read_bytes()
    assert "Continued pretraining with mucpt_jax before 0.2.0.\n" in (old / "run" / "hf" / "README.md").read_text()


def test_a_knob_that_is_gone_is_named_and_matters_only_by_its_value(caplog):
    caplog.set_level("INFO")
    gone = {"loss.alpha": 2.0, "loss.bygone": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.RETIRED, "loss.bygone", 3)
        assert config.without_retired(gone, "runs/x/4", None) == {"loss.alpha": 2.0}
        assert "runs/x/4 has loss.bygone: not known any more" in caplog.text
        with pytest.raises(UserError, match=r"x/4 has loss\.bygone=4, which mucpt_jax .* does not know"):
            config.without_retired({"loss.bygone": 4}, "runs/x/4", None)
    with pytest.raises(UserError, match=r"go on with the version that wrote it \(mucpt_jax 9\.1\)"):
        config.without_retired({"loss.coming": 4}, "runs/x/4", {"version": "9.1", "commit": None})


def test_the_card_of_an_old_run_names_the_knobs_that_are_gone_and_were_used(old, caplog):
    file = old / "run" / "config.json"
    run = read_json(file)
    assert config.gone_knobs(run) == {}
    run["loss"] |= {"smooth": "mean", "smooth_window": 3}
    write_json(file, run)
    card = export.card(saved("run"), Path("run"), "0" * 16)
    assert '"loss.smooth": "mean"' in card and "smooth_window" not in card
    assert "'loss.smooth': 'mean'" in caplog.text
