"""Rows -> the batches of a training run, by Grain's random access.

Every source (a name in a folder's manifest) is shuffled anew in each epoch and repeated.  Sources are then mixed
by target tokens: `general_fraction` of them general, the rest domain; within a kind, sources keep their natural
proportion.  Global row k of the run is a pure function of (config, data, k), so the loader's whole state is one
integer, and any number of hosts continues where others stopped.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grain
import jax
import numpy as np

from mucpt_jax import records, sharding
from mucpt_jax.config import Config, Loss
from mucpt_jax.records import UserError


class Source(NamedTuple):
    name: str
    folder: str
    is_domain: bool
    shards: list[dict]  # the manifest's facts
    rows: int
    targets: int  # tokens that count in the loss


def open_sources(cfg: Config) -> list[Source]:
    """Domain sources first.  Checks folders against the config: T, tokenizer, vocabulary, scores."""
    found, tokenizers = [], set()
    for folder, is_domain in ((cfg.data.domain, True), (cfg.data.general, False)):
        if folder:
            manifest = records.read_manifest(folder)
            check_manifest(manifest, folder, cfg)
            tokenizers.add(manifest["tokenizer_hash"])
            if len(tokenizers) > 1:
                raise UserError(
                    f"{cfg.data.domain} and {folder} were written with different tokenizers; shard one of them again"
                )
            if is_domain and cfg.loss.kind != "ntp" and cfg.data.general_fraction < 1:
                check_scores(manifest, folder, cfg)
            found += split_sources(manifest, folder, is_domain, {s.name for s in found})
    fraction = cfg.data.general_fraction
    for is_domain, share, key in ((True, 1 - fraction, "domain"), (False, fraction, "general")):
        if share > 0 and not any(s.is_domain == is_domain and s.targets for s in found):
            raise UserError(
                f"data.{key} names no rows but data.general_fraction={fraction} wants {share:.0%} of them; "
                f"set --config.data.{key}=FOLDER or data.general_fraction={1 if is_domain else 0}"
            )
    return [s for s in found if s.targets and (1 - fraction if s.is_domain else fraction) > 0]


def check_manifest(manifest: dict, folder: str, cfg: Config) -> None:
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
    tokenizer = cfg.tokenizer or own_tokenizer(cfg.init_from)
    if tokenizer and manifest["tokenizer_hash"] != records.tokenizer_hash(tokenizer):
        raise UserError(
            f"{folder} was written with another tokenizer than {tokenizer} (hash "
            f"{manifest['tokenizer_hash'][:12]}); shard and score again, or name the tokenizer it was written with"
        )


def own_tokenizer(folder: str | None) -> str | None:
    """init_from, where it is a Hugging Face folder with a tokenizer."""
    return folder if folder and (Path(folder) / "tokenizer.json").is_file() else None


def check_scores(manifest: dict, folder: str, cfg: Config) -> None:
    if not manifest["scores"]:
        raise UserError(
            f"{folder} holds no reference scores (rm_nll is NaN) but loss.kind={cfg.loss.kind} needs them; "
            "run launch.py --job=score first, or train with loss.kind=ntp"
        )


def split_sources(manifest: dict, folder: str, is_domain: bool, taken: set[str]) -> list[Source]:
    """A name that the domain folder has too is marked, so that metrics keep the two apart."""
    result = []
    for name, facts in manifest["sources"].items():
        shards = [s for s in manifest["shards"] if s["source"] == name]
        label = f"{name} (general)" if name in taken else name
        result.append(Source(label, folder, is_domain, shards, facts["records"], facts["targets"]))
    return result


def mean_raw_weight(cfg: Config) -> float | None:
    """Corpus mean of 1 / max(r, rm_floor), from the score job's floor grid; None where it is not used."""
    if cfg.loss.kind != "mucpt" or cfg.loss.weight_norm == "none" or not cfg.data.domain:
        return None
    if cfg.data.general_fraction == 1:
        return None
    if cfg.loss.mean_raw_weight:
        return cfg.loss.mean_raw_weight
    grid = records.read_manifest(cfg.data.domain)["scores"]["mean_raw_weight"]
    floors, means = np.array([float(f) for f in grid]), np.array(list(grid.values()))
    if not floors[0] <= cfg.loss.rm_floor <= floors[-1]:
        raise UserError(
            f"loss.rm_floor={cfg.loss.rm_floor} is off the scored grid {floors[0]}..{floors[-1]} nats; "
            "choose a floor on it or set loss.mean_raw_weight"
        )
    # Between grid points the mean is smooth and falling: straight in log-log.
    return float(np.exp(np.interp(np.log(cfg.loss.rm_floor), np.log(floors), np.log(means))))


def resolved_loss(cfg: Config) -> Loss:
    """The config's loss with the corpus mean filled in."""
    return dataclasses.replace(cfg.loss, mean_raw_weight=mean_raw_weight(cfg))


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
        self.needs_scores = source.is_domain and cfg.loss.kind != "ntp"

    def __len__(self) -> int:
        return self.source.rows

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        where = "{} record {}".format(*locate(self.source, index))
        try:
            record = self.reader[index]
        except Exception as error:
            raise UserError(f"{where} is damaged ({error}); write this shard again") from error
        row = records.decode(record, self.cfg.data.sequence_length, where)
        if self.needs_scores:
            check_row_scores(row, where)
        facts = {"source": self.number, "is_domain": self.source.is_domain, "row": index}
        return row | {name: np.asarray(value) for name, value in facts.items()}


