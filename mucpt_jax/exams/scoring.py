"""log p of continuations, what they share computed once.

The options of a question share its text, the questions of a task share their shots.  So requests are packed into rows
that are tries: a token stands in a row once for all requests that begin alike, at the position that it has in them,
and sees its ancestors alone.  Rows are filled with requests that share nothing, too: few shapes are compiled, and
little is padding.

B rows, T slots of a row, P (slot, token) pairs of a row, S keys, D model, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.run import data
from mucpt_jax.step import model, sharding

SHORTEST = 512  # slots of the shortest rows; the others have powers of two
BUCKET = 64  # of a request that has a row of its own: a multiple
PAIRS = 16  # the least of a row; powers of two
PART = 4  # pairs whose logits exist together, of each row


class Request(NamedTuple):
    tokens: np.ndarray  # context and continuation, i4; the last token is not read
    scored: int  # how many of them, at the end, are the continuation
    cut: bool  # the context lost its beginning


class Score(NamedTuple):
    log_p: float  # of the continuation, nats
    greedy: bool  # is it what greedy decoding gives?


def request(context: list[int], continuation: list[int], longest: int) -> Request:
    """The request as a model reads it that takes `longest` tokens: cut from the left, as lm-eval's `hf` model does.

    Every way to score begins here, so that rows which are cut are cut alike.
    """
    if not context or not 0 < len(continuation) <= longest:
        raise UserError(
            f"a continuation of {len(continuation)} tokens behind {len(context)} cannot be scored by a model that "
            f"reads {longest}; leave the task out, or allow longer rows with --max_length"
        )
    tokens = np.array([*context, *continuation], np.int32)
    return Request(tokens[-(longest + 1) :], len(continuation), len(tokens) > longest + 1)


class Scorer(NamedTuple):
    params: dict
    cfg: Config
    mesh: jax.sharding.Mesh
    batch_tokens: int = 8192  # slots of one forward pass
    shared: bool = True  # False: each request has a row of its own, the plain way that tests compare with


def score(requests: list[Request], scorer: Scorer, done: Callable[[int], None] = lambda count: None) -> list[Score]:
    """The scores in the order of the requests; `done` hears how many more are computed."""
    scores: list[Score | None] = [None] * len(requests)
    ways, waiting = sharding.row_ways(scorer.mesh), None
    for slots, rows in packed(requests, scorer.shared).items():
        pairs = power_of_two(max(PAIRS, *(len(row.pairs) for row in rows)))
        most = max(scorer.batch_tokens // slots // ways, 1)
        size = ways << (most.bit_length() - 1)  # batches for the rest are its halves
        arrays = (as_arrays(row, slots, pairs) | {"row": np.int64(i)} for i, row in enumerate(rows))
        for batch, count in data.in_batches(arrays, size, ways):
            numbers = batch.pop("row")[:count]
            running = run(batch, scorer), [rows[i] for i in numbers]
            if waiting:  # the device computes a batch while the host reads the batch before
                done(take(*waiting, scores))
            waiting = running
    if waiting:
        done(take(*waiting, scores))
    return scores


def take(outputs: tuple[Array, Array], rows: list["Row"], scores: list) -> int:
    """Reads a batch's results into `scores`; how many requests these were."""
    log_p_BP, best_BP = (np.asarray(x) for x in outputs)
    for row, log_p_P, best_P in zip(rows, log_p_BP.astype(np.float64), best_BP, strict=False):
        for number, start, stop in row.requests:
            scores[number] = Score(float(log_p_P[start:stop].sum()), bool(best_P[start:stop].all()))
            if not np.isfinite(scores[number].log_p):
                raise UserError("the model gives a NaN or infinite log p, so it answers nothing; look at its weights")
    return sum(len(row.requests) for row in rows)


# Rows


class Row(NamedTuple):
    """A forest in depth-first order."""

    tokens: list[int]
    positions: list[int]
    ends: list[int]  # slot behind the last descendant
    pairs: list[tuple[int, int]]  # (slot, token whose probability behind it is asked)
    requests: list[tuple[int, int, int]]  # (number of the request, its pairs: start, stop)


