"""Documents: the table that every job reads and writes, and the reasons for drops.

A document has five string columns: id, text, source, lang, meta (a JSON object of all other fields).  Jobs may add
columns.  Beam elements are pyarrow RecordBatches of about BATCH_BYTES: Beam costs microseconds per element, so a
document is never an element of its own.  All batches of one input file pass through one bundle, in order, and carry
the file's number in their schema metadata; part files are named after it, so the same input gives the same output
whatever the order in which a runner takes the files.
"""

import gzip
import hashlib
import io
import json
import logging
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from data_prep.jobs import notes, progress
from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.decode import own_field

SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "text", "source", "lang", "meta")])
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
BATCH_BYTES = 2 << 20
DOCUMENT_BYTES = 16 << 20  # of text; longer ones go as too_long: a tokenizer takes 130 times as much memory
# Of JSON, which may spell a character in six bytes, as \u597d; a longer line is never held.
LINE_BYTES = 4 * DOCUMENT_BYTES
PART_BYTES = 128 << 20  # of text in one part file, before compression
LOGGED_REJECTS = 5  # per input file; rejects.jsonl has them all
AS_THEY_ARE: Mapping[str, str] = MappingProxyType({})  # columns
log = logging.getLogger(__name__)


class File(NamedTuple):
    number: int  # in the order of the input; the names of all that is written for the file hold it
    path: str


# Documents out of fields


def safe_name(name: str) -> str:
    """A source's name as it may stand in a file name: letters and digits of any script, _ and -; else with a hash.

    The hash keeps "a/b" and "a b" apart.  safe_name(safe_name(name)) == safe_name(name).
    """
    if re.fullmatch(r"[\w-]{1,55}", name):
        return name
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    safe = re.sub(r"[^\w-]+", "_", name)
    return f"{safe[:48]}_{mark}"


def source_of(path: str) -> str:
    return safe_name(os.path.basename(path).split(".")[0])


def document(fields: object, source: str, columns: Mapping[str, str] = AS_THEY_ARE) -> dict[str, str] | str:
    """Fields of one record -> document, or the reason why it is none: no_text, not_utf8, too_long.

    `columns` names the fields that stand for ours: {"text": "content"}.
    """
    if columns and isinstance(fields, dict):
        fields = {name: value for name, value in fields.items() if name not in columns.values()} | {
            ours: fields.get(theirs) for ours, theirs in columns.items()
        }
    if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
        return "no_text"
    text = fields["text"]
    other = {name: value for name, value in fields.items() if name not in SCHEMA.names}
    given = {name: "" if fields.get(name) is None else str(fields[name]) for name in SCHEMA.names}
    row = {
        "id": given["id"] or hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32],
        "text": text,
        "source": safe_name(given["source"]) if given["source"] else source,
        "lang": given["lang"],
        "meta": _json(_meta(fields.get("meta")) | other),
    }
    try:  # "\ud83d" is valid JSON but half a character
        "".join(row.values()).encode()
    except UnicodeEncodeError:
        return "not_utf8"
    return "too_long" if len(text) > DOCUMENT_BYTES // 4 and len(text.encode()) > DOCUMENT_BYTES else row


def _meta(value: object) -> dict:
    with suppress(ValueError):
        value = own_field(value) if isinstance(value, str) and value.startswith("{") else value
    if isinstance(value, dict):
        return value
    return {} if value in (None, "") else {"meta": value}


def _json(value: dict) -> str:
    """NaN and Infinity, which JSON does not know, as strings."""
    with suppress(ValueError):
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    return json.dumps(own_field(json.dumps(value, default=str), nan=str), ensure_ascii=False)


def parse_line(line: bytes, source: str, columns: Mapping[str, str] = AS_THEY_ARE) -> dict[str, str] | str:
    """One JSONL line -> document, or the reason why it is none: not_utf8, not_json, no_text, too_long."""
    try:
        return document(own_field(line.decode()), source, columns)
    except UnicodeDecodeError:
        return "not_utf8"
    except ValueError:
        return "not_json"


# Files

Batches = Iterator[tuple[pa.RecordBatch, list[tuple[int, str]]]]


