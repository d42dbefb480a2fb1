"""What checking costs: sha256 of shards and index, hashes of a checkpoint, against reading the same without it.

python -m benchmarks.integrity
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000, help="rows of 4096 tokens, of one shard")
    parser.add_argument("--segments", type=int, default=2_000_000, help="lines of an index")
    parser.add_argument("--rounds", type=int, default=5, help="measured turns")
    parser.add_argument("--output", default="integrity", help="name of the file in benchmarks/results")
    args = parser.parse_args()
    facts.use("cpu")
    with tempfile.TemporaryDirectory() as folder:
        rows = [*of_rows(Path(folder), args), of_index(Path(folder), args), of_checkpoint(Path(folder), args)]
    facts.write(args.output, "Seconds to read and to check the same bytes, files in the page cache, one core", rows)


def compared(name: str, size: int, read: Callable, check: Callable, rounds: int) -> dict:
    def seconds(work: Callable) -> float:
        started = time.monotonic()
        work()
        return time.monotonic() - started

    sides = {"read": lambda: seconds(read), "check": lambda: seconds(check)}
    took = {side: facts.median(values) for side, values in facts.alternate(sides, rounds).items()}
    return {
        "what": name,
        "MB": size / 1e6,
        "read_s": took["read"],
        "check_s": took["check"],
        "check_MB/s": size / 1e6 / took["check"],
        "check/read": took["check"] / took["read"],
    }


def of_rows(folder: Path, args) -> list[dict]:
    import numpy as np

    from mucpt_jax.formats.files import file_hash
    from mucpt_jax.formats.rows import read_shard, write_shard

    rng, path = np.random.default_rng(0), folder / "a.array_record"

    def rows():
        ids = np.ones(4097, np.uint16)
        for _ in range(args.rows):
            yield {
                "tokens": rng.integers(0, 150_000, 4097), "segment_ids": ids,
                "rm_nll": rng.gamma(1, 3, 4097).astype(np.float16),
            }  # fmt: skip

    size = write_shard(path, rows())["bytes"]
    read = lambda: sum(1 for _ in read_shard(path, 4096))  # noqa: E731
    return [compared("rows, sha256", size, read, lambda: file_hash(path), args.rounds)]


def of_index(folder: Path, args) -> dict:
    import numpy as np
    import pyarrow as pa

    from mucpt_jax.formats.files import file_hash
    from mucpt_jax.formats.manifest import INDEX_SCHEMA, read_index_where, write_index

    n, number = args.segments, np.arange(args.segments)
    shard = pa.array([f"music-{i:05d}-of-00020.array_record" for i in range(20)])
    columns = {
        "shard": shard.take(pa.array(number * 20 // n)), "row": number % (n // 20) // 8, "segment": number % 8 + 1,
        "document": [f"document-{i}" for i in number], "offset": number * 0, "length": number % 500 + 1,
    }  # fmt: skip
    write_index(folder, [pa.table(columns).cast(INDEX_SCHEMA)])
    path = folder / "index.parquet"
    read = lambda: read_index_where(folder, [("shard", "==", shard[3].as_py())])  # noqa: E731
    name = "index, sha256 (once a process) and a filtered read"
    return compared(name, path.stat().st_size, read, lambda: file_hash(path), args.rounds)


def of_checkpoint(folder: Path, args) -> dict:
    import jax

    from benchmarks.scoring import of_size
    from mucpt_jax import config
    from mucpt_jax.run import checkpoint, sums
    from mucpt_jax.step import model, optimizer

    cfg = config.Config(model=of_size("40m"))
    params = model.init(cfg.model, jax.random.key(0))
    state = checkpoint.State(params, optimizer.make(cfg).init(params))
    ckpt = checkpoint.manager(folder / "run", cfg)
    checkpoint.save(ckpt, 1, state, cfg, {})
    checkpoint.finish(ckpt, 1)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state)

    def read() -> checkpoint.State:
        return jax.block_until_ready(checkpoint.State(**checkpoint.read_items(ckpt, 1, {}, **shapes._asdict())))

    def check() -> list[str]:
        return [sums.SUMS[item](getattr(state, item)) for item in sums.SUMS]

    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return compared("checkpoint, hashes of arrays", size, read, check, args.rounds)


if __name__ == "__main__":
    main()
