"""Documents: the table that every job reads and writes, and the reasons for drops.

No command of its own: job.py runs jobs, for example  python -m data_prep.clean --input=raw/ --output=docs/

A document has five string columns: id, text, source, lang, meta (a JSON object of all other fields).  Jobs may add
columns.  Beam elements are pyarrow RecordBatches of about BATCH_BYTES: Beam costs microseconds per element, so a
document is never an element of its own.  All batches of one input file pass through one bundle, in order, and carry
the file's number in their schema metadata; part files are named after it, so the same input gives the same output
whatever the order in which a runner takes the files.
"""

import gzip
import hashlib
import json
import logging
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from mucpt_jax.records import UserError

SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "text", "source", "lang", "meta")])
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
BATCH_BYTES = 2 << 20
PART_BYTES = 128 << 20  # of text in one part file, before compression
LOGGED_REJECTS = 5  # per input file; rejects.jsonl has them all
log = logging.getLogger(__name__)


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


def document(fields: object, source: str) -> dict[str, str] | str:
    """Fields of one record -> document, or the reason why it is none: no_text, not_utf8."""
    if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
        return "no_text"
    text = fields["text"]
    other = {name: value for name, value in fields.items() if name not in SCHEMA.names}
    given = {name: "" if fields.get(name) is None else str(fields[name]) for name in SCHEMA.names}
    made = {
        "id": given["id"] or hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32],
        "text": text,
        "source": safe_name(given["source"]) if given["source"] else source,
        "lang": given["lang"],
        "meta": _json(_meta(fields.get("meta")) | other),
    }
    try:  # "\ud83d" is valid JSON but half a character
        "".join(made.values()).encode()
    except UnicodeEncodeError:
        return "not_utf8"
    return made


def _meta(value: object) -> dict:
    with suppress(ValueError):
        value = json.loads(value) if isinstance(value, str) and value.startswith("{") else value
    if isinstance(value, dict):
        return value
    return {} if value in (None, "") else {"meta": value}


def _json(value: dict) -> str:
    """NaN and Infinity, which JSON does not know, as strings."""
    with suppress(ValueError):
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    return json.dumps(json.loads(json.dumps(value, default=str), parse_constant=str), ensure_ascii=False)


def parse_line(line: bytes, source: str) -> dict[str, str] | str:
    """One JSONL line -> document, or the reason why it is none: not_utf8, not_json, no_text."""
    try:
        return document(json.loads(line.decode()), source)
    except UnicodeDecodeError:
        return "not_utf8"
    except (ValueError, RecursionError):
        return "not_json"


# Files


def read_batches(path: str) -> Iterator[tuple[pa.RecordBatch, list[tuple[int, str]]]]:
    """Batches of one file in order, each with its rejects (line or row number from 1, reason); blank lines are skipped.

    UserError where the file cannot be read to its end.
    """
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as f:
            if path.endswith(".parquet"):
                yield from _parquet_batches(f, path)
            else:  # gzip and not Beam's own decompression, which may end at a cut without a word
                lines = gzip.GzipFile(fileobj=f) if path.endswith(".gz") else f
                parse = (
                    parse_line(line, source_of(path)) if line.strip() else None for line in _no_bom(lines)
                )
                yield from _batches(parse)
    except (OSError, EOFError, zlib.error, pa.ArrowException, BeamIOError) as error:
        raise UserError(
            f"{path} is damaged, cut short or unreadable ({one_line(error)}); write or copy it again"
        ) from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _no_bom(lines: Iterable[bytes]) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line


def _check_text(path: str, schema: pa.Schema) -> None:
    kind = schema.field("text").type if "text" in schema.names else None
    kind = kind.value_type if kind and pa.types.is_dictionary(kind) else kind
    if kind not in (pa.string(), pa.large_string(), pa.string_view(), pa.null()):
        columns = ", ".join(f"{field.name}: {field.type}" for field in schema)[:200]
        raise UserError(
            f"{path} has no column `text` of strings (its columns: {columns}); rename or convert the one with the text"
        )


