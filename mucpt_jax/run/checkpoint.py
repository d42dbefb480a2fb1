"""Checkpoints by Orbax: parameters, optimiser state and data position in one atomic step folder.

Where the parameters of a job come from, first match wins (printed at the start of training):
    1. the newest checkpoint in the job's own workdir, all of it
    2. init_from, the workdir of another run: its newest checkpoint, whatever mesh it was trained on; parameters only,
       or with init_state=all its step and optimiser state too: a branch, which may have other data and settings
    3. init_from, a Hugging Face folder
    4. training only: random, from config.seed
"""

import dataclasses
import difflib
import functools
import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from mucpt_jax import config
from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import read_json
from mucpt_jax.formats.tokenizer import files_of
from mucpt_jax.formats.version import as_text, written_by
from mucpt_jax.step import model, sharding
from mucpt_jax.weights import hf, transfer

# What a run's identity holds without being a knob's plain value; the checkpoints of 0.1 and 0.2 do not say it.
SAVED_LATER = ("optimizer.schedule_steps", "loss.rm_hash")  # the latter of loss.reference


class State(NamedTuple):
    """What a step replaces."""

    params: dict
    opt_state: Any


def manager(workdir: Path, cfg: Config | None = None) -> ocp.CheckpointManager:
    """Asynchronous; a step folder appears under its name only when all of it is written."""
    keep = cfg.train.keep_checkpoints if cfg else None
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=cfg is not None)
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def save(ckpt: ocp.CheckpointManager, step: int, state: State, cfg: Config, identity: dict) -> None:
    """`identity` is data.fingerprint; with the step it fixes the data position.  Returns before all is written."""
    meta = {"step": step, "model": dataclasses.asdict(cfg.model), "identity": identity}
    meta |= {"format": config.FORMAT, "written_by": written_by()}
    items = ocp.args.Composite(
        params=ocp.args.StandardSave(state.params),
        opt_state=ocp.args.StandardSave(state.opt_state),
        meta=ocp.args.JsonSave(meta),
    )
    try:
        ckpt.save(step, args=items)
    except Exception as error:  # of this save or, as they run behind, of the one before
        raise write_failed(ckpt, step, error) from error


def finish(ckpt: ocp.CheckpointManager, step: int) -> None:
    try:
        ckpt.wait_until_finished()
    except Exception as error:
        raise write_failed(ckpt, step, error) from error


def write_failed(ckpt: ocp.CheckpointManager, step: int, error: Exception) -> UserError:
    ckpt.reload()  # what is on disk, not what was meant to be
    good = ckpt.latest_step()
    reason = str(error).strip().splitlines()[0][:300]
    return UserError(
        f"a checkpoint could not be written under {ckpt.directory} by step {step} ({reason}); "
        f"{f'checkpoint {good} is good' if good is not None else 'there is none yet'}: "
        "make room and start the same command again to go on from there"
    )


def restore(ckpt: ocp.CheckpointManager, abstract: State, cfg: Config, identity: dict) -> tuple[int, State] | None:
    """(step, state) of the newest checkpoint, onto any mesh; None where there is none."""
    step = ckpt.latest_step()
    if step is None:
        return None
    meta, where = read_meta(ckpt, step, cfg), f"{ckpt.directory}/{step}"
    saved = config.without_retired(meta["identity"], where, meta.get("written_by"))
    saved = {key: identity.get(key) for key in SAVED_LATER} | saved
    for key, value in identity.items():
        before = saved[key] if key in saved else config.value_of(Config(), key)  # newer than the checkpoint
        if before != value:
            raise UserError(
                f"{where} was trained with {key}={before}, now it is {value}: the run cannot "
                "go on exactly; restore that setting, or start in another --workdir with --config.init_from"
            )
    return step, State(**read_items(ckpt, step, **abstract._asdict()))


def with_schedule(cfg: Config, ckpt: ocp.CheckpointManager) -> Config:
    """The config with the schedule of the run so far, whatever optimizer.steps is now; None: all its steps.

    Otherwise a run that is made longer would jump back up the curve.  Raises UserError where another length is given.
    """
    step, known = ckpt.latest_step(), None
    if step is not None:
        known = read_meta(ckpt, step, cfg)["identity"].get("optimizer.schedule_steps")
        run = saved_config(
            ckpt.directory.parent
        )  # which is older than the checkpoint and says what it was started with
        known = known or (run and (run.optimizer.schedule_steps or run.optimizer.steps))
    given = cfg.optimizer.schedule_steps
    if known and given not in (None, known):
        raise UserError(
            f"{ckpt.directory}/{step} has a schedule of {known} steps, now optimizer.schedule_steps={given}: the "
            f"learning rate would jump; leave it empty to go on at final_lr behind step {known}, or start in another "
            "--workdir with --config.init_from"
        )
    length = known or given or cfg.optimizer.steps
    return config.changed(cfg, {"optimizer.schedule_steps": None if length == cfg.optimizer.steps else length})


def read_items(ckpt: ocp.CheckpointManager, step: int, **abstract) -> dict:
    """Arrays of the named items, in the shapes and shardings asked for."""
    args = {name: ocp.args.StandardRestore(item) for name, item in abstract.items()}
    try:
        return ckpt.restore(step, args=ocp.args.Composite(**args))
    except Exception as error:
        raise damaged(ckpt, step, error) from error


