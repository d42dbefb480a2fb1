import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import VOCAB, random_row, small_config
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mucpt_jax.config import Loss
from mucpt_jax.formats.rows import NO_LOSS
from mucpt_jax.step import losses, model, objective, sharding


def assert_close(a, b, tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


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


def test_a_token_without_loss_is_read_but_weighs_nothing():
    cfg, rng = small_config(), np.random.default_rng(0)
    made = [random_row(rng, scored=True) for _ in range(2)]
    batch = {name: np.stack([row[name] for row in made]) for name in made[0]} | {"is_domain": np.array([True, False])}
    marked = batch | {"segment_ids": batch["segment_ids"].copy()}
    marked["segment_ids"][:, 5:9] |= np.uint16(NO_LOSS)
    before, after = losses.target_mask(batch), losses.target_mask(marked)
    assert before[:, 4:8].any() and (after == before & ~np.isin(np.arange(before.shape[1]), range(4, 8))).all()
    params = model.init(cfg.model, jax.random.key(0))
    nll_of = jax.jit(lambda segment_ids: losses.batch_nll(params, batch | {"segment_ids": segment_ids}, cfg))
    nll = nll_of(batch["segment_ids"])
    np.testing.assert_array_equal(nll, nll_of(marked["segment_ids"]))
    for kind in objective.OBJECTIVES:
        weight = objective.token_weights(nll, marked, Loss(kind=kind, mean_raw_weight=0.5))
        assert not weight[:, 4:8].any() and weight[0].any() and weight[1].any()
