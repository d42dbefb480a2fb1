"""Packed rows attend as their documents do alone, by every backend that can run here."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import small_config

from mucpt_jax.errors import UserError
from mucpt_jax.step import attention, losses, model

H, K, E = 4, 2, 32
LENGTHS = (100, 1, 37, 90)  # of the segments; 28 tokens of padding fill the row
T = 256
ON_GPU = jax.default_backend() == "gpu"


def runnable(name: str):
    why = "cuDNN needs an NVIDIA GPU"
    return pytest.param(name, marks=pytest.mark.skipif(name == "cudnn" and not ON_GPU, reason=why))


def inputs(dtype) -> tuple:
    keys = jax.random.split(jax.random.key(0), 4)
    q, do = (jax.random.normal(k, (2, T, H, E), dtype) for k in keys[:2])
    k, v = (jax.random.normal(k, (2, T, K, E), dtype) for k in keys[2:])
    ids = np.repeat(np.arange(1, 5), LENGTHS)
    ids = np.stack([np.pad(ids, (0, T - len(ids)))] * 2).astype(np.uint16)
    ids[1] = np.pad(np.ones(200), (0, 56))  # the second row holds one document
    return q, k, v, do, jnp.asarray(ids)


def alone(q, k, v, do, ids) -> tuple:
    """Each document by itself, softmax written out -> (outputs, dq, dk, dv) of the packed rows, zero on padding."""

    def one(q_THE, k_TKE, v_TKE):
        q_TKGE = q_THE.reshape(len(q_THE), K, H // K, E)
        score = jnp.einsum("tkge,ske->kgts", q_TKGE, k_TKE) / E**0.5
        t = jnp.arange(len(q_THE))
        p = jax.nn.softmax(jnp.where(t[None, None, None] <= t[None, None, :, None], score, -jnp.inf))
        return jnp.einsum("kgts,ske->tkge", p, v_TKE).reshape(q_THE.shape)

    run = jax.jit(lambda *qkvo: (one(*qkvo[:3]), *jax.vjp(one, *qkvo[:3])[1](qkvo[3])))
    found = [np.zeros(x.shape, np.float32) for x in (q, q, k, v)]
    for row in range(2):
        for segment in range(1, int(ids[row].max()) + 1):
            (where,) = np.nonzero(np.asarray(ids[row] == segment))
            parts = run(*(np.asarray(x, np.float32)[row, where] for x in (q, k, v, do)))
            for whole, part in zip(found, parts, strict=True):
                whole[row, where] = part
    return tuple(found)


@pytest.mark.parametrize("backend", [runnable(name) for name in attention.BACKENDS])
def test_packed_documents_attend_as_alone_in_outputs_and_gradients(backend, monkeypatch):
    monkeypatch.setattr(attention, "CHUNK", 24)  # does not divide T
    monkeypatch.setattr(attention, "INTERPRET", True)
    dtype = jnp.bfloat16 if backend == "cudnn" else jnp.float32
    q, k, v, do, ids = inputs(dtype)
    do = jnp.where(ids[..., None, None] > 0, do, 0).astype(dtype)  # nobody reads the outputs of padding
    with jax.numpy_rank_promotion("allow" if backend == "splash" else "raise"):  # splash's own code
        run = jax.jit(lambda *qkv: jax.vjp(lambda *qkv: attention.packed(*qkv, ids, backend), *qkv))
        out, back = run(q, k, v)
        found = (jnp.where(ids[..., None, None] > 0, out, 0), *jax.jit(back)(do))
    tolerance = {"atol": 2e-2, "rtol": 2e-2} if dtype == jnp.bfloat16 else {"atol": 2e-5, "rtol": 2e-5}
    for name, mine, theirs in zip(("out", "dq", "dk", "dv"), found, alone(q, k, v, do, ids), strict=True):
        np.testing.assert_allclose(np.asarray(mine, np.float32), theirs, err_msg=name, **tolerance)


@pytest.mark.parametrize(("backend", "context"), [("xla", 4), ("chunked", 4), ("splash", 1)])
def test_attention_on_a_mesh_equals_attention_on_one_device(backend, context, monkeypatch):
    monkeypatch.setattr(attention, "INTERPRET", True)
    q, k, v, do, ids = inputs(jnp.float32)
    do = jnp.where(ids[..., None, None] > 0, do, 0)

    def run(q, k, v):
        return jax.value_and_grad(lambda *qkv: (attention.packed(*qkv, ids, backend) * do).sum(), (0, 1, 2))(q, k, v)

    axes, kinds = ("replica", "fsdp", "context", "tensor"), (jax.sharding.AxisType.Auto,) * 4
    mesh = jax.make_mesh((1, 4 // context, context, 2), axes, axis_types=kinds, devices=jax.devices())
    q, k, v, do, ids = (jnp.concatenate([x, x]) for x in (q, k, v, do, ids))  # four rows: fsdp divides them
    with jax.numpy_rank_promotion("allow"):
        want = jax.jit(run)(q, k, v)
        with jax.set_mesh(mesh):
            found = jax.jit(run)(q, k, v)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5, rtol=3e-5), found, want)


def test_chunked_attention_needs_memory_linear_in_the_row():
    def temporaries(backend: str, tokens: int) -> int:
        q = jax.ShapeDtypeStruct((1, tokens, 2, 16), jnp.float32)
        ids = jax.ShapeDtypeStruct((1, tokens), jnp.uint16)
        grad = jax.grad(lambda q, k, v, ids: attention.packed(q, k, v, ids, backend).sum(), (0, 1, 2))
        return jax.jit(grad).lower(q, q, q, ids).compile().memory_analysis().temp_size_in_bytes

    assert temporaries("chunked", 8192) < 2.2 * temporaries("chunked", 4096)
    assert temporaries("xla", 4096) > 3 * temporaries("xla", 2048)
    assert temporaries("chunked", 8192) < temporaries("xla", 8192) / 4


def test_cudnn_is_told_the_segments(monkeypatch):
    """Lowered for CUDA on a machine without it: the fused call takes a bias, and its causal mask."""
    from jax._src.cudnn import fused_attention_stablehlo as fused

    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91_200)
    monkeypatch.setattr(fused, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(fused, "is_cuda_compute_capability_equal", lambda capability: False, raising=False)
    q, k, v, do, ids = inputs(jnp.bfloat16)

    def forward_and_back(q, k, v, ids):
        out, back = jax.vjp(lambda q, k, v: attention.packed(q, k, v, ids, "cudnn"), q, k, v)
        return out, back(do)

    traced = jax.jit(forward_and_back).trace(q, k, v, ids)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    calls = [line for line in text.splitlines() if "custom_call @__cudnn$fmha" in line]
    assert len(calls) == 2
    assert all("ScaleBiasSoftmax" in call for call in calls)
    assert all(f"tensor<2x1x{T}x{T}xbf16>" in call for call in calls)  # the bias: same segment or not
    assert all("CAUSAL" in call for call in calls)


def test_auto_takes_the_kernel_of_the_device():
    assert attention.best("nvidia", "bfloat16", 4096, 1) == "cudnn"
    assert attention.best("nvidia", "float32", 4096, 1) == "chunked"
    assert attention.best("gpu", "bfloat16", 4096, 1) == "chunked"  # AMD, or before Ampere
    assert attention.best("tpu", "bfloat16", 4096, 1) == "splash"
    assert attention.best("tpu", "bfloat16", 4096, 2) == "chunked"
    assert attention.best("cpu", "float32", 128, 1) == "xla"


@pytest.mark.parametrize(("backend", "why"), [("cudnn", "an NVIDIA GPU"), ("splash", "a TPU")])
def test_a_kernel_that_the_device_has_not_is_refused(backend, why):
    if ON_GPU:
        pytest.skip("this device has it")
    with pytest.raises(UserError, match=f"train.attention={backend} needs {why}.*use train.attention=auto"):
        attention.of_device(small_config(train={"attention": backend}))
    assert attention.of_device(small_config()) == "xla"


def test_the_whole_model_gives_the_same_loss_by_each_backend():
    from conftest import random_row

    rng = np.random.default_rng(0)
    rows = [random_row(rng) for _ in range(4)]
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    values = {}
    for backend in ("xla", "chunked"):
        cfg = small_config(train={"attention": backend})
        cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, compute_dtype="float32"))
        params = model.init(cfg.model, jax.random.key(1))
        values[backend] = losses.batch_nll(params, batch, cfg)
    np.testing.assert_allclose(values["xla"], values["chunked"], atol=1e-6)
