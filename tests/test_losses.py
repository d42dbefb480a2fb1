import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import VOCAB, T, random_row, small_config
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mucpt_jax import losses, model, sharding, train
from mucpt_jax.config import Loss


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


# --- token_nll


@pytest.mark.parametrize("parts", [1, 2, 7, 16, 97])
def test_nll_by_parts_of_the_vocabulary_and_its_gradient_equal_the_plain_softmax(parts):
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (2, 50, 8))
    unembed = jax.random.normal(keys[1], (8, VOCAB))
    targets = jax.random.randint(keys[2], (2, 50), 0, VOCAB)

    def plain(h, w):
        return -jnp.take_along_axis(jax.nn.log_softmax(h @ w), targets[..., None], -1)[..., 0]

    def by_parts(h, w):
        return losses.token_nll(h, w, targets, parts)

    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(by_parts(hidden, unembed), plain(hidden, unembed), rtol=1e-5, atol=1e-5)
        scale = jnp.arange(100.0).reshape(2, 50)  # a different weight for every token
        ours = jax.grad(lambda h, w: (scale * by_parts(h, w)).sum(), (0, 1))(hidden, unembed)
        theirs = jax.grad(lambda h, w: (scale * plain(h, w)).sum(), (0, 1))(hidden, unembed)
    assert_close(ours, theirs, 1e-4)


def test_no_array_of_all_logits_is_ever_made():
    hidden, unembed = jnp.ones((2, 64, 8)), jnp.ones((8, VOCAB))
    targets = jnp.zeros((2, 64), jnp.int32)
    grad = jax.grad(lambda h, w: losses.token_nll(h, w, targets, 4).sum(), (0, 1))
    text = jax.jit(grad).lower(hidden, unembed).as_text()
    assert "2x64x25xf32" in text  # 97 ids in 4 parts
    assert f"2x64x{VOCAB}" not in text and "2x64x100" not in text and "4x2x64x25" not in text


def test_the_head_is_gathered_once_and_its_gradient_summed_once():
    """On fsdp=8 nothing of the head's size may move inside the loop over parts."""
    mesh = sharding.make_mesh(small_config(mesh={"fsdp": 8}))
    rows = NamedSharding(mesh, P("fsdp"))
    hidden = jax.ShapeDtypeStruct((8, 64, 32), jnp.float32, sharding=rows)
    targets = jax.ShapeDtypeStruct((8, 64), jnp.int32, sharding=rows)
    head = jax.ShapeDtypeStruct((32, 1024), jnp.float32, sharding=rows)
    with jax.set_mesh(mesh):
        grad = jax.grad(lambda h, w, t: losses.token_nll(h, w, t, 8).sum(), (0, 1))
        text = jax.jit(grad, out_shardings=(rows, rows)).lower(hidden, head, targets).compile().as_text()
    bodies = re.findall(r"^%?\S*(?:while_body|region|body)\S* \(.*?^}", text, re.M | re.S)
    moves = re.compile(r"= \S*\[(?:\d+,)*1024(?:,\d+)*\]\S* (?:all-gather|all-reduce|reduce-scatter)\(")
    assert len(moves.findall(text)) <= 3  # gathered in the forward and in the backward pass, reduced once
    assert bodies and not any(moves.search(body) for body in bodies)


def test_a_certain_token_has_zero_loss_and_zero_gradient():
    unembed = jnp.eye(4) * 200
    nll = losses.token_nll(jnp.eye(4)[None], unembed, jnp.arange(4)[None], 4)
    np.testing.assert_array_equal(nll, np.zeros((1, 4)))


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
    return np.asarray(losses.token_weights(nll, batch, cfg))[0]


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
    for kind in ("ntp", "rho1", "mucpt"):
        np.testing.assert_array_equal(weights([np.nan, 5.0], Loss(kind=kind), is_domain=False), [1.0, 1.0])


def test_rho1_keeps_exactly_the_rounded_share_with_the_largest_excess():
    nll, r = [5.0, 1.0, 4.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0]
    found = weights(r, Loss(kind="rho1", keep=0.6), nll)  # 3 of 5, each worth 5/3
    np.testing.assert_allclose(found, [5 / 3, 0, 5 / 3, 5 / 3, 0], rtol=1e-6)
    ties = weights([1.0] * 10, Loss(kind="rho1", keep=0.6), [2.0] * 10)
    assert (ties > 0).sum() == 6 and (ties[:6] > 0).all()


def test_rho1_never_selects_general_tokens_and_counts_domain_targets_only():
    batch = batch_of(domain_rows=3)
    nll = jax.random.uniform(jax.random.key(0), (8, T)) * jnp.where(batch["is_domain"], 1, 100)[:, None]
    w = np.asarray(losses.token_weights(nll, batch, Loss(kind="rho1", keep=0.3)))
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
    found = losses.token_weights(jnp.ones((1, 6)), batch, Loss(kind="ntp"))
    np.testing.assert_array_equal(found, [[1, 1, 0, 1, 0, 0]])


# --- the objective: invariances and gradients


def test_mucpt_equals_ntp_where_the_reference_model_is_equally_sure_of_everything():
    batch = batch_of()
    batch["rm_nll"] = np.where(np.isnan(batch["rm_nll"]), np.nan, 3.0).astype(np.float16)
    mucpt = small_config(loss={"kind": "mucpt", "rm_floor": 1.0, "mean_raw_weight": 1 / 3.0})
    assert_close(
        loss_and_grads(mucpt, batch),
        loss_and_grads(small_config(loss={"kind": "ntp"}), batch),
        1e-6,
    )


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
    assert_close(
        jax.tree.map(lambda a, b: b - a, one, two),
        jax.tree.map(lambda a, g: a - g, one, general),
        1e-5,
    )


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
    cfg = small_config(loss={"kind": "mucpt"})
    batch = batch_of()
    params = params_of(cfg)
    (before, _), grads = loss_and_grads(cfg, batch, params)
    (after, _), _ = loss_and_grads(cfg, batch, jax.tree.map(lambda p, g: p - 0.5 * g, params, grads))
    assert 0 < after < before


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
    cfg, batch = small_config(loss={"kind": kind, "vocab_parts": 5}), batch_of()
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
    exact = loss_and_grads(small_config(loss={"kind": "mucpt"}), batch)[0][0]
    half = small_config(loss={"kind": "mucpt"}, train={"compute_dtype": "bfloat16"})
    (loss, _), grads = loss_and_grads(half, batch)
    np.testing.assert_allclose(loss, exact, rtol=5e-3)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(grads))
