"""The training job: rows -> batches -> one jitted step -> checkpoints."""

import dataclasses
import functools
import json
import logging
import math
import time
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import optax
from jax import Array

from mucpt_jax import checkpoint, data, losses, metrics, model, optimizer, records, sharding
from mucpt_jax.config import Config
from mucpt_jax.records import UserError


def train(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    """Trains to optimizer.steps, from the newest checkpoint in workdir or from init_from or at random."""
    sources = data.open_sources(cfg)
    cfg = dataclasses.replace(cfg, loss=data.resolved_loss(cfg))
    tx = optimizer.make(cfg.optimizer)
    rows, identity = data.mixture(sources, cfg), data.fingerprint(sources, cfg)
    ckpt = checkpoint.manager(workdir, cfg)
    start, state = start_state(cfg, tx, mesh, ckpt, identity)
    if start >= cfg.optimizer.steps:
        logging.info("%s is trained already: %d steps; raise optimizer.steps to go on", workdir, start)
        return
    describe_run(cfg, sources, state, start)
    if jax.process_index() == 0:
        records.write_json(workdir / "config.json", dataclasses.asdict(cfg))

    step_fn = jitted_step(cfg, tx, mesh, len(sources))
    batches = data.batches(rows, cfg, sharding.local_rows(mesh, cfg.data.batch_rows), start)
    clock = Clock(start)
    with metrics.log(workdir, start) as write:
        pending = None  # metrics of the step still running: the host prepares the next one meanwhile
        for step in range(start + 1, cfg.optimizer.steps + 1):
            batch = sharding.to_global(next(batches), mesh, cfg.data.batch_rows)
            state, values = step_fn(state, batch)
            if pending:
                report(pending, cfg, sources, rows, clock, write, workdir)
            pending = (step, values)
            if step % cfg.train.checkpoint_every == 0 or step == cfg.optimizer.steps:
                # A state is saved only after its step was seen to be finite.
                report(pending, cfg, sources, rows, clock, write, workdir)
                pending = None
                checkpoint.save(ckpt, step, state, cfg, identity)
        checkpoint.finish(ckpt, cfg.optimizer.steps)
    clock.summary(cfg, sources)


def start_state(cfg, tx, mesh, ckpt, identity) -> tuple[int, tuple]:
    """(steps done, (params, opt_state)); the order of sources stands in checkpoint.py."""
    abstract = abstract_state(cfg, tx, mesh)
    restored = checkpoint.restore(ckpt, abstract, cfg, identity)
    if restored:
        logging.info("going on from %s/%d", ckpt.directory, restored[0])
        return restored
    params = checkpoint.initial_params(cfg, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract[1])
    return 0, (params, jax.jit(tx.init, out_shardings=shardings)(params))


def abstract_state(cfg: Config, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh) -> tuple:
    """Shapes, dtypes and shardings of (params, opt_state); nothing is allocated."""
    shapes = jax.eval_shape(lambda: (p := model.init(cfg.model, jax.random.key(0)), tx.init(p)))
    return sharding.with_shardings(shapes, mesh)


def jitted_step(cfg: Config, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh, num_sources: int):
    """(state, batch) -> (state, metrics), compiled; the old state's memory is given to the new one."""
    placed = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(cfg, tx, mesh))
    step = functools.partial(train_step, cfg=cfg, tx=tx, num_sources=num_sources)
    return jax.jit(step, donate_argnums=0, out_shardings=(placed, sharding.replicated(mesh)))


def train_step(state: tuple, batch: dict, *, cfg: Config, tx: optax.GradientTransformation,
               num_sources: int) -> tuple[tuple, dict]:  # fmt: skip
    """One optimiser step over all rows of the batch -> new state, metrics (replicated)."""
    params, opt_state = state
    tokens = losses.target_mask(batch).sum()  # of the whole step: all hosts, all micro-batches
    (loss, (nll_BT, weight_BT)), grads = loss_and_grads(params, batch, cfg, tokens)
    updates, opt_state = tx.update(grads, opt_state, params)
    values = token_metrics(nll_BT, weight_BT, batch, num_sources)
    values |= {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    return (optax.apply_updates(params, updates), opt_state), values


def loss_and_grads(params: dict, batch: dict, cfg: Config, tokens: Array) -> tuple:
    """((loss, (nll [B, T], weights [B, T])), grads): sums over micro-batches, divided by `tokens` once."""

    def loss_fn(params, part, weight_BT=None):
        nll_BT = losses.batch_nll(params, part, cfg)
        if weight_BT is None:
            weight_BT = losses.token_weights(nll_BT, part, cfg.loss)
        return (weight_BT * nll_BT).sum() / tokens, (nll_BT, weight_BT)

    micro = cfg.train.micro_batches
    if micro == 1:
        return jax.value_and_grad(loss_fn, has_aux=True)(params, batch)

    # Row i goes to micro-batch i % micro: every device keeps the rows that it holds.
    def split(x):
        return x.reshape(-1, micro, *x.shape[1:]).swapaxes(0, 1)

    def merge(x):
        return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])

    parts = jax.tree.map(split, batch)
    weights = None
    if cfg.loss.kind == "rho1":  # its threshold is over the whole step: one forward pass more
        nll_mBT = jax.lax.map(lambda part: losses.batch_nll(params, part, cfg), parts)
        weights = split(losses.token_weights(merge(nll_mBT), batch, cfg.loss))

    def add(total, part):
        found = jax.value_and_grad(loss_fn, has_aux=True)(params, *part)
        (loss, aux), grads = found
        return jax.tree.map(jnp.add, total, (loss, grads)), aux

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    (loss, grads), (nll, weight) = jax.lax.scan(add, zero, (parts, weights))
    return (loss, (merge(nll), merge(weight))), grads


