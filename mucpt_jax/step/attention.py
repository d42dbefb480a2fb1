"""Causal attention with documents kept apart, by one of four backends with one meaning:

    xla      every score at once, [B, H, T, T]: the oracle
    chunked  the same for CHUNK queries at a time: memory linear in T, on any device
    cudnn    cuDNN's flash attention (NVIDIA, bfloat16); segments enter as a bias [B, 1, T, T] over all heads
    splash   the Pallas kernel for TPUs, T in multiples of 128; knows no context axis

A mesh splits rows over (replica, fsdp), heads over tensor and queries over context; each device then works on
what it holds, with the keys of whole rows.

B rows, T tokens of a row, t queries of a device or chunk, S keys, H query heads, K kv heads, E head dim.
"""

import re

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.pallas.ops.tpu import splash_attention
from jax.sharding import PartitionSpec as P

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.step import sharding

CHUNK = 128  # queries
LANES = 128  # splash: its blocks are multiples of this
INTERPRET = False  # splash: run by an emulation, which tests turn on where there is no TPU


def packed(q_BTHE: Array, k_BTKE: Array, v_BTKE: Array, segment_ids_BT: Array, backend: str) -> Array:
    """Causal attention inside each segment of packed rows -> [B, T, H, E].

    Padding (segment 0) attends to padding alone, so no softmax is empty; its outputs are never used.
    """
    mesh = jax.sharding.get_abstract_mesh()
    context = 1 if mesh.empty else mesh.shape["context"]
    if backend == "auto":
        backend = best(platform(), q_BTHE.dtype.name, q_BTHE.shape[1], context)
    local = BACKENDS[backend]
    if mesh.empty:
        return local(q_BTHE, k_BTKE, v_BTKE, segment_ids_BT, segment_ids_BT, 0)

    def on_one_device(q_BtHE, k_BSKE, v_BSKE, ids_Bt, ids_BS):
        # With one device along context the first query is a plain 0: backends then know that t = S.
        first = lax.axis_index("context") * ids_Bt.shape[1] if context > 1 else 0
        return local(q_BtHE, k_BSKE, v_BSKE, ids_Bt, ids_BS, first)

    rows = ("replica", "fsdp")
    arrays = (q_BTHE, k_BTKE, v_BTKE, segment_ids_BT, segment_ids_BT)
    queries, keys = P(rows, "context", "tensor", None), P(rows, None, "tensor", None)
    wanted = (queries, keys, keys, P(rows, "context"), P(rows, None))
    specs = tuple(sharding.fit(s, x.shape, mesh) for s, x in zip(wanted, arrays, strict=True))
    return jax.shard_map(on_one_device, in_specs=specs, out_specs=specs[0], check_vma=False)(*arrays)


def of_device(cfg: Config) -> str:
    """The backend of train.attention on the devices that are here.  Raises UserError where it cannot run."""
    wanted, tokens, context = cfg.train.attention, cfg.data.sequence_length, cfg.mesh.context
    here = platform(), cfg.train.compute_dtype, tokens, context
    if wanted == "auto":
        return best(*here)
    if not can_run(wanted, *here):
        raise UserError(
            f"train.attention={wanted} needs {NEEDS[wanted]}; here are {here[0]}, {here[1]}, "
            f"mesh.context={context}, rows of {tokens}: use train.attention=auto"
        )
    return wanted


def platform() -> str:
    """jax's name for the devices that are here; nvidia for GPUs that cuDNN's flash attention runs on."""
    device = jax.devices()[0]
    capability = getattr(device, "compute_capability", "")  # "9.0"; AMD's are called "gfx942"
    ampere = re.fullmatch(r"\d+\.\d+", str(capability)) and float(capability) >= 8
    return "nvidia" if device.platform == "gpu" and ampere else device.platform


NEEDS = {  # what can_run asks for, in words
    "cudnn": "an NVIDIA GPU (Ampere or later), train.compute_dtype=bfloat16 and an even number of tokens a device",
    "splash": f"a TPU, mesh.context=1 and rows of a multiple of {LANES} tokens",
}


def can_run(backend: str, platform: str, dtype: str, tokens: int, context: int) -> bool:
    if backend == "cudnn":
        return platform == "nvidia" and dtype == "bfloat16" and tokens % (2 * context) == 0
    return backend != "splash" or (platform == "tpu" and tokens % LANES == 0 and context == 1)


def best(platform: str, dtype: str, tokens: int, context: int) -> str:
    """What `auto` stands for: the device's own kernel where it can run, else what needs little memory."""
    plain = "xla" if tokens <= 2 * CHUNK else "chunked"
    return next((kernel for kernel in NEEDS if can_run(kernel, platform, dtype, tokens, context)), plain)


def same_segment(ids_Bt: Array, ids_BS: Array) -> Array:
    return ids_Bt[:, :, None] == ids_BS[:, None, :]


def not_later(queries: int, keys: int, first) -> Array:
    """bool [t, S]: is key s not after query first + t?"""
    return jnp.arange(keys)[None, :] <= first + jnp.arange(queries)[:, None]


def xla(q_BtHE, k_BSKE, v_BSKE, ids_Bt, ids_BS, first) -> Array:
    causal_tS = not_later(ids_Bt.shape[1], ids_BS.shape[1], first)
    return masked(q_BtHE, k_BSKE, v_BSKE, same_segment(ids_Bt, ids_BS) & causal_tS[None])


