"""Rows -> the batches of a training run, by Grain's random access.

Every source (a name in a folder's manifest) is shuffled anew in each epoch and repeated.  Sources are then mixed
by target tokens: `general_fraction` of them general, the rest domain; within a kind, sources keep their natural
proportion.  Global row k of the run is a pure function of (config, data, k), so the loader's whole state is one
integer, and any number of hosts continues where others stopped.
"""

import dataclasses
import itertools
import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import grain
import jax
import numpy as np

from mucpt_jax.config import Config, Loss
from mucpt_jax.errors import UserError
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.files import text_hash
from mucpt_jax.formats.manifest import Manifest, Shard, check_content, documents_of, read_manifest
from mucpt_jax.formats.rows import decode_row, target_scores
from mucpt_jax.formats.tokenizer import check_same_tokenizer
from mucpt_jax.step import objective, sharding


class Source(NamedTuple):
    name: str
    folder: str
    is_domain: bool
    shards: list[Shard]
    rows: int
    targets: int  # tokens that count in the loss
    vocab_size: int  # token ids are below it


class Batch(TypedDict, total=False):
    """Rows of a step, B of them."""

    tokens: np.ndarray  # i4[B, T+1]
    segment_ids: np.ndarray  # u2[B, T+1]
    rm_nll: np.ndarray  # f2[B, T+1], nats
    source: np.ndarray  # i4[B], number of the source
    is_domain: np.ndarray  # bool [B]


def folders(cfg: Config) -> list[str]:
    """Of the rows that are trained on."""
    return [folder for folder in (cfg.data.domain, cfg.data.general) if folder]


def open_sources(cfg: Config) -> list[Source]:
    """Domain sources first.  Checks folders against the config: T, tokenizer, vocabulary, scores."""
    sources: list[Source] = []
    for folder, is_domain in ((cfg.data.domain, True), (cfg.data.general, False)):
        if folder:
            manifest = read_manifest(folder)
            check_manifest(manifest, folder, cfg)
            check_same_tokenizer(folder, cfg.data.domain)
            if is_domain and needs_scores(cfg) and cfg.data.general_fraction < 1:
                check_scores(manifest, folder, cfg)
            sources += split_sources(manifest, folder, is_domain, {s.name for s in sources})
    fraction = cfg.data.general_fraction
    for is_domain, share, key in ((True, 1 - fraction, "domain"), (False, fraction, "general")):
        if share > 0 and not any(s.is_domain == is_domain and s.targets for s in sources):
            raise UserError(
                f"data.{key} names no rows but data.general_fraction={fraction} wants {share:.0%} of them; "
                f"set --config.data.{key}=FOLDER or data.general_fraction={1 if is_domain else 0}"
            )
    return [s for s in sources if s.targets and (1 - fraction if s.is_domain else fraction) > 0]


def check_bytes(sources: list[Source]) -> None:
    """Compares the sha256 of all shards, a share on each host."""
    shards = [(source.folder, shard) for source in sources for shard in source.shards]
    mine = shards[jax.process_index() :: jax.process_count()]
    started, size = time.monotonic(), sum(shard["bytes"] for _, shard in mine)
    for folder in dict.fromkeys(folder for folder, _ in mine):
        check_content(folder, [shard for of, shard in mine if of == folder])
    seconds = time.monotonic() - started
    logging.info("checked the bytes of %d shards, %.1f GB in %.1f s", len(mine), size / 1e9, seconds)


def check_manifest(manifest: Manifest, folder: str, cfg: Config) -> None:
    if manifest["sequence_length"] != cfg.data.sequence_length:
        raise UserError(
            f"{folder} holds rows of T={manifest['sequence_length']}, the config has data.sequence_length="
            f"{cfg.data.sequence_length}; set it to {manifest['sequence_length']} or shard again"
        )
    if manifest["vocab_size"] > cfg.model.vocab_size:
        raise UserError(
            f"{folder} was tokenised with {manifest['vocab_size']} token ids, {cfg.model.name} has "
            f"vocab_size={cfg.model.vocab_size}; use that model's tokenizer or a larger vocabulary"
        )
    check_same_tokenizer(folder, cfg.tokenizer)


def needs_scores(cfg: Config) -> bool:
    """Must domain rows hold scores?"""
    return objective.OBJECTIVES[cfg.loss.kind].needs_scores and not cfg.loss.reference


