"""Held-out loss while training, and stopping by it: how a reference model is made.

Files in the workdir:
    heldout.jsonl   {step, nll, sources} of every evaluation, the start's too (metrics.jsonl has all others)
    best.json       with keep=best, the state that is kept: its step, hash of parameters, loss before and after; ended:
                    the rule by which training is over, or null.  evaluation/cards.py makes card.md of it.

With keep=best only a state that is better on held-out rows than all before is saved, so the newest checkpoint is the
best one, and a run that was cut off, by SIGTERM too, goes on from there.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_json, read_log
from mucpt_jax.formats.files import text_hash, write_json
from mucpt_jax.formats.results import Best
from mucpt_jax.formats.results import Evaluation as Line
from mucpt_jax.run import checkpoint, heldout, metrics


class Evaluation(NamedTuple):
    sources: dict[str, dict]  # of heldout.evaluator
    better: bool  # than all evaluations before
    last: bool  # patience is at its end


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
    run = checkpoint.saved_config(workdir)
    if run and run.train.keep == "best" and cfg.train.keep != "best" and checkpoint.has_checkpoint(workdir):
        raise UserError(
            f"{workdir} keeps its best state, now train.keep={cfg.train.keep}; go on with --config.train.keep=best "
            f"--config.train.patience={run.train.patience}, or start elsewhere with --config.init_from={workdir}"
        )


def evaluator(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path, start: int,
              params: dict) -> Callable[[int, dict], Evaluation]:  # fmt: skip
    """Gives (step, params) -> Evaluation, noted in the workdir; `params` are those of step `start`."""
    evaluate, keeps_best = heldout.evaluator(cfg, mesh), cfg.train.keep == "best"
    first = line_of(start, evaluate(params))
    earlier = [] if keeps_best or not start else nlls_until(workdir / "heldout.jsonl", start)
    best, since = min([first["nll"], *earlier]), 0
    if start == 0 or not (workdir / "heldout.jsonl").is_file():
        note(workdir, start - 1, first)
    if keeps_best:
        write_best(workdir, first, params)  # a kill may have come between the note of a better state and its checkpoint
    logging.info("held-out loss at step %d: %.4f nats a token", start, first["nll"])

    def at(step: int, params: dict) -> Evaluation:
        nonlocal best, since
        line = line_of(step, evaluate(params))
        better = line["nll"] < best
        best, since = (line["nll"], 0) if better else (best, since + 1)
        note(workdir, step - 1, line)
        if better and keeps_best:
            write_best(workdir, line, params)
        limit = f" of {cfg.train.patience}" if cfg.train.patience else ""
        rank = "the best so far" if better else f"{since}{limit} without a better one than {best:.4f}"
        logging.info("held-out loss at step %d: %.4f nats a token, %s", step, line["nll"], rank)
        return Evaluation(line["sources"], better, 0 < cfg.train.patience <= since)

    return at


def nlls_until(path: Path, step: int) -> list[float]:
    return [line["nll"] for line in read_log(path, Line) if line["step"] <= step]


def line_of(step: int, sources: dict[str, dict]) -> dict:
    return {"step": step, "nll": heldout.overall(sources), "sources": sources}


def note(workdir: Path, after: int, line: dict) -> None:
    """Appends to heldout.jsonl; lines after step `after` are of a run that was cut off."""
    if jax.process_index() == 0:
        metrics.keep_until(workdir / "heldout.jsonl", after)
        metrics.append(workdir / "heldout.jsonl", metrics.to_json(line))


def read_best(workdir: Path) -> Best:
    return read_json(workdir / "best.json", Best, "move it away, then the next better state writes it anew")


def write_best(workdir: Path, line: dict, params: dict) -> None:
    name = checkpoint.params_hash(params)  # all hosts compute it
    path = workdir / "best.json"
    if jax.process_index() == 0:
        before = read_best(workdir)["before"] if line["step"] and path.is_file() else line
        write_json(path, line | {"params_hash": name, "before": before, "ended": None})


def end(cfg: Config, workdir: Path, identity: dict) -> None:
    if jax.process_index() == 0:
        path = workdir / "best.json"
        write_json(path, read_best(workdir) | {"ended": rule_of(cfg, identity)})


def ended(cfg: Config, workdir: Path, start: int, identity: dict) -> bool:
    """Was this run, by the same rule, stopped early with the state of step `start` as the one that is kept?"""
    path = workdir / "best.json"
    if cfg.train.keep != "best" or not path.is_file():
        return False
    best, rule = read_best(workdir), rule_of(cfg, identity)
    if start:  # checkpoint.restore has compared the identity, whose hash changes with the knobs that there are
        del rule["run"]
    return best["step"] == start and best["ended"] is not None and rule.items() <= best["ended"].items()


def rule_of(cfg: Config, identity: dict) -> dict:
    """What must be as it was for a run that has ended to be over still; identity: data.fingerprint."""
    return {
        "evaluate_every": cfg.train.evaluate_every,
        "patience": cfg.train.patience,
        "run": text_hash(json.dumps(identity, sort_keys=True)),
        "rows": cfg.evaluate.rows,
        "steps": cfg.optimizer.steps,
    }