def locate(source: Source, index: int) -> tuple[str, int]:
    """Row of the source -> (file, record in it)."""
    for shard in source.shards:
        if index < shard["records"]:
            return str(Path(source.folder) / shard["name"]), index
        index -= shard["records"]
    raise IndexError(index)


def check_row_scores(row: dict[str, np.ndarray], where: str) -> None:
    scores = row["rm_nll"][1:][records.target_mask(row["segment_ids"])]
    if not (np.isfinite(scores) & (scores >= 0)).all():
        raise UserError(
            f"{where} has an rm_nll that is NaN, infinite or negative; run launch.py --job=score on this shard again"
        )


def mixture(sources: list[Source], cfg: Config) -> grain.MapDataset:
    """Endless random-access dataset of rows in training order."""
    datasets, weights = [], []
    for number, source in enumerate(sources):
        rows = grain.MapDataset.source(Rows(source, number, cfg)).seed(cfg.seed + number)
        datasets.append(rows.shuffle().repeat())
        weights.append(token_share(source, sources, cfg) / (source.targets / source.rows))
    weights = [w / sum(weights) for w in weights]
    return grain.MapDataset.mix(datasets, weights) if len(datasets) > 1 else datasets[0]


def token_share(source: Source, sources: list[Source], cfg: Config) -> float:
    """Share of the run's target tokens that this source gives."""
    fraction = cfg.data.general_fraction
    kind = (1 - fraction) if source.is_domain else fraction
    same = sum(s.targets for s in sources if s.is_domain == source.is_domain)
    return kind * source.targets / same


def batches(dataset: grain.MapDataset, cfg: Config, local_rows: list[int], start: int) -> Iterator[dict]:
    """Batches of steps start, start + 1, ...: {name: [rows of this host, ...]}, read ahead by threads."""

    def read(step: int) -> dict[str, np.ndarray]:
        rows = [dataset[step * cfg.data.batch_rows + i] for i in local_rows]
        # `row` says where a row came from; describe_row finds it again, the device has no use for it.
        return {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "row"}

    steps = grain.MapDataset.range(start, cfg.optimizer.steps).map(read)
    threads = cfg.data.read_threads
    return iter(steps.to_iter_dataset(grain.ReadOptions(threads, prefetch_buffer_size=threads)))


def abstract_batch(cfg: Config, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, dtypes and shardings of a step's batch."""
    rows, tokens = cfg.data.batch_rows, cfg.data.sequence_length + 1
    arrays = {"tokens": np.int32, "segment_ids": np.uint16, "rm_nll": np.float16}
    shapes = {name: ((rows, tokens), dtype) for name, dtype in arrays.items()}
    shapes |= {"source": ((rows,), np.int32), "is_domain": ((rows,), bool)}
    place = sharding.batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(*shape, sharding=place) for name, shape in shapes.items()}


def in_batches(rows: Iterator[dict], size: int) -> Iterator[tuple[dict, int]]:
    """Stacks `size` rows; the last batch is filled up with copies and its true count says so."""
    held = []
    for row in rows:
        held.append(row)
        if len(held) == size:
            yield {name: np.stack([r[name] for r in held]) for name in row}, size
            held = []
    if held:
        full = held + [held[-1]] * (size - len(held))
        yield {name: np.stack([r[name] for r in full]) for name in held[0]}, len(held)


def describe_rows(dataset: grain.MapDataset, sources: list[Source], cfg: Config, indices) -> list[dict]:
    """Global rows of the run -> {row, file, record, documents} each: where they came from."""
    found = []
    for index in indices:
        row = dataset[index]
        source = sources[int(row["source"])]
        file, record = locate(source, int(row["row"]))
        found.append({"row": index, "file": file, "record": record, "folder": source.folder})
    for folder in {row["folder"] for row in found}:
        mine = [row for row in found if row["folder"] == folder]
        documents = records.documents_of(folder, [(Path(row["file"]).name, row["record"]) for row in mine])
        for row, ids in zip(mine, documents, strict=True):
            row["documents"] = ids
    return [{name: row[name] for name in ("row", "file", "record", "documents")} for row in found]


def fingerprint(sources: list[Source], cfg: Config) -> dict:
    """What must stay the same for a run to continue exactly; the number of hosts need not, and steps may grow."""
    shards = [[s.name, s.is_domain, [shard["sha256"] for shard in s.shards]] for s in sources]
    loss = {k: v for k, v in dataclasses.asdict(cfg.loss).items() if k != "vocab_parts"}
    optimizer = {k: v for k, v in dataclasses.asdict(cfg.optimizer).items() if k not in ("steps", "offload")}
    return {
        "rows": records.text_hash(json.dumps(shards)),
        "data.batch_rows": cfg.data.batch_rows,
        "data.sequence_length": cfg.data.sequence_length,
        "data.general_fraction": cfg.data.general_fraction,
        "seed": cfg.seed,
        "train.compute_dtype": cfg.train.compute_dtype,
        **{f"loss.{k}": v for k, v in loss.items()},
        **{f"optimizer.{k}": v for k, v in optimizer.items()},
    }
