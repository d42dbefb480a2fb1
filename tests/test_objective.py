import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import VOCAB, T, random_row, small_config, write_rows

from mucpt_jax import train
from mucpt_jax.config import Loss
from mucpt_jax.errors import UserError
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.rows import target_mask
from mucpt_jax.run import data
from mucpt_jax.step import losses, model, objective, sharding

MUCPT = {"kind": "mucpt", "mean_raw_weight": 0.5}


def batch_of(rows: int = 8, seed: int = 0, domain_rows: int | None = None) -> dict:
    rng = np.random.default_rng(seed)
    made = [random_row(rng, scored=True) for _ in range(rows)]
    batch = {name: np.stack([row[name] for row in made]) for name in made[0]}
    scores = rng.gamma(1.0, 3.0, batch["rm_nll"].shape).astype(np.float16)
    batch["rm_nll"] = np.where(np.isnan(batch["rm_nll"]), np.nan, scores)
    batch["is_domain"] = np.arange(rows) < (rows * 3 // 4 if domain_rows is None else domain_rows)
    batch["source"] = np.where(batch["is_domain"], 0, 1).astype(np.int32)
    return batch


@functools.cache
def params_of(cfg):
    return jax.jit(lambda key: model.init(cfg.model, key))(jax.random.key(0))


@functools.cache
def compiled(cfg):
    return jax.jit(lambda params, batch, tokens: train.loss_and_grads(params, batch, cfg, tokens))


def loss_and_grads(cfg, batch, params=None):
    params = params_of(cfg) if params is None else params
    batch = {k: v for k, v in batch.items() if k != "source"}
    return compiled(cfg)(params, batch, losses.target_mask(batch).sum())


def assert_close(a, b, tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


# --- weights, worked by hand


def weights(r, cfg, nll=None, is_domain=True):
    """One row, one segment: targets have scores r."""
    r = np.asarray(r, np.float16)
    batch = {
        "segment_ids": np.ones((1, r.size + 1), np.uint16),
        "rm_nll": np.concatenate([[np.nan], r])[None].astype(np.float16),
        "is_domain": np.array([is_domain]),
    }
    nll = jnp.ones((1, r.size)) if nll is None else jnp.asarray(nll, jnp.float32)[None]
    return np.asarray(objective.token_weights(nll, batch, cfg))[0]


def test_mucpt_weight_is_one_over_the_reference_loss_above_the_floor():
    cfg = Loss(kind="mucpt", rm_floor=1.0, weight_norm="none", alpha=2.0)
    np.testing.assert_allclose(weights([0.0, 0.5, 1.0, 2.0, 8.0], cfg), [2.0, 2.0, 2.0, 1.0, 0.25])


def test_corpus_mean_and_caps_apply_in_that_order():
    cfg = Loss(kind="mucpt", rm_floor=0.5, mean_raw_weight=0.5, min_weight=0.3, max_weight=3.0)
    # raw 2, 1, 0.5, 0.1 -> over the mean 4, 2, 1, 0.2 -> capped
    np.testing.assert_allclose(weights([0.1, 1.0, 2.0, 10.0], cfg), [3.0, 2.0, 1.0, 0.3], rtol=1e-3)


def test_a_score_of_zero_gives_a_finite_weight():
    assert np.isfinite(weights([0.0, 0.0], Loss(kind="mucpt", rm_floor=1e-3, weight_norm="none"))).all()


def test_general_text_always_has_weight_one_even_unscored():
    for kind in objective.OBJECTIVES:
        loss = Loss(kind=kind, mean_raw_weight=0.5)
        np.testing.assert_array_equal(weights([np.nan, 5.0], loss, is_domain=False), [1.0, 1.0])


def test_rho1_keeps_exactly_the_rounded_share_with_the_largest_excess():
    nll, r = [5.0, 1.0, 4.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0]
    found = weights(r, Loss(kind="rho1", keep=0.6), nll)  # 3 of 5, each worth 5/3
    np.testing.assert_allclose(found, [5 / 3, 0, 5 / 3, 5 / 3, 0], rtol=1e-6)
    ties = weights([1.0] * 10, Loss(kind="rho1", keep=0.6), [2.0] * 10)
    assert (ties > 0).sum() == 6 and (ties[:6] > 0).all()


def test_rho1_never_selects_general_tokens_and_counts_domain_targets_only():
    batch = batch_of(domain_rows=3)
    nll = jax.random.uniform(jax.random.key(0), (8, T)) * jnp.where(batch["is_domain"], 1, 100)[:, None]
    w = np.asarray(objective.token_weights(nll, batch, Loss(kind="rho1", keep=0.3)))
    mask = np.asarray(losses.target_mask(batch))
    domain = int(mask[:3].sum())
    assert (w[:3] > 0).sum() == round(0.3 * domain)
    np.testing.assert_allclose(w[:3].sum(), domain, rtol=1e-5)
    np.testing.assert_array_equal(w[3:], mask[3:])


def test_first_tokens_of_segments_and_padding_have_no_weight():
    batch = {
        "segment_ids": np.array([[1, 1, 1, 2, 2, 0, 0]], np.uint16),
        "rm_nll": np.ones((1, 7), np.float16),
        "is_domain": np.array([True]),
    }
    found = objective.token_weights(jnp.ones((1, 6)), batch, Loss(kind="ntp"))
    np.testing.assert_array_equal(found, [[1, 1, 0, 1, 0, 0]])


# --- normalisation, worked by hand


def two_segments(r, is_domain=True):
    """One row: a segment with targets r[0], one with targets r[1]."""
    scores, ids = [], []
    for number, part in enumerate(r, 1):
        scores += [np.nan, *part]
        ids += [number] * (len(part) + 1)
    return {
        "segment_ids": np.array([ids], np.uint16),
        "rm_nll": np.array([scores], np.float16),
        "is_domain": np.array([is_domain]),
    }


def of_targets(weight_BT):
    found = np.asarray(weight_BT)[0]
    return found[found != 0]


def test_batch_mean_one_divides_by_the_mean_over_the_steps_domain_tokens():
    cfg = Loss(kind="mucpt", weight_norm="batch_mean_one", alpha=3.0)
    batch = two_segments([[1.0, 2.0], [4.0, 4.0]])  # raw 1, 1/2, 1/4, 1/4: mean 1/2
    np.testing.assert_allclose(of_targets(objective.token_weights(jnp.ones((1, 5)), batch, cfg)), [6, 3, 1.5, 1.5])


def test_micro_batches_share_one_batch_mean():
    cfg = small_config(loss={"kind": "mucpt", "weight_norm": "batch_mean_one"})
    accumulated = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, micro_batches=4))
    assert_close(loss_and_grads(accumulated, batch_of()), loss_and_grads(cfg, batch_of()), 1e-6)


