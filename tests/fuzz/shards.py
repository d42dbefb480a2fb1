"""Damaged row shards, with their index and manifest, read by the functions that jobs read them with."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from mucpt_jax.formats import rows
from mucpt_jax.formats.manifest import documents_of, read_index, read_manifest, shared_documents
from tests.conftest import T, write_rows
from tests.fuzz import damage


def fuzzer(folder: Path) -> Callable[[Random], None]:
    write_rows(folder / "whole", {"music": 5, "web": 3})
    write_rows(folder / "rows", {"music": 5, "web": 3})
    files = {path.name: path.read_bytes() for path in (folder / "whole").iterdir()}

    def case(rng: Random) -> None:
        changed = rng.sample(sorted(files), rng.choice([1, 1, 1, 2]))
        for name in changed:
            (folder / "rows" / name).write_bytes(damaged(rng, name, files[name]))
        try:
            read(folder / "rows", folder / "whole")
        finally:
            for name in changed:
                (folder / "rows" / name).write_bytes(files[name])

    return case


def damaged(rng: Random, name: str, data: bytes) -> bytes:
    if name == "manifest.json":
        return damage.of_file(rng, data)
    used = data.rstrip(b"\0")  # array_record fills its blocks
    for _ in range(rng.choice([1, 1, 2, 5])):
        kind, place = rng.randrange(8), rng.randrange(len(used))
        if kind == 0:
            return data[:place]
        if kind == 1:
            return data + rng.randbytes(rng.randrange(1, 100))
        length = rng.choice([1, 1, 1, 4, 64, 1024])
        new = (
            bytes([data[place] ^ (1 << rng.randrange(8))])
            if length == 1
            else rng.choice([rng.randbytes(length), bytes(length)])
        )
        data = data[:place] + new + data[place + len(new) :]
    return data


def read(folder: Path, other: Path) -> None:
    manifest = read_manifest(folder)
    for shard in manifest["shards"]:
        rows.count_records(folder / shard["name"])
        for row in rows.read_shard(folder / shard["name"], min(manifest["sequence_length"], T)):
            rows.target_mask(row["segment_ids"])
        read_index(folder, shard)
        documents_of(str(folder), [(shard["name"], 0)])
    shared_documents(str(folder), str(other))
