"""A made-up objective by its one entry alone goes through config, training, audit, compare and export."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from audit_rows import payload
from browser import CHROMIUM
from conftest import one_device_mesh, small_config, write_rows
from test_audit_page import dom, shading
from test_compare import write_run
from test_data import scored_row
from test_export import tokenizer

from mucpt_jax import audit, checks, compare, config, export, train
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import tables
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.tokenizer import tokenizer_hash
from mucpt_jax.run import data
from mucpt_jax.step import losses, objective


def above_mean(nll_BT, batch, domain_BT, cfg):
    """alpha where nll - r is above its mean over the step's domain tokens, else 0: it asks for the whole step's nll."""
    excess_BT = jnp.where(domain_BT, nll_BT - objective.scores(batch, domain_BT), 0)
    return cfg.alpha * (excess_BT > excess_BT.sum() / domain_BT.sum())


@pytest.fixture(autouse=True)
def entry(monkeypatch):
    made = objective.Objective(
        above_mean, needs_nll=True, needs_scores=True, knobs=("alpha",), colour="#123456",
        sentence="Made up: weight {alpha:g} above the mean excess.",
    )  # fmt: skip
    monkeypatch.setitem(objective.OBJECTIVES, "above_mean", made)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    known = {"tokenizer_hash": tokenizer_hash(tokenizer(folder / "tokenizer"))}
    write_rows(
        folder / "domain", {"songs": 12}, rows=[scored_row(rng) for _ in range(12)], scores={"rm_hash": "rm"}, **known
    )
    write_rows(folder / "general", {"web": 8}, seed=1, **known)
    return folder


def config_of(folders, micro=1, **loss):
    rows = {role: str(folders / role) for role in ("domain", "general")}
    return small_config(
        loss={"kind": "above_mean", "alpha": 2.0} | loss, data=rows | {"general_fraction": 0.5},
        train={"micro_batches": micro}, tokenizer=str(folders / "tokenizer"), export={"dtype": "float32"},
    )  # fmt: skip


def test_the_config_knows_its_name_and_the_loader_that_it_needs_scores(tmp_path):
    values = config.default("nano")
    values.loss.kind = "above_mean"
    assert checks.build(values).loss.kind == "above_mean"
    values.loss.kind = "above_meen"
    with pytest.raises(UserError, match=r"loss.kind='above_meen' is not one of .*'above_mean'.*mean above_mean\?"):
        checks.build(values)
    folder = write_rows(tmp_path / "unscored", {"songs": 2})
    cfg = small_config(loss={"kind": "above_mean"}, data={"domain": str(folder), "general_fraction": 0.0})
    with pytest.raises(UserError, match=r"holds no reference scores .* but loss.kind=above_mean needs them"):
        data.open_sources(cfg)


def test_one_and_two_micro_batches_give_equal_losses_weights_and_gradients(folders):
    rng = np.random.default_rng(3)
    rows = [scored_row(rng, r) for r in np.linspace(1.0, 6.0, 8)]
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]} | {"is_domain": np.arange(8) < 6}
    params = train.model.init(config_of(folders).model, jax.random.key(0))
    tokens = losses.target_mask(batch).sum()
    (one, (_, weight_BT)), grads = train.loss_and_grads(params, batch, config_of(folders), tokens)
    (two, (_, other_BT)), other = train.loss_and_grads(params, batch, config_of(folders, micro=2), tokens)
    np.testing.assert_array_equal(weight_BT, other_BT)
    assert set(np.unique(weight_BT)) == {0.0, 1.0, 2.0} and float(one) == pytest.approx(float(two), rel=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_it_is_trained_compared_and_exported(folders, tmp_path):
    runs = {"one": config_of(folders), "two": config_of(folders, micro=2), "plain": config_of(folders, kind="ntp")}
    traces = {}
    for name, cfg in runs.items():
        train.train(cfg, one_device_mesh(), tmp_path / name)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        traces[name] = [json.loads(line)["loss"] for line in lines]
    np.testing.assert_allclose(traces["one"], traces["two"], rtol=1e-4)
    assert abs(traces["one"][0] - traces["plain"][0]) > 0.1

    result = compare.compare([str(tmp_path / "one"), str(tmp_path / "plain")], None, None, ["init_from"])
    assert [run["objective"] for run in result["runs"]] == ["above_mean", "ntp"]
    assert result["runs"][0]["settings"]["loss.alpha"] == 2.0 and "loss.alpha" not in result["runs"][1]["settings"]
    assert any(note.startswith("weighted objectives do not minimise") for note in result["notes"])

    export.export(runs["one"], one_device_mesh(), tmp_path / "one")
    card = (tmp_path / "one/hf/README.md").read_text()
    assert "6 steps of above_mean" in card and "Made up: weight 2 above the mean excess." in card
    assert read_json(tmp_path / "one/config.json")["loss"]["kind"] == "above_mean"


def test_a_plot_draws_its_colour(tmp_path):
    runs = [write_run(tmp_path / kind, "+-", loss={"kind": kind}) for kind in ("above_mean", "gone")]
    tables.plot(compare.compare(runs, None, None, ["init_from"]), tmp_path / "plot.svg")
    assert "#123456" in (tmp_path / "plot.svg").read_text()


def test_the_audit_names_it_and_says_that_it_cannot_shade_by_it(audited, tmp_path):
    named = [f"--{name}={audited / name}" for name in ("base", "tokenizer")]
    scored, output = str(audited / "scored"), f"--output={tmp_path / 'audit.html'}"
    page = audit.run([scored, *named, output, "--objective=above_mean"])
    assert payload(page)["objectives"]["above_mean"] == {"colour": "#123456", "needs_nll": True, "knobs": ["alpha"]}
    with pytest.raises(UserError, match="--objective=above_mean needs the start model's scores"):
        audit.run([scored, named[1], output, "--objective=above_mean"])
    if not CHROMIUM:
        pytest.skip("the page is not looked at: no chromium, chromium-browser or google-chrome here")
    shown = dom(page)
    assert re.findall(r'<option value="(\w+)">\1</option>', shown)[:3] == ["ntp", "rho1", "mucpt"]
    assert '<option value="above_mean">' not in shown
    assert "above_mean: audit_weights.js has no rule for it" in shown
    assert shading(shown) == shading(dom(audited / "audit.html"))  # as mucpt, the last of those that it can shade