def test_a_weight_that_was_cut_equals_its_cap_exactly():
    batch = two_segments([[0.1, 8.0, 0.1], [8.0]])
    cfg = Loss(kind="mucpt", weight_norm="none", alpha=0.1, max_weight=0.9, rm_floor=0.5)
    w = objective.token_weights(jnp.ones((1, 5)), batch, cfg)
    found = jax.jit(lambda w: objective.limits(w, batch, cfg))(w)
    assert (int(found["floored"].sum()), int(found["capped"].sum())) == (2, 2)


def test_the_shares_at_floor_and_cap_are_of_domain_targets():
    cfg = Loss(kind="mucpt", weight_norm="none", rm_floor=1.0, max_weight=0.5, min_weight=0.2)
    batch = two_segments([[0.5, 1.0, 3.0], [8.0]])
    w = objective.token_weights(jnp.ones((1, 5)), batch, cfg)
    found = objective.limits(w, batch, cfg)
    assert (int(found["floored"].sum()), int(found["capped"].sum())) == (2, 3)  # 1, 1 cut to 0.5; 1/8 lifted to 0.2
    general = objective.limits(w, two_segments([[0.5, 1.0, 3.0], [8.0]], is_domain=False), cfg)
    assert int(general["floored"].sum()) == int(general["capped"].sum()) == 0


def scored_folder(tmp_path, name="scored", **more):
    """Rows with known scores, and the manifest's numbers about them."""
    rows = [random_row(np.random.default_rng(i), scored=True) for i in range(6)]
    rng = np.random.default_rng(9)
    for row in rows:
        row["rm_nll"] = np.where(np.isnan(row["rm_nll"]), np.nan, rng.gamma(1.0, 3.0, T + 1)).astype(np.float16)
    masks = [target_mask(row["segment_ids"]) for row in rows]
    r = np.concatenate([row["rm_nll"][1:][mask] for row, mask in zip(rows, masks, strict=True)])
    base = np.linspace(0.5, 9, r.size).astype(np.float16)
    scores = {"rm_hash": "rm", **score_sums.summary(score_sums.stats_of(r, "here", base)), **more}
    folder = write_rows(tmp_path / name, {"music": 6}, rows=rows, scores=scores)
    return folder, rows, r.astype(np.float64), base.astype(np.float64)