def chunked(q_BtHE, k_BSKE, v_BSKE, ids_Bt, ids_BS, first) -> Array:
    if not isinstance(first, int):  # context: which keys come later is not known here
        return by_chunks(q_BtHE, k_BSKE, v_BSKE, ids_Bt, ids_BS, first)
    # Queries in four groups: the first needs a quarter of the keys, the second half of them, ...: 5/8 of all pairs.
    size = CHUNK * -(-q_BtHE.shape[1] // (4 * CHUNK))
    parts = []
    for start in range(0, q_BtHE.shape[1], size):
        of, upto = slice(start, start + size), slice(0, start + size)
        keys = k_BSKE[:, upto], v_BSKE[:, upto]
        parts.append(by_chunks(q_BtHE[:, of], *keys, ids_Bt[:, of], ids_BS[:, upto], start))
    return jnp.concatenate(parts, 1)


def by_chunks(q_BtHE, k_BSKE, v_BSKE, ids_Bt, ids_BS, first) -> Array:
    @jax.checkpoint  # else the backward pass would keep the scores of all chunks
    def one_chunk(part):
        q_BcHE, ids_Bc, start = part
        return xla(q_BcHE, k_BSKE, v_BSKE, ids_Bc, ids_BS, start)

    q_nBcHE, ids_nBc = split(q_BtHE, CHUNK), split(ids_Bt, CHUNK)
    starts_n = first + jnp.arange(len(q_nBcHE)) * ids_nBc.shape[2]
    return join(lax.map(one_chunk, (q_nBcHE, ids_nBc, starts_n)), q_BtHE.shape[1])


def split(x_BT: Array, chunk: int) -> Array:
    """[B, T, ...] -> [chunks, B, t, ...]; the last chunk is filled up with zeros."""
    rows, tokens = x_BT.shape[:2]
    chunk = min(chunk, tokens)
    chunks = -(-tokens // chunk)
    x_BT = jnp.pad(x_BT, [(0, 0), (0, chunks * chunk - tokens)] + [(0, 0)] * (x_BT.ndim - 2))
    return x_BT.reshape(rows, chunks, chunk, *x_BT.shape[2:]).swapaxes(0, 1)


def join(x_cBt: Array, tokens: int) -> Array:
    """The inverse of split: [chunks, B, t, ...] -> [B, T, ...]."""
    chunks, rows, chunk = x_cBt.shape[:3]
    return x_cBt.swapaxes(0, 1).reshape(rows, chunks * chunk, *x_cBt.shape[3:])[:, :tokens]


def cudnn(q_BtHE, k_BSKE, v_BSKE, ids_Bt, ids_BS, first) -> Array:
    """Where the first query is query 0, cuDNN's own causal mask saves the upper half; else the bias is the whole mask.

    jax 0.10 also has cuDNN compute a gradient of that bias, which nobody reads; jax 0.12 does not.
    """
    whole = isinstance(first, int)
    mask_BtS = same_segment(ids_Bt, ids_BS)
    if not whole:
        mask_BtS &= not_later(ids_Bt.shape[1], ids_BS.shape[1], first)[None]
    return jax.nn.dot_product_attention(
        q_BtHE, k_BSKE, v_BSKE, mask=mask_BtS[:, None], is_causal=whole, implementation="cudnn"
    )


def splash(q_BtHE, k_BSKE, v_BSKE, ids_Bt, ids_BS, first) -> Array:
    assert isinstance(first, int), "splash knows no context axis: of_device refuses it"
    _, tokens, heads, head_dim = q_BtHE.shape
    causal = splash_attention.MultiHeadMask([splash_attention.CausalMask((tokens, tokens))] * heads)
    block = max(n for n in (512, 256, LANES) if tokens % n == 0)
    blocks = splash_attention.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=block,
        block_q_dkv=block, block_kv_dkv=block, block_kv_dkv_compute=block,
        block_q_dq=block, block_kv_dq=block,
    )  # fmt: skip
    kernel = splash_attention.make_splash_mha(
        causal, head_shards=1, q_seq_shards=1, block_sizes=blocks, interpret=INTERPRET
    )

    def one_row(q_THE, k_TKE, v_TKE, ids_T):
        ids = splash_attention.SegmentIds(ids_T, ids_T)
        q_HTE = (q_THE * head_dim**-0.5).astype(q_THE.dtype).swapaxes(0, 1)  # the kernel does not scale
        return kernel(q_HTE, k_TKE.swapaxes(0, 1), v_TKE.swapaxes(0, 1), segment_ids=ids).swapaxes(0, 1)

    return jax.vmap(one_row)(q_BtHE, k_BSKE, v_BSKE, ids_BS.astype(jnp.int32))


BACKENDS = {"xla": xla, "chunked": chunked, "cudnn": cudnn, "splash": splash}


def masked(q_BTHE: Array, k_BSKE: Array, v_BSKE: Array, mask_BTS: Array) -> Array:
    """Attention where mask is true -> [B, T, H, E]; each query needs at least one true key."""
    return jax.nn.dot_product_attention(q_BTHE, k_BSKE, v_BSKE, mask=mask_BTS[:, None])
