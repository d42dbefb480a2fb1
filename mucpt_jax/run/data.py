"""Rows -> the batches of a training run, by Grain's random access.

Every source (a name in a folder's manifest) is shuffled anew in each epoch and repeated.  Sources are then mixed
by target tokens: `general_fraction` of them general, the rest domain; within a kind, sources keep their natural
proportion.  Global row k of the run is a pure function of (config, data, k), so the loader's whole state is one
integer, and any number of hosts continues where others stopped.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import grain
import jax
import numpy as np

from mucpt_jax.config import Config, Loss
from mucpt_jax.errors import UserError
from mucpt_jax.formats import score_sums, words
from mucpt_jax.formats.files import read_json, text_hash
from mucpt_jax.formats.manifest import Manifest, Shard, documents_of, read_manifest
from mucpt_jax.formats.rows import decode_row, target_mask, target_scores
from mucpt_jax.formats.tokenizer import check_same_tokenizer
from mucpt_jax.step import objective, sharding


class Source(NamedTuple):
    name: str
    folder: str
    is_domain: bool
    shards: list[Shard]
    rows: int
    targets: int  # tokens that count in the loss


class Batch(TypedDict, total=False):
    """Rows of a step, B of them."""

    tokens: np.ndarray  # i4[B, T+1]
    segment_ids: np.ndarray  # u2[B, T+1]
    rm_nll: np.ndarray  # f2[B, T+1], nats
    word_starts: np.ndarray  # bool [B, T+1], where r is smoothed over words
    source: np.ndarray  # i4[B], number of the source
    is_domain: np.ndarray  # bool [B]


def open_sources(cfg: Config) -> list[Source]:
    """Domain sources first.  Checks folders against the config: T, tokenizer, vocabulary, scores."""
    found = []
    for folder, is_domain in ((cfg.data.domain, True), (cfg.data.general, False)):
        if folder:
            manifest = read_manifest(folder)
            check_manifest(manifest, folder, cfg)
            check_same_tokenizer(folder, cfg.data.domain)
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
    check_same_tokenizer(folder, cfg.tokenizer or own_tokenizer(cfg.init_from))


def check_trained_on(folder: str, workdir: Path) -> None:
    """Rows for a model of another tokenizer would be scored as nonsense; its run's config.json knows its own rows."""
    if not (workdir / "config.json").is_file():
        return
    known = read_json(workdir / "config.json").get("data", {})  # a Hugging Face folder's has none
    for own in (known.get("domain"), known.get("general")):
        if own and (Path(own) / "manifest.json").is_file():
            check_same_tokenizer(folder, own, used=f", which the model in {workdir} was trained on")


def own_tokenizer(folder: str | None) -> str | None:
    """init_from, where it is a Hugging Face folder with a tokenizer."""
    return folder if folder and (Path(folder) / "tokenizer.json").is_file() else None


def word_units(cfg: Config) -> tuple | None:
    """What words.starts needs beside the tokens; None where r is not smoothed over words."""
    if cfg.loss.smooth == "none" or cfg.loss.smooth_unit != "word":
        return None
    folder = cfg.tokenizer or own_tokenizer(cfg.init_from)
    if not folder:
        raise UserError("loss.smooth_unit=word needs --config.tokenizer=FOLDER: the tokenizer of the rows")
    names = words.names(folder, cfg.loss.smooth_names) if cfg.loss.smooth_names else None
    return *words.letters(folder), names


def check_scores(manifest: Manifest, folder: str, cfg: Config) -> None:
    if cfg.loss.reference:
        return
    if not manifest["scores"]:
        raise UserError(
            f"{folder} holds no reference scores (rm_nll is NaN) but loss.kind={cfg.loss.kind} needs them; "
            "run launch.py --job=score first, or train with loss.kind=ntp"
        )
    found, wanted = manifest["scores"].get("rm_hash"), cfg.loss.rm_hash
    if wanted and found != wanted:
        raise UserError(
            f"{folder} was scored by the reference model {found}, the config names loss.rm_hash={wanted}; "
            "score with that model, or set loss.rm_hash to the one you mean"
        )


def split_sources(manifest: Manifest, folder: str, is_domain: bool, taken: set[str]) -> list[Source]:
    """A name that the domain folder has too is marked, so that metrics keep the two apart."""
    result = []
    for name, facts in manifest["sources"].items():
        shards = [s for s in manifest["shards"] if s["source"] == name]
        label = f"{name} (general)" if name in taken else name
        result.append(Source(label, folder, is_domain, shards, facts["records"], facts["targets"]))
    return result


