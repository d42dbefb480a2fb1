"""Checkpoints by Orbax: parameters, optimiser state and data position in one atomic step folder."""

import dataclasses
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Required

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from mucpt_jax import config
from mucpt_jax.config import Config
from mucpt_jax.errors import UserError, fullness, of_the_machine, one_line
from mucpt_jax.formats.decode import Count, checked
from mucpt_jax.formats.files import locked, writable
from mucpt_jax.formats.version import Written, as_text, written_by
from mucpt_jax.run.sums import NAME_OF_SUM, SUMS, meta_hash
from mucpt_jax.run.sums import checksum as checksum
from mucpt_jax.run.sums import params_hash as params_hash
from mucpt_jax.weights import hf

# Folders in a workdir: the states that a run keeps; with train.keep=best the newest state, see early_stop.py.
CHECKPOINTS, RESUME = "checkpoints", "resume"
# What a run's identity holds without being a knob's plain value; the checkpoints of 0.1 and 0.2 do not say it.
SAVED_LATER = ("optimizer.schedule_steps", "loss.rm_hash")  # the latter of loss.reference


class State(NamedTuple):
    """What a step replaces."""

    params: dict
    opt_state: Any


class Folder(NamedTuple):
    """Where states are saved, and what a run must have alike to go on from there."""

    ckpt: ocp.CheckpointManager
    identity: dict


class Meta(Written):
    """What is saved beside the arrays."""

    step: Required[Count]
    model: Required[dict[str, Any]]  # of config.Model
    identity: Required[dict[str, Any]]  # data.fingerprint


def manager(workdir: Path, cfg: Config | None = None, folder: str = CHECKPOINTS) -> ocp.CheckpointManager:
    """Asynchronous; a step folder appears under its name only when all of it is written."""
    check_path(workdir)
    keep = cfg.train.keep_checkpoints if cfg else None
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=cfg is not None)
    return ocp.CheckpointManager((workdir / folder).absolute(), options=options)


def check_path(workdir: Path) -> None:
    """Orbax and tensorstore take [x] for a pattern and a backslash for a slash: what they save is lost to them."""
    path = str(workdir.absolute())
    if strange := [c for c in "[\\" if c in path]:
        raise UserError(
            f"no checkpoint can be read back below {path}, for it holds {' and '.join(strange)}; name another "
            "--workdir, or a link without it that points there"
        )


def alone(folder: Path, name: str) -> AbstractContextManager[None]:
    """The lock of what the processes of one run write together, taken by process 0."""
    if jax.process_index():
        return nullcontext()
    with writable(name):
        folder.mkdir(parents=True, exist_ok=True)
    return locked(folder, name)


def save(ckpt: ocp.CheckpointManager, step: int, state: State, cfg: Config, identity: dict) -> None:
    """`identity` is data.fingerprint; with the step it fixes the data position.  Returns before all is written."""
    meta = {"step": step, "model": dataclasses.asdict(cfg.model), "identity": identity}
    meta |= {"format": config.FORMAT, "written_by": written_by()}
    meta |= {name: SUMS[item](getattr(state, item)) for item, name in NAME_OF_SUM.items()}
    meta["meta_hash"] = meta_hash(meta)
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
    reason = fullness(error) or one_line(error)
    return UserError(
        f"a checkpoint could not be written under {ckpt.directory} by step {step} ({reason}); "
        f"{f'checkpoint {good} is good' if good is not None else 'there is none yet'}: "
        "make room and start the same command again to go on from there"
    )


class Damaged(UserError):
    """A checkpoint that is not what was saved."""


def restore(folders: list[Folder], abstract: State, cfg: Config) -> tuple[int, State] | None:
    """(step, state) of the newest checkpoint that is whole in any of the folders, onto any mesh; None: there is none.

    Damaged ones that are newer are moved away, after an older one was read: their steps are trained again.
    """
    steps = [(step, folder) for folder in folders for step in folder.ckpt.all_steps()]
    faults: list[tuple[int, Folder, Damaged]] = []
    for step, folder in sorted(steps, key=lambda place: -place[0]):
        try:
            state = restore_step(folder.ckpt, step, abstract, cfg, folder.identity)
        except Damaged as error:
            faults.append((step, folder, error))
            continue
        for damaged_step, of, fault in faults:
            place = move_away(of.ckpt, damaged_step)
            logging.warning(
                "CHECKPOINT %d IS DAMAGED AND TRAINING GOES BACK TO STEP %d: %s; it was moved to %s",
                damaged_step, step, without_way_out(fault), place,
            )  # fmt: skip
        logging.info("going on from %s/%d", folder.ckpt.directory, step)
        return step, state
    if faults:
        others = f"so are the {len(faults) - 1} older ones" if faults[1:] else "it is the only one"
        raise UserError(f"{without_way_out(faults[0][2])}, and {others}; move all away to go on from the start")
    return None


def move_away(ckpt: ocp.CheckpointManager, step: int) -> Path:
    """Out of the way of the checkpoint that this step will have."""
    folder = Path(ckpt.directory)
    place = folder.with_name(f"{folder.name}.damaged") / f"{step}-{uuid.uuid4().hex[:8]}"
    if jax.process_index() == 0:
        place.parent.mkdir(exist_ok=True)
        os.replace(folder / str(step), place)
    multihost_utils.sync_global_devices("moved a damaged checkpoint away")
    ckpt.reload()
    return place


