"""What the demo found: a row per objective, with the mean weight on noise and on the rest."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import numpy as np

from demo.noise import noise_slots
from mucpt_jax import config
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import read_shard, target_mask
from mucpt_jax.formats.version import written_by
from mucpt_jax.run import data
from mucpt_jax.step import objective

ROLES = ("seed", "domain", "general", "heldout")
GRADES = ("k", "n", "accuracy", "low", "high")
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "apache-beam", "transformers")


def collect(run: Path, corpus: dict, objectives: tuple[str, ...], seconds: float) -> dict:
    """Reads what the jobs wrote; writes and returns RUN/results.json."""
    noise = noise_slots(run, corpus["tokenizer"])
    compared = read_json(run / "compared" / "compare.json")["questions"]
    questions = {Path(q["run"]).name: {key: q[key] for key in GRADES} for q in compared if q["where"] == "all"}
    rows = []
    for name in ("base", "reference", *objectives):
        evaluated = read_json(run / name / "evaluate.json")
        row = {"objective": name, "questions": questions[name]}
        row["heldout"] = {source: s["nll"] for source, s in evaluated["heldout"].items()}
        if name in objectives:
            row |= mean_weights(run, name, noise["slots"])
        rows.append(row)
    table = {
        "rows": rows,
        "noise_spans": noise["spans"],
        "corpus": corpus,
        "counts": {role: read_json(run / "data" / role / "counts.json") for role in ROLES},
        "seconds": round(seconds, 1),
        "machine": machine(),
        "written_by": written_by(),
        "date": datetime.date.today().isoformat(),
    }
    write_json(run / "results.json", table)
    return table


def mean_weights(run: Path, name: str, slots: dict) -> dict:
    """Mean weight of noise tokens and of the other domain tokens, by the training's own weight function.

    rho1's selection depends on the model in training: here it is the start model's, batch by batch.
    """
    cfg = config.from_saved(read_json(run / name / "config.json"))
    loss = data.resolved_loss(cfg)
    sums = {True: [0.0, 0], False: [0.0, 0]}
    for batch, nll_BT, noise_BT in scored_batches(run, cfg, slots):
        weight_BT = np.asarray(objective.token_weights(nll_BT, batch, loss))
        mask_BT = target_mask(batch["segment_ids"])
        for is_noise, total in sums.items():
            chosen = mask_BT & (noise_BT == is_noise)
            total[0] += float(weight_BT[chosen].sum())
            total[1] += int(chosen.sum())
    return {
        "weight_noise": sums[True][0] / max(sums[True][1], 1),
        "weight_rest": sums[False][0] / max(sums[False][1], 1),
        "noise_tokens": sums[True][1],
        "rest_tokens": sums[False][1],
    }


def scored_batches(run: Path, cfg: config.Config, slots: dict):
    """(batch, the start model's nll [B, T], is noise [B, T]) over all domain rows, in the training's batch size."""
    held, folder = [], run / "data" / "domain"
    for shard in read_manifest(folder / "scored")["shards"]:
        pair = [
            read_shard(folder / name / shard["name"], cfg.data.sequence_length) for name in ("scored", "scored_base")
        ]
        for number, (row, base) in enumerate(zip(*pair, strict=True)):
            held.append((row, base["rm_nll"][1:], slots[shard["name"], number][1:]))
    np.random.default_rng(cfg.seed).shuffle(held)  # in training, batches mix the sources
    for start in range(0, len(held), cfg.data.batch_rows):
        part = held[start : start + cfg.data.batch_rows]
        batch = {name: np.stack([row[name] for row, _, _ in part]) for name in part[0][0]}
        batch["is_domain"] = np.ones(len(part), bool)
        nll_BT = np.nan_to_num(np.stack([nll for _, nll, _ in part]).astype(np.float32))
        yield batch, nll_BT, np.stack([noise for _, _, noise in part])


def machine() -> dict:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"cores": os.cpu_count(), "cpu": cpu_name(), "python": platform.python_version(), **versions}


def cpu_name() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cells(table: dict) -> list[list[str]]:
    """The table's head and rows as text, for the terminal and for the report."""
    sources = list(table["rows"][0]["heldout"])
    names = [source.removeprefix("heldout_") for source in sources]
    lines = [["objective", *names, "questions", "95%", "w noise", "w rest"]]
    for row in table["rows"]:
        q = row["questions"]
        heldout = [f"{row['heldout'][source]:.3f}" for source in sources]
        weights = [f"{row[k]:.3f}" if k in row else "-" for k in ("weight_noise", "weight_rest")]
        interval = f"{q['low']:.2f}-{q['high']:.2f}"
        lines.append([row["objective"], *heldout, f"{q['k']}/{q['n']}", interval, *weights])
    return lines


def as_text(table: dict) -> str:
    lines = cells(table)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