def token_metrics(nll_BT: Array, weight_BT: Array, batch: dict, num_sources: int) -> dict:
    """Sums per source [S] and per row [B]; the host divides."""
    mask_BT = losses.target_mask(batch)
    sums_B = {
        "tokens": mask_BT.sum(1),
        "nll": jnp.where(mask_BT, nll_BT, 0).sum(1),
        "weighted_nll": (weight_BT * nll_BT).sum(1),
        "weight": weight_BT.sum(1),
        "weight_squared": (weight_BT**2).sum(1),
    }
    values = {name: jnp.zeros(num_sources, x.dtype).at[batch["source"]].add(x) for name, x in sums_B.items()}
    return values | {"max_weight": weight_BT.max(), "row_nll": sums_B["weighted_nll"]}


class Clock:
    """Tokens and seconds since the start, the first step (compilation) apart."""

    def __init__(self, start: int):
        self.first, self.tokens, self.by_source = start + 1, 0, {}
        self.since = self.last = time.monotonic()

    def add(self, step: int, tokens: dict[str, int]) -> None:
        for name, n in tokens.items():
            self.by_source[name] = self.by_source.get(name, 0) + n
        self.last = time.monotonic()
        if step == self.first:
            self.since = self.last
        else:
            self.tokens += sum(tokens.values())

    def rates(self, step: int, steps: int) -> tuple[float, float]:
        """Tokens per second, seconds left."""
        seconds = max(self.last - self.since, 1e-9)
        done = step - self.first
        return self.tokens / seconds, seconds / done * (steps - step) if done else math.nan

    def summary(self, cfg: Config, sources: list[data.Source]) -> None:
        total = sum(self.by_source.values())
        for source in sources:
            n = self.by_source.get(source.name, 0)
            logging.info(
                "realised mixture: %s %.4f of the target tokens (wanted %.4f), %d tokens, %.2f epochs in this start",
                source.name, n / total, data.token_share(source, sources, cfg), n, n / source.targets,
            )  # fmt: skip


def report(pending: tuple, cfg: Config, sources: list, rows: grain.MapDataset, clock: Clock, write,
           workdir: Path) -> None:  # fmt: skip
    """Fetches a step's metrics, stops on a non-finite loss, logs every log_every steps."""
    step, values = pending
    values = jax.device_get(values)
    if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
        raise not_finite(step, values, cfg, sources, rows, workdir)
    clock.add(step, {s.name: int(values["tokens"][i]) for i, s in enumerate(sources)})
    if step % cfg.train.log_every and step not in (clock.first, cfg.optimizer.steps):
        return
    speed, left = clock.rates(step, cfg.optimizer.steps)
    line = {
        "step": step,
        "loss": float(values["loss"]),
        "sources": per_source(values, sources),
        "grad_norm": float(values["grad_norm"]),
        "lr": float(optimizer.schedule(cfg.optimizer)(step - 1)),
        "max_weight": float(values["max_weight"]),
        "tokens_per_second": speed,
        "mfu": metrics.mfu(cfg.model, cfg.data.sequence_length, speed),
        "eta_seconds": left if math.isfinite(left) else None,  # not known after one step
    }
    write(line)
    logging.info(metrics.progress(line, cfg.optimizer.steps))


def per_source(values: dict, sources: list[data.Source]) -> dict:
    """Means over the step's tokens of each source, nats; ess: effective share of tokens, 1 = equal weights."""
    found = {}
    for i, source in enumerate(sources):
        n = int(values["tokens"][i])
        if n == 0:
            continue
        weight = float(values["weight"][i])
        found[source.name] = {
            "is_domain": source.is_domain,
            "nll": float(values["nll"][i]) / n,
            "weighted_nll": float(values["weighted_nll"][i]) / n,
            "mean_weight": weight / n,
            "ess": weight**2 / (n * max(float(values["weight_squared"][i]), 1e-30)),
            "tokens": n,
        }
    return found


def not_finite(step: int, values: dict, cfg: Config, sources, rows, workdir: Path) -> UserError:
    """Names the rows of the step whose loss is not finite, and their documents."""
    bad = [i for i, nll in enumerate(values["row_nll"]) if not math.isfinite(nll)]
    first = (step - 1) * cfg.data.batch_rows
    named = "; ".join(data.describe_row(rows, sources, cfg, first + i) for i in bad[:3])
    more = f" and {len(bad) - 3} more rows" if len(bad) > 3 else ""
    saved = checkpoint.manager(workdir).latest_step()
    return UserError(
        f"step {step}: loss is {values['loss']} (grad_norm {values['grad_norm']}); rows {first}..."
        f"{first + cfg.data.batch_rows - 1} of the run, not finite in {named or 'none: the gradient overflowed'}"
        f"{more}; the last checkpoint is {saved}: lower the learning rate, or look at these documents"
    )


def describe_run(cfg: Config, sources: list[data.Source], state: tuple, start: int) -> None:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state[0]))
    tokens = cfg.data.batch_rows * cfg.data.sequence_length
    logging.info(
        "%s: %s parameters; %s tokens a step; steps %d..%d; loss %s",
        cfg.model.name, f"{parameters:,}", f"{tokens:,}", start + 1, cfg.optimizer.steps,
        json.dumps(dataclasses.asdict(cfg.loss)),
    )  # fmt: skip
    for source in sources:
        logging.info(
            "%s source %s: %d rows, %d target tokens, share %.4f",
            "domain" if source.is_domain else "general",
            source.name, source.rows, source.targets, data.token_share(source, sources, cfg),
        )  # fmt: skip