def check_scores(manifest: Manifest, folder: str, cfg: Config) -> None:
    if not manifest["scores"]:
        raise UserError(
            f"{folder} holds no reference scores (rm_nll is NaN) but loss.kind={cfg.loss.kind} needs them; "
            "run launch.py --job=score first, or train with loss.kind=ntp"
        )
    reference, wanted = manifest["scores"].get("rm_hash"), cfg.loss.rm_hash
    if wanted and reference != wanted:
        raise UserError(
            f"{folder} was scored by the reference model {reference}, the config names loss.rm_hash={wanted}; "
            "score with that model, or set loss.rm_hash to the one you mean"
        )


def split_sources(manifest: Manifest, folder: str, is_domain: bool, taken: set[str]) -> list[Source]:
    """A name that the domain folder has too is marked, so that metrics keep the two apart."""
    result = []
    for name, facts in manifest["sources"].items():
        shards = [s for s in manifest["shards"] if s["source"] == name]
        label = f"{name} (general)" if name in taken else name
        result.append(
            Source(label, folder, is_domain, shards, facts["records"], facts["targets"], manifest["vocab_size"])
        )
    return result


def resolved_loss(cfg: Config) -> Loss:
    """The config's loss with the corpus mean filled in that its weights are divided by."""
    loss = cfg.loss
    if not objective.wants_corpus_mean(loss):
        return dataclasses.replace(loss, mean_raw_weight=None)
    if not cfg.data.domain or cfg.data.general_fraction == 1:
        return dataclasses.replace(loss, mean_raw_weight=1.0)  # of no token
    if loss.mean_raw_weight:
        return loss
    grid = {"corpus_mean_one": "mean_raw_weight", "loss_match": "mean_raw_weight_by_base_nll"}[loss.weight_norm]
    scores: Mapping = read_manifest(cfg.data.domain)["scores"] or {}
    if grid not in scores:
        raise UserError(
            f"{cfg.data.domain} knows nothing of the start model's loss, which weight_norm=loss_match needs; score the "
            f"same rows with the start model, then python -m mucpt_jax.calibration {cfg.data.domain} --base=THOSE"
        )
    mean = score_sums.at_floor(scores[grid], loss.rm_floor)
    if not 0 < mean < math.inf:
        raise UserError(
            f"the manifest of {cfg.data.domain} gives mean_raw_weight={mean} at floor {loss.rm_floor}; score these "
            "rows again, or set loss.mean_raw_weight"
        )
    return dataclasses.replace(loss, mean_raw_weight=mean)


class Rows:
    """Random access to the rows of one source, checked as they are read (a Grain source)."""

    def __init__(self, source: Source, number: int, cfg: Config):
        self.source, self.number, self.cfg = source, number, cfg
        files = [str(Path(source.folder) / shard["name"]) for shard in source.shards]
        try:
            self.reader = grain.sources.ArrayRecordDataSource(files)
        except Exception as error:
            raise UserError(
                f"{source.folder}: a shard of {source.name} is damaged ({error}); write it again"
            ) from error
        self.needs_scores = source.is_domain and needs_scores(cfg)

    def __len__(self) -> int:
        return self.source.rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        where = "{} record {}".format(*locate(self.source, index))
        try:
            record = self.reader[index]
        except Exception as error:
            raise UserError(f"{where} is damaged ({error}); write this shard again") from error
        row = decode_row(record, self.cfg.data.sequence_length, where, self.source.vocab_size)
        if self.needs_scores:
            target_scores(row, where)
        facts = {"source": self.number, "is_domain": self.source.is_domain, "row": index}
        return {**row, **{name: np.asarray(value) for name, value in facts.items()}}


def locate(source: Source, index: int) -> tuple[str, int]:
    """Row of the source -> (file, record in it)."""
    for shard in source.shards:
        if index < shard["records"]:
            return str(Path(source.folder) / shard["name"]), index
        index -= shard["records"]
    raise IndexError(index)


def mixture(sources: list[Source], cfg: Config) -> grain.MapDataset:
    """Endless random-access dataset of rows in training order."""
    datasets = []
    for number, source in enumerate(sources):
        rows = grain.MapDataset.source(Rows(source, number, cfg)).seed(cfg.seed + number)
        datasets.append(rows.shuffle().repeat())
    return grain.MapDataset.mix(datasets, row_shares(sources, cfg)) if len(datasets) > 1 else datasets[0]


def row_shares(sources: list[Source], cfg: Config) -> list[float]:
    """Share of the run's rows that each source gives."""
    weights = [token_share(source, sources, cfg) / (source.targets / source.rows) for source in sources]
    return [w / sum(weights) for w in weights]


def epochs(sources: list[Source], cfg: Config) -> list[float]:
    """How often the whole run reads each source."""
    rows = cfg.optimizer.steps * cfg.data.batch_rows
    return [rows * share / source.rows for source, share in zip(sources, row_shares(sources, cfg), strict=True)]