def read_batches(path: str, columns: Mapping[str, str] = AS_THEY_ARE, note: Path | None = None) -> Batches:
    """Batches of one file in order, each with its rejects (line or row number from 1, reason); blank lines are skipped.

    `columns` as in `document`; `note` is where progress is told.  UserError where the file cannot be read to its end.
    """
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as f:
            if path.endswith(".parquet"):
                batches = _parquet_batches(f, path, columns)
            else:
                batches = _batches(_parsed(_unpacked(f, path), source_of(path), columns))
            yield from progress.noted(batches, f.tell, note) if note else batches
    except (EOFError, zlib.error, pa.ArrowException, BeamIOError, OSError) as error:
        raise UserError(
            f"{path} is damaged, cut short or unreadable ({one_line(error)}); write or copy it again"
        ) from error


def _unpacked(f: Any, path: str) -> io.BufferedIOBase:
    """Its bytes, unpacked; not by Beam, which may take the end of a file that was cut short for its true end."""
    if path.endswith(".gz"):
        return gzip.GzipFile(fileobj=f)
    return io.BufferedReader(pa.CompressedInputStream(f, "zstd")) if path.endswith(".zst") else f


def _parsed(f: io.BufferedIOBase, source: str, columns: Mapping[str, str]) -> Iterator[dict[str, str] | str | None]:
    """For each line its document, the reason why it is no document, or None where it is blank."""
    first = True
    while line := f.readline(LINE_BYTES):
        if len(line) == LINE_BYTES and not line.endswith(b"\n"):
            while (rest := f.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield "too_long"
        else:
            line, first = line.removeprefix(b"\xef\xbb\xbf") if first else line, False
            yield parse_line(line, source, columns) if line.strip() else None


def _check_text(path: str, schema: pa.Schema, name: str) -> None:
    kind = schema.field(name).type if name in schema.names else None
    kind = kind.value_type if kind and pa.types.is_dictionary(kind) else kind
    if kind not in (pa.string(), pa.large_string(), pa.string_view(), pa.null()):
        columns = ", ".join(f"{field.name}: {field.type}" for field in schema)[:200]
        raise UserError(
            f"{path} has no column `{name}` of strings (its columns: {columns}); "
            "name the one with the text by --columns=text=NAME, or convert it"
        )


def _parquet_batches(f, path: str, columns: Mapping[str, str]) -> Batches:
    """A table that is a document table already passes as it is, with the columns that jobs added."""
    parquet = pq.ParquetFile(f, page_checksum_verification=True)  # our parts have checksums, files of others may
    schema, start = parquet.schema_arrow, 0
    _check_text(path, schema, columns.get("text", "text"))
    ours = not columns and all(name in schema.names and schema.field(name).type == pa.string() for name in SCHEMA.names)
    for batch in parquet.iter_batches(batch_size=_rows_at_once(parquet.metadata)):
        batch.validate(full=True)  # finds text that is not UTF-8
        if ours and not any(batch[name].null_count for name in SCHEMA.names):
            yield from _slices(batch.replace_schema_metadata(None), start)
        else:
            parsed = (document(fields, source_of(path), columns) for fields in batch.to_pylist())
            for some, rejects in _batches(parsed):
                yield some, [(start + number, reason) for number, reason in rejects]
        start += batch.num_rows


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """1,024, or fewer where rows are long: some 8 MB as a rule, more only where a few rows are much longer."""
    size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    return max(1, min(1024, 4 * BATCH_BYTES * metadata.num_rows // max(1, size)))


def _slices(batch: pa.RecordBatch, start: int) -> Batches:
    """Rows of a document table from row `start` on -> batches of about BATCH_BYTES."""
    fits = pc.less_equal(pc.binary_length(batch["text"]), DOCUMENT_BYTES)
    rejects = [(start + row + 1, "too_long") for row in np.flatnonzero(~np.asarray(fits)).tolist()]
    batch = batch.filter(fits) if rejects else batch
    rows = max(1, batch.num_rows * BATCH_BYTES // max(1, batch.nbytes))
    for first in range(0, max(batch.num_rows, len(rejects) > 0), rows):
        yield batch.slice(first, rows), [] if first else rejects


def _batches(parsed: Iterable) -> Batches:
    """Documents, reasons (str) and blanks (None) -> batches of about BATCH_BYTES of text."""
    documents, rejects, size = [], [], 0
    for number, row in enumerate(parsed, 1):
        if isinstance(row, str):
            rejects.append((number, row))
        elif row is not None:
            documents.append(row)
            size += len(row["text"].encode())
        if size >= BATCH_BYTES or len(rejects) >= 10_000:
            yield pa.RecordBatch.from_pylist(documents, SCHEMA), rejects
            documents, rejects, size = [], [], 0
    if documents or rejects:
        yield pa.RecordBatch.from_pylist(documents, SCHEMA), rejects


# Batches in a job


def count(name: str, documents: int = 1, namespace: str = "dropped") -> None:
    if documents:
        Metrics.counter(namespace, name).inc(documents)


def keep(batch: pa.RecordBatch, reasons: Sequence[str | None], folder: Path) -> pa.RecordBatch:
    """The rows whose reason is None; the others are counted under their reason, with samples in `folder`."""
    for reason, documents in Counter(reason for reason in reasons if reason is not None).items():
        count(reason, documents)
    notes.add_samples(batch, reasons, folder)
    return batch.filter(pa.array([reason is None for reason in reasons], pa.bool_()))


def replace(batch: pa.RecordBatch, column: str, values: Sequence) -> pa.RecordBatch:
    index = batch.schema.get_field_index(column)
    return batch.set_column(index, batch.schema.field(index), pa.array(values, batch.schema.field(index).type))


def read_counted(file: File, folder: Path, columns: Mapping[str, str] = AS_THEY_ARE) -> Iterator[pa.RecordBatch]:
    """Batches of one file; counts what is read and rejected, leaves notes beside the output."""
    number, path = file
    part, logged, composition = f"{number:05d}", 0, notes.Composition()
    notes.forget(folder, part)
    for batch, rejects in read_batches(path, columns, Path(folder) / f"read-{part}.progress"):
        count("read", batch.num_rows + len(rejects), namespace="documents")
        composition.add(batch)
        for line, reason in rejects:
            count(reason)
            logged += 1
            if logged <= LOGGED_REJECTS:
                log.warning("%s line %d: %s", path, line, reason)
        lines = ({"file": path, "line": line, "reason": reason} for line, reason in rejects)
        if rejects:
            notes.add_lines(Path(folder) / f"rejects-{part}.jsonl", lines)
        if batch.num_rows:
            yield batch.replace_schema_metadata({"part": part})
    composition.write(folder, "read", part)


def spread(pipeline: beam.Pipeline, files: list[File], label: str = "Files"):
    """Pipeline -> the files, each for any worker: without a shuffle a runner may keep all on one."""
    return pipeline | label >> beam.Create(files) | f"Spread{label}" >> beam.Reshuffle()


class WriteParts(beam.DoFn):
    """Batches -> folder/part-<file>-<n>.parquet; a new part begins at PART_BYTES of text or at another schema."""

    def __init__(self, folder: Path):
        self.folder = folder

    def start_bundle(self):
        self.writer, self.part, self.parts, self.bytes = None, None, 0, 0

    def process(self, batch: pa.RecordBatch):
        if batch.num_rows:
            part, batch = (batch.schema.metadata[b"part"].decode(), batch.replace_schema_metadata(None))
            self._open(part, batch.schema)
            self.writer.write_batch(batch)
            self.composition.add(batch)
            self.bytes += batch["text"].nbytes

    def _open(self, part: str, schema: pa.Schema):
        if part != self.part:
            self.finish_bundle()
            self.part, self.parts = part, 0
        elif self.bytes >= PART_BYTES or self.writer.schema != schema:
            self.finish_bundle()
        if self.writer is None:
            self.name = f"{part}-{self.parts:03d}"
            path = Path(self.folder) / f"part-{self.name}.parquet"
            self.writer = pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)
            self.composition, self.parts, self.bytes = notes.Composition(), self.parts + 1, 0

    def finish_bundle(self):
        if self.writer is not None:
            self.writer.close()
            self.composition.write(self.folder, "kept", self.name)
            self.writer = None
