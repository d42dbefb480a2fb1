"""Rows on disk: ArrayRecord shards, their manifest and their index.  Plain Python: no jax here.

A row folder holds
    <source>-00000-of-00003.array_record   fixed-length records, one packed row each
    manifest.json                          T, tokenizer hash, shards with counts and checksums, sources, scores
    index.parquet                          shard, row, segment, document, offset, length: from rows to documents

A record is three arrays of T + 1 numbers, little-endian, one after the other:
    tokens       int32     token ids; 0 in the padding
    segment_ids  uint16    1, 2, ... for the segments of the row; 0 is padding; + NO_LOSS where a token is read but is
                           no target (a placeholder that data_prep.mask left)
    rm_nll       float16   -log p_RM(tokens[t] | tokens of the same segment before t), nats; NaN until scored
With the encoding uint8_log, rm_nll is a byte: 0 is NaN, 1..255 are 0.001..32 nats in equal steps of the logarithm, so
that a weight 1 / max(r, floor) is off by at most 2.1% (float16: 0.05%).  A record's length tells which one it is.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

SCHEMA = 1
COLUMNS = (
    ("tokens", np.dtype("<i4")),
    ("segment_ids", np.dtype("<u2")),
    ("rm_nll", np.dtype("<f2")),
)
NO_LOSS = 1 << 15
BYTES_PER_TOKEN = sum(dtype.itemsize for _, dtype in COLUMNS)
LOG_CODES = np.concatenate([[np.nan], np.geomspace(1e-3, 32, 255)]).astype(np.float16)  # nats
MANIFEST_KEYS = {"schema", "sequence_length", "tokenizer_hash", "vocab_size", "shards", "sources", "scores"}
INDEX_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("row", pa.int32()),
        ("segment", pa.int32()),
        ("document", pa.string()),
        ("offset", pa.int32()),  # tokens from the start of the document
        ("length", pa.int32()),  # tokens
    ]
)


class UserError(ValueError):
    """What the user gave cannot work; the message says what, where and the way out in one sentence."""


def encode(row: dict[str, np.ndarray], encoding: str = "float16") -> bytes:
    """Row of three arrays [T+1] -> one record; encoding (of rm_nll): float16 | uint8_log."""
    packed = [np.ascontiguousarray(row[name], dtype) for name, dtype in COLUMNS]
    if encoding == "uint8_log":
        packed[2] = to_log_code(packed[2])
    return b"".join(array.tobytes() for array in packed)


def to_log_code(r: np.ndarray) -> np.ndarray:
    """f2[...] nats -> u1[...], the nearest of LOG_CODES by ratio; NaN is 0, what lies outside goes to the ends."""
    steps = np.log(np.clip(r.astype(np.float64), 1e-3, 32) / 1e-3) / np.log(32 / 1e-3) * 254
    return np.where(np.isnan(r), 0, np.rint(np.nan_to_num(steps)) + 1).astype(np.uint8)


def decode(record: bytes, sequence_length: int, where: str = "record") -> dict[str, np.ndarray]:
    """One record -> {"tokens" i4[T+1], "segment_ids" u2[T+1], "rm_nll" f2[T+1]}, read-only views.

    Coded scores come back as float16 in an array of their own.
    """
    slots = sequence_length + 1
    if len(record) not in (slots * BYTES_PER_TOKEN, slots * (BYTES_PER_TOKEN - 1)):
        raise UserError(
            f"{where} has {len(record)} bytes, a row of T={sequence_length} has {slots * BYTES_PER_TOKEN}; "
            "write the shard again or set data.sequence_length to the shard's T"
        )
    row, start = {}, 0
    for name, dtype in COLUMNS[:2]:
        row[name] = np.frombuffer(record, dtype, slots, start)
        start += slots * dtype.itemsize
    coded = len(record) < slots * BYTES_PER_TOKEN
    found = np.frombuffer(record, np.uint8 if coded else COLUMNS[2][1], slots, start)
    return row | {"rm_nll": LOG_CODES[found] if coded else found}


def segments(segment_ids: np.ndarray) -> np.ndarray:
    """u2[...] -> u2[...] without NO_LOSS; of numpy or jax arrays."""
    return segment_ids & np.uint16(NO_LOSS - 1)


def target_mask(segment_ids: np.ndarray) -> np.ndarray:
    """u2[..., T+1] -> bool[..., T]: is position t+1 a target?  Not the first token of a segment, padding or NO_LOSS."""
    found, here = segments(segment_ids), segment_ids[..., 1:]
    return (found[..., 1:] == found[..., :-1]) & (here > 0) & (here < NO_LOSS)


def shard_name(source: str, shard: int, shards: int) -> str:
    return f"{source}-{shard:05d}-of-{shards:05d}.array_record"


def write_shard(path: Path, rows: Iterable[dict[str, np.ndarray]], encoding: str = "float16") -> dict:
    """Writes beside, then renames, so that a file under its final name is whole.  Returns records, bytes, sha256."""
    path = Path(path)
    beside = path.with_suffix(f".{uuid.uuid4().hex[:8]}.writing")  # another worker may write the same shard
    writer, records = ArrayRecordWriter(str(beside), "group_size:1"), 0
    for row in rows:
        record = encode(row, encoding)
        try:
            writer.write(record)
        except RuntimeError as error:
            raise not_written(path, beside, error) from error
        records += 1
    try:
        writer.close()
    except RuntimeError as error:
        raise not_written(path, beside, error) from error
    facts = {"records": records, "bytes": beside.stat().st_size, "sha256": file_hash(beside)}
    os.replace(beside, path)
    return facts


def not_written(path: Path, beside: Path, error: RuntimeError) -> UserError:
    beside.unlink(missing_ok=True)
    reason = str(error).strip().splitlines()[0][:200]  # array_record has no error class of its own
    return UserError(
        f"{path} could not be written ({reason}); make room on the disk and start the same command again"
    )


def read_shard(path: Path, sequence_length: int) -> Iterator[dict[str, np.ndarray]]:
    """Rows of one shard in order."""
    where = str(path)
    try:
        reader = ArrayRecordReader(str(path))
        for i in range(reader.num_records()):
            where = f"{path} record {i}"
            yield decode(reader.read([i])[0], sequence_length, where)
        reader.close()
    except (RuntimeError, IndexError) as error:  # array_record has no error class of its own
        raise UserError(f"{where} is damaged ({error}); write this shard again") from error


def file_hash(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tokenizer_hash(folder: str) -> str:
    """sha256 of tokenizer.json, or of vocab.json and merges.txt where a folder has only these."""
    for names in (["tokenizer.json"], ["vocab.json", "merges.txt"]):
        files = [Path(folder) / name for name in names]
        if all(f.is_file() for f in files):
            return text_hash("".join(file_hash(f) for f in files))
    raise UserError(
        f"{folder} holds no tokenizer.json (nor vocab.json and merges.txt); name a Hugging Face tokenizer folder"
    )


def end_of_document(tokenizer) -> int:
    """Token id that ends every document: <|endoftext|> as in Qwen's pretraining, else the tokenizer's own."""
    known = tokenizer.get_vocab()
    token = "<|endoftext|>" if "<|endoftext|>" in known else tokenizer.eos_token
    if token is None:
        raise UserError(
            f"{tokenizer.name_or_path} has neither <|endoftext|> nor an eos_token; set one in tokenizer_config.json"
        )
    return known[token]


def write_json(path: Path, value) -> None:
    """Writes beside, then renames: a reader sees the old file or the new one, never half, whoever else writes it."""
    beside = Path(path).with_suffix(f".{uuid.uuid4().hex[:8]}.writing")
    try:
        beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)  # of a full disk


def copy(source: Path, target: Path) -> None:
    """Beside first, as write_json."""
    beside = Path(target).with_suffix(f".{uuid.uuid4().hex[:8]}.writing")
    shutil.copyfile(source, beside)
    os.replace(beside, target)


def read_json(path: Path) -> dict:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); copy or write it again") from error


def read_manifest(folder: str) -> dict:
    """The manifest of a row folder, after checking that its shards are all there and whole (by size)."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise UserError(
            f"{path} is missing; write rows there with python -m data_prep.shard (or launch.py --job=score)"
        )
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not manifest.keys() >= MANIFEST_KEYS:
        raise UserError(
            f"{path} is no manifest of rows (it lacks some of {sorted(MANIFEST_KEYS)}); write the rows again"
        )
    if manifest["schema"] != SCHEMA:
        raise UserError(
            f"{path} has schema {manifest['schema']}, this program reads {SCHEMA}; write the rows again"
        )
    for shard in manifest["shards"]:
        check_shard(Path(folder) / shard["name"], shard)
    return manifest