def packed(requests: list[Request], shared: bool) -> dict[int, list[Row]]:
    """{slots of a row: rows}"""
    keys = [(slots_of(len(r.tokens) - 1, shared), r.tokens.astype(">u4").tobytes()) for r in requests]
    order = sorted(range(len(requests)), key=keys.__getitem__)  # requests that begin alike follow each other
    rows: dict[int, list[Row]] = {}
    path, before = [], None  # slots of the tokens of the request before
    for number in order:
        slots, now = keys[number][0], requests[number]
        read = now.tokens[:-1]
        here = rows.setdefault(slots, [])
        same = common(before, read) if shared and here and before is not None else 0
        if not shared or not here or len(here[-1].tokens) + len(read) - same > slots:
            here.append(Row([], [], [], [], []))
            same = 0
        path = path[:same] + add(here[-1], read, same, path)
        at = range(len(read) - now.scored, len(read))
        start = len(here[-1].pairs)
        here[-1].pairs.extend((path[i], int(now.tokens[i + 1])) for i in at)
        here[-1].requests.append((number, start, start + now.scored))
        before = read
    return rows


def common(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def add(row: Row, read: np.ndarray, same: int, path: list[int]) -> list[int]:
    """Appends the tokens behind the first `same`, which stand in the slots `path[:same]`; the new slots."""
    first, more = len(row.tokens), len(read) - same
    row.tokens.extend(read[same:].tolist())
    row.positions.extend(range(same, len(read)))
    row.ends.extend([first + more] * more)
    for slot in path[:same]:
        row.ends[slot] = first + more
    return list(range(first, first + more))


def slots_of(length: int, shared: bool) -> int:
    """Of rows for requests of this length: room for two, that the shots of the first serve the second too."""
    return max(power_of_two(2 * length), SHORTEST) if shared else -(-length // BUCKET) * BUCKET


def power_of_two(n: int) -> int:
    """The least that is not below n."""
    return 1 << max(n - 1, 0).bit_length()


def as_arrays(row: Row, slots: int, pairs: int) -> dict[str, np.ndarray]:
    """Padding sees itself alone, and its results are not read."""
    ends = row.ends + list(range(len(row.ends) + 1, slots + 1))
    slot, target = (list(x) for x in zip(*row.pairs, strict=True))
    return {
        "tokens": np.array(row.tokens + [0] * (slots - len(row.tokens)), np.int32),
        "positions": np.array(row.positions + [0] * (slots - len(row.positions)), np.int32),
        "ends": np.array(ends, np.int32),
        "slots": np.array(slot + [0] * (pairs - len(slot)), np.int32),
        "targets": np.array(target + [0] * (pairs - len(target)), np.int32),
    }


# On the devices


def run(batch: dict[str, np.ndarray], scorer: Scorer) -> tuple[Array, Array]:
    step = compiled(scorer.cfg.model, scorer.cfg.train.compute_dtype, sharding.replicated(scorer.mesh))
    return step(scorer.params, sharding.place(batch, scorer.mesh))


@functools.cache
def compiled(cfg, dtype: str, out):
    return jax.jit(functools.partial(log_p, cfg=cfg, dtype=dtype), out_shardings=(out, out))


def log_p(params: dict, batch: dict, *, cfg, dtype: str) -> tuple[Array, Array]:
    """log p of each pair's token behind its slot, nats, and is it the likeliest?  [B, P]; head and softmax float32."""
    tokens_BT, ends_BT = batch["tokens"], batch["ends"]
    slot_T = jnp.arange(tokens_BT.shape[1])
    mask_BTS = (slot_T[None, :] <= slot_T[:, None])[None] & (ends_BT[:, None, :] > slot_T[None, :, None])
    cache = model.empty_cache(cfg, *tokens_BT.shape, dtype)
    hidden_BTD, _ = model.decode(params, tokens_BT, batch["positions"], cache, 0, mask_BTS, cfg, dtype)
    hidden_BPD = jnp.take_along_axis(hidden_BTD, batch["slots"][:, :, None], 1).astype(jnp.float32)
    unembed_DV = model.unembed(params).astype(jnp.float32)

    def part(inputs):
        hidden_BpD, target_Bp = inputs
        logits_BpV = jnp.einsum("BpD,DV->BpV", hidden_BpD, unembed_DV, preferred_element_type=jnp.float32)
        logit_Bp = jnp.take_along_axis(logits_BpV, target_Bp[:, :, None], 2)[:, :, 0]
        return logit_Bp - jax.nn.logsumexp(logits_BpV, -1), logits_BpV.argmax(-1) == target_Bp

    def split(x_BP):
        return x_BP.reshape(len(x_BP), -1, PART, *x_BP.shape[2:]).swapaxes(0, 1)

    outputs = jax.lax.map(part, (split(hidden_BPD), split(batch["targets"])))
    return tuple(x.swapaxes(0, 1).reshape(batch["targets"].shape) for x in outputs)
