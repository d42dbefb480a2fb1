"""Held-out loss while training, and stopping by it: how a reference model is made.

Files in the workdir:
    heldout.jsonl   {step, nll, sources} of every evaluation, the start's too (metrics.jsonl has all others); with
                    keep=best params_hash too where a state was better than all before
    best.json       with keep=best, the state that is kept: its step, hash of parameters, loss before and after; ended:
                    the rule by which training is over, or null.  evaluation/cards.py makes card.md of it.

    resume/         with keep=best, the newest state: to go on from, and for nothing else; empty when training is over

With keep=best only a state that is better on held-out rows than all before stands in checkpoints/, so the newest
checkpoint is the best one.  A run that was cut off goes on from the newest of both folders; heldout.jsonl up to that
step says which state is the best and how many evaluations ago it was.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from mucpt_jax.config import Config, changed
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_json, read_log
from mucpt_jax.formats.files import text_hash, write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.results import Best, Noted
from mucpt_jax.run import checkpoint, heldout, lineage, metrics
from mucpt_jax.run.checkpoint import Folder


class Evaluation(NamedTuple):
    sources: dict[str, dict]  # of heldout.evaluator
    better: bool  # than all evaluations before
    last: bool  # patience is at its end


def resume(cfg: Config, workdir: Path, identity: dict) -> Folder | None:
    """WORKDIR/resume, with keep=best.  What was the best by other rows is no measure: they belong to the identity."""
    if cfg.train.keep != "best":
        return None
    rows = text_hash(json.dumps([shard["sha256"] for shard in read_manifest(cfg.evaluate.rows)["shards"]]))
    ckpt = checkpoint.manager(workdir, changed(cfg, {"train.keep_checkpoints": 1}), checkpoint.RESUME)
    return Folder(ckpt, identity | {"heldout_rows": rows})


def place(kept: Folder, resume: Folder | None, due: bool, better: bool, over: bool) -> Folder | None:
    """Where a state is saved, if at all.  With keep=best a better one is kept, others are to go on from."""
    if resume is None:
        return kept if due else None
    return kept if better else resume if due and not over else None


def save(folder: Folder, kept: Folder, step: int, state: checkpoint.State, cfg: Config) -> None:
    """Returns before all is written.  A state to go on from counts on the kept one before it: that is on disk first."""
    if folder is not kept:
        checkpoint.finish(kept.ckpt, step)
    checkpoint.save(folder.ckpt, step, state, cfg, folder.identity)


def check(cfg: Config, workdir: Path) -> None:
    """Before anything is loaded: are there rows to evaluate on, and others than those that are trained on?"""
    rows, every = cfg.evaluate.rows, cfg.train.evaluate_every
    if every and not rows:
        raise UserError(
            "train.evaluate_every needs --config.evaluate.rows=FOLDER, rows that are not trained on; "
            "or train without evaluations: --config.train.evaluate_every=0"
        )
    trained = [Path(folder).resolve() for folder in (cfg.data.domain, cfg.data.general) if folder]
    if every and Path(rows).resolve() in trained:
        raise UserError(f"evaluate.rows={rows} is trained on; name rows of other documents (data_prep --held_out)")
    run = lineage.saved_config(workdir)
    if run and run.train.keep == "best" and cfg.train.keep != "best" and checkpoint.step_to_go_on_from(workdir):
        raise UserError(
            f"{workdir} keeps its best state, now train.keep={cfg.train.keep}; go on with --config.train.keep=best "
            f"--config.train.patience={run.train.patience}, or start elsewhere with --config.init_from={workdir}"
        )


def evaluator(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path, start: int,
              params: dict) -> Callable[[int, dict], Evaluation]:  # fmt: skip
    """Gives (step, params) -> Evaluation, noted in the workdir; `params` are those of step `start`."""
    kept, newest = checkpoint.newest_step(workdir), checkpoint.newest_step(workdir, checkpoint.RESUME)
    evaluate, keeps_best = heldout.evaluator(cfg, mesh), cfg.train.keep == "best"
    earlier = lines_until(workdir / "heldout.jsonl", start)
    if keeps_best and start == newest and start > (kept or 0):
        best, since = standing(workdir, earlier, kept)
    else:
        best, since = begin(workdir, line_of(start, evaluate(params)), params, earlier, keeps_best)

    def at(step: int, params: dict) -> Evaluation:
        nonlocal best, since
        line = line_of(step, evaluate(params))
        better = line["nll"] < best
        best, since = (line["nll"], 0) if better else (best, since + 1)
        if better and keeps_best:
            line["params_hash"] = checkpoint.params_hash(params)  # all hosts compute it
        note(workdir, step - 1, line)
        if better and keeps_best:
            write_best(workdir, line)
        limit = f" of {cfg.train.patience}" if cfg.train.patience else ""
        rank = "the best so far" if better else f"{since}{limit} without a better one than {best:.4f}"
        logging.info("held-out loss at step %d: %.4f nats a token, %s", step, line["nll"], rank)
        return Evaluation(line["sources"], better, 0 < cfg.train.patience <= since)

    return at


def begin(workdir: Path, first: dict, params: dict, earlier: list[dict], keeps_best: bool) -> tuple[float, int]:
    """(best loss, evaluations since) of a start whose state was just evaluated; with keep=best it is the best."""
    start = first["step"]
    if keeps_best:
        first["params_hash"] = checkpoint.params_hash(params)
    if keeps_best or start == 0 or not earlier:
        note(workdir, start - 1, first)
    if keeps_best:
        write_best(workdir, first)  # a kill may have come between the note of a better state and its checkpoint
    logging.info("held-out loss at step %d: %.4f nats a token", start, first["nll"])
    return min([first["nll"], *(line["nll"] for line in earlier if start and not keeps_best)]), 0


def standing(workdir: Path, earlier: list[dict], kept: int | None) -> tuple[float, int]:
    """(best loss, evaluations since) of a run that goes on from resume/; best.json is made to name the kept state."""
    marked = [line for line in earlier if "params_hash" in line]
    if not marked:
        raise UserError(
            f"{workdir}/heldout.jsonl does not say which state is the best; put it back, or move {workdir}/resume away "
            "to go on from the best state"
        )
    best = next((line for line in marked if line["step"] == kept), marked[0])  # none kept: the start is the best
    write_best(workdir, best)
    since = sum(line["step"] > best["step"] for line in earlier)
    logging.info("the best so far is step %d: %.4f nats a token, %d evaluations ago", best["step"], best["nll"], since)
    return best["nll"], since


def lines_until(path: Path, step: int) -> list[dict]:
    return [line for line in read_log(path, Noted) if line["step"] <= step]


def line_of(step: int, sources: dict[str, dict]) -> dict:
    return {"step": step, "nll": heldout.overall(sources), "sources": sources}


def note(workdir: Path, after: int, line: dict) -> None:
    """Appends to heldout.jsonl; lines after step `after` are of a run that was cut off."""
    if jax.process_index() == 0:
        metrics.keep_until(workdir / "heldout.jsonl", after)
        metrics.append(workdir / "heldout.jsonl", metrics.to_json(line))


def read_best(workdir: Path) -> Best:
    return read_json(workdir / "best.json", Best, "move it away, then the next better state writes it anew")


def write_best(workdir: Path, line: dict) -> None:
    path = workdir / "best.json"
    if jax.process_index() == 0:
        plain = {key: value for key, value in line.items() if key != "params_hash"}
        before = read_best(workdir)["before"] if line["step"] and path.is_file() else plain
        write_json(path, line | {"before": before, "ended": None})


def end(cfg: Config, workdir: Path, kept: Folder, resume: Folder) -> None:
    """Notes that training is over; there is nothing to go on from any more."""
    if jax.process_index() == 0:
        path = workdir / "best.json"
        write_json(path, read_best(workdir) | {"ended": rule_of(cfg, kept.identity)})
    for step in resume.ckpt.all_steps():
        resume.ckpt.delete(step)


def ended(cfg: Config, workdir: Path, start: int, kept: int, identity: dict) -> bool:
    """Was this run, by the same rule, stopped early with the state of step `kept`?  `start` has been restored."""
    path = workdir / "best.json"
    if cfg.train.keep != "best" or not path.is_file():
        return False
    run = lineage.saved_config(workdir)
    if not start and run and run.init_from != cfg.init_from:  # the best is the start, and this one has another
        return False
    best, rule = read_best(workdir), rule_of(cfg, identity)
    if start:  # checkpoint.restore has compared the identity, whose hash changes with the knobs that there are
        del rule["run"]
    return best["step"] == kept and best["ended"] is not None and rule.items() <= best["ended"].items()


def rule_of(cfg: Config, identity: dict) -> dict:
    """What must be as it was for a run that has ended to be over still; identity: data.fingerprint."""
    return {
        "evaluate_every": cfg.train.evaluate_every,
        "patience": cfg.train.patience,
        "run": text_hash(json.dumps(identity, sort_keys=True)),
        "rows": cfg.evaluate.rows,
        "steps": cfg.optimizer.steps,
    }