def resolved_loss(cfg: Config) -> Loss:
    """The config's loss with the corpus means filled in that its weights are divided by."""
    loss = cfg.loss
    constant = loss.kind == "mucpt" and loss.weight_norm in ("corpus_mean_one", "loss_match")
    if not constant or not cfg.data.domain or cfg.data.general_fraction == 1:
        return dataclasses.replace(loss, mean_raw_weight=None, mean_raw_median=None)
    if loss.mean_raw_weight:
        return loss
    if loss.smooth != "none":
        found = smoothed_means(cfg)
        names = ("mean_raw_weight", "mean_raw_median")
        return dataclasses.replace(loss, **dict(zip(names, found, strict=False)))  # type: ignore[arg-type]
    grid = {"corpus_mean_one": "mean_raw_weight", "loss_match": "mean_raw_weight_by_base_nll"}[loss.weight_norm]
    scores = read_manifest(cfg.data.domain)["scores"]
    if grid not in scores:
        raise UserError(
            f"{cfg.data.domain} knows nothing of the start model's loss, which weight_norm=loss_match needs; score the "
            f"same rows with the start model, then python -m mucpt_jax.calibration {cfg.data.domain} --base=THOSE"
        )
    return dataclasses.replace(loss, mean_raw_weight=score_sums.at_floor(scores[grid], loss.rm_floor))


SAMPLED = 4096  # rows, evenly spaced: the manifest has no means of smoothed scores, these rows give them


def smoothed_means(cfg: Config) -> list[float]:
    """Mean raw weight of each part of the smoothed loss over domain rows."""
    folder = cfg.data.domain
    sources = [s for s in split_sources(read_manifest(folder), folder, True, set()) if s.rows]
    step = max(1, sum(s.rows for s in sources) // SAMPLED)
    chosen = (rows[i] for rows in (Rows(s, 0, cfg) for s in sources) for i in range(0, len(rows), step))
    total: Any = 0.0
    count = 0
    for batch, real in in_batches(chosen, 16):
        mask_BT = target_mask(batch["segment_ids"])
        mask_BT[real:] = False
        parts = objective.raw_weights(batch, mask_BT, cfg.loss)  # type: ignore[arg-type]
        total += np.array([np.asarray(raw_BT, np.float64)[mask_BT].sum() for raw_BT in parts])
        count += int(mask_BT.sum())
    return [float(f"{mean:.6g}") for mean in total / max(count, 1)]  # the same on every kind of device


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
        self.needs_scores = source.is_domain and cfg.loss.kind != "ntp" and not cfg.loss.reference
        self.units = word_units(cfg)

    def __len__(self) -> int:
        return self.source.rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        where = "{} record {}".format(*locate(self.source, index))
        try:
            record = self.reader[index]
        except Exception as error:
            raise UserError(f"{where} is damaged ({error}); write this shard again") from error
        row = decode_row(record, self.cfg.data.sequence_length, where)
        if self.needs_scores:
            target_scores(row, where)
        facts = {"source": self.number, "is_domain": self.source.is_domain, "row": index}
        more = {name: np.asarray(value) for name, value in facts.items()}
        if self.units:
            more["word_starts"] = words.starts(row["tokens"], *self.units)
        return {**row, **more}


def locate(source: Source, index: int) -> tuple[str, int]:
    """Row of the source -> (file, record in it)."""
    for shard in source.shards:
        if index < shard["records"]:
            return str(Path(source.folder) / shard["name"]), index
        index -= shard["records"]
    raise IndexError(index)


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


def batches(dataset: grain.MapDataset, cfg: Config, local_rows: list[int], start: int) -> Iterator[Batch]:
    """Batches of steps start, start + 1, ..., of the rows of this host, read ahead by threads."""

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
    shapes: dict[str, tuple] = {name: ((rows, tokens), dtype) for name, dtype in arrays.items()}
    if cfg.loss.smooth != "none" and cfg.loss.smooth_unit == "word":
        shapes["word_starts"] = ((rows, tokens), bool)
    shapes |= {"source": ((rows,), np.int32), "is_domain": ((rows,), bool)}
    place = sharding.batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(*shape, sharding=place) for name, shape in shapes.items()}


def batch_sizes(rows: int, size: int, multiple: int = 1) -> list[int]:
    """Sizes of the batches for so many rows: `size`, for the rest its halves, as long as `multiple` divides them."""
    sizes = [size] * (rows // size)
    left = rows % size
    while left > 0:
        half = size
        while half > left and half % 2 == 0 and half // 2 % multiple == 0:
            half //= 2
        sizes.append(half)
        left -= half
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
    found = []
    for index in indices:
        row = dataset[index]
        source = sources[int(row["source"])]
        file, record = locate(source, int(row["row"]))
        found.append({"row": index, "file": file, "record": record, "folder": source.folder})
    for folder in {row["folder"] for row in found}:
        mine = [row for row in found if row["folder"] == folder]
        documents = documents_of(folder, [(Path(row["file"]).name, row["record"]) for row in mine])
        for row, ids in zip(mine, documents, strict=True):
            row["documents"] = ids
    return [{name: row[name] for name in ("row", "file", "record", "documents")} for row in found]


def fingerprint(sources: list[Source], cfg: Config) -> dict:
    """What must stay the same for a run to continue exactly; the number of hosts need not, and steps may grow."""
    shards = [[s.name, s.is_domain, [shard["sha256"] for shard in s.shards]] for s in sources]
    loss = {k: v for k, v in dataclasses.asdict(cfg.loss).items() if k not in ("vocab_parts", "rm_hash")}
    optimizer = {k: v for k, v in dataclasses.asdict(cfg.optimizer).items() if k not in ("steps", "offload")}
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
