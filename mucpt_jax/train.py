"""The training job: rows -> batches -> one jitted step -> checkpoints."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grain
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from jax import Array

from mucpt_jax import config
from mucpt_jax.config import Config, Loss
from mucpt_jax.errors import STOPPED, UserError
from mucpt_jax.evaluation import answers, cards
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.rows import segment_numbers
from mucpt_jax.run import checkpoint, data, early_stop, goodput, interrupts, lineage, metrics, reference, tokenizers
from mucpt_jax.run.checkpoint import Folder, State
from mucpt_jax.step import losses, model, objective, optimizer, sharding
from mucpt_jax.weights import transfer

MAX_BAD_STEPS = 16  # in a row, that are left out before a run gives up


class Run(NamedTuple):
    """What report() reads: config, sources and rows of the run, and what records its metrics, time and end."""

    cfg: Config
    sources: list[data.Source]
    rows: grain.MapDataset
    workdir: Path
    clock: metrics.Clock
    ledger: goodput.Ledger
    watchdog: interrupts.Watchdog
    write: Callable[[dict], None]
    ckpt: ocp.CheckpointManager


def train(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    """Trains to optimizer.steps, from the newest checkpoint in workdir, else init_from, else random parameters.

    A SIGTERM saves at the next step that all hosts agree on, and leaves with status 143.  With train.keep=best
    the newest checkpoint is the state that is best on held-out rows; what a stopped run goes on from lies beside it.
    """
    checkpoint.check_path(workdir)
    with checkpoint.alone(workdir, f"--workdir={workdir}"):  # Orbax clears away what another run is writing there
        train_alone(cfg, mesh, workdir)


def train_alone(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    early_stop.check(cfg, workdir)
    lineage.check_workdir(workdir)
    cfg = lineage.with_start(cfg, workdir)
    sources = data.open_sources(cfg)
    if cfg.data.check_rows:
        transfer.together(lambda: data.check_bytes(sources), "rows")
    for folder in data.folders(cfg):
        tokenizers.check(folder, lineage.folders(cfg, workdir))
    ask = transfer.together(lambda: answers.while_training(cfg, mesh, workdir), "questions")
    logging.info("parameters come from the first of\n%s", lineage.describe_sources(cfg, workdir))
    add_scores, cfg = scores_while_training(lineage.with_schedule(cfg, workdir), mesh)
    cfg = dataclasses.replace(cfg, loss=data.resolved_loss(cfg))
    tx = optimizer.make(cfg)
    rows, identity = data.mixture(sources, cfg), data.fingerprint(sources, cfg)
    kept, resume = Folder(checkpoint.manager(workdir, cfg), identity), early_stop.resume(cfg, workdir, identity)
    start, state = start_state(cfg, tx, mesh, kept, resume)
    if is_ended(cfg, workdir, start, kept):
        return
    metrics.describe_run(cfg, sources, state.params, start)
    if jax.process_index() == 0:
        # The rows may be gone when scores are asked for.
        known = {"tokenizer_hash": tokenizers.hash_of(data.folders(cfg)[0])}
        write_json(workdir / "config.json", config.to_saved(cfg) | known)

    step_fn = jitted_step(cfg, tx, mesh, len(sources))
    norms_fn = jax.jit(functools.partial(gradient_norms, cfg=cfg), out_shardings=sharding.replicated(mesh))
    evaluate = early_stop.evaluator(cfg, mesh, workdir, start, state.params) if cfg.train.evaluate_every else None
    if ask:
        ask(state.params)  # before training; and compiled before its cost is measured
    batches = data.batches(rows, cfg, sharding.local_rows(mesh, cfg.data.batch_rows), start)
    clock, ledger = metrics.Clock(cfg, start), goodput.Ledger(workdir, start)
    with (
        metrics.log(workdir, start) as write,
        interrupts.Watchdog(cfg.train.watchdog, cfg.train.watchdog_seconds) as watchdog,
        interrupts.SigtermFlag() as sigterm,
        metrics.profiler(cfg.train, workdir) as profiler,
    ):
        run = Run(cfg, sources, rows, workdir, clock, ledger, watchdog, write, kept.ckpt)
        pending = None  # metrics of the step still running: the host prepares the next one meanwhile
        for step in range(start + 1, cfg.optimizer.steps + 1):
            with ledger.timed("data_wait", step):
                batch = add_scores(sharding.to_global(next(batches), mesh, cfg.data.batch_rows))
            profiler(step, pending)
            apart = is_due(step, cfg.train.gradient_norms_every)
            extra = {"gradient_norms": norms_fn(state.params, batch)} if apart else {}
            state, values = step_fn(state, batch)
            if pending:
                report(run, *pending)
            leaving, last = sigterm.asked(step), step == cfg.optimizer.steps
            measured = evaluate and (is_due(step, cfg.train.evaluate_every) or last)
            evaluation = measure(run, step, state.params, evaluate, ask, extra) if measured else None
            pending = (step, values | extra)
            enough = evaluation is not None and evaluation.last
            due = is_due(step, cfg.train.checkpoint_every) or last or leaving
            better = evaluation is not None and evaluation.better
            if folder := early_stop.place(kept, resume, due, better, over=last or enough):
                # A state is saved only after its step was seen to be good.
                report(run, *pending)
                pending = None
                with ledger.timed("checkpoint", step), watchdog.paused():
                    early_stop.save(folder, kept, step, state, cfg)
            if leaving or enough:
                break
        if pending:
            report(run, *pending)
        with ledger.timed("checkpoint", step), watchdog.paused():
            for folder in filter(None, (kept, resume)):
                checkpoint.finish(folder.ckpt, step)
    ledger.close()
    clock.summary(sources)
    if leaving and not (last or enough):
        logging.info("SIGTERM: saved step %d; the same command goes on from there", step)
        raise SystemExit(STOPPED)
    if resume:
        early_stop.end(cfg, workdir, kept, resume)
        if jax.process_index() == 0:
            cards.write_card(workdir)


def measure(run: Run, step: int, params: dict, evaluate, ask, extra: dict) -> early_stop.Evaluation:
    """Held-out loss, and grades on questions where `ask` gives them; both go into `extra`, of metrics.jsonl."""
    jax.block_until_ready(params)  # else the rest of the step would count as evaluation
    with run.ledger.timed("evaluate", step), run.watchdog.paused():
        evaluation, grades = evaluate(step, params), {"questions": ask(params)} if ask else {}
    extra |= {"heldout": evaluation.sources} | grades
    run.ledger.say_stall(run.cfg.train.evaluate_every)
    return evaluation


def scores_while_training(cfg: Config, mesh: jax.sharding.Mesh) -> tuple[Callable[[dict], dict], Config]:
    """What adds scores to a batch, and the config with the hash of the model that gives them."""
    if not cfg.loss.reference:
        return lambda batch: batch, cfg
    name, add_scores = reference.scorer(cfg, mesh)
    return add_scores, config.changed(cfg, {"loss.rm_hash": name})


def is_ended(cfg: Config, workdir: Path, start: int, kept: Folder) -> bool:
    """Is there nothing left to train after step `start`?  The log says why."""
    if start >= cfg.optimizer.steps:
        logging.info("%s is trained already: %d steps; raise optimizer.steps to go on at final_lr", workdir, start)
        return True
    best = kept.ckpt.latest_step() or start
    ended = early_stop.ended(cfg, workdir, start, best, kept.identity)
    if ended:
        logging.info(
            "%s is trained already: no step after %d was better on held-out rows; raise optimizer.steps or "
            "train.patience to go on", workdir, best,
        )  # fmt: skip
    return ended


def is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def start_state(cfg, tx, mesh, kept: Folder, resume: Folder | None) -> tuple[int, State]:
    """(steps done, state); the order of sources stands in lineage.py."""
    abstract = abstract_state(cfg, tx, mesh)
    if restored := checkpoint.restore([folder for folder in (kept, resume) if folder], abstract, cfg):
        return restored
    if cfg.init_from and cfg.init_state == "all":
        return lineage.branch(cfg, abstract)
    params = lineage.initial_params(cfg, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract.opt_state)
    return 0, State(params, jax.jit(tx.init, out_shardings=shardings)(params))


def abstract_state(cfg: Config, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh) -> State:
    """Shapes, dtypes and shardings of the state; nothing is allocated."""
    shapes = jax.eval_shape(lambda: (p := model.init(cfg.model, jax.random.key(0)), tx.init(p)))
    params, opt_state = sharding.with_shardings(shapes, mesh)
    return State(params, sharding.in_host_memory(opt_state) if cfg.optimizer.offload else opt_state)


def jitted_step(cfg: Config, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh, num_sources: int):
    """(state, batch) -> (state, metrics), compiled; the old state's memory is given to the new one."""
    placed = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(cfg, tx, mesh))
    step = functools.partial(train_step, cfg=cfg, tx=tx, num_sources=num_sources)
    return jax.jit(step, donate_argnums=0, out_shardings=(placed, sharding.replicated(mesh)))