def all_weights(rows, loss):
    batch = {k: np.stack([row[k] for row in rows]) for k in rows[0]} | {"is_domain": np.ones(len(rows), bool)}
    mask = np.asarray(losses.target_mask(batch))
    return np.asarray(objective.token_weights(np.zeros(mask.shape, np.float32), batch, loss))[mask]


def config_for(folder, **loss):
    return small_config(loss=loss, data={"domain": str(folder), "general_fraction": 0.0})


def test_the_corpus_mean_of_the_weights_is_one(tmp_path):
    folder, rows, _, _ = scored_folder(tmp_path)
    loss = data.resolved_loss(config_for(folder))
    assert all_weights(rows, loss).mean() == pytest.approx(1.0, rel=1e-4)


def test_loss_match_leaves_the_start_models_domain_loss_as_it_is(tmp_path):
    folder, rows, _, base = scored_folder(tmp_path)
    w = all_weights(rows, data.resolved_loss(config_for(folder, weight_norm="loss_match")))
    assert (w * base).sum() == pytest.approx(base.sum(), rel=1e-3)
    folder, *_ = scored_folder(tmp_path, "without")
    manifest = read_json(folder / "manifest.json")
    del manifest["scores"]["mean_raw_weight_by_base_nll"]
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(UserError, match=r"knows nothing of the start model's loss.*calibration .*without --base="):
        data.resolved_loss(config_for(folder, weight_norm="loss_match"))


def test_scores_of_another_reference_model_than_named_are_refused(tmp_path):
    folder, *_ = scored_folder(tmp_path)
    data.open_sources(config_for(folder, rm_hash="rm"))
    with pytest.raises(UserError, match=r"scored by the reference model rm, the config names loss\.rm_hash=other"):
        data.open_sources(config_for(folder, rm_hash="other"))


# --- scored while training


def test_domain_and_general_gradients_add_up_to_the_steps():
    cfg, batch = small_config(loss=MUCPT), batch_of()
    params, tokens = params_of(cfg), losses.target_mask(batch).sum()
    parts = [
        train.loss_and_grads(params, batch, cfg, tokens, rows)[1] for rows in (batch["is_domain"], ~batch["is_domain"])
    ]
    whole = loss_and_grads(cfg, batch)[1]
    assert_close(jax.tree.map(jnp.add, *parts), whole, 1e-6)
    micro = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, micro_batches=4))
    for one in (cfg, micro):
        norms = jax.jit(functools.partial(train.gradient_norms, cfg=one))(params, batch)
        for name, grads in zip(("domain", "general"), parts, strict=True):
            assert float(norms[name]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-5)
    assert float(norms["domain"]) != pytest.approx(float(norms["general"]), rel=1e-2)


# --- the objective: invariances and gradients


def test_mucpt_equals_ntp_where_the_reference_model_is_equally_sure_of_everything():
    batch = batch_of()
    batch["rm_nll"] = np.where(np.isnan(batch["rm_nll"]), np.nan, 3.0).astype(np.float16)
    mucpt = small_config(loss={"kind": "mucpt", "rm_floor": 1.0, "mean_raw_weight": 1 / 3.0})
    assert_close(loss_and_grads(mucpt, batch), loss_and_grads(small_config(loss={"kind": "ntp"}), batch), 1e-6)


def test_alpha_doubles_the_domain_part_of_the_gradient_and_nothing_else():
    def grads(alpha, domain_rows, batch):
        cfg = small_config(loss={"kind": "mucpt", "alpha": alpha, "weight_norm": "none"})
        batch = batch | {"is_domain": np.arange(8) < domain_rows}
        return loss_and_grads(cfg, batch)[1]

    batch = batch_of()
    general = jax.tree.map(lambda g: g, grads(1.0, 0, batch))
    assert_close(grads(2.0, 0, batch), general, 0)  # no domain rows: alpha does not exist
    one, two = grads(1.0, 8, batch), grads(2.0, 8, batch)
    assert_close(two, jax.tree.map(lambda g: 2 * g, one), 1e-6)
    one, two = grads(1.0, 4, batch), grads(2.0, 4, batch)
    masked = batch | {"segment_ids": np.where(np.arange(8)[:, None] < 4, 0, batch["segment_ids"])}
    count = losses.target_mask(batch).sum() / losses.target_mask(masked).sum()
    general = jax.tree.map(lambda g: g / count, grads(1.0, 4, masked))  # general rows alone, same denominator
    assert_close(jax.tree.map(lambda a, b: b - a, one, two), jax.tree.map(lambda a, g: a - g, one, general), 1e-5)


