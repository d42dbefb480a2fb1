"""Reads whole folders and says what is damaged: rows, scores, index, checkpoints, exports, documents.

    python -m mucpt_jax.verify FOLDER [FOLDER ...]

A folder is known by any file of its kind (rows, a run, a Hugging Face folder, documents), so that one that is gone is
said; folders in it are checked too.  Every byte is read and compared with its checksum, every row is decoded and held
against manifest and index.  One sentence for each damaged file, and for each that has no checksum to compare; exit
status 1 where one is damaged, or where a folder holds nothing of these.  Writes nothing.
"""

import argparse
import functools
import itertools
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging as absl_logging

from mucpt_jax.errors import UserError, exiting, one_line
from mucpt_jax.formats import rows, score_sums
from mucpt_jax.formats.checksums import MARK, SUMS, sums_of
from mucpt_jax.formats.decode import decoded, is_cut, own_field, read_json
from mucpt_jax.formats.files import hash_of
from mucpt_jax.formats.manifest import Manifest, Shard, check_content, check_shard, load_manifest, read_index
from mucpt_jax.formats.results import Best, Counted, Evaluated, Noted, Prediction, Step
from mucpt_jax.run import checkpoint, goodput, lineage, sums
from mucpt_jax.weights import hf

log = logging.getLogger(__name__)
# Folders that are checked with the one they stand in, and checkpoints that training has moved away.
INNER = {"checkpoints", "resume", "parts", "checkpoints.damaged", "resume.damaged"}
LOGS = {"metrics.jsonl": Step, "heldout.jsonl": Noted, "goodput.jsonl": goodput.Event, "bad_steps.jsonl": dict}
SCORING = "scoring.json"  # of a score job
WAY_OUT = "copy or write it again"


class Unsummed(str):
    """No fault: what was read without a checksum to compare."""


Faults = Iterator[str]