def train_step(state: State, batch: dict, *, cfg: Config, tx: optax.GradientTransformation,
               num_sources: int) -> tuple[State, dict]:  # fmt: skip
    """One optimiser step over all rows of the batch -> new state, metrics (replicated)."""
    params, opt_state = state
    tokens = losses.target_mask(batch).sum()  # of the whole step: all hosts, all micro-batches
    (loss, (nll_BT, weight_BT)), grads = loss_and_grads(params, batch, cfg, tokens)
    if cfg.optimizer.offload:
        opt_state = jax.device_put(opt_state, jax.memory.Space.Device)  # back to the host by the step's out_shardings
    updates, opt_state = tx.update(grads, opt_state, params, loss=loss)
    values = token_metrics(nll_BT, weight_BT, batch, cfg.loss, num_sources)
    values |= {"loss": loss, "grad_norm": optax.tree.norm(grads), "bad": opt_state.bad_steps}
    return State(optax.apply_updates(params, updates), opt_state), values


def loss_and_grads(params: dict, batch: dict, cfg: Config, tokens: Array, only_B: Array | None = None) -> tuple:
    """((loss, (nll [B, T], weights [B, T])), grads): sums over micro-batches, divided by `tokens` once.

    only_B: rows whose tokens count in the loss, bool [B]; the weights are those of the whole batch all the same.
    """
    rows_B = jnp.ones(batch["is_domain"].shape, bool) if only_B is None else only_B

    def loss_fn(params, part, rows_B, weight_BT=None):
        params = optimizer.without_frozen(params, cfg.optimizer.trainable)
        nll_BT = losses.batch_nll(params, part, cfg)
        if weight_BT is None:
            weight_BT = objective.token_weights(nll_BT, part, cfg.loss)
        counted_BT = jnp.where(rows_B[:, None], weight_BT, 0)
        return (counted_BT * nll_BT).sum() / tokens, (nll_BT, weight_BT)

    micro = cfg.train.micro_batches
    if micro == 1:
        return jax.value_and_grad(loss_fn, has_aux=True)(params, batch, rows_B)

    split, join = functools.partial(sharding.split_rows, parts=micro), sharding.join_rows
    parts = jax.tree.map(split, batch)
    nll_BT = jnp.zeros(losses.target_mask(batch).shape)
    if objective.OBJECTIVES[cfg.loss.kind].needs_nll:  # of the whole step: one forward pass more
        nll_BT = join(jax.lax.map(lambda part: losses.batch_nll(params, part, cfg), parts))
    weights = split(objective.token_weights(nll_BT, batch, cfg.loss))

    def add(total, part):
        (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, *part)
        return jax.tree.map(jnp.add, total, (loss, grads)), aux

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    (loss, grads), (nll, weight) = jax.lax.scan(add, zero, (parts, split(rows_B), weights))
    return (loss, (join(nll), join(weight))), grads


