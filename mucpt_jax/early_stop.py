"""Stopping by held-out loss, and the card of the model that is kept: how a reference model is made.

Only a state that is better on held-out rows than all before is saved, so the newest checkpoint is the best one, and a
run that was cut off, by SIGTERM too, goes on from there.  Files in the workdir:
    heldout.jsonl   {step, nll, sources} of every evaluation
    best.json       the state that is kept: step, hash, loss before and after; ended: by which rule training is over
    card.md         the same for people, with probes once the evaluate job has asked them
"""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import jax

from mucpt_jax import checkpoint, heldout, metrics, records
from mucpt_jax.config import Config
from mucpt_jax.records import UserError


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
        raise UserError(
            f"evaluate.rows={rows} is trained on; name rows of other documents (data_prep --held_out)"
        )


def judge(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path, start: int,
          params: dict) -> Callable[[int, dict], tuple[bool, bool]]:  # fmt: skip
    """Gives (step, params) -> (better than all before, patience is at its end); `params` are those of step `start`."""
    evaluate = heldout.evaluator(cfg, mesh)
    found = evaluate(params)
    best, since = heldout.overall(found), 0
    line = {"step": start, "nll": best, "sources": found}
    if start == 0 or not (workdir / "heldout.jsonl").is_file():
        note(workdir, start - 1, line)
    write_best(
        workdir, line, params
    )  # a kill may have come between a note of a better one and its checkpoint
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
            "held-out loss at step %d: %.4f nats a token, %s",
            step,
            nll,
            "the best so far" if better else patience,
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
        before = records.read_json(path)["before"] if line["step"] and path.is_file() else line
        records.write_json(path, line | {"params_hash": name, "before": before, "ended": None})


def end(cfg: Config, workdir: Path, identity: dict) -> None:
    if jax.process_index() == 0:
        path = workdir / "best.json"
        records.write_json(path, records.read_json(path) | {"ended": rule_of(cfg, identity)})
        write_card(workdir)


def ended(cfg: Config, workdir: Path, start: int, identity: dict) -> bool:
    """Was this run, by the same rule, stopped early with the state of step `start` as the one that is kept?"""
    path = workdir / "best.json"
    if not cfg.train.evaluate_every or not path.is_file():
        return False
    found = records.read_json(path)
    return found["step"] == start and found["ended"] == rule_of(cfg, identity)


def rule_of(cfg: Config, identity: dict) -> dict:
    """What must be the same for a run that has ended to have nothing to do; identity: data.fingerprint."""
    rule = {name: getattr(cfg.train, name) for name in ("evaluate_every", "patience")}
    named = {"run": records.text_hash(json.dumps(identity, sort_keys=True)), "rows": cfg.evaluate.rows}
    return rule | named | {"steps": cfg.optimizer.steps}


def write_card(workdir: Path) -> None:
    """card.md: what the model is, what it was trained on, what it knows.  Nothing where no best.json stands."""
    if not (workdir / "best.json").is_file():
        return
    best, cfg = records.read_json(workdir / "best.json"), records.read_json(workdir / "config.json")
    folder = cfg["data"]["domain"] or cfg["data"]["general"]
    seed = [f"| {name} | {s['documents']:,} | {s['targets']:,} |" for name, s in sources_of(folder).items()]
    before = best["before"]["sources"]
    losses = [
        f"| {name} | {s['tokens']:,} | {before[name]['nll'] if name in before else math.nan:.4f} | {s['nll']:.4f} |"
        for name, s in best["sources"].items()
    ]
    text = [
        f"# Reference model {best['params_hash']}\n",
        f"{cfg['model']['name']} from {cfg['init_from'] or 'random parameters'}, step {best['step']} "
        f"(held-out loss {best['before']['nll']:.4f} -> {best['nll']:.4f} nats a token), "
        f"peak lr {cfg['optimizer']['peak_lr']}, T={cfg['data']['sequence_length']}.\n",
        f"## Seed: {folder}\n",
        "| source | documents | target tokens |\n|---|---|---|", *seed,
        f"\n## Held-out loss, nats a token: {cfg['evaluate']['rows']}\n",
        "| source | target tokens | before | after |\n|---|---|---|---|", *losses,
        f"\n## Probes\n\n{probes(workdir, best['params_hash'])}",
    ]  # fmt: skip
    (workdir / "card.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def sources_of(folder: str) -> dict:
    """The seed's sources; empty where its rows are not here any more."""
    path = Path(folder) / "manifest.json"
    return records.read_json(path)["sources"] if path.is_file() else {}


def probes(workdir: Path, params_hash: str) -> str:
    path = workdir / "evaluate.json"
    answered = records.read_json(path) if path.is_file() else {}
    found = answered.get("questions")
    if not found or answered["params_hash"] != params_hash:
        return "Not asked yet: `--job=evaluate --config.evaluate.questions=FILE`."
    lines = (workdir / "predictions.jsonl").read_text(encoding="utf-8").split("\n")
    shown = [json.loads(line) for line in lines[:10] if line]
    table = [f"| {cell(p['question'])} | {cell(p['answer'])} | {cell(p['prediction'])} |" for p in shown]
    return "\n".join([
        "{k} of {n} answered right: {accuracy:.4f} (95% {low:.4f}..{high:.4f}).  The first ones:\n".format(**found),
        "| question | answer | the model's |\n|---|---|---|", *table,
    ])  # fmt: skip


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
