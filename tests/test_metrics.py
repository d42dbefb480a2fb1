import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import files_of_at_most

from mucpt_jax.config import MODELS, Config, Optimizer, Train
from mucpt_jax.errors import UserError, fullness
from mucpt_jax.run import metrics
from mucpt_jax.step import optimizer


@pytest.mark.parametrize(
    ("size", "gflops"), [("0.5b", 3.49), ("1.5b", 10.32), ("7b", 44.89), ("14b", 89.98), ("32b", 199.96)]
)
def test_model_flops_per_token_at_4096_causal(size, gflops):
    assert metrics.flops_per_token(MODELS[f"qwen2.5-{size}"], 4096) / 1e9 == pytest.approx(gflops, abs=0.005)


def test_peaks_are_found_by_device_kind():
    assert metrics.peak_flops("NVIDIA H20") == 148e12
    assert metrics.peak_flops("NVIDIA H200") == metrics.peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert metrics.peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert metrics.peak_flops("NVIDIA H100 PCIe") == 756e12
    assert metrics.peak_flops("NVIDIA H100 NVL") == 835e12
    assert metrics.peak_flops("TPU v5 lite") == 197e12
    assert metrics.peak_flops("TPU v5") == metrics.peak_flops("TPU v5p") == 459e12
    assert metrics.peak_flops("TPU v6 lite") == metrics.peak_flops("TPU v6e") == 918e12
    assert metrics.peak_flops("cpu") is None


def test_packed_flops_count_what_documents_attend_to():
    cfg = MODELS["qwen2.5-1.5b"]
    whole = metrics.packed_flops(cfg, 4096, 4096 * 4097 / 2)  # one document fills the row
    assert whole / 4096 == pytest.approx(metrics.flops_per_token(cfg, 4097))
    # Two documents of half the length: half the pairs, the same matrices.
    halves = metrics.packed_flops(cfg, 4096, 2 * 2048 * 2049 / 2)
    assert whole - halves == 12 * 28 * 12 * 128 * 2048 * 2048


def test_lines_after_the_restart_point_and_broken_lines_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": s}) + "\n" for s in (1, 2, 3)) + '{"step": 4, "lo')
    metrics.keep_until(path, 2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_full_disk_ends_the_events_in_a_warning_and_the_run_where_its_record_stops(tmp_path, caplog):
    stops = pytest.raises(UserError, match=r"metrics\.jsonl cannot be written \(.*File too large.*\); make room")
    with files_of_at_most(3000), stops as error, metrics.log(tmp_path, 0) as write:
        for step in range(1, 1000):
            write({"step": step, "loss": 2.5})
    assert fullness(error.value) and caplog.text.count("no more TensorBoard events in ") == 1
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) > 100 and json.loads(lines[-2]) == {"step": len(lines) - 1, "loss": 2.5}  # the last one is cut
    [events] = (tmp_path / "tensorboard").iterdir()
    assert events.stat().st_size == 3000


def test_the_learning_rate_warms_up_then_falls_to_its_floor():
    lr = optimizer.schedule(Optimizer(steps=100, peak_lr=6e-5, final_lr=3e-5, warmup_fraction=0.1))
    assert float(lr(0)) == pytest.approx(6e-6)
    assert float(lr(9)) == pytest.approx(6e-5)
    assert float(lr(54)) == pytest.approx(4.5e-5)  # halfway down the cosine
    assert float(lr(99)) == pytest.approx(3e-5)
    longer = Optimizer(steps=140, schedule_steps=100, peak_lr=6e-5, final_lr=3e-5, warmup_fraction=0.1)
    assert [float(optimizer.schedule(longer)(i)) for i in range(100)] == [float(lr(i)) for i in range(100)]
    assert float(optimizer.schedule(longer)(139)) == pytest.approx(3e-5)  # and stays there


def test_without_warm_up_the_first_update_has_nearly_the_peak():
    lr = optimizer.schedule(Optimizer(steps=1000, peak_lr=1.0, final_lr=0.0, warmup_fraction=0.0))
    assert 0.999 < float(lr(0)) <= 1.0


def test_norms_and_biases_do_not_decay():
    tree = {"q_proj": {"kernel": 0, "bias": 0}, "norm": {"scale": 0}, "embed_tokens": {"embedding": 0}}
    found = optimizer.decays(tree)
    assert found == {
        "q_proj": {"kernel": True, "bias": False}, "norm": {"scale": False}, "embed_tokens": {"embedding": True},
    }  # fmt: skip


def constant_lr(**optimizer_values) -> Config:
    values = {"steps": 1000, "peak_lr": 0.1, "final_lr": 0.1, "warmup_fraction": 0.0, "weight_decay": 0.0}
    return Config(optimizer=Optimizer(**values | optimizer_values))