def test_gradient_of_a_softmax_layer_is_the_closed_form():
    """d loss / d logits = w * (softmax - onehot) / tokens."""
    keys = jax.random.split(jax.random.key(1), 2)
    logits = jax.random.normal(keys[0], (1, 6, 5))
    targets = jax.random.randint(keys[1], (1, 6), 0, 5)
    r = [0.2, 1.0, 2.0, 4.0, 8.0, 0.0]
    w = weights(r, Loss(kind="mucpt", rm_floor=0.5, weight_norm="none"))
    nll = lambda h: losses.token_nll(h, jnp.eye(5), targets, 4)  # noqa: E731
    found = jax.grad(lambda h: (jnp.asarray(w)[None] * nll(h)).sum() / 6)(logits)
    wanted = (jax.nn.softmax(logits) - jax.nn.one_hot(targets, 5)) * (w / 6)[None, :, None]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_one_step_lowers_the_loss_and_the_loss_is_not_negative():
    cfg = small_config(loss=MUCPT)
    batch = batch_of()
    params = params_of(cfg)
    (before, _), grads = loss_and_grads(cfg, batch, params)
    (after, _), _ = loss_and_grads(cfg, batch, jax.tree.map(lambda p, g: p - 0.5 * g, params, grads))
    assert 0 < after < before


def test_the_mean_of_a_batch_is_the_same_on_a_mesh_that_splits_rows_and_tokens():
    batch = batch_of()
    cfg = small_config(loss={"kind": "mucpt", "weight_norm": "batch_mean_one"}, mesh={"fsdp": 4, "context": 2})
    plain = objective.token_weights(jnp.ones((8, T)), batch, cfg.loss)
    mesh = sharding.make_mesh(cfg)
    with jax.set_mesh(mesh):
        placed = sharding.to_global(batch, mesh, 8)
        found = jax.jit(lambda b: objective.token_weights(jnp.ones((8, T)), b, cfg.loss))(placed)
    np.testing.assert_allclose(found, plain, rtol=1e-5)


MESHES = {
    "ntp": [{"replica": 4, "fsdp": 2}, {"fsdp": 2, "context": 4}],
    "rho1": [{"fsdp": 8}, {"replica": 2, "fsdp": 2, "context": 2}],
    "mucpt": [
        {"fsdp": 8},
        {"fsdp": 1, "tensor": 8},
        {"replica": 8, "fsdp": 1},
        {"fsdp": 4, "tensor": 2},
        {"replica": 2, "fsdp": 2, "tensor": 2},
        {"fsdp": 2, "context": 2, "tensor": 2},
    ],
}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 4}  # eight ways along tensor


@pytest.mark.parametrize("kind", MESHES)
def test_eight_devices_and_micro_batches_equal_the_plain_step(kind):
    cfg, batch = small_config(loss=MUCPT | {"kind": kind, "vocab_parts": 5}), batch_of()
    cfg = dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, **HEADS))
    assert VOCAB % 2  # tensor never divides the vocabulary: the head is filled up
    plain = loss_and_grads(cfg, batch)
    accumulated = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, micro_batches=4))
    assert_close(loss_and_grads(accumulated, batch), plain, 1e-6)
    for sizes in MESHES[kind]:
        sharded = dataclasses.replace(cfg, mesh=dataclasses.replace(cfg.mesh, **sizes))
        mesh = sharding.make_mesh(sharded)
        with jax.set_mesh(mesh):
            shapes = sharding.with_shardings(model.abstract(cfg.model), mesh)
            params = jax.device_put(params_of(cfg), jax.tree.map(lambda s: s.sharding, shapes))
            found = loss_and_grads(sharded, sharding.to_global(batch, mesh, 8), params)
        assert_close(found, plain, 1e-6)


def test_bfloat16_compute_stays_near_float32():
    batch = batch_of()
    exact = loss_and_grads(small_config(loss=MUCPT), batch)[0][0]
    half = small_config(loss=MUCPT, train={"compute_dtype": "bfloat16"})
    (loss, _), grads = loss_and_grads(half, batch)
    np.testing.assert_allclose(loss, exact, rtol=5e-3)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(grads))