def gradient_norms(params: dict, batch: dict, *, cfg: Config) -> dict[str, Array]:
    """A step's gradient is the sum of the domain rows' and the general rows', both weighted: the norm of each part."""
    tokens = losses.target_mask(batch).sum()
    rows_of = {"domain": batch["is_domain"], "general": ~batch["is_domain"]}
    return {name: optax.tree.norm(loss_and_grads(params, batch, cfg, tokens, B)[1]) for name, B in rows_of.items()}


def token_metrics(nll_BT: Array, weight_BT: Array, batch: dict, cfg: Loss, num_sources: int) -> dict:
    """Sums per source [S] and per row [B]; the host divides."""
    mask_BT = losses.target_mask(batch)
    sums_B = {
        "tokens": mask_BT.sum(1),
        "nll": jnp.where(mask_BT, nll_BT, 0).sum(1),
        "weighted_nll": (weight_BT * nll_BT).sum(1),
        "weight": weight_BT.sum(1),
        "weight_squared": (weight_BT**2).sum(1),
        **{name: at_BT.sum(1) for name, at_BT in objective.limits(weight_BT, batch, cfg).items()},
    }
    ids_BT = segment_numbers(batch["segment_ids"][:, :-1])
    real_BT = ids_BT > 0
    # Pairs of tokens that attend: token n of a document sees n.  Float32: 2^31 is 1024 rows of 4096 already.
    pairs_BT = jnp.where(real_BT, model.segment_positions(ids_BT) + 1, 0).astype(jnp.float32)
    values = {name: jnp.zeros(num_sources, x.dtype).at[batch["source"]].add(x) for name, x in sums_B.items()}
    values |= {"real_tokens": real_BT.sum(), "attended_pairs": pairs_BT.sum()}
    return values | {
        "max_weight": jnp.where(batch["is_domain"][:, None], weight_BT, 0).max(),
        "row_nll": sums_B["nll"] / jnp.maximum(sums_B["tokens"], 1),
    }