def read_meta(ckpt: ocp.CheckpointManager, step: int, cfg: Config) -> dict:
    """What is known about a checkpoint, after checking that it holds the config's model."""
    try:
        meta = ckpt.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        saved = config.from_saved({"model": meta["model"]}).model
    except Exception as error:
        raise damaged(ckpt, step, error) from error
    if meta.get("format", 1) > config.FORMAT:
        raise UserError(
            f"{ckpt.directory}/{step} has format {meta['format']}, this version reads up to {config.FORMAT}; go on "
            f"with the version that wrote it ({as_text(meta.get('written_by'))})"
        )
    hf.check_same_model(saved, cfg.model, f"{ckpt.directory}/{step}")
    return meta


def damaged(ckpt: ocp.CheckpointManager, step: int, error: Exception) -> UserError:
    others = [s for s in ckpt.all_steps() if s != step]
    return UserError(
        f"{ckpt.directory}/{step} is damaged ({' '.join(str(error).split())[:200]}); move it away to go on from "
        f"{f'step {max(others)}' if others else 'the start'}"
    )


def newest_step(workdir: Path) -> int | None:
    return manager(workdir).latest_step() if (workdir / "checkpoints").is_dir() else None


def has_checkpoint(workdir: Path) -> bool:
    return newest_step(workdir) is not None


def restore_params(workdir: Path, abstract_params: dict, cfg: Config) -> dict:
    """Parameters of the newest checkpoint of a run."""
    ckpt = manager(workdir)
    step = ckpt.latest_step()
    read_meta(ckpt, step, cfg)
    logging.info("parameters from %s/%d", ckpt.directory, step)
    return read_items(ckpt, step, params=abstract_params)["params"]


def saved_config(folder: str | Path) -> Config | None:
    """The config that a run was started with; None where the folder is not that of a run."""
    path = Path(folder) / "config.json"
    values = read_json(path) if path.is_file() else {}
    return config.from_saved(values) if "optimizer" in values else None  # a Hugging Face folder has a config.json too


def lineage(cfg: Config, workdir: Path) -> list[str]:
    """Folders that a job's parameters come from: its run, the run that this one started from, ..., Hugging Face's."""
    return lineage_of(str(workdir) if has_checkpoint(workdir) else cfg.init_from)


def lineage_of(folder: str | None) -> list[str]:
    folders: list[str] = []
    while folder and folder not in folders:
        folders.append(folder)
        run = saved_config(folder)
        folder = run.init_from if run else None
    return folders


def of_run(cfg: Config, workdir: Path, named: set[str]) -> Config:
    """The config with model and tokenizer of the run that its parameters come from.

    named: keys that the command line gives; these stay.
    """
    folders = lineage(cfg, workdir)
    if not folders:
        raise no_parameters(workdir)
    runs = [run for run in map(saved_config, folders) if run]
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
    if has_checkpoint(workdir):
        return restore_params(workdir, abstract_params(cfg, mesh), cfg)
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
    own, other = newest_step(workdir), newest_step(Path(cfg.init_from)) if cfg.init_from else None
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


def branch(cfg: Config, abstract: State) -> tuple[int, State]:
    """(step, state) of the newest checkpoint of init_from, whatever data and settings it had."""
    check_init_from(cfg)
    if not has_checkpoint(Path(cfg.init_from)):
        raise UserError(
            f"init_state=all needs a run's workdir, {cfg.init_from} has no checkpoint; use init_state=params"
        )
    ckpt, wanted = manager(Path(cfg.init_from)), cfg.optimizer.trainable
    trainable = read_meta(ckpt, ckpt.latest_step(), cfg)["identity"].get("optimizer.trainable")
    if trainable != wanted:
        raise UserError(
            f"{cfg.init_from} was trained with optimizer.trainable={trainable}, now it is {wanted}: its moments are of "
            "other parameters; use that one, or init_state=params"
        )
    restored = restore(ckpt, abstract, cfg, {})
    if restored[0] >= cfg.optimizer.steps:
        raise UserError(
            f"{cfg.init_from} has {restored[0]} steps already; a branch of it needs more: --config.optimizer.steps"
        )
    return restored


def initial_params(cfg: Config, mesh: jax.sharding.Mesh) -> dict:
    """Sources 2 to 4: what a training run starts from."""
    shapes = abstract_params(cfg, mesh)
    if not cfg.init_from:
        logging.info("parameters are random, seed %d", cfg.seed)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)
        init = jax.jit(functools.partial(model.init, cfg.model), out_shardings=shardings)
        return init(jax.random.key(cfg.seed))
    check_init_from(cfg)
    if has_checkpoint(Path(cfg.init_from)):
        return restore_params(Path(cfg.init_from), shapes, cfg)
    logging.info("parameters from the Hugging Face folder %s", cfg.init_from)
    return transfer.from_hf(cfg.init_from, cfg.model, shapes)


@jax.jit
def checksum(x: jax.Array) -> jax.Array:
    """uint32 of a float32 array's bits and their places.  Sums of integers: the same on every mesh."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32).ravel()
    place = jnp.arange(bits.size, dtype=jnp.uint32) * jnp.uint32(2_654_435_761) + jnp.uint32(1)
    mixed = (bits ^ (bits >> 16)) * (place | jnp.uint32(1))
    return jnp.sum(mixed ^ (mixed >> 15), dtype=jnp.uint32)


def params_hash(params: dict) -> str:
    """Names a set of parameters, whatever the mesh: 16 hex digits."""
    lines = [
        f"{sharding.path_name(path)} {leaf.shape} {int(checksum(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