def check_shard(path: Path, facts: dict) -> None:
    if not path.is_file():
        raise UserError(
            f"{path} is missing, its manifest lists {facts['records']} records there; copy or write it again"
        )
    found = path.stat().st_size
    if found != facts["bytes"]:
        raise UserError(
            f"{path} is cut short or damaged: {found} bytes instead of {facts['bytes']}, so records "
            f"0..{facts['records'] - 1} cannot be trusted; copy or write this shard again"
        )


def write_index(folder: str, tables: Iterable[pa.Table]) -> None:
    beside = Path(folder) / "index.writing"
    with pq.ParquetWriter(beside, INDEX_SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
    os.replace(beside, Path(folder) / "index.parquet")


def read_index(folder: str, shard: dict) -> pa.Table:
    """Segments of one shard (its entry in the manifest) by row and segment, in INDEX_SCHEMA."""
    path = Path(folder) / "index.parquet"
    try:
        table = pq.read_table(path, filters=[("shard", "==", shard["name"])])
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} cannot be read ({' '.join(str(error).split())[:200]}); copy it again"
        ) from error
    if len(table) != shard["segments"]:
        raise UserError(
            f"{path} has {len(table)} segments of {shard['name']}, the manifest {shard['segments']}; "
            "copy index and manifest from one place"
        )
    return table.sort_by([("row", "ascending"), ("segment", "ascending")])


def documents_of(folder: str, rows: list[tuple[str, int]]) -> list[list[str]]:
    """Document ids of each (shard, row), in the row's order."""
    wanted = [("shard", "in", {shard for shard, _ in rows}), ("row", "in", {row for _, row in rows})]
    table = pq.read_table(Path(folder) / "index.parquet", filters=wanted).sort_by("segment")
    found = {place: [] for place in rows}
    for shard, row, document in zip(
        *(table[c].to_pylist() for c in ("shard", "row", "document")), strict=True
    ):
        found.get((shard, row), []).append(document)
    return [found[place] for place in rows]


def shared_documents(seed: str, corpus: str) -> list[str]:
    """Ids of documents that stand in both row folders, in the corpus's order; the seed's ids must fit in memory."""
    found = []
    try:
        known = pc.unique(pq.read_table(Path(seed) / "index.parquet", columns=["document"])["document"])
        for batch in pq.ParquetFile(Path(corpus) / "index.parquet").iter_batches(columns=["document"]):
            found += batch["document"].filter(pc.is_in(batch["document"], known)).to_pylist()
    except pa.ArrowException as error:
        raise UserError(
            f"index.parquet of {seed} or {corpus} cannot be read ({' '.join(str(error).split())[:200]}); copy it again"
        ) from error
    return list(dict.fromkeys(found))
