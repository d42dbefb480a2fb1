"""What data_prep.dedup stores beside the documents: signatures of those that stay, groups of those that went.

signatures/part-*.parquet: id, digest, signature of every document of the part that stays; --against reads them.
groups/part-*.parquet: id, kept, reason of every duplicate that went; `kept` is the id of the one that stands for it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.duplicates import signatures, work_files
from data_prep.duplicates.buckets import EARLIER, EXACT, NEAR
from data_prep.duplicates.work_files import Plan
from data_prep.jobs.options import option
from mucpt_jax.errors import UserError

REASONS = {
    -EXACT: "exact_duplicate", -(EXACT + EARLIER): "exact_duplicate_of_earlier",
    -NEAR: "near_duplicate", -(NEAR + EARLIER): "near_duplicate_of_earlier",
}  # fmt: skip
SIGNATURES = pa.schema(
    {"id": pa.string(), "digest": pa.binary(16), "signature": pa.binary(signatures.SIZE)},
    {"version": signatures.VERSION},
)
GROUPS = pa.schema({"id": pa.string(), "kept": pa.string(), "reason": pa.string()})


@dataclass(frozen=True)
class Options:
    """Of data_prep.dedup."""

    similarity: float = option(0.8, "least Jaccard similarity of near-duplicates; 0: exact ones only")
    sources: tuple[str, ...] = option((), "of equal documents, those of the source named first stay")
    against: tuple[str, ...] = option((), "outputs of earlier runs: what is near them goes")
    signatures: bool = option(False, "write signatures/, for a later --against")
    groups: bool = option(False, "write groups/: what each dropped document was like")
    paragraphs: int = option(0, "paragraphs of so many characters that stood elsewhere go; 0: none", bare=64)


def find_earlier(folders: Iterable[str]) -> list[str]:
    """--against -> its files of signatures; UserError where they are missing or cannot be compared."""
    paths = []
    for folder in folders:
        files = sorted(str(f) for f in (Path(folder) / "signatures").glob("part-*.parquet"))
        if not files:
            raise UserError(f"--against={folder} holds no signatures/; write it again with --signatures")
        paths += files
    for file in paths:
        version = (pq.read_schema(file).metadata or {}).get(b"version", b"").decode()
        if version != signatures.VERSION:
            raise UserError(
                f"{file} has signatures of another kind ({version or 'unknown'}, here {signatures.VERSION}); "
                "write that output again with --signatures"
            )
    return paths


def earlier_batches(path: str) -> Iterator:
    for batch in pq.ParquetFile(path, page_checksum_verification=True).iter_batches(batch_size=8192):
        facts = np.zeros(batch.num_rows, work_files.FACTS)
        facts["digest"] = _bytes(batch["digest"], 16).view("u8")
        names = batch["id"].to_pylist()
        yield facts, [name.encode() for name in names], _bytes(batch["signature"], signatures.SIZE)


def _bytes(column: pa.FixedSizeBinaryArray, size: int) -> np.ndarray:
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, size)


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
            facts, signature = (
                work_files.column(self.plan.work, self.number, name)[start + stay] for name in ("facts", "signature")
            )
            digests = np.ascontiguousarray(facts["digest"]).view(np.uint8)
            self._write("signatures", SIGNATURES, [names.take(pa.array(stay)), _binary(digests), _binary(signature)])
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
