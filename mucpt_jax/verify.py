"""Reads whole folders and says what is damaged: rows, scores, index, checkpoints, exports, documents.

    python -m mucpt_jax.verify FOLDER [FOLDER ...]

A folder is known by what it holds: manifest.json (rows), checkpoints/ (a run), *.safetensors (a Hugging Face folder),
counts.json (documents); folders in it are checked too.  Every byte is read and compared with its checksum, every row is
decoded and held against manifest and index.  One sentence for each damaged file; exit status 1 where there is one, or
where a folder holds nothing of these.  Writes nothing.
"""

import argparse
import functools
import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pyarrow as pa
import pyarrow.parquet as pq

from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats import rows, score_sums
from mucpt_jax.formats.decode import decoded, read_json
from mucpt_jax.formats.files import hash_of
from mucpt_jax.formats.manifest import Manifest, Shard, check_content, check_shard, load_manifest, read_index
from mucpt_jax.run import checkpoint, sums
from mucpt_jax.weights import hf

log = logging.getLogger(__name__)
# Folders that are checked with the one they stand in, and checkpoints that training has moved away.
INNER = {"checkpoints", "resume", "parts", "checkpoints.damaged", "resume.damaged"}
Faults = Iterator[str]


def main(argv: list[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("folder", nargs="+", type=Path, help="rows, a run, an export, or a folder of such folders")
    folders = flags.parse_args(argv).folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    jax.config.update("jax_platforms", "cpu")
    faults = 0
    for fault in (fault for folder in folders for fault in verify(folder)):
        print(f"DAMAGED: {fault}", flush=True)
        faults += 1
    print(f"{faults} damaged" if faults else "nothing is damaged")
    sys.exit(1 if faults else 0)


def verify(folder: Path) -> Faults:
    """A sentence for each fault in the folder and in the folders in it."""
    places = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    places = [place for place in places if not INNER & set(place.relative_to(folder).parts)]
    known = [(place, kind) for place in places for kind in KINDS if kind.is_in(place)]
    if not known:
        yield f"{folder} holds no rows, run, Hugging Face folder or documents; name another folder"
    for place, kind in known:
        log.info("%s: %s", place, kind.name)
        yield from sentences(place, kind.faults(place))
    for place in places:
        for path in sorted([*place.glob("*.json"), *place.glob("*.jsonl")]):
            yield from sentences(path, json_faults(path))


def sentences(path: Path, faults: Faults) -> Faults:
    """The faults, also where the check itself ends in one: what damage leads to is not known before."""
    try:
        yield from faults
    except (UserError, OSError) as error:
        yield one_line(error) if str(path) in str(error) else f"{path}: {one_line(error)}"
    except Exception as error:
        yield f"{path} cannot be read ({type(error).__name__}: {one_line(error)}); copy or write it again"


WAY_OUT = "copy or write it again"


def json_faults(path: Path) -> Faults:
    data, whole = path.read_bytes(), path.suffix == ".json"
    # The last line of a JSONL file without an end is of a run that was killed.
    for number, text in enumerate([data] if whole else data.split(b"\n")[:-1], 1):
        try:
            decoded(text or b"null", Any, str(path) if whole else f"{path} line {number}", WAY_OUT)
        except UserError as error:
            yield str(error)
            return


# Rows


def row_faults(folder: Path) -> Faults:
    manifest = load_manifest(folder)
    if not manifest.get("index_sha256"):
        log.info("%s: its manifest is older than checksums of index.parquet", folder)
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
    for path in sorted((folder / "parts").glob("*.json")):
        facts = read_json(path)["facts"]
        if hash_of(folder / path.name.removesuffix(".json")) != facts["sha256"]:
            yield f"{folder / path.stem} is not what its note says; start the score job again, it scores it anew"


# Runs, Hugging Face folders, documents


def run_faults(folder: Path) -> Faults:
    for name in filter(lambda name: (folder / name).is_dir(), (checkpoint.CHECKPOINTS, checkpoint.RESUME)):
        ckpt = checkpoint.manager(folder, folder=name)
        for step in sorted(ckpt.all_steps()):
            log.info("  %s/%d", name, step)
            yield from sentences(folder / name / str(step), checkpoint_faults(ckpt, step))


def checkpoint_faults(ckpt: ocp.CheckpointManager, step: int) -> Faults:
    """Of any model; one array after the other is read."""
    folder = Path(ckpt.directory) / str(step)
    meta = ckpt.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
    if meta.get("meta_hash", sums.meta_hash(meta)) != sums.meta_hash(meta):
        yield f"{folder}/meta is not what was saved; go on from another checkpoint"
    for item, hash_of_arrays in (("params", sums.params_hash_of), ("opt_state", sums.opt_state_hash_of)):
        known, now = meta.get(sums.NAME_OF_SUM[item]), hash_of_arrays(arrays(folder / item))
        if not known:
            log.info("  %s is older than hashes of arrays, so it was only read", folder / item)
        elif now != known:
            yield f"{folder}/{item} does not hold the arrays that were saved; go on from another checkpoint"


def arrays(folder: Path) -> Iterator[tuple[Any, jax.Array]]:
    """(path, array) of one item of a checkpoint."""
    reader, place = ocp.PyTreeCheckpointer(), jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
        lambda of: jax.ShapeDtypeStruct(of.shape, of.dtype, sharding=place),
        reader.metadata(folder).item_metadata.tree,
        is_leaf=lambda of: hasattr(of, "shape"),
    )
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    for number, (path, _) in enumerate(leaves):
        others = [leaf if n == number else ocp.PLACEHOLDER for n, (_, leaf) in enumerate(leaves)]
        wanted = jax.tree.unflatten(jax.tree.structure(shapes), others)
        restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
        restored = reader.restore(folder, args=ocp.args.PyTreeRestore(wanted, restore_args))
        yield path, next(leaf for leaf in jax.tree.leaves(restored) if isinstance(leaf, jax.Array))


def folder_faults(folder: Path) -> Faults:
    """A Hugging Face folder: its files against SHA256SUMS; where it has none, every tensor is finite at least."""
    known = hf.sums_of(folder)
    for name, sha256 in known.items():
        if not (folder / name).is_file():
            yield f"{folder / name} is missing; copy it again"
        elif hash_of(folder / name) != sha256:
            yield f"{folder / name} is not what {hf.SUMS} beside it says; copy it again"
    if known:
        return
    if (folder / hf.MARK).is_file():
        yield f"{folder}/{hf.SUMS} is missing; copy or export the folder again"
    log.info("  no %s, so a flipped bit does not show", hf.SUMS)
    for tensor in hf.open_tensors(str(folder)).values():
        parts = [slice(i, min(i + 4096, tensor.shape[0])) for i in range(0, tensor.shape[0], 4096)]
        if not all(np.isfinite(tensor.read(part)).all() for part in parts):
            yield str(hf.not_finite(tensor))


def document_faults(folder: Path) -> Faults:
    documents, kept = 0, read_json(folder / "counts.json")["kept"]
    for path in sorted(folder.glob("part-*.parquet")):
        try:
            for batch in pq.ParquetFile(path, page_checksum_verification=True).iter_batches():
                documents += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            yield f"{path} cannot be read ({one_line(error)}); copy or write it again"
            return
    if documents != kept:
        yield f"{folder} holds {documents} documents, its counts.json says {kept}; write them again"


class Kind(NamedTuple):
    name: str
    signs: tuple[str, ...]  # patterns; a folder with something of each is of the kind
    faults: Callable[[Path], Faults]

    def is_in(self, folder: Path) -> bool:
        return all(any(folder.glob(sign)) for sign in self.signs)


KINDS = (
    Kind("rows", ("manifest.json",), row_faults),
    Kind("scores by shard", ("scoring.json",), part_faults),
    Kind("a run", ("checkpoints/",), run_faults),
    Kind("a Hugging Face folder", ("*.safetensors",), folder_faults),
    Kind("documents", ("counts.json", "part-*.parquet"), document_faults),
)

if __name__ == "__main__":
    main()
