import dataclasses
import json

import jax
import numpy as np
import pytest
from conftest import VOCAB, one_device_mesh, small_config, write_rows

from mucpt_jax import score, train
from mucpt_jax.errors import UserError
from mucpt_jax.run import checkpoint, lineage, reference
from mucpt_jax.step import sharding
from mucpt_jax.weights import hf_write, transfer


@pytest.fixture
def run(tmp_path):
    """A reference model in a workdir, and rows."""
    write_rows(tmp_path / "rows", {"music": 24, "songs": 8})
    seed = {"general": str(tmp_path / "rows"), "general_fraction": 1.0}
    rm = small_config(seed=3, data=seed, optimizer={"steps": 2}, loss={"kind": "ntp"})
    train.train(rm, one_device_mesh(), tmp_path / "rm")
    return rm


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def with_loss(tmp_path, folder, **loss):
    data = {"domain": str(tmp_path / folder), "general_fraction": 0.0}
    loss = {"kind": "mucpt", "weight_norm": "batch_mean_one"} | loss
    return small_config(loss=loss, data=data, optimizer={"steps": 2})


def test_stored_scores_and_scoring_while_training_give_the_same_losses(run, tmp_path):
    mesh = one_device_mesh()
    job = {"input": str(tmp_path / "rows"), "output": str(tmp_path / "scored"), "batch_rows": 8}
    score.score(small_config(score=job), mesh, tmp_path / "rm")
    train.train(with_loss(tmp_path, "scored"), mesh, tmp_path / "stored")
    train.train(with_loss(tmp_path, "rows", reference=str(tmp_path / "rm")), mesh, tmp_path / "live")
    for a, b in zip(lines(tmp_path / "stored"), lines(tmp_path / "live"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
        for source in a["sources"]:
            assert a["sources"][source]["ess"] == pytest.approx(b["sources"][source]["ess"], rel=2e-3)
    assert lines(tmp_path / "live")[0]["sources"]["music"]["ess"] < 1.0


def test_a_hugging_face_folder_scores_as_the_run_it_came_from(run, tmp_path):
    mesh = one_device_mesh()
    params = checkpoint.restore_params(tmp_path / "rm", lineage.abstract_params(run, mesh), run)
    transfer.to_hf(params, run.model, hf_write.About(str(tmp_path / "hf"), "float32"))
    batch = {
        "tokens": np.arange(8 * 33, dtype=np.int32).reshape(8, 33) % VOCAB,
        "segment_ids": np.ones((8, 33), np.uint16),
    }
    found = [
        reference.scorer(with_loss(tmp_path, "rows", reference=str(tmp_path / name)), mesh)[1](batch)["rm_nll"]
        for name in ("rm", "hf")
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.isnan(found[0][:, 0]).all() and np.isfinite(found[0][:, 1:]).all()


def test_eight_devices_and_micro_batches_score_as_one(run, tmp_path):
    cfg = with_loss(tmp_path, "rows", reference=str(tmp_path / "rm"))
    batch = {
        "tokens": np.arange(8 * 33, dtype=np.int32).reshape(8, 33) % VOCAB,
        "segment_ids": np.ones((8, 33), np.uint16),
    }
    one = reference.scorer(cfg, one_device_mesh())[1](batch)["rm_nll"]
    cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, micro_batches=4))
    cfg = dataclasses.replace(cfg, mesh=dataclasses.replace(cfg.mesh, fsdp=2, tensor=2, replica=1, context=2))
    mesh = sharding.make_mesh(cfg)
    with jax.set_mesh(mesh):
        eight = reference.scorer(cfg, mesh)[1](sharding.to_global(batch, mesh, 8))["rm_nll"]
    np.testing.assert_allclose(one, eight, rtol=1e-4)


def test_a_run_goes_on_only_with_the_reference_model_that_it_began_with(run, tmp_path):
    mesh, cfg = one_device_mesh(), with_loss(tmp_path, "rows", reference=str(tmp_path / "rm"))
    train.train(cfg, mesh, tmp_path / "run")
    name = lineage.saved_config(tmp_path / "run").loss.rm_hash
    longer = dataclasses.replace(cfg, optimizer=dataclasses.replace(cfg.optimizer, steps=3))
    train.train(dataclasses.replace(run, optimizer=longer.optimizer), mesh, tmp_path / "rm")  # another model by now
    with pytest.raises(
        UserError, match=rf"run/checkpoints/2 was trained with loss\.rm_hash={name}, now it is (?!{name})"
    ):
        train.train(longer, mesh, tmp_path / "run")


def test_a_reference_model_of_other_tokens_or_another_hash_is_refused(run, tmp_path):
    cfg = with_loss(tmp_path, "rows", reference=str(tmp_path / "rm"), rm_hash="another")
    with pytest.raises(UserError, match=r"rm is \w{16}, the config names loss\.rm_hash=another"):
        reference.scorer(cfg, one_device_mesh())
    write_rows(tmp_path / "more", {"music": 2}, vocab_size=VOCAB + 1)
    with pytest.raises(UserError, match=f"has vocab_size={VOCAB}, .*more was written with {VOCAB + 1}"):
        reference.scorer(with_loss(tmp_path, "more", reference=str(tmp_path / "rm")), one_device_mesh())
    write_rows(tmp_path / "other", {"music": 2}, tokenizer_hash="another")
    with pytest.raises(UserError, match="other was written with another tokenizer"):
        reference.scorer(with_loss(tmp_path, "other", reference=str(tmp_path / "rm")), one_device_mesh())