def _parquet_batches(f, path: str) -> Iterator[tuple[pa.RecordBatch, list[tuple[int, str]]]]:
    """A table that is a document table already passes as it is, with the columns that jobs added."""
    parquet = pq.ParquetFile(f)
    schema, start = parquet.schema_arrow, 0
    _check_text(path, schema)
    ours = all(name in schema.names and schema.field(name).type == pa.string() for name in SCHEMA.names)
    for batch in parquet.iter_batches(batch_size=1024):
        batch.validate(full=True)  # finds text that is not UTF-8
        if ours and not any(batch[name].null_count for name in SCHEMA.names):
            rows = max(1, batch.num_rows * BATCH_BYTES // max(1, batch.nbytes))
            for first in range(0, batch.num_rows, rows):
                yield batch.slice(first, rows).replace_schema_metadata(None), []
        else:
            made = (document(fields, source_of(path)) for fields in batch.to_pylist())
            for some, rejects in _batches(made):
                yield some, [(start + number, reason) for number, reason in rejects]
        start += batch.num_rows


def _batches(parsed: Iterable) -> Iterator[tuple[pa.RecordBatch, list[tuple[int, str]]]]:
    """Documents, reasons (str) and blanks (None) -> batches of about BATCH_BYTES of text."""
    documents, rejects, size = [], [], 0
    for number, made in enumerate(parsed, 1):
        if isinstance(made, str):
            rejects.append((number, made))
        elif made is not None:
            documents.append(made)
            size += len(made["text"].encode())
        if size >= BATCH_BYTES or len(rejects) >= 10_000:
            yield pa.RecordBatch.from_pylist(documents, SCHEMA), rejects
            documents, rejects, size = [], [], 0
    if documents or rejects:
        yield pa.RecordBatch.from_pylist(documents, SCHEMA), rejects


# Batches in a job


def count(name: str, documents: int = 1, namespace: str = "dropped") -> None:
    if documents:
        Metrics.counter(namespace, name).inc(documents)


def keep(batch: pa.RecordBatch, reasons: Sequence[str | None]) -> pa.RecordBatch:
    """The rows whose reason is None; the others are counted under their reason."""
    for reason in reasons:
        if reason is not None:
            count(reason)
    return batch.filter(pa.array([reason is None for reason in reasons], pa.bool_()))


def replace(batch: pa.RecordBatch, column: str, values: Sequence) -> pa.RecordBatch:
    index = batch.schema.get_field_index(column)
    return batch.set_column(
        index, batch.schema.field(index), pa.array(values, batch.schema.field(index).type)
    )


def read_counted(file: tuple[int, str], folder: Path) -> Iterator[pa.RecordBatch]:
    """Batches of one (number, path); counts what is read and rejected, writes rejects beside the output."""
    number, path = file
    part, logged, read, said = f"{number:05d}", 0, 0, time.monotonic()
    rejected = Path(folder) / f"rejects-{part}.jsonl"
    rejected.unlink(missing_ok=True)  # of an attempt that a runner repeats
    for batch, rejects in read_batches(path):
        count("read", batch.num_rows + len(rejects), namespace="documents")
        read += batch.num_rows
        for line, reason in rejects:
            count(reason)
            with open(rejected, "a", encoding="utf-8") as f:
                f.write(json.dumps({"file": path, "line": line, "reason": reason}, ensure_ascii=False) + "\n")
            logged += 1
            if logged <= LOGGED_REJECTS:
                log.warning("%s line %d: %s", path, line, reason)
        if time.monotonic() - said > 30:
            said = time.monotonic()
            log.info("%s: %d documents so far", path, read)
        if batch.num_rows:
            yield batch.replace_schema_metadata({"part": part})


class Read(beam.PTransform):
    """Pipeline -> batches of documents of these files."""

    def __init__(self, files: list[str], folder: Path):
        super().__init__()
        self.files, self.folder = list(enumerate(files)), folder

    def expand(self, pipeline):
        return (
            pipeline
            | "Files" >> beam.Create(self.files)
            | "SpreadFiles" >> beam.Reshuffle()  # else a runner may keep all files on one worker
            | "ReadFile" >> beam.FlatMap(read_counted, self.folder)
        )


class WriteParts(beam.DoFn):
    """Batches -> folder/part-<file>-<n>.parquet; a new part begins at PART_BYTES of text or at another schema."""

    def __init__(self, folder: Path):
        self.folder = folder

    def start_bundle(self):
        self.writer, self.part, self.parts, self.bytes = None, None, 0, 0

    def process(self, batch: pa.RecordBatch):
        if batch.num_rows:
            part, batch = (
                batch.schema.metadata[b"part"].decode(),
                batch.replace_schema_metadata(None),
            )
            self._open(part, batch.schema)
            self.writer.write_batch(batch)
            self.bytes += batch["text"].nbytes

    def _open(self, part: str, schema: pa.Schema):
        if part != self.part:
            self.finish_bundle()
            self.part, self.parts = part, 0
        elif self.bytes >= PART_BYTES or self.writer.schema != schema:
            self.finish_bundle()
        if self.writer is None:
            path = Path(self.folder) / f"part-{part}-{self.parts:03d}.parquet"
            self.writer, self.parts, self.bytes = (
                pq.ParquetWriter(path, schema, compression="zstd"),
                self.parts + 1,
                0,
            )

    def finish_bundle(self):
        if self.writer is not None:
            self.writer.close()
            self.writer = None