def main(argv: list[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("folder", nargs="+", type=Path, help="rows, a run, an export, or a folder of such folders")
    folders = flags.parse_args(argv).folder
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)  # absl has put its own handler there
    log.setLevel(logging.INFO)
    absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax
    jax.config.update("jax_platforms", "cpu")
    with exiting():
        check_places(folders)
        faults = unsummed = 0
        for fault in (fault for folder in folders for fault in verify(folder)):
            known = isinstance(fault, Unsummed)
            print(f"{'NO CHECKSUM' if known else 'DAMAGED'}: {fault}", flush=True)
            faults, unsummed = faults + (not known), unsummed + known
    rest = f"; {unsummed} without a checksum to compare, where a flipped bit does not show" if unsummed else ""
    print((f"{faults} damaged" if faults else "nothing is damaged") + rest)
    sys.exit(1 if faults else 0)


def check_places(folders: list[Path]) -> None:
    for folder in folders:
        if not folder.is_dir():
            state = "is a file" if folder.exists() else "does not exist"
            raise UserError(f"{folder} {state}; name a folder of rows, a run, an export, or a folder of such folders")


def verify(folder: Path) -> Faults:
    """A sentence for each fault in the folder and in the folders in it; an Unsummed where nothing could be compared."""
    places = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    places = [place for place in places if not any(map(is_inner, place.relative_to(folder).parts))]
    known, said = [(place, kind) for place in places for kind in KINDS if kind.is_in(place)], []
    if not known:
        yield f"{folder} holds no rows, run, Hugging Face folder or documents; name another folder"
    for place, kind in known:
        log.info("%s: %s", place, kind.name)
        for fault in sentences(place, kind.faults(place)):
            said.append(fault)
            yield fault
    for place in places:
        for path in sorted([*place.glob("*.json"), *place.glob("*.jsonl")]):
            if not any(f"{path} " in fault for fault in said):
                yield from sentences(path, json_faults(path))


def is_inner(name: str) -> bool:
    return name in INNER or bool(re.fullmatch(r"\..+\.writing", name))  # of a job that runs or was killed


def sentences(path: Path, faults: Faults) -> Faults:
    """The faults, also where the check itself ends in one: what damage leads to is not known before."""
    try:
        yield from faults
    except (UserError, OSError) as error:
        yield one_line(error) if str(path) in str(error) else f"{path}: {one_line(error)}"
    except Exception as error:
        yield f"{path} cannot be read ({type(error).__name__}: {one_line(error)}); {WAY_OUT}"


def missing(folder: Path, name: str, of: str) -> Faults:
    if not (folder / name).is_file():
        yield f"{folder / name} is missing, which belongs to {of}; {WAY_OUT}"


# JSON


def json_faults(path: Path) -> Faults:
    if path.name in LOGS:
        yield from log_faults(path, LOGS[path.name])
    elif path.suffix == ".json":
        read_json(path, {"best.json": Best, "evaluate.json": Evaluated}.get(path.name, Any))
    else:
        for where, line in lines_of(path):
            if path.name.startswith("predictions"):
                decoded(line, Prediction, where, "evaluate again")
            else:
                check_own(line, where)


def lines_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """(where, line) of the lines that are not blank."""
    with open(path, "rb") as file:
        yield from ((f"{path} line {n}", line) for n, line in enumerate(file, 1) if line.strip())


def check_own(line: bytes, where: str) -> None:
    """Of a file that may be the user's own, or quotes it: NaN may stand in it."""
    try:
        own_field(line.decode("utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{where} cannot be read as JSON ({one_line(error)}); {WAY_OUT}") from error


def log_faults(path: Path, kind: Any) -> Faults:
    """Of a file that runs append to, whose readers leave wrong lines out.  Lines that a kill cut off are no damage."""
    cut = 0
    for where, line in lines_of(path):
        try:
            decoded(line, kind, where, "copy it again; until then it is left out")
        except UserError as error:
            if not is_cut(line):
                yield str(error)
                return
            cut += 1
    if cut:
        log.info("  %s: lines that a kill cut off, which are left out: %d", path.name, cut)


# Rows


def row_faults(folder: Path) -> Faults:
    if not (folder / "manifest.json").is_file() and (folder / SCORING).is_file():
        return  # a score job that has not ended
    manifest = load_manifest(folder)
    if not manifest.get("index_sha256"):
        yield Unsummed(f"{folder}/index.parquet, which is older than its checksum in manifest.json")
    stats: dict[str, list[dict]] = {}
    for number, shard in enumerate(manifest["shards"], 1):
        log.info("  %d/%d %s", number, len(manifest["shards"]), shard["name"])
        yield from sentences(folder / shard["name"], shard_faults(folder, manifest, shard, stats))
    yield from source_faults(folder, manifest)
    if manifest["scores"] and sum(map(len, stats.values())) == len(manifest["shards"]):
        yield from score_faults(folder, manifest, stats)


def shard_faults(folder: Path, manifest: Manifest, shard: Shard, stats: dict[str, list[dict]]) -> Faults:
    """Adds the sums over the shard's scores to the stats of its source."""
    path, length = folder / shard["name"], manifest["sequence_length"]
    check_shard(path, shard)
    check_content(folder, [shard])
    index = read_index(folder, shard)
    if index["row"].to_pylist() and not 0 <= index["row"][0].as_py() <= index["row"][-1].as_py() < shard["records"]:
        yield f"{folder}/index.parquet tells of rows that {path.name} has not; copy index and shards from one place"
        return
    starts = np.searchsorted(index["row"].to_numpy(), np.arange(shard["records"] + 1))
    lengths, totals = index["length"].to_numpy(), {"records": 0, "segments": 0, "tokens": 0, "targets": 0}
    of_rows = []
    for number, row in enumerate(rows.read_shard(path, length)):
        if number >= shard["records"]:
            break
        where, ids = f"{path} record {number}", rows.segment_numbers(row["segment_ids"])
        counts, mask = np.bincount(ids)[1:], rows.target_mask(row["segment_ids"])
        if not (row["tokens"].min() >= 0 and row["tokens"].max() < manifest["vocab_size"]):
            yield f"{where} has a token id outside of 0..{manifest['vocab_size'] - 1}; write the shard again"
        if counts.tolist() != lengths[starts[number] : starts[number + 1]].tolist():
            yield f"{where} has other segments than {folder}/index.parquet; copy index and shards from one place"
        if manifest["scores"]:
            of_rows.append(score_sums.stats_of(rows.target_scores(row, where), where))
        for name, more in zip(totals, (1, len(counts), int(counts.sum()), int(mask.sum())), strict=True):
            totals[name] += more
    if wrong := [f"{name} {totals[name]}, not {shard[name]}" for name in totals if totals[name] != shard[name]]:
        yield f"{path} differs from its manifest: {', '.join(wrong)}; copy manifest and shards from one place"
    elif of_rows:
        stats.setdefault(shard["source"], []).append(functools.reduce(score_sums.add, of_rows))


def source_faults(folder: Path, manifest: Manifest) -> Faults:
    for name, facts in manifest["sources"].items():
        shards = [shard for shard in manifest["shards"] if shard["source"] == name]
        for key in ("records", "segments", "tokens", "targets"):
            if facts[key] != sum(shard[key] for shard in shards):
                yield f"{folder}/manifest.json: {key} of {name} are not the sum over its shards; copy it again"


def score_faults(folder: Path, manifest: Manifest, stats: dict[str, list[dict]]) -> Faults:
    """The manifest's figures of the scores against the scores themselves."""
    sources = [source for source in stats for _ in stats[source]]
    true, noted = score_sums.of_shards(sources, list(itertools.chain(*stats.values()))), manifest["scores"]
    for key in ("tokens", "mean_nll"):
        if not np.isclose(noted[key], true[key], rtol=1e-6, atol=0):
            yield f"{folder}/manifest.json: scores.{key} is {noted[key]}, by the rows {true[key]}; score the rows again"
    for floor, value in true["mean_raw_weight"].items():
        if not np.isclose(noted["mean_raw_weight"].get(floor, value), value, rtol=1e-6, atol=0):
            yield f"{folder}/manifest.json: scores.mean_raw_weight.{floor} is not that of the rows; score them again"


def part_faults(folder: Path) -> Faults:
    """Of a score job that has not ended: the shards whose notes are there."""
    yield from missing(folder, SCORING, "the scores of a score job")
    for path in sorted((folder / "parts").glob("*.json")):
        facts = read_json(path, score_sums.Note, "start the score job again, it scores its shard anew")["facts"]
        if not (folder / path.stem).is_file() or hash_of(folder / path.stem) != facts["sha256"]:
            yield f"{folder / path.stem} is not what its note says; start the score job again, it scores it anew"


# Runs, Hugging Face folders, documents


def run_faults(folder: Path) -> Faults:
    yield from missing(folder, "config.json", "a run")
    yield from sentences(folder / "config.json", config_faults(folder))
    best = read_json(folder / "best.json", Best) if (folder / "best.json").is_file() else None
    if best and best["ended"] and best["step"] and checkpoint.newest_step(folder) != best["step"]:
        lost = folder / checkpoint.CHECKPOINTS / str(best["step"])
        yield f"{lost} is missing, the state that best.json names; copy it again"
    for name in filter(lambda name: (folder / name).is_dir(), (checkpoint.CHECKPOINTS, checkpoint.RESUME)):
        ckpt = checkpoint.manager(folder, folder=name)
        for step in sorted(ckpt.all_steps()):
            log.info("  %s/%d", name, step)
            yield from sentences(folder / name / str(step), checkpoint_faults(ckpt, step))


def config_faults(folder: Path) -> Faults:
    if (folder / "config.json").is_file() and lineage.saved_config(folder) is None:
        yield f"{folder}/config.json is not that of a run; {WAY_OUT}"


def checkpoint_faults(ckpt: ocp.CheckpointManager, step: int) -> Faults:
    """Of any model; one array after the other is read."""
    folder = Path(ckpt.directory) / str(step)
    meta = ckpt.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
    if "meta_hash" not in meta:
        yield Unsummed(f"{folder}/meta, which is older than its hash")
    elif meta["meta_hash"] != sums.meta_hash(meta):
        yield f"{folder}/meta is not what was saved; go on from another checkpoint"
    for item, hash_of_arrays in (("params", sums.params_hash_of), ("opt_state", sums.opt_state_hash_of)):
        known, now = meta.get(sums.NAME_OF_SUM[item]), hash_of_arrays(checkpoint.arrays(folder / item))
        if not known:
            yield Unsummed(f"{folder / item}, which is older than its hash")
        elif now != known:
            yield f"{folder}/{item} does not hold the arrays that were saved; go on from another checkpoint"


def folder_faults(folder: Path) -> Faults:
    """A Hugging Face folder: its files against SHA256SUMS; where it has none, every tensor is finite at least."""
    known, marked = sums_of(folder), (folder / MARK).is_file()
    for name, sha256 in known.items():
        if not (folder / name).is_file():
            yield f"{folder / name} is missing; copy it again"
        elif hash_of(folder / name) != sha256:
            yield f"{folder / name} is not what {SUMS} beside it says; copy it again"
    if marked and not known:
        yield f"{folder}/{SUMS} is missing or empty; copy or export the folder again"
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        if marked and known and path.name not in known:
            yield f"{folder}/{SUMS} has no line for {path.name}; copy or export the folder again"
        elif path.name not in known:
            yield Unsummed(f"{path}, which no {SUMS} names")
    if not known:
        yield from tensor_faults(folder)


def tensor_faults(folder: Path) -> Faults:
    yield from missing(folder, "config.json", "a Hugging Face folder")
    for tensor in hf.open_tensors(str(folder)).values():
        parts = [slice(i, min(i + 4096, tensor.shape[0])) for i in range(0, tensor.shape[0], 4096)]
        if not all(np.isfinite(tensor.read(part)).all() for part in parts):
            yield str(hf.not_finite(tensor))


def document_faults(folder: Path) -> Faults:
    if ROWS.is_in(folder):  # these have a composition.json too
        return
    yield from missing(folder, "counts.json", "documents")
    documents = 0
    for path in sorted(folder.glob("part-*.parquet")):
        try:
            for batch in pq.ParquetFile(path, page_checksum_verification=True).iter_batches():
                documents += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            yield f"{path} cannot be read ({one_line(error)}); copy or write it again"
            return
    kept = read_json(folder / "counts.json", Counted)["kept"] if (folder / "counts.json").is_file() else documents
    if documents != kept:
        yield f"{folder} holds {documents} documents, its counts.json says {kept}; write them again"


class Kind(NamedTuple):
    name: str
    signs: tuple[str, ...]  # patterns; a folder with something of any is of the kind
    faults: Callable[[Path], Faults]

    def is_in(self, folder: Path) -> bool:
        return any(any(folder.glob(sign)) for sign in self.signs)


ROWS = Kind("rows", ("manifest.json", "index.parquet", "*.array_record"), row_faults)
KINDS = (
    ROWS,
    Kind("scores by shard", (SCORING, "parts/*.array_record.json"), part_faults),
    Kind("a run", ("checkpoints/", "resume/", "metrics.jsonl", "heldout.jsonl", "best.json"), run_faults),
    Kind("a Hugging Face folder", ("*.safetensors", "model.safetensors.index.json", MARK, SUMS), folder_faults),
    # Spark's parts have longer names: they are a user's own, without counts.
    Kind("documents", ("part-?????-???.parquet", "part-?????.parquet", "composition.json"), document_faults),
)

if __name__ == "__main__":
    main()
