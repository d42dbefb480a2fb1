"""The same Qwen2 as transformers' in PyTorch; and training, prefill and cached decoding are one function.

Golden files, written by tests/data/make_golden.py, speak for PyTorch; where it is installed it speaks for itself.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import one_device_mesh, small_config

from mucpt_jax.config import Train
from mucpt_jax.evaluation import generate
from mucpt_jax.step import attention, losses, model, sharding
from mucpt_jax.weights import hf, transfer

GOLDEN = Path(__file__).parent / "data"
NAMES = ("qwen2_tied", "qwen2_untied", "qwen2_zero_bias")
LIVE = {  # what differs from make_golden.COMMON
    "groups of heads": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "one kv head": {"num_key_value_heads": 1, "rope_theta": 1e6},
    "a kv head for each head": {"num_key_value_heads": 4, "zero_bias": True, "tie_word_embeddings": True},
    "wide heads": {"num_key_value_heads": 2, "head_dim": 16, "rope_theta": 1e6},
    "odd vocabulary": {"vocab_size": 151, "zero_bias": True, "num_hidden_layers": 3},
}
HIDDEN = jax.jit(model.hidden, static_argnames=("cfg", "run"))
DECODE = jax.jit(model.decode, static_argnames=("cfg", "dtype"))
NLL = jax.jit(losses.batch_nll, static_argnums=2)


def load(folder: Path):
    cfg = hf.read_config(str(folder))
    abstract = sharding.with_shardings(model.abstract(cfg), one_device_mesh())
    return cfg, transfer.from_hf(str(folder), cfg, abstract)


@functools.cache
def golden(name: str):
    return *load(GOLDEN / name), np.load(GOLDEN / name / "golden.npz")


def trained(params, tokens, cfg, dtype="float32", backend="auto"):
    """Hidden of whole rows [B, T, D], as training computes it."""
    run = Train(compute_dtype=dtype, remat="none", attention=backend)
    return HIDDEN(params, tokens, np.ones_like(tokens), cfg=cfg, run=run)


def logits_of(params, hidden):
    return np.asarray(jnp.einsum("BTD,DV->BTV", hidden.astype(jnp.float32), model.unembed(params)))


def nll_of(params, row, cfg, dtype="float32", backend="auto"):
    """-log p of each token of a row after the first, float64 [T - 1]."""
    train = {"compute_dtype": dtype, "attention": backend}
    run = small_config(model=cfg, loss={"vocab_parts": 7}, train=train)
    batch = {"tokens": row[None], "segment_ids": np.ones_like(row)[None]}
    return np.asarray(NLL(params, batch, run)[0], np.float64)


def continued(params, prompts, cfg, new=64, eod=-1):
    run = small_config(model=cfg)
    return generate.greedy(params, [p.tolist() for p in prompts], run, one_device_mesh(), new=new, ends=(eod,))


# PyTorch


@pytest.mark.parametrize("backend", ["xla", "chunked"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_agree_with_transformers_to_1e_5(name, backend):
    cfg, params, wanted = golden(name)
    found = logits_of(params, trained(params, wanted["tokens"], cfg, backend=backend))
    np.testing.assert_allclose(found, wanted["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["xla", "chunked"])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_long_row_agrees_with_transformers_to_1e_6(name, backend):
    cfg, params, wanted = golden(name)
    assert len(wanted["long"]) > 2 * attention.CHUNK
    found = nll_of(params, wanted["long"], cfg, backend=backend)
    assert found.mean() == pytest.approx(wanted["long_nll"].mean(), rel=0, abs=1e-6)
    # Logits that are 1e-5 off move a log probability by up to twice that.
    np.testing.assert_allclose(found, wanted["long_nll"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_greedy_decoding_goes_on_with_the_same_64_tokens_as_transformers(name):
    cfg, params, wanted = golden(name)
    prompts = wanted["tokens"][:, :8]
    found = continued(params, prompts, cfg)
    np.testing.assert_array_equal(found, wanted["greedy"])
    # A longer neighbour adds left padding; the shorter prompt's answer stays the same.
    assert continued(params, [prompts[0], np.full(39, 5)], cfg)[0] == found[0]


def test_decoding_stops_before_the_end_of_document_token():
    cfg, params, wanted = golden("qwen2_tied")
    row = wanted["greedy"][0].tolist()
    found = continued(params, wanted["tokens"][:, :8], cfg, eod=row[5])
    assert found[0] == row[: row.index(row[5])]


@pytest.fixture(scope="module")
def theirs():
    """make_golden, and with it transformers' PyTorch model."""
    why = "torch is no dependency; the golden files stand for it (`pip install torch` for a live comparison)"
    pytest.importorskip("torch", reason=why)
    from data import make_golden

    make_golden.torch.set_num_threads(1)  # so small matrices make threads wait for each other
    return make_golden


