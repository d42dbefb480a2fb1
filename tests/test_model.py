from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import VOCAB, T, random_row, small_config

from mucpt_jax.config import Train
from mucpt_jax.step import losses, model
from mucpt_jax.weights import hf

GOLDEN = Path(__file__).parent / "data"


def test_positions_start_again_in_every_segment():
    found = model.segment_positions(jnp.array([[1, 1, 1, 2, 2, 3, 0, 0]]))
    np.testing.assert_array_equal(found, [[0, 1, 2, 0, 1, 0, 0, 1]])


def test_a_packed_document_gets_the_loss_it_has_alone():
    cfg = small_config(loss={"vocab_parts": 5})
    params = model.init(cfg.model, jax.random.key(0))
    row = random_row(np.random.default_rng(0))
    nll_of = jax.jit(lambda batch: losses.batch_nll(params, batch, cfg))
    packed = nll_of(jax.tree.map(lambda x: x[None], row))[0]
    for segment in (1, 2, 3):
        chosen = row["segment_ids"] == segment
        alone = {"tokens": row["tokens"][chosen][None], "segment_ids": np.ones((1, chosen.sum()), np.uint16)}
        wanted = nll_of(alone)[0]
        first = int(np.argmax(chosen))
        np.testing.assert_allclose(packed[first : first + len(wanted)], wanted, rtol=1e-5, atol=1e-5)


def test_no_token_sees_the_next_or_the_previous_document():
    """By gradient: the loss of segment 2 does not depend on tokens that stand only in segments 1 and 3."""
    cfg = small_config(model=hf.read_config(str(GOLDEN / "qwen2_untied")))  # untied: inputs only
    params = model.init(cfg.model, jax.random.key(0))
    tokens = jnp.arange(1, T + 2)[None]  # every token once
    segment_ids = jnp.repeat(jnp.array([1, 2, 3]), 11)[None].astype(jnp.uint16)

    def loss(params, lo, hi):
        nll = losses.batch_nll(params, {"tokens": tokens, "segment_ids": segment_ids}, cfg)[0]
        return nll[lo:hi].sum()

    grad = jax.jit(jax.grad(loss), static_argnums=(1, 2))
    rows = jnp.abs(grad(params, 11, 21)["embed_tokens"]["embedding"]).sum(1)
    np.testing.assert_array_equal(rows > 0, (jnp.arange(160) >= 12) & (jnp.arange(160) < 22))
    # And inside a document only backwards: the first target sees the first token alone.
    rows = jnp.abs(grad(params, 11, 12)["embed_tokens"]["embedding"]).sum(1)
    assert np.flatnonzero(rows).tolist() == [12]


@pytest.mark.parametrize("remat", ["full", "attention", "dots"])
def test_recomputation_changes_no_gradient(remat):
    tokens, segments = np.arange(16)[None] % VOCAB, np.ones((1, 16), np.int32)
    cfg = small_config().model
    params = model.init(cfg, jax.random.key(0))

    def loss(params, remat):
        return model.hidden(params, tokens, segments, cfg, Train(compute_dtype="float32", remat=remat)).std()

    plain, found = jax.grad(loss)(params, "none"), jax.grad(loss)(params, remat)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_remat_policies_keep_more_and_more():
    """Bytes that the forward pass leaves for the backward pass, by policy."""
    from jax._src.ad_checkpoint import saved_residuals

    tokens, segments = np.zeros((1, 16), np.int32), np.ones((1, 16), np.int32)
    cfg = small_config().model
    params = model.abstract(cfg)
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape), params)

    def kept(remat: str) -> int:
        run = Train(compute_dtype="float32", remat=remat, attention="xla")
        found = saved_residuals(lambda p: model.hidden(p, tokens, segments, cfg, run).sum(), zeros)
        return sum(aval.size for aval, _ in found)

    sizes = [kept(remat) for remat in ("full", "attention", "dots", "none")]
    assert sizes == sorted(sizes) and len(set(sizes)) == 4, sizes


def test_the_gradient_of_a_frequent_token_is_summed_in_float32():
    cfg = small_config().model
    params = model.init(cfg, jax.random.key(0))
    tokens, segments = np.zeros((2, 512), np.int32), np.ones((2, 512), np.int32)

    def gradient(dtype: str):
        run = Train(compute_dtype=dtype, remat="none")
        total = lambda p: model.hidden(p, tokens, segments, cfg, run)[..., 0].astype(jnp.float32).sum()  # noqa: E731
        return jax.grad(total)(params)["embed_tokens"]["embedding"][0]

    exact, half = gradient("float32"), gradient("bfloat16")
    # 1024 occurrences: a sum in bfloat16 would stop growing after 256 of them.
    assert float(jnp.abs(half - exact).max()) < 0.05 * float(jnp.abs(exact).max())


def test_a_tied_model_has_no_head_of_its_own():
    cfg = small_config().model
    params = model.abstract(cfg)
    assert "lm_head" not in params
    assert params["layers"]["self_attn"]["q_proj"]["kernel"].shape == (2, 32, 32)
    assert model.unembed(model.init(cfg, jax.random.key(0))).shape == (32, VOCAB)