def report(run: Run, step: int, values: dict) -> None:
    """Waits for a step's metrics; stops at a bad step or notes it; logs every log_every steps."""
    values, cfg = jax.device_get(values), run.cfg
    run.ledger.step_ended(step)
    run.watchdog.step_ended()
    if values["bad"]:
        with run.watchdog.paused():  # it reads rows and indices
            bad_step(run, step, values)
    run.clock.add(step, values, run.sources)
    extra = {name: values[name] for name in ("gradient_norms", "heldout", "questions") if name in values}
    if not (is_due(step, cfg.train.log_every) or step in (run.clock.first, cfg.optimizer.steps) or extra):
        return
    line = {
        "step": step,
        "loss": float(values["loss"]),
        "sources": metrics.per_source(values, run.sources),
        "grad_norm": float(values["grad_norm"]),
        "lr": float(optimizer.schedule(cfg.optimizer)(step - 1)),
        "max_weight": float(values["max_weight"]),
        **run.clock.rates(step),
    }
    if norms := extra.get("gradient_norms"):
        extra["gradient_norms"] = {name: float(norm) for name, norm in norms.items()}
    run.write(line | extra)
    logging.info(metrics.progress(line, cfg.optimizer.steps))


def bad_step(run: Run, step: int, values: dict) -> None:
    """Writes the rows and documents of a step that was left out to bad_steps.jsonl; raises if the config says stop."""
    cfg, first = run.cfg, (step - 1) * run.cfg.data.batch_rows
    rows = data.describe_rows(run.rows, run.sources, cfg, range(first, first + cfg.data.batch_rows))
    for row, nll in zip(rows, values["row_nll"], strict=True):
        row["nll"] = float(nll)
    facts = {"step": step, "loss": float(values["loss"]), "grad_norm": float(values["grad_norm"])}
    if jax.process_index() == 0:
        line = metrics.to_json(facts | {"action": cfg.train.on_bad_step, "rows": rows})
        metrics.append(run.workdir / "bad_steps.jsonl", line)
    empty = not values["tokens"].sum()  # 0 / 0; nothing to learn from, but nothing wrong
    broken = [row for row in rows if not math.isfinite(row["nll"])]
    named = "; ".join(f"{r['file']} record {r['record']} (documents {', '.join(r['documents'])})" for r in broken[:3])
    more = f" and {len(broken) - 3} more rows" if len(broken) > 3 else ""
    finite = math.isfinite(facts["loss"]) and math.isfinite(facts["grad_norm"])
    where = f"not finite in {named or 'none: the gradient overflowed'}{more}" if not finite else "a spike"
    where = "without a target: each token is a segment's first, masked or padding" if empty else where
    sentence = (
        f"step {step}: loss is {facts['loss']} (grad_norm {facts['grad_norm']}); rows {first}..."
        f"{first + cfg.data.batch_rows - 1} of the run, {where}; {run.workdir}/bad_steps.jsonl has their documents"
    )
    if (cfg.train.on_bad_step == "stop" and not empty) or values["bad"] >= MAX_BAD_STEPS:
        checkpoint.finish(run.ckpt, step)
        saved = run.ckpt.latest_step()
        raise UserError(
            f"{sentence}; the last checkpoint is {saved}: lower the learning rate, look at these documents, or "
            f"go on without such steps by --config.train.on_bad_step=skip (which stops after {MAX_BAD_STEPS} in a row)"
        )
    logging.warning("%s; the step was left out", sentence)
