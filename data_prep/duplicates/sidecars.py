"""What data_prep.dedup stores beside the documents: signatures of those that stay, groups of those that went.

signatures/part-*.parquet: id, digest, signature, subject of every document of the part that stays; --against and
data_prep.lookup read them.  signatures/_SHA256SUMS: of these files, checked before they are read.
groups/part-*.parquet: id, kept, reason of every duplicate that went; `kept` is the id of the one that stands for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.duplicates import signatures, subjects, work_files
from data_prep.duplicates.buckets import EARLIER, EXACT, NEAR
from data_prep.duplicates.work_files import Plan
from data_prep.jobs.options import option
from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.files import file_hash, write_text

REASONS = {
    -EXACT: "exact_duplicate", -(EXACT + EARLIER): "exact_duplicate_of_earlier",
    -NEAR: "near_duplicate", -(NEAR + EARLIER): "near_duplicate_of_earlier",
}  # fmt: skip
SIGNATURES = pa.schema(
    {
        "id": pa.string(), "digest": pa.binary(16), "signature": pa.binary(signatures.SIZE),
        "subject": pa.binary(subjects.SUBJECT.itemsize),
    },
    {"version": signatures.VERSION},
)  # fmt: skip
SUMS = "_SHA256SUMS"  # readers of a folder of Parquet pass over names that begin so
GROUPS = pa.schema({"id": pa.string(), "kept": pa.string(), "reason": pa.string()})


@dataclass(frozen=True)
class Options:
    """Of data_prep.dedup."""

    similarity: float = option(0.8, "least Jaccard similarity of near-duplicates; 0: exact ones only")
    any_subject: bool = option(
        False, "near-duplicates may differ in subject, title and names of their first sentence, see subjects.py"
    )
    sources: tuple[str, ...] = option((), "of equal documents, those of the source named first stay")
    against: tuple[str, ...] = option((), "outputs of earlier runs: what is near them goes")
    signatures: bool = option(False, "write signatures/, for a later --against")
    groups: bool = option(False, "write groups/: what each dropped document was like")
    paragraphs: int = option(0, "paragraphs of so many characters that stood elsewhere go; 0: none", bare=64)


def find_earlier(folders: Iterable[str]) -> list[str]:
    """--against -> its files of signatures; UserError where they are missing, damaged or cannot be compared."""
    paths = []
    for folder in folders:
        files = sorted((Path(folder) / "signatures").glob("part-*.parquet"))
        if not files:
            raise UserError(f"--against={folder} holds no signatures/; write it again with --signatures")
        with _readable(Path(folder) / "signatures"):
            check_sums(files)
        paths += map(str, files)
    for file in paths:
        check_kind(file)
    return paths


def check_kind(file: str) -> None:
    with _readable(file):
        schema = pq.read_schema(file)
    version = (schema.metadata or {}).get(b"version", b"").decode(errors="replace")
    if version != signatures.VERSION:
        raise UserError(
            f"{file} has signatures of another kind ({version or 'unknown'}, here {signatures.VERSION}); "
            "write that output again with --signatures"
        )
    for field in list(SIGNATURES)[: 4 if "subject" in schema.names else 3]:  # an older output has no subjects
        if field.name not in schema.names or schema.field(field.name).type != field.type:
            raise UserError(f"{file} is no file of signatures; write that output again with --signatures")


@contextmanager
def _readable(path: Path | str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: ids that are not UTF-8, sizes that are none
        raise UserError(
            f"{path} is damaged, cut short or unreadable ({one_line(error)}); write that output again with --signatures"
        ) from error


def write_sums(folder: Path) -> None:
    """signatures/_SHA256SUMS, as of sha256sum, where there are signatures."""
    if files := sorted((folder / "signatures").glob("part-*.parquet")):
        lines = [f"{file_hash(file)}  {file.name}\n" for file in files]
        write_text(folder / "signatures" / SUMS, "".join(lines))


def check_sums(files: Sequence[Path]) -> None:
    """ValueError where a file is not as it was written; an output before there were sums has none to check."""
    path = files[0].with_name(SUMS)
    if path.exists():
        sums = dict(line.split("  ")[::-1] for line in path.read_text().splitlines())
        wrong = [file.name for file in files if sums.pop(file.name, "") != file_hash(file)]
        if wrong or sums:
            raise ValueError(f"{min([*wrong, *sums])} is not as it was written")


def earlier_batches(path: str) -> Iterator[work_files.Signed]:
    with _readable(path):
        for batch in pq.ParquetFile(path, page_checksum_verification=True).iter_batches(batch_size=8192):
            batch.validate(full=True)
            if any(column.null_count for column in batch.columns):
                raise ValueError("a value is missing")
            facts = np.zeros(batch.num_rows, work_files.FACTS)
            facts["digest"] = _bytes(batch["digest"], 16).view("u8")
            subject = np.zeros(batch.num_rows, subjects.SUBJECT)
            if "subject" in batch.schema.names:
                subject = _bytes(batch["subject"], subjects.SUBJECT.itemsize).view(subjects.SUBJECT).ravel()
            names = pc.cast(batch["id"], pa.binary()).to_pylist()
            yield facts, names, _bytes(batch["signature"], signatures.SIZE), subject


def _bytes(column: pa.FixedSizeBinaryArray, size: int) -> np.ndarray:
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, size)


def _as_bytes(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), rows.dtype.itemsize)


def _binary(rows: np.ndarray) -> pa.FixedSizeBinaryArray:
    return pa.array([row.tobytes() for row in rows], pa.binary(rows.shape[1]))


class Sidecars:
    """Writes signatures/ of what stays and groups/ of what goes, of one file, where they were asked for."""

    def __init__(self, plan: Plan, number: int, changes: list[np.ndarray]):
        self.plan, self.number, self.open = plan, number, {}
        self.kept = {int(row): int(key) for change in changes for row, _, key in change} if plan.options.groups else {}

    def add(self, names: pa.StringArray, reasons: list[str | None], start: int) -> None:
        """Ids of a batch whose first document is in row `start`, and why each goes, None where it stays."""
        if self.plan.options.signatures:
            stay = np.array([n for n, reason in enumerate(reasons) if reason is None], np.int64)
            facts, signature, subject = (
                work_files.column(self.plan.work, self.number, name)[start + stay]
                for name in ("facts", "signature", "subject")
            )
            columns = (np.ascontiguousarray(facts["digest"]).view(np.uint8), signature, _as_bytes(subject))
            self._write("signatures", SIGNATURES, [names.take(pa.array(stay)), *map(_binary, columns)])
        gone = [n for n, reason in enumerate(reasons) if start + n in self.kept and reason is not None]
        if gone:
            keys = np.array([self.kept[start + n] for n in gone], np.uint64)
            kept = [name.decode() for name in work_files.ids_of(self.plan.work, keys)]
            self._write("groups", GROUPS, [names.take(pa.array(gone)), kept, [reasons[n] for n in gone]])

    def _write(self, name: str, schema: pa.Schema, columns: list) -> None:
        if name not in self.open:
            (self.plan.folder / name).mkdir(exist_ok=True)
            path = self.plan.folder / name / f"part-{self.number:05d}.parquet"
            self.open[name] = pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)
        self.open[name].write_table(pa.table(columns, schema=schema))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for writer in self.open.values():
            writer.close()
