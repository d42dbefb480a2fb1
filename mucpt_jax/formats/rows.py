"""Rows on disk: ArrayRecord shards <source>-00000-of-00003.array_record, of one packed row a record.  No jax here.

A record is three arrays of T + 1 numbers, little-endian, one after the other:
    tokens       int32     token ids; 0 in the padding
    segment_ids  uint16    1, 2, ... for the segments of the row; 0 is padding; + NO_LOSS where a token is read but is
                           no target (a placeholder that data_prep.mask left)
    rm_nll       float16   -log p_RM(tokens[t] | tokens of the same segment before t), nats; NaN until scored
With the encoding uint8_log, rm_nll is a byte: 0 is NaN, 1..255 are 0.001..32 nats in equal steps of the logarithm, so
that a weight 1 / max(r, floor) is off by at most 2.1% (float16: 0.05%).  A record's length tells which one it is.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import numpy as np

from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import file_hash, replacing

COLUMNS = (("tokens", np.dtype("<i4")), ("segment_ids", np.dtype("<u2")), ("rm_nll", np.dtype("<f2")))
NO_LOSS = 1 << 15
BYTES_PER_TOKEN = sum(dtype.itemsize for _, dtype in COLUMNS)
LOG_CODES = np.concatenate([[np.nan], np.geomspace(1e-3, 32, 255)]).astype(np.float16)  # nats


class Row(TypedDict):
    tokens: np.ndarray  # i4[T+1]
    segment_ids: np.ndarray  # u2[T+1]
    rm_nll: np.ndarray  # f2[T+1], nats


def encode_row(row: Row, encoding: str = "float16") -> bytes:
    """Row of three arrays [T+1] -> one record; encoding (of rm_nll): float16 | uint8_log."""
    packed = [np.ascontiguousarray(row[name], dtype) for name, dtype in COLUMNS]  # type: ignore[literal-required]
    if encoding == "uint8_log":
        packed[2] = to_log_code(packed[2])
    return b"".join(array.tobytes() for array in packed)


def to_log_code(r: np.ndarray) -> np.ndarray:
    """f2[...] nats -> u1[...], the nearest of LOG_CODES by ratio; NaN is 0, what lies outside goes to the ends."""
    steps = np.log(np.clip(r.astype(np.float64), 1e-3, 32) / 1e-3) / np.log(32 / 1e-3) * 254
    return np.where(np.isnan(r), 0, np.rint(np.nan_to_num(steps)) + 1).astype(np.uint8)


def decode_row(record: bytes, sequence_length: int, where: str = "record", vocab_size: int = 2**31) -> Row:
    """One record -> its row, of read-only views; coded scores come back as float16 in an array of their own.

    Raises UserError where it has another length than a row of T tokens, or a token id outside 0...vocab_size - 1: an
    embedding takes its last row for such an id, and says nothing.
    """
    slots = sequence_length + 1
    if len(record) not in (slots * BYTES_PER_TOKEN, slots * (BYTES_PER_TOKEN - 1)):
        raise UserError(
            f"{where} has {len(record)} bytes, a row of T={sequence_length} has {slots * BYTES_PER_TOKEN}; "
            "write the shard again or set data.sequence_length to the shard's T"
        )
    tokens, segment_ids = (np.frombuffer(record, dtype, slots, at * slots) for dtype, at in (("<i4", 0), ("<u2", 4)))
    lowest, highest = tokens.min(), tokens.max()
    if lowest < 0 or highest >= vocab_size:
        raise UserError(
            f"{where} holds token id {lowest if lowest < 0 else highest}, its manifest says vocab_size={vocab_size}; "
            "copy manifest and shards from one place, or write these rows again"
        )
    if len(record) < slots * BYTES_PER_TOKEN:
        rm_nll = LOG_CODES[np.frombuffer(record, np.uint8, slots, 6 * slots)]
    else:
        rm_nll = np.frombuffer(record, "<f2", slots, 6 * slots)
    return {"tokens": tokens, "segment_ids": segment_ids, "rm_nll": rm_nll}


def segment_numbers(segment_ids: np.ndarray) -> np.ndarray:
    """u2[...] -> u2[...] without NO_LOSS; of numpy or jax arrays."""
    return segment_ids & np.uint16(NO_LOSS - 1)


def target_mask(segment_ids: np.ndarray) -> np.ndarray:
    """u2[..., T+1] -> bool[..., T]: is position t+1 a target?  Not the first token of a segment, padding or NO_LOSS."""
    numbers, here = segment_numbers(segment_ids), segment_ids[..., 1:]
    return (numbers[..., 1:] == numbers[..., :-1]) & (here > 0) & (here < NO_LOSS)


def target_scores(row: Row, where: str) -> np.ndarray:
    """f2[targets] nats; UserError where a target's score is NaN, infinite or negative."""
    return checked_scores(row["rm_nll"][1:][target_mask(row["segment_ids"])], where)


def checked_scores(scores: np.ndarray, where: str) -> np.ndarray:
    if not (np.isfinite(scores) & (scores >= 0)).all():
        raise UserError(
            f"{where} has an rm_nll that is NaN, infinite or negative; run launch.py --job=score on this shard again"
        )
    return scores


def shard_name(source: str, shard: int, shards: int) -> str:
    return f"{source}-{shard:05d}-of-{shards:05d}.array_record"


def write_shard(path: Path, rows: Iterable[Row], encoding: str = "float16") -> dict:
    """One whole file; returns its records, bytes and sha256."""
    from array_record.python.array_record_module import ArrayRecordWriter  # here: the loss needs no files

    with replacing(path) as beside:
        writer, records = ArrayRecordWriter(str(beside), "group_size:1"), 0
        for row in rows:  # whose own errors are none of writing
            record = encode_row(row, encoding)
            with _written(path):
                writer.write(record)
            records += 1
        with _written(path):
            writer.close()
        return {"records": records, "bytes": beside.stat().st_size, "sha256": file_hash(beside)}


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # array_record has no error class of its own
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"{path} could not be written ({reason}); make room on the disk and start the same command again"
        ) from error


def count_records(path: Path) -> int | None:
    """None where the file is damaged."""
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(path))
        records = reader.num_records()
        reader.close()
    except RuntimeError:
        return None
    return records


def read_shard(
    path: Path, sequence_length: int, numbers: Iterable[int] | None = None, vocab_size: int = 2**31
) -> Iterator[Row]:
    """Rows of one shard: all in order, or those of these numbers.  sequence_length and vocab_size: of the manifest."""
    from array_record.python.array_record_module import ArrayRecordReader

    where = str(path)
    try:
        reader = ArrayRecordReader(str(path))
        for number in range(reader.num_records()) if numbers is None else numbers:
            where = f"{path} record {number}"
            yield decode_row(reader.read([int(number)])[0], sequence_length, where, vocab_size)
        reader.close()
    except (RuntimeError, IndexError) as error:  # array_record has no error class of its own
        raise UserError(f"{where} is damaged ({error}); write this shard again") from error
