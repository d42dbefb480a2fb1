"""Where the parameters of a job come from, first match wins (printed at the start of training):
1. the newest checkpoint in the job's own workdir, all of it (training by keep=best: or its resume/, if newer)
2. init_from, the workdir of another run: its newest checkpoint, whatever mesh it was trained on; parameters only,
   or with init_state=all its step and optimiser state too: a branch, which may have other data and settings
3. init_from, a Hugging Face folder
4. training only: random, from config.seed
"""

import dataclasses
import difflib
import functools
import logging
import math
import os
from pathlib import Path

import jax

from mucpt_jax import config
from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.formats.tokenizer import files_of
from mucpt_jax.run import checkpoint
from mucpt_jax.run.tokenizers import folders_behind, saved_config
from mucpt_jax.step import model, optimizer, sharding
from mucpt_jax.weights import transfer


def with_start(cfg: Config, workdir: Path) -> Config:
    """The config with the start of the run so far.  Raises UserError where another init_from is given: the run would go
    on from its own checkpoint all the same, and config.json, card and tokenizer's check would tell of the other."""
    run = saved_config(workdir)
    if run is None or checkpoint.step_to_go_on_from(workdir) is None:
        return cfg
    if cfg.init_from and (not run.init_from or os.path.realpath(cfg.init_from) != os.path.realpath(run.init_from)):
        raise UserError(
            f"{workdir} was started from {run.init_from or 'random parameters'}, now init_from={cfg.init_from}; leave "
            "init_from out to go on, or start in another --workdir"
        )
    return dataclasses.replace(cfg, init_from=run.init_from, init_state=run.init_state)


def with_schedule(cfg: Config, workdir: Path) -> Config:
    """The config with the schedule of the run so far, whatever optimizer.steps is now; None: all its steps.

    Otherwise a run that is made longer would jump back up the curve.  Raises UserError where another length is given.
    """
    step, run = checkpoint.step_to_go_on_from(workdir), saved_config(workdir)
    known = run.optimizer.schedule_steps or run.optimizer.steps if run and step is not None else None
    given = cfg.optimizer.schedule_steps
    if known and given not in (None, known):
        raise UserError(
            f"{workdir} has a schedule of {known} steps, now optimizer.schedule_steps={given}: the learning rate "
            f"would jump; leave it empty to go on at final_lr behind step {known}, or start in another --workdir with "
            "--config.init_from"
        )
    length = known or given or cfg.optimizer.steps
    return config.changed(cfg, {"optimizer.schedule_steps": None if length == cfg.optimizer.steps else length})


def check_workdir(workdir: Path) -> None:
    if (workdir / "config.json").is_file() and saved_config(workdir) is None:
        raise UserError(
            f"{workdir} holds a config.json that no run wrote, as a Hugging Face folder does; name another --workdir "
            "(and that folder with --config.init_from)"
        )


def folders(cfg: Config, workdir: Path) -> list[str]:
    """Folders that a job's parameters come from: its run, the run that this one started from, ..., Hugging Face's."""
    return folders_behind(str(workdir) if checkpoint.has_checkpoint(workdir) else cfg.init_from)


def of_run(cfg: Config, workdir: Path, named: set[str]) -> Config:
    """The config with model and tokenizer of the run that its parameters come from.

    named: keys that the command line gives; these stay.
    """
    places = folders(cfg, workdir)
    if not places:
        raise no_parameters(workdir)
    runs = [run for run in map(saved_config, places) if run]
    if runs and not any(key.startswith("model.") for key in named):
        cfg = dataclasses.replace(cfg, model=runs[0].model)
    tokenizers = [folder for run in runs for folder in (run.tokenizer, run.init_from) if folder]
    if "tokenizer" not in named:
        own = next(filter(files_of, tokenizers), cfg.tokenizer)  # a folder may be gone since
        cfg = dataclasses.replace(cfg, tokenizer=own)
    return cfg


def abstract_params(cfg: Config, mesh: jax.sharding.Mesh) -> dict:
    return sharding.with_shardings(model.abstract(cfg.model), mesh)


