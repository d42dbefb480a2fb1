"""The loss in somebody else's JAX: what docs/objective.md shows, what importing it costs, what it refuses."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import VOCAB, random_row
from test_imports import loaded

from mucpt_jax.config import Loss
from mucpt_jax.errors import UserError
from mucpt_jax.step import losses, objective

PAGE = Path(__file__).parents[1] / "docs" / "objective.md"


def batch_of(rows: int = 4) -> dict:
    rng = np.random.default_rng(0)
    made = [random_row(rng, scored=True) for _ in range(rows)]
    return {name: np.stack([row[name] for row in made]) for name in made[0]} | {"is_domain": np.arange(rows) < 3}


def test_the_loop_that_the_page_shows_runs_as_it_stands():
    (text,) = re.findall("```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len([line for line in text.splitlines() if line]) <= 16
    shown = {}
    exec(text, shown)
    keys = jax.random.split(jax.random.key(0))
    start = {"embed": jax.random.normal(keys[0], (VOCAB, 8)), "head": jax.random.normal(keys[1], (8, VOCAB))}
    batch = batch_of()
    params, first = shown["step"](start, batch)
    _, second = shown["step"](params, batch)
    assert float(second) < float(first)
    # By hand: mean of w * nll over the targets; w is 1 on general rows, 1 / max(r, 1) over its mean on domain rows.
    logits = start["embed"][batch["tokens"][:, :-1]] @ start["head"]
    nll = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), batch["tokens"][:, 1:, None], -1)[..., 0]
    targets = np.asarray(losses.target_mask(batch))
    domain = targets & batch["is_domain"][:, None]
    raw = 1 / np.maximum(batch["rm_nll"][:, 1:].astype(float), 1)
    weight = np.where(domain, raw / raw[domain].mean(), targets)
    assert float(first) == pytest.approx((weight * nll)[targets].sum() / targets.sum(), rel=1e-5)


def test_importing_it_loads_no_more_than_it_needs():
    heavy = "jax flax pyarrow array_record grain orbax tensorflow transformers"
    assert loaded("import mucpt_jax.config", heavy) == "[]"
    assert loaded("import mucpt_jax.step.objective", heavy) == "[]"
    assert loaded("from mucpt_jax import checks, config; checks.build(config.default())", heavy) == "[]"
    assert loaded("import mucpt_jax.step.losses", heavy) == "['jax']"
    assert loaded("from mucpt_jax import compare", "jax flax pyarrow array_record") == "[]"
    assert loaded("from mucpt_jax import audit", "jax flax") == "[]"


@pytest.mark.parametrize(
    ("loss", "without", "sentence"),
    [
        ({"kind": "mucptt"}, "", r"loss.kind='mucptt' is not one of .*; did you mean mucpt\?"),
        ({"weight_norm": "batch_mean"}, "", r"loss.weight_norm='batch_mean' is not one of .* mean batch_mean_one\?"),
        ({}, "", "corpus_mean_one divides by a mean over the corpus, and mean_raw_weight is empty; set .*or use"),
        ({"weight_norm": "loss_match"}, "", "weight_norm=loss_match divides by a mean over the corpus"),
        ({"kind": "rho1"}, "rm_nll", "the batch has no rm_nll, which loss.kind=rho1 needs"),
        ({"kind": "ntp"}, "is_domain segment_ids", "the batch has no segment_ids and no is_domain"),
    ],
)
def test_what_token_weights_cannot_do_is_one_sentence(loss, without, sentence):
    batch = {name: array for name, array in batch_of().items() if name not in without.split()}
    with pytest.raises(UserError, match=sentence):
        objective.token_weights(jnp.zeros((4, 32)), batch, Loss(**loss))


def test_a_plain_loss_needs_no_scores():
    batch = batch_of()
    del batch["rm_nll"]
    weight = objective.token_weights(jnp.zeros((4, 32)), batch, Loss(kind="ntp"))
    np.testing.assert_array_equal(weight, losses.target_mask(batch))
    assert weight.dtype == jnp.float32


def test_token_nll_refuses_shapes_that_do_not_fit():
    hidden, head, targets = jnp.ones((2, 4, 8)), jnp.ones((8, 16)), jnp.zeros((2, 4), jnp.int32)
    assert losses.token_nll(hidden, head, targets, 3).shape == (2, 4)
    for arrays in ((hidden, head.T, targets), (hidden, head, targets[:, 1:]), (hidden[0], head, targets[0])):
        with pytest.raises(UserError, match=r"token_nll takes hidden \[B, T, D\], .*transpose a head of \[V, D\]"):
            losses.token_nll(*arrays, 3)
    with pytest.raises(UserError, match="and 0; transpose"):
        losses.token_nll(hidden, head, targets, 0)
