"""Stopping by held-out loss, and the card of the model that is kept: how a reference model is made.

Only a state that is better on held-out rows than all before is saved, so the newest checkpoint is the best one, and a
run that goes on goes on from there.  Files in the workdir:
    heldout.jsonl   {step, nll, sources} of every evaluation
    best.json       the state that is kept: step, hash, loss before and after; ended: training is over
    card.md         the same for people, with probes once the evaluate job has asked them
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import jax

from mucpt_jax import checkpoint, heldout, metrics, records
from mucpt_jax.config import Config


def judge(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path, start: int,
          params: dict) -> Callable[[int, dict], tuple[bool, bool]]:  # fmt: skip
    """Gives (step, params) -> (better than all before, patience is at its end); `params` are those of step `start`."""
    evaluate = heldout.evaluator(cfg, mesh)
    first = evaluate(params)
    best, since = heldout.overall(first), 0
    if start == 0:
        note(workdir, -1, {"step": 0, "nll": best, "sources": first})
        write_best(cfg, workdir, {"step": 0, "nll": best, "sources": first}, params)
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
            write_best(cfg, workdir, line, params)
        told = (
            "the best so far"
            if better
            else f"{since} of {cfg.train.patience} without a better one than {best:.4f}"
        )
        logging.info("held-out loss at step %d: %.4f nats a token, %s", step, nll, told)
        return better, since >= cfg.train.patience

    return at


def note(workdir: Path, after: int, line: dict) -> None:
    """Appends to heldout.jsonl; lines after step `after` are of a run that was cut off."""
    if jax.process_index() == 0:
        metrics.keep_until(workdir / "heldout.jsonl", after)
        with open(workdir / "heldout.jsonl", "a", encoding="utf-8") as file:
            file.write(metrics.to_json(line))


def write_best(cfg: Config, workdir: Path, line: dict, params: dict) -> None:
    name = checkpoint.params_hash(params)  # all hosts compute it
    if jax.process_index() > 0:
        return
    path = workdir / "best.json"
    before = records.read_json(path)["before"] if line["step"] else line
    records.write_json(path, line | {"params_hash": name, "before": before, "ended": None})


def end(cfg: Config, workdir: Path) -> None:
    if jax.process_index() == 0:
        path = workdir / "best.json"
        records.write_json(path, records.read_json(path) | {"ended": cfg.optimizer.steps})
        write_card(workdir)


def ended(cfg: Config, workdir: Path, start: int) -> bool:
    """Was this run stopped early already, with the checkpoint of step `start` as the one that is kept?"""
    path = workdir / "best.json"
    if not cfg.train.evaluate_every or not path.is_file():
        return False
    found = records.read_json(path)
    return found["step"] == start and found["ended"] == cfg.optimizer.steps


def write_card(workdir: Path) -> None:
    """card.md: what the model is, what it was trained on, what it knows.  Nothing where no best.json stands."""
    if not (workdir / "best.json").is_file():
        return
    best, cfg = records.read_json(workdir / "best.json"), records.read_json(workdir / "config.json")
    folder = cfg["data"]["domain"] or cfg["data"]["general"]
    manifest = records.read_manifest(folder)
    seed = [f"| {name} | {s['documents']:,} | {s['targets']:,} |" for name, s in manifest["sources"].items()]
    losses = [
        f"| {name} | {s['tokens']:,} | {best['before']['sources'][name]['nll']:.4f} | {s['nll']:.4f} |"
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
        f"\n## Probes\n\n{probes(workdir)}",
    ]  # fmt: skip
    (workdir / "card.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def probes(workdir: Path) -> str:
    path = workdir / "evaluate.json"
    found = records.read_json(path).get("questions") if path.is_file() else None
    if not found:
        return "Not asked yet: `--job=evaluate --config.evaluate.questions=FILE`."
    lines = (workdir / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    shown = [json.loads(line) for line in lines[:10]]
    table = [f"| {cell(p['question'])} | {cell(p['answer'])} | {cell(p['prediction'])} |" for p in shown]
    return "\n".join([
        "{k} of {n} answered right: {accuracy:.4f} (95% {low:.4f}..{high:.4f}).  The first ones:\n".format(**found),
        "| question | answer | the model's |\n|---|---|---|", *table,
    ])  # fmt: skip


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