def draw(theirs, folder, zero_bias=False, rope_theta=1e4, **values):
    """A new model of PyTorch, the same of ours, and 300 tokens for it."""
    values = {"rope_parameters": {"rope_type": "default", "rope_theta": rope_theta}} | values
    config = theirs.Qwen2Config(**theirs.COMMON | values)
    found = theirs.random_model(config, 3, 0.15, zero_bias)
    found.save_pretrained(folder)
    return found, *load(folder), np.random.default_rng(0).integers(1, config.vocab_size, 300)


def their_logits(theirs, model, row):
    with theirs.torch.no_grad():
        return model(theirs.torch.tensor(row)[None]).logits[0].float()


@pytest.mark.parametrize("case", LIVE)
def test_a_new_random_model_agrees_with_pytorch_itself(case, theirs, tmp_path):
    model, cfg, params, row = draw(theirs, tmp_path, **LIVE[case])
    wanted = their_logits(theirs, model, row)
    found = logits_of(params, trained(params, row[None], cfg))[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    log_p = wanted[:-1].double().log_softmax(-1).numpy()
    loss = -np.take_along_axis(log_p, row[1:, None], 1).mean()
    assert nll_of(params, row, cfg).mean() == pytest.approx(loss, rel=0, abs=1e-6)
    tokens = theirs.greedy(model, theirs.torch.tensor(row[None, :8]), 64)
    np.testing.assert_array_equal(continued(params, row[None, :8], cfg), tokens)


def test_bfloat16_is_as_near_to_float32_as_in_pytorch(theirs, tmp_path):
    model, cfg, params, row = draw(theirs, tmp_path, **LIVE["groups of heads"])
    exact = their_logits(theirs, model, row).numpy()
    half = their_logits(theirs, model.to(theirs.torch.bfloat16), row).numpy()
    found = logits_of(params, trained(params, row[None], cfg, dtype="bfloat16"))[0]
    assert np.std(found - exact) < 1.25 * np.std(half - exact)


# Training, prefill and cached decoding


def decoded(params, rows, cfg, widths, dtype="float32"):
    """Hidden [B, S, D] of rows by the cache, padded on the left to S = sum(widths), so many tokens at a time."""
    slots, start, parts = sum(widths), 0, []
    valid_BS = np.arange(slots)[None] >= slots - np.array([[len(row)] for row in rows])
    tokens_BS = np.stack([np.pad(row, (slots - len(row), 0)) for row in rows])
    position_BS = np.maximum(valid_BS.cumsum(1) - 1, 0)
    mask_BSS = valid_BS[:, None] & np.tri(slots, dtype=bool)[None] | np.eye(slots, dtype=bool)[None]
    cache = model.empty_cache(cfg, len(rows), slots, dtype)
    for width in widths:
        now = slice(start, start + width)
        part = tokens_BS[:, now], position_BS[:, now], cache, start, mask_BSS[:, now]
        hidden_BTD, cache = DECODE(params, *part, cfg=cfg, dtype=dtype)
        parts.append(np.asarray(hidden_BTD, np.float32))
        start += width
    return np.concatenate(parts, 1)


WIDTHS = {"prefill": [300], "prefill, then by token": [200] + [1] * 100, "by token": [1] * 300}


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_prefill_and_the_cache_compute_what_training_computes(name, widths):
    cfg, params, wanted = golden(name)
    rows = [wanted["long"], wanted["long"][::-1]]
    padded = [rows[0], rows[1][:263]]  # the second behind 37 slots of padding
    found = decoded(params, padded, cfg, WIDTHS[widths])
    whole = trained(params, np.stack(rows), cfg)
    np.testing.assert_allclose(found[0], whole[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[1, 37:], whole[1, :263], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_greedy_token_is_the_likeliest_for_the_training_forward_too(name):
    cfg, params, wanted = golden(name)
    whole = np.concatenate([wanted["tokens"][:, :8], wanted["greedy"]], 1)
    likeliest = logits_of(params, trained(params, whole, cfg)).argmax(-1)
    np.testing.assert_array_equal(likeliest[:, 7:-1], wanted["greedy"])


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_moves_the_loss_of_a_row_by_less_than_a_thousandth(name):
    cfg, params, wanted = golden(name)
    found = nll_of(params, wanted["long"], cfg, dtype="bfloat16")
    assert found.mean() == pytest.approx(wanted["long_nll"].mean(), rel=1e-3)
    np.testing.assert_allclose(found, wanted["long_nll"], rtol=0, atol=0.2)


def test_bfloat16_decoding_is_as_near_to_float32_as_bfloat16_training():
    cfg, params, wanted = golden("qwen2_untied")
    row = wanted["long"]
    exact = np.asarray(trained(params, row[None], cfg))
    half = np.asarray(trained(params, row[None], cfg, dtype="bfloat16"), np.float32)
    found = decoded(params, [row], cfg, WIDTHS["prefill, then by token"], "bfloat16")
    assert np.std(found - exact) < 1.25 * np.std(half - exact)