def load_params(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> dict:
    """Parameters for a job that needs trained ones: sources 1 to 3 of the list at the head of this file."""
    if checkpoint.has_checkpoint(workdir):
        return checkpoint.restore_params(workdir, abstract_params(cfg, mesh), cfg)
    if cfg.init_from:
        say_untrained(cfg.init_from, workdir)
        return initial_params(cfg, mesh)
    raise no_parameters(workdir)


def say_untrained(init_from: str, workdir: Path) -> None:
    """A workdir without a checkpoint may be meant, to measure a start model, or misspelt, or of a run that died."""
    if saved_config(workdir) and not (workdir / "best.json").is_file():  # no training step was better than the start
        raise UserError(
            f"{workdir} is a run without a checkpoint, so this job would take the untrained model of init_from="
            f"{init_from}; train it first, or name another --workdir to take that model as it is"
        )
    runs = [path.parent.name for path in workdir.parent.glob("*/checkpoints") if path.parent != workdir]
    near = difflib.get_close_matches(workdir.name, runs, 1, 0.6)
    logging.warning(
        "%s HOLDS NO CHECKPOINT: THIS JOB TAKES THE MODEL OF init_from=%s AS IT IS%s", workdir, init_from,
        f"; did you mean --workdir={workdir.parent / near[0]}?" if near else "",
    )  # fmt: skip


def no_parameters(workdir: Path) -> UserError:
    return UserError(
        f"{workdir} holds no checkpoint and init_from is empty; name a trained run with --workdir "
        "or a model with --config.init_from"
    )


def describe_sources(cfg: Config, workdir: Path) -> str:
    """The list at the head of this file as it is for this run; an arrow marks the source that is taken."""
    own, other = (
        checkpoint.step_to_go_on_from(workdir),
        checkpoint.newest_step(Path(cfg.init_from)) if cfg.init_from else None,
    )
    extent = "all of it" if cfg.init_state == "all" else "parameters only"
    places = [
        (f"the newest checkpoint in {workdir}", own is not None, f"step {own}"),
        ("init_from, another run", other is not None, f"{cfg.init_from} step {other}, {extent}"),
        ("init_from, a Hugging Face folder", bool(cfg.init_from) and other is None, cfg.init_from),
        ("random", True, f"seed {cfg.seed}"),
    ]
    taken = next(i for i, (_, there, _) in enumerate(places) if there)
    lines = [f"  {i + 1}. {name}{f': {what}  <-' if i == taken else ''}" for i, (name, _, what) in enumerate(places)]
    return "\n".join(lines)


def check_init_from(cfg: Config) -> None:
    if not Path(cfg.init_from).is_dir():
        raise UserError(f"init_from={cfg.init_from} is no folder; name a Hugging Face folder or a run's workdir")


def branch(cfg: Config, abstract: checkpoint.State) -> tuple[int, checkpoint.State]:
    """(step, state) of the newest checkpoint of init_from, whatever data and settings it had."""
    check_init_from(cfg)
    if not checkpoint.has_checkpoint(Path(cfg.init_from)):
        raise UserError(
            f"init_state=all needs a run's workdir, {cfg.init_from} has no checkpoint; use init_state=params"
        )
    ckpt, wanted = checkpoint.manager(Path(cfg.init_from)), cfg.optimizer.trainable
    step = ckpt.latest_step()
    trainable = checkpoint.read_meta(ckpt, step, cfg)["identity"].get("optimizer.trainable")
    if trainable != wanted:
        raise UserError(
            f"{cfg.init_from} was trained with optimizer.trainable={trainable}, now it is {wanted}: its moments are of "
            "other parameters; use that one, or init_state=params"
        )
    if step >= cfg.optimizer.steps:
        raise UserError(
            f"{cfg.init_from} has {step} steps already; a branch of it needs more: --config.optimizer.steps"
        )
    warn_of_rate(cfg, step)
    return step, checkpoint.restore_step(ckpt, step, abstract, cfg, {})


def warn_of_rate(cfg: Config, step: int) -> None:
    """A branch has the curve of its own config, by default over all its steps: where it is longer the rate jumps up."""
    run = saved_config(cfg.init_from)
    if run is None:
        return
    before, now = (float(optimizer.schedule(of.optimizer)(step)) for of in (run, cfg))
    if not math.isclose(before, now, rel_tol=0.01):
        length = run.optimizer.schedule_steps or run.optimizer.steps
        logging.warning(
            "THE LEARNING RATE JUMPS FROM %.3g TO %.3g: %s would go on with the one, this config with the other; for "
            "that run's curve set --config.optimizer.schedule_steps=%d, and its peak_lr, final_lr and warmup_fraction",
            before, now, cfg.init_from, length,
        )  # fmt: skip


def initial_params(cfg: Config, mesh: jax.sharding.Mesh) -> dict:
    """Sources 2 to 4: what a training run starts from."""
    shapes = abstract_params(cfg, mesh)
    if not cfg.init_from:
        logging.info("parameters are random, seed %d", cfg.seed)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)
        init = jax.jit(functools.partial(model.init, cfg.model), out_shardings=shardings)
        return init(jax.random.key(cfg.seed))
    check_init_from(cfg)
    if checkpoint.has_checkpoint(Path(cfg.init_from)):
        return checkpoint.restore_params(Path(cfg.init_from), shapes, cfg)
    logging.info("parameters from the Hugging Face folder %s", cfg.init_from)
    return transfer.from_hf(cfg.init_from, cfg.model, shapes)
