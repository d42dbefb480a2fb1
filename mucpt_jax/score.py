"""The score job: the reference model writes -log p_RM of every target token, shard by shard.

A shard whose note stands in parts/ is done: a job that was killed goes on with the next shard.  Several processes that
do not know of each other may share the shards (score.worker of score.workers).  Scores are kept, never weights, so that
floor, alpha and caps can still be changed for training.
"""

import functools
import json
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.formats import rows, score_sums
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import clear_unfinished, copy_file, hash_of, text_hash, write_json
from mucpt_jax.formats.manifest import check_content, index_path, read_manifest, shared_documents
from mucpt_jax.formats.results import Best
from mucpt_jax.formats.version import written_by
from mucpt_jax.run import checkpoint, data, lineage, tokenizers
from mucpt_jax.step import losses, sharding

OVERWRITTEN = ("*.array_record", "manifest.json", "index.parquet")  # by this job


def score(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    """Rows in score.input -> scored rows in score.output, with the model of workdir (or init_from)."""
    manifest, worker = open_input(cfg), cfg.score.worker
    tokenizers.check(cfg.score.input, lineage.folders(cfg, workdir))
    params = lineage.load_params(cfg, mesh, workdir)
    own = Path(cfg.score.output) / "parts" / f"worker-{worker}"
    with checkpoint.alone(own, f"{cfg.score.output}, shards of score.worker={worker},"):
        score_shards(cfg, manifest, params, mesh, workdir)


def score_shards(cfg: Config, manifest: dict, params: dict, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    """All of this worker; the last worker to end writes the manifest."""
    output = Path(cfg.score.output)
    about = {
        "rm_hash": checkpoint.params_hash(params),
        "input": text_hash(json.dumps([shard["sha256"] for shard in manifest["shards"]])),
        "compute_dtype": cfg.train.compute_dtype,
        "encoding": cfg.score.encoding,
    }
    claim_folder(output, about)
    warn_of_best(about["rm_hash"], workdir)
    report_overlap(cfg, workdir)
    step = jax.jit(functools.partial(score_step, cfg=cfg), out_shardings=sharding.replicated(mesh))
    started, positions, tokens = time.monotonic(), 0, 0
    mine = manifest["shards"][cfg.score.worker :: cfg.score.workers]
    for number, shard in enumerate(mine, 1):
        label = f"shard {number}/{len(mine)} {shard['name']}"
        if is_done(output, shard) and is_whole(output, shard):
            logging.info("%s: scored already", label)
            continue
        check_content(cfg.score.input, [shard])
        path, size = Path(cfg.score.input) / shard["name"], manifest["vocab_size"]
        unscored = rows.read_shard(path, cfg.data.sequence_length, vocab_size=size)
        scored = scored_rows(unscored, step, params, mesh, cfg.score.batch_rows)
        if jax.process_index() == 0:
            write_shard(cfg, shard, scored)
        else:
            for _ in scored:  # all hosts compute, the first one writes
                pass
        tokens += shard["targets"]
        batches = data.batch_sizes(shard["records"], cfg.score.batch_rows, sharding.row_ways(mesh))
        positions += sum(batches) * cfg.data.sequence_length
        rate = tokens / (time.monotonic() - started)
        logging.info("%s: %s tok/s, padding %.2f%%", label, f"{rate:,.0f}", 100 * (1 - tokens / max(positions, 1)))
    if jax.process_index() == 0:
        finish(cfg, manifest, about, output)
    multihost_utils.sync_global_devices("score")


def open_input(cfg: Config) -> dict:
    """The manifest of the rows, after checking the job's folders."""
    source, output = cfg.score.input, cfg.score.output
    if not source or not output:
        raise UserError("the score job needs --config.score.input=ROWS and --config.score.output=FOLDER")
    if Path(source).resolve() == Path(output).resolve():
        raise UserError(f"score.output is score.input ({source}); name another folder, the rows stay as they are")
    refuse_foreign(Path(output))
    manifest = read_manifest(source)
    if not manifest["shards"]:
        raise UserError(f"{source} holds no rows; write some with python -m data_prep.shard")
    if not index_path(source).is_file():
        raise UserError(f"{source}/index.parquet is missing; copy it or write these rows again")
    data.check_manifest(manifest, source, cfg)
    return manifest


def warn_of_best(rm_hash: str, workdir: Path) -> None:
    """A training that was cut off may have a best.json that names another state than its newest checkpoint."""
    path = workdir / "best.json"
    if path.is_file() and read_json(path, Best)["params_hash"] != rm_hash:
        logging.warning(
            "%s names another state than the newest checkpoint (%s), which scores now: that training was cut off, "
            "the same command ends it", path, rm_hash,
        )  # fmt: skip


def report_overlap(cfg: Config, workdir: Path) -> None:
    """A document that the reference model was trained on has scores that say nothing about its worth."""
    run = lineage.saved_config(workdir if checkpoint.has_checkpoint(workdir) else cfg.init_from or workdir)
    folder = run.data.domain if run else None
    if cfg.score.worker or jax.process_index() or not folder or not (Path(folder) / "index.parquet").is_file():
        return
    if shared := shared_documents(folder, cfg.score.input):
        logging.warning(
            "%d documents of %s stand in the reference model's own %s, %s first: it has seen them; "
            "python -m data_prep.overlap finds near-duplicates too",
            len(shared), cfg.score.input, folder, shared[0],
        )  # fmt: skip


def score_step(params: dict, batch: dict, cfg: Config) -> jax.Array:
    """-log p_RM of every target [B, T], nats: head and softmax in float32, never below 0."""
    return jax.numpy.maximum(losses.batch_nll(params, batch, cfg, head_dtype="float32"), 0.0)


def scored_rows(unscored: Iterator[dict], step, params: dict, mesh, batch_rows: int) -> Iterator[dict]:
    """The rows with rm_nll; the device computes a batch while the host writes the batch before."""
    waiting = None
    for batch, count in data.in_batches(unscored, batch_rows, sharding.row_ways(mesh)):
        inputs = {name: batch[name] for name in ("tokens", "segment_ids")}
        running = step(params, sharding.place(inputs, mesh)), batch, count
        if waiting:
            yield from with_scores(*waiting)
        waiting = running
    if waiting:
        yield from with_scores(*waiting)


def with_scores(nll_BT: jax.Array, batch: dict, count: int) -> Iterator[dict]:
    nll_BT = np.asarray(nll_BT)
    for i in range(count):
        row = {name: batch[name][i] for name in ("tokens", "segment_ids")}
        yield row | {"rm_nll": scores_of_row(nll_BT[i], row["segment_ids"])}


def scores_of_row(nll_T: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
    """f2[T+1], position t belonging to token t; NaN where there is no score (segment starts, padding)."""
    scores = np.full(len(segment_ids), np.nan, np.float16)
    mask_T = rows.target_mask(segment_ids)
    scores[1:][mask_T] = nll_T[mask_T]
    return scores


def write_shard(cfg: Config, shard: dict, scored: Iterable[dict]) -> None:
    """The shard, then its note: facts for the manifest, and score_sums.stats_of the scores as they are stored."""
    path, sums = Path(cfg.score.output) / shard["name"], score_sums.stats_of(np.empty(0), "none yet")

    def counted() -> Iterator[dict]:
        nonlocal sums
        for record, row in enumerate(scored):
            r = row["rm_nll"][1:][rows.target_mask(row["segment_ids"])]
            r = stored(r, cfg.score.encoding, f"{path} record {record}")
            sums = score_sums.add(sums, score_sums.stats_of(r, str(path)))
            yield row

    facts = rows.write_shard(path, counted(), cfg.score.encoding)
    if facts["records"] != shard["records"]:
        raise UserError(
            f"{cfg.score.input}/{shard['name']} has {facts['records']} records, its manifest says {shard['records']}; "
            "copy or write these rows again"
        )
    note = {"facts": facts, "stats": {name: value.tolist() for name, value in sums.items()}}
    write_json(note_of(Path(cfg.score.output), shard), note)


def stored(r: np.ndarray, encoding: str, where: str) -> np.ndarray:
    """Scores as a reader will see them."""
    if not np.isfinite(r).all():
        raise UserError(f"{where}: the reference model gave a NaN or infinite score; look at its weights")
    return rows.LOG_CODES[rows.to_log_code(r)] if encoding == "uint8_log" else r


def note_of(output: Path, shard: dict) -> Path:
    return output / "parts" / f"{shard['name']}.json"


def read_note(output: Path, shard: dict) -> score_sums.Note | None:
    """What write_shard noted; None where there is no note, or one that is damaged: then the shard is scored again."""
    path = note_of(output, shard)
    if not path.is_file():
        return None
    try:
        return read_json(path, score_sums.Note, "its shard is scored again")
    except UserError as error:
        logging.warning("%s", error)
        return None


def refuse_foreign(output: Path) -> None:
    foreign = [f.name for kind in OVERWRITTEN for f in output.glob(kind)]
    if foreign and not (output / "scoring.json").is_file():
        raise UserError(
            f"{output} holds {min(foreign)}, which no score job wrote; choose another --config.score.output"
        )


def claim_folder(output: Path, about: dict) -> None:
    """Scores of two models, two corpora or two dtypes never meet in one folder."""
    path = output / "scoring.json"
    if path.is_file():
        owner = read_json(path, dict[str, str], "delete the folder, which is then scored anew")
        for key, value in about.items():
            if owner.get(key) != value:
                what = f"with {key}={owner.get(key)}, this job has {value}"
                what = "of other rows, or of rows that were made anew since" if key == "input" else what
                raise UserError(f"{output} holds scores {what}; choose another --config.score.output, or delete it")
    elif jax.process_index() == 0:
        write_json(path, about)
        claim_folder(output, about)  # another worker may have come at the same moment


def is_done(output: Path, shard: dict) -> bool:
    """Is the shard scored?  Its note is written last; count and size show a shard damaged since, to be scored again."""
    path, note = output / shard["name"], read_note(output, shard)
    if not path.is_file() or not note:
        return False
    return rows.count_records(path) == shard["records"] and path.stat().st_size == note["facts"]["bytes"]


def is_whole(output: Path, shard: dict) -> bool:
    """Has the scored shard still the bytes that its note tells of?  (Every worker asks this of its own shards.)"""
    note = read_note(output, shard)
    whole = bool(note) and hash_of(output / shard["name"]) == note["facts"]["sha256"]
    if not whole:
        logging.warning("%s was damaged since it was scored and is scored again", output / shard["name"])
    return whole


def finish(cfg: Config, manifest: dict, about: dict, output: Path) -> None:
    """The notes of all shards -> manifest.json; the index is copied.  Waits for no other worker: the last worker to end
    finds all notes, and two workers that end at once write the same."""
    missing = [s["name"] for s in manifest["shards"] if not is_done(output, s)]
    if missing:
        logging.info("%d shards are still with other workers, %s first; the last one to end writes the manifest",
                     len(missing), missing[0])  # fmt: skip
        return
    notes = [read_note(output, shard) for shard in manifest["shards"]]
    shards = [shard | note["facts"] for shard, note in zip(manifest["shards"], notes, strict=True)]
    sums = [
        {name: np.array(value, int if name in ("tokens", "counts") else float) for name, value in note["stats"].items()}
        for note in notes
    ]
    scores = {
        **{name: about[name] for name in ("rm_hash", "compute_dtype", "encoding")},
        "head_dtype": "float32",
        **score_sums.of_shards([shard["source"] for shard in shards], sums),
    }
    copy_file(index_path(cfg.score.input), output / "index.parquet")
    new = {"shards": shards, "scores": scores, "written_by": written_by()}
    write_json(output / "manifest.json", manifest | new)
    clear_unfinished(output, [shard["name"] for shard in shards])  # of workers that were killed
    logging.info("%s\n%s", output, score_sums.as_text(scores))