def token_share(source: Source, sources: list[Source], cfg: Config) -> float:
    """Share of the run's target tokens that this source gives."""
    fraction = cfg.data.general_fraction
    kind = (1 - fraction) if source.is_domain else fraction
    same = sum(s.targets for s in sources if s.is_domain == source.is_domain)
    return kind * source.targets / same


def batches(dataset: grain.MapDataset, cfg: Config, local_rows: list[int], start: int) -> Iterator[Batch]:
    """Batches of steps start, start + 1, ..., of the rows of this host, read ahead by threads."""

    def read(step: int) -> dict[str, np.ndarray]:
        rows = [dataset[step * cfg.data.batch_rows + i] for i in local_rows]
        # `row` says where a row came from: for describe_rows, the device has no use for it.
        return {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "row"}

    steps = grain.MapDataset.range(start, cfg.optimizer.steps).map(read)
    threads = cfg.data.read_threads
    return iter(steps.to_iter_dataset(grain.ReadOptions(threads, prefetch_buffer_size=threads)))


def abstract_batch(cfg: Config, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, dtypes and shardings of a step's batch."""
    rows, tokens = cfg.data.batch_rows, cfg.data.sequence_length + 1
    arrays = {"tokens": np.int32, "segment_ids": np.uint16, "rm_nll": np.float16}
    shapes: dict[str, tuple] = {name: ((rows, tokens), dtype) for name, dtype in arrays.items()}
    shapes |= {"source": ((rows,), np.int32), "is_domain": ((rows,), bool)}
    place = sharding.batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(*shape, sharding=place) for name, shape in shapes.items()}


def batch_sizes(rows: int, size: int, multiple: int = 1) -> list[int]:
    """Sizes of the batches of so many rows: `size`; for the rest its halves, as long as `multiple` divides the half."""
    sizes, left = [], rows
    while left > 0:
        part = size
        while part > left and part % 2 == 0 and part // 2 % multiple == 0:
            part //= 2
        sizes.append(part)
        left -= part
    return sizes


def in_batches(rows: Iterable[Mapping], size: int, multiple: int = 1) -> Iterator[tuple[dict, int]]:
    """Stacks rows by batch_sizes; the last batch is filled up with copies and its true count says so."""
    rows = iter(rows)
    while held := list(itertools.islice(rows, size)):
        for part in batch_sizes(len(held), size, multiple):
            here, held = held[:part], held[part:]
            full = here + [here[-1]] * (part - len(here))
            yield {name: np.stack([row[name] for row in full]) for name in full[0]}, len(here)


def describe_rows(dataset: grain.MapDataset, sources: list[Source], cfg: Config, indices) -> list[dict]:
    """Global rows of the run -> {row, file, record, documents} each: where they came from."""
    places = []
    for index in indices:
        row = dataset[index]
        file, record = locate(sources[int(row["source"])], int(row["row"]))
        places.append({"row": index, "file": file, "record": record})
    for folder in {Path(place["file"]).parent for place in places}:
        mine = [place for place in places if Path(place["file"]).parent == folder]
        documents = documents_of(str(folder), [(Path(place["file"]).name, place["record"]) for place in mine])
        for place, ids in zip(mine, documents, strict=True):
            place["documents"] = ids
    return places


def fingerprint(sources: list[Source], cfg: Config) -> dict:
    """What must stay the same for a run to continue exactly; the number of hosts need not, and steps may grow.

    loss.rm_hash is that of a reference model that scores while training; the hashes of scored rows say theirs.
    """
    shards = [[s.name, s.is_domain, [shard["sha256"] for shard in s.shards]] for s in sources]
    loss = {k: v for k, v in dataclasses.asdict(cfg.loss).items() if k != "vocab_parts"}
    loss["rm_hash"] = cfg.loss.rm_hash if cfg.loss.reference else None
    if not any(s.is_domain for s in sources):
        loss["mean_raw_weight"] = None  # nothing is weighed by it
    optimizer = {k: v for k, v in dataclasses.asdict(cfg.optimizer).items() if k not in ("steps", "offload")}
    optimizer["schedule_steps"] = cfg.optimizer.schedule_steps or cfg.optimizer.steps
    return {
        "rows": text_hash(json.dumps(shards)),
        "data.batch_rows": cfg.data.batch_rows,
        "data.sequence_length": cfg.data.sequence_length,
        "data.general_fraction": cfg.data.general_fraction,
        "seed": cfg.seed,
        "train.compute_dtype": cfg.train.compute_dtype,
        **{f"loss.{k}": v for k, v in loss.items()},
        **{f"optimizer.{k}": v for k, v in optimizer.items()},
    }
