"""What a run of the ablation does on the way: the project's own jobs, called one after the other in one process."""

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags

from ablation import scores, world
from data_prep import agree, shard
from mucpt_jax import checks, config, evaluate, score, train
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.step import sharding

BATCH_ROWS = 16


class Budget(NamedTuple):
    base: int = 1000  # optimiser steps
    steps: int = 576  # of continued pretraining
    peak_lr: float = 4e-3  # of all trainings


class Place(NamedTuple):
    """One seed's world: where its files lie and what it is trained with."""

    folder: Path
    tokenizer: Path
    seed: int
    size: world.Size
    budget: Budget
    mesh: jax.sharding.Mesh

    def rows(self, role: str) -> str:
        return str(self.folder / "rows" / role)


def start(folder: Path) -> jax.sharding.Mesh:
    """One device, the compile cache, the log file, the tokenizer."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads absl's flags
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(folder.absolute() / "compile_cache"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    logging.basicConfig(filename=folder / "log.txt", level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        world.write_tokenizer(folder / "tokenizer")
    return sharding.make_mesh(config.Config(), jax.devices()[:1])


def prepare(place: Place) -> None:
    """Documents, then rows of each role."""
    raw = place.folder / "raw"
    if not (raw / "questions.jsonl").is_file():  # written last
        world.write(raw, place.seed, place.size)
    with open(place.folder / "shard.txt", "a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        for role in sorted(path.name for path in raw.iterdir() if path.is_dir()):
            if not Path(place.rows(role), "manifest.json").is_file():
                shard.run(
                    [f"--input={raw / role}", f"--output={place.rows(role)}",
                     f"--tokenizer={place.tokenizer}", f"--sequence_length={world.LENGTH}"]
                )  # fmt: skip


def config_of(place: Place, steps: int, changes: dict) -> config.Config:
    """A model of 130,000 parameters and what all runs share; changes: {"data.domain": FOLDER, ...}."""
    c = config.default("tiny")
    c.seed, c.tokenizer = place.seed, str(place.tokenizer)
    c.model.vocab_size = -(-len(world.vocabulary()) // 16) * 16  # products of odd sizes are slow
    c.loss.vocab_parts = 1
    c.data.sequence_length, c.data.batch_rows, c.data.read_threads = world.LENGTH, BATCH_ROWS, 2
    c.train.compute_dtype, c.train.remat, c.train.log_every = "float32", "none", 24
    c.optimizer.steps, c.optimizer.warmup_fraction = steps, 0.05
    c.optimizer.peak_lr, c.optimizer.final_lr = place.budget.peak_lr, place.budget.peak_lr / 10
    c.score.batch_rows = c.evaluate.batch_rows = 64
    c.evaluate.rows, c.evaluate.questions = place.rows("heldout"), str(place.folder / "raw/questions.jsonl")
    c.evaluate.prompt, c.evaluate.stop = "{question}", "."
    c.evaluate.max_new_tokens, c.evaluate.batch_questions = max(world.LENGTHS.values()) + 1, 475
    c.update_from_flattened_dict(changes)
    return checks.build(c)


def base(place: Place, workdir: Path) -> None:
    """The general model that everything of this seed starts from; its scores; the oracle's."""
    prepare(place)
    changes = {"data.general": place.rows("base"), "data.general_fraction": 1.0, "loss.kind": "ntp"}
    cfg = config_of(place, place.budget.base, changes)
    train.train(cfg, place.mesh, workdir)
    score_rows(place, "domain", cfg, workdir, place.folder / "scored_base")
    documents = place.folder / "raw" / "domain"
    scores.write_oracle(Path(place.rows("domain")), documents, place.folder / "scored_oracle")
    evaluate.evaluate(cfg, place.mesh, workdir)  # last: where evaluate.json stands, all stands


def reference(place: Place, regime: str, workdir: Path) -> None:
    """The regime's reference model; its scores of the domain rows, without and with seed documents mixed in, the same
    with agreement, their ratio to the base model's, and smoothed over neighbours."""
    seed = place.rows(f"seed_{regime}")
    rows = sum(shard["records"] for shard in read_manifest(seed)["shards"])
    steps = max(1, round(world.REGIMES[regime].epochs * rows / BATCH_ROWS))
    start = str(place.folder / "base")
    changes = {"data.domain": seed, "data.general_fraction": 0.0, "loss.kind": "ntp", "init_from": start}
    cfg = config_of(place, steps, changes)
    train.train(cfg, place.mesh, workdir)
    for role, name in (("domain", "scored"), (f"mixed_{regime}", "scored_mixed")):
        scored = workdir.parent / name
        score_rows(place, role, cfg, workdir, scored)
        write_agreed(place, scored, workdir.parent / name.replace("scored", "agreed"))
    scored = workdir.parent / "scored"
    scores.write_ratio(scored, place.folder / "scored_base", workdir.parent / "scored_ratio")
    write_smoothed(place, scored)
    evaluate.evaluate(cfg, place.mesh, workdir)


def score_rows(place: Place, role: str, cfg: config.Config, workdir: Path, output: Path) -> None:
    folders = config.Score(input=place.rows(role), output=str(output), batch_rows=64)
    score.score(dataclasses.replace(cfg, score=folders), place.mesh, workdir)


def write_agreed(place: Place, scored: Path, output: Path) -> None:
    if not (output / "manifest.json").is_file():
        names, tokenizer = str(place.folder / "raw" / "names.txt"), str(place.tokenizer)
        agree.agree(agree.Job(str(scored), str(output), names, tokenizer))


def write_smoothed(place: Place, scored: Path) -> None:
    """r over neighbours, in folders beside the scored one: over tokens, over names, and the sum of two weights."""
    starts = scores.name_starts(place.tokenizer, place.folder / "raw/names.txt")
    folders = {
        name: scored.parent / f"smooth_{name}" for name in ("mean", "median", "names_mean", "names_median", "mix")
    }
    for kind in ("mean", "median"):
        scores.write_smoothed(scored, folders[kind], kind)
        scores.write_smoothed(scored, folders[f"names_{kind}"], kind, starts)
    scores.write_mix(folders["mean"], folders["median"], folders["mix"])


def continued(place: Place, domain: str, role: str, changes: dict, workdir: Path) -> None:
    """Continued pretraining from the base model on the domain rows of a folder, and its evaluation; role: of the
    documents in the rows."""
    folders = {"data.domain": domain, "data.general": place.rows("general"), "init_from": str(place.folder / "base")}
    cfg = config_of(place, place.budget.steps, folders | changes)
    train.train(cfg, place.mesh, workdir)
    if cfg.loss.kind == "mucpt":
        weights = scores.mean_weights(Path(domain), place.folder / "raw" / role, cfg)
        write_json(workdir / "weights.json", weights)
    evaluate.evaluate(cfg, place.mesh, workdir)
