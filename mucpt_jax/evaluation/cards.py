"""card.md of a reference model: what it is, what it was trained on, what it knows.  Plain files: no jax here."""

import math
from pathlib import Path

from mucpt_jax import config
from mucpt_jax.formats import version
from mucpt_jax.formats.decode import read_json, read_lines
from mucpt_jax.formats.files import write_text
from mucpt_jax.formats.manifest import load_manifest
from mucpt_jax.formats.results import Best, Evaluated, Prediction


def write_card(workdir: Path) -> None:
    """card.md: what the model is, what it was trained on, what it knows.  Nothing where no best.json stands."""
    if not (workdir / "best.json").is_file():
        return
    best, saved = read_json(workdir / "best.json", Best), read_json(workdir / "config.json", dict)
    cfg = config.from_saved(saved)
    folder = cfg.data.domain or cfg.data.general
    seed = [f"| {name} | {s['documents']:,} | {s['targets']:,} |" for name, s in sources_of(folder).items()]
    before = best["before"]["sources"]
    losses = [
        f"| {name} | {s['tokens']:,} | {before[name]['nll'] if name in before else math.nan:.4f} | {s['nll']:.4f} |"
        for name, s in best["sources"].items()
    ]
    text = [
        f"# Reference model {best['params_hash']}\n",
        f"{cfg.model.name} from {cfg.init_from or 'random parameters'}, step {best['step']} "
        f"(held-out loss {best['before']['nll']:.4f} -> {best['nll']:.4f} nats a token), "
        f"peak lr {cfg.optimizer.peak_lr}, T={cfg.data.sequence_length}; "
        f"{version.as_text(saved.get('written_by'))}.\n",
        f"## Seed: {folder}\n",
        "| source | documents | target tokens |\n|---|---|---|", *seed,
        f"\n## Held-out loss, nats a token: {cfg.evaluate.rows}\n",
        "| source | target tokens | before | after |\n|---|---|---|---|", *losses,
        f"\n## Probes\n\n{probes(workdir, best['params_hash'])}",
    ]  # fmt: skip
    write_text(workdir / "card.md", "\n".join(text) + "\n")


def sources_of(folder: str | None) -> dict:
    """The seed's sources; empty where its rows are not here any more."""
    return load_manifest(folder)["sources"] if folder and (Path(folder) / "manifest.json").is_file() else {}


def probes(workdir: Path, params_hash: str) -> str:
    path = workdir / "evaluate.json"
    answered: Evaluated = read_json(path, Evaluated, "evaluate again") if path.is_file() else {}
    grades = answered.get("questions")
    if not grades or answered.get("params_hash") != params_hash:
        return "Not asked yet: `--job=evaluate --config.evaluate.questions=FILE`."
    shown = read_lines(workdir / "predictions.jsonl", Prediction, "evaluate again")[:10]
    table = [f"| {cell(p['question'])} | {cell(p['answer'])} | {cell(p['prediction'])} |" for p in shown]
    return "\n".join([
        "{k} of {n} answered right: {accuracy:.4f} (95% {low:.4f}..{high:.4f}).  The first ones:\n".format(**grades),
        "| question | answer | the model's |\n|---|---|---|", *table,
    ])  # fmt: skip


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