def test_only_matrices_decay_and_large_gradients_are_clipped():
    params = {"q_proj": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    cfg = constant_lr(weight_decay=0.5)
    tx = optimizer.make(cfg)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params, loss=jnp.array(1.0))
    np.testing.assert_allclose(updates["q_proj"]["kernel"], -0.1 * 0.5 * np.ones((2, 2)), rtol=1e-5)
    np.testing.assert_array_equal(updates["q_proj"]["bias"], np.zeros(2))
    # After clipping, the mean of the first step is (1 - b1) * g / |g|.
    grads = jax.tree.map(lambda p: 1e6 * p, params)
    _, state = tx.update(grads, tx.init(params), params, loss=jnp.array(1.0))
    mean = optax.tree.get(state, "mu")
    assert float(optax.tree.norm(mean)) == pytest.approx(1 - cfg.optimizer.b1, rel=1e-5)


def updates_of(cfg, losses, grad=1.0):
    """Updates of one weight over steps with these losses, and the last state."""
    params = {"q_proj": {"kernel": jnp.ones((2, 2))}}
    tx = optimizer.make(cfg)
    state, found = tx.init(params), []
    update = jax.jit(lambda grads, state, loss: tx.update(grads, state, params, loss=loss))
    for step, loss in enumerate(losses):
        grads = {"q_proj": {"kernel": jnp.full((2, 2), grad * (1 + step % 3))}}
        updates, state = update(grads, state, jnp.array(loss))
        found.append(float(updates["q_proj"]["kernel"][0, 0]))
    return np.array(found), state


def test_moments_in_bfloat16_take_half_the_bytes_and_follow_float32_closely():
    exact, _ = updates_of(constant_lr(), [1.0] * 200)
    near, state = updates_of(constant_lr(moments_dtype="bfloat16"), [1.0] * 200)
    moments = [leaf for leaf in jax.tree.leaves(state.inner) if leaf.ndim]
    assert {leaf.dtype for leaf in moments} == {jnp.dtype("bfloat16")} and len(moments) == 2
    np.testing.assert_allclose(near, exact, rtol=0.03)  # 8 bits of mantissa: 0.4% a rounding
    assert abs(near.sum() / exact.sum() - 1) < 0.01


def test_a_step_that_is_not_finite_changes_nothing_but_the_count():
    updates, state = updates_of(constant_lr(), [2.0, 2.0, float("nan"), 2.0])
    assert updates[2] == 0 and (updates[[0, 1, 3]] < 0).all()
    assert int(state.good_steps) == 3 and float(state.mean_loss) == pytest.approx(2.0)
    _, after_bad = updates_of(constant_lr(), [2.0, 2.0, float("inf")])
    _, before = updates_of(constant_lr(), [2.0, 2.0])
    assert int(after_bad.bad_steps) == 1 and int(before.bad_steps) == 0
    for a, b in zip(jax.tree.leaves(after_bad.inner), jax.tree.leaves(before.inner), strict=True):
        np.testing.assert_array_equal(a, b + 1 if a.dtype == jnp.int32 else b)


def test_a_spike_is_a_loss_far_above_the_mean_of_the_last_steps():
    calm = [3.0, 2.8] * 20
    cfg = dataclasses.replace(constant_lr(), train=Train(spike=1.0))
    updates, state = updates_of(cfg, [*calm, 3.8, 4.0, 2.9])  # the mean is 2.9
    assert updates[-3] < 0 and updates[-2] == 0 and updates[-1] < 0
    assert float(state.mean_loss) == pytest.approx(2.9, abs=0.1)
    early, _ = updates_of(cfg, [3.0, 9.0])  # too few steps to know the mean
    assert early[1] < 0
    off, _ = updates_of(constant_lr(), [*calm, 40.0])
    assert off[-1] < 0


def test_the_progress_line_tells_weighted_and_plain_loss():
    values = {
        "step": 3, "loss": 2.5, "tokens_per_second": 1234.5, "mfu": None, "eta_seconds": 3723,
        "sources": {"music": {"nll": 3.0, "weighted_nll": 2.0}},
    }  # fmt: skip
    line = metrics.progress(values, 10)
    assert "step 3/10" in line and "music 3.000 (weighted 2.000)" in line
    assert "MFU n/a" in line and line.endswith("ETA 1:02:03")


def test_a_restart_goes_on_where_a_kill_cut_a_line_in_the_middle_of_a_character(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes('{"step": 1, "sources": {"歌": {"nll": 0.1}}}\n{"step": 2, "sources": {"歌'.encode()[:-1])
    metrics.keep_until(path, 5)
    assert path.read_text() == '{"step": 1, "sources": {"歌": {"nll": 0.1}}}\n'
    assert "metrics.jsonl line 2 cannot be read as JSON" in caplog.text