def restore_step(ckpt: ocp.CheckpointManager, step: int, abstract: State, cfg: Config, identity: dict) -> State:
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
    return State(**read_items(ckpt, step, meta, **abstract._asdict()))


def read_items(ckpt: ocp.CheckpointManager, step: int, meta: dict, **abstract) -> dict:
    """Arrays of the named items, in the shapes and shardings asked for, after comparing their hashes with meta's."""
    args, items, fault = {name: ocp.args.StandardRestore(item) for name, item in abstract.items()}, {}, None
    try:
        items = ckpt.restore(step, args=ocp.args.Composite(**args))
    except Exception as error:
        fault = error
    end_together(ckpt, step, fault)
    for name, item in items.items():
        wanted = meta.get(NAME_OF_SUM[name])  # an older checkpoint has none
        if wanted and SUMS[name](item) != wanted:
            raise damaged(ckpt, step, f"its {name} are not those that were saved")
    return items


def read_meta(ckpt: ocp.CheckpointManager, step: int, cfg: Config) -> dict:
    """What is known about a checkpoint, after checking that it holds the config's model."""
    meta, saved, fault = {}, cfg.model, None
    try:
        meta = ckpt.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        checked(meta, Meta, f"meta of step {step}", "")
        if meta.get("meta_hash", meta_hash(meta)) != meta_hash(meta):
            raise ValueError("its meta is not what was saved")
        saved = config.from_saved({"model": meta["model"]}, f"meta of step {step}").model
    except Exception as error:
        fault = error
    end_together(ckpt, step, fault)
    if meta.get("format", 1) > config.FORMAT:
        raise UserError(
            f"{ckpt.directory}/{step} has format {meta['format']}, this version reads up to {config.FORMAT}; go on "
            f"with the version that wrote it ({as_text(meta.get('written_by'))})"
        )
    hf.check_same_model(saved, cfg.model, f"{ckpt.directory}/{step}")
    return meta


def end_together(ckpt: ocp.CheckpointManager, step: int, fault: Exception | None) -> None:
    """Where reading ended in a fault on any host, all hosts raise: else the others would wait for that one for ever.

    Damaged where it shows damage; where a host's machine is at fault an older state is no way out.
    """
    grades = hosts_faults(0 if fault is None else 2 if of_the_machine(fault) else 1)
    if grades.max() == 1:
        raise damaged(ckpt, step, fault or f"host {grades.argmax()} could not read it") from fault
    if grades.max() == 2:
        if fault is None or not of_the_machine(fault):
            fault = OSError(f"on host {grades.argmax()}, whose log tells why")
        raise UserError(
            f"{ckpt.directory}/{step} could not be read ({one_line(fault)}), which does not show damage; mend that and "
            "start the same command again"
        ) from fault


def hosts_faults(own: int) -> np.ndarray:
    """The number of every host."""
    return np.ravel(multihost_utils.process_allgather(np.array(own))) if jax.process_count() > 1 else np.array([own])


def damaged(ckpt: ocp.CheckpointManager, step: int, error: Exception | str) -> Damaged:
    others = [s for s in ckpt.all_steps() if s != step]
    return Damaged(
        f"{ckpt.directory}/{step} is damaged ({' '.join(str(error).split())[:200]}); move it away to go on from "
        f"{f'step {max(others)}' if others else 'the start'}"
    )


def without_way_out(fault: Damaged) -> str:
    return str(fault).rpartition("; ")[0]


def newest_step(workdir: Path, folder: str = CHECKPOINTS) -> int | None:
    return manager(workdir, folder=folder).latest_step() if (workdir / folder).is_dir() else None


def step_to_go_on_from(workdir: Path) -> int | None:
    """Of a training run; other jobs take newest_step."""
    return max((step for step in (newest_step(workdir), newest_step(workdir, RESUME)) if step), default=None)


def has_checkpoint(workdir: Path) -> bool:
    return newest_step(workdir) is not None


def restore_params(workdir: Path, abstract_params: dict, cfg: Config) -> dict:
    """Parameters of the newest checkpoint of a run."""
    ckpt = manager(workdir)
    step = ckpt.latest_step()
    meta = read_meta(ckpt, step, cfg)
    logging.info("parameters from %s/%d", ckpt.directory, step)
    return read_items(ckpt, step, meta, params=abstract_params)["params"]


def arrays(folder: Path) -> Iterator[tuple[Any, jax.Array]]:
    """(path, array) of one item of a checkpoint of any model, one after the other."""
    reader, place = ocp.PyTreeCheckpointer(), jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
        lambda of: jax.ShapeDtypeStruct(of.shape, of.dtype, sharding=place),
        reader.metadata(folder).item_metadata.tree,
        is_leaf=lambda of: hasattr(of, "shape"),
    )
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    for number, (path, _) in enumerate(leaves):
        others = [leaf if n == number else ocp.PLACEHOLDER for n, (_, leaf) in enumerate(leaves)]
        wanted = jax.tree.unflatten(jax.tree.structure(shapes), others)
        restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
        restored = reader.restore(folder, args=ocp.args.PyTreeRestore(wanted, restore_args))
        yield path, next(leaf for leaf in jax.tree.leaves(restored) if isinstance(leaf, jax.Array))
