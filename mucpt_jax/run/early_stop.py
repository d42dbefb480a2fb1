"""Stopping by held-out loss: how a reference model is made.  evaluation/cards.py writes of the model that is kept.

Only a state that is better on held-out rows than all before is saved, so the newest checkpoint is the best one, and a
run that was cut off, by SIGTERM too, goes on from there.  Files in the workdir:
    heldout.jsonl   {step, nll, sources} of every evaluation
    best.json       the state that is kept: step, hash, loss before and after; ended: by which rule training is over
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import jax

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import read_json, text_hash, write_json
from mucpt_jax.run import checkpoint, heldout, metrics


def check(cfg: Config) -> None:
    """Before anything is loaded: are there rows to judge by, and others than those that are trained on?"""
    rows, every = cfg.evaluate.rows, cfg.train.evaluate_every
    if every and not rows:
        raise UserError(
            "train.evaluate_every needs --config.evaluate.rows=FOLDER, rows that are not trained on; "
            "or train to the last step with --config.train.evaluate_every=0"
        )
    trained = [Path(folder).resolve() for folder in (cfg.data.domain, cfg.data.general) if folder]
    if every and Path(rows).resolve() in trained:
        raise UserError(f"evaluate.rows={rows} is trained on; name rows of other documents (data_prep --held_out)")


def judge(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path, start: int,
          params: dict) -> Callable[[int, dict], tuple[bool, bool]]:  # fmt: skip
    """Gives (step, params) -> (better than all before, patience is at its end); `params` are those of step `start`."""
    evaluate = heldout.evaluator(cfg, mesh)
    found = evaluate(params)
    best, since = heldout.overall(found), 0
    line = {"step": start, "nll": best, "sources": found}
    if start == 0 or not (workdir / "heldout.jsonl").is_file():
        note(workdir, start - 1, line)
    write_best(workdir, line, params)  # a kill may have come between a note of a better one and its checkpoint
    logging.info("held-out loss at step %d: %.4f nats a token", start, best)

    def at(step: int, params: dict) -> tuple[bool, bool]:
        nonlocal best, since
        found = evaluate(params)
        nll = heldout.overall(found)
        better = nll < best
        best, since = (nll, 0) if better else (best, since + 1)
        line = {"step": step, "nll": nll, "sources": found}
        note(workdir, step - 1, line)
        if better:
            write_best(workdir, line, params)
        patience = f"{since} of {cfg.train.patience} without a better one than {best:.4f}"
        logging.info(
            "held-out loss at step %d: %.4f nats a token, %s", step, nll, "the best so far" if better else patience
        )
        return better, since >= cfg.train.patience

    return at


def note(workdir: Path, after: int, line: dict) -> None:
    """Appends to heldout.jsonl; lines after step `after` are of a run that was cut off."""
    if jax.process_index() == 0:
        metrics.keep_until(workdir / "heldout.jsonl", after)
        with open(workdir / "heldout.jsonl", "a", encoding="utf-8") as file:
            file.write(metrics.to_json(line))


def write_best(workdir: Path, line: dict, params: dict) -> None:
    name = checkpoint.params_hash(params)  # all hosts compute it
    path = workdir / "best.json"
    if jax.process_index() == 0:
        before = read_json(path)["before"] if line["step"] and path.is_file() else line
        write_json(path, line | {"params_hash": name, "before": before, "ended": None})


def end(cfg: Config, workdir: Path, identity: dict) -> None:
    if jax.process_index() == 0:
        path = workdir / "best.json"
        write_json(path, read_json(path) | {"ended": rule_of(cfg, identity)})


def ended(cfg: Config, workdir: Path, start: int, identity: dict) -> bool:
    """Was this run, by the same rule, stopped early with the state of step `start` as the one that is kept?"""
    path = workdir / "best.json"
    if not cfg.train.evaluate_every or not path.is_file():
        return False
    found = read_json(path)
    return found["step"] == start and found["ended"] == rule_of(cfg, identity)


def rule_of(cfg: Config, identity: dict) -> dict:
    """What must be the same for a run that has ended to have nothing to do; identity: data.fingerprint."""
    rule = {name: getattr(cfg.train, name) for name in ("evaluate_every", "patience")}
    named = {"run": text_hash(json.dumps(identity, sort_keys=True)), "rows": cfg.evaluate.rows}
    return rule | named | {"steps": cfg.optimizer.steps}
