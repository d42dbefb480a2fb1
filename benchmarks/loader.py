"""Tokens per second of data.batches on row folders made here, page cache warm.

    python -m benchmarks.loader

Scored domain rows and general rows, mixed 3 to 1, T = 4096.  Needed is what one H200 takes in at 1.5B parameters and
50% MFU; the bar is 20 times that, so that loading leaves the host's cores to everything else.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import facts
from mucpt_jax import config
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import SCHEMA
from mucpt_jax.formats.rows import shard_name, target_mask, write_shard

BAR, MFU = 20, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096, help="T of a row")
    parser.add_argument("--rows", type=int, default=3000, help="rows of the domain folder; general has a third")
    parser.add_argument("--batch_rows", type=int, default=32, help="rows of a step")
    parser.add_argument("--steps", type=int, default=200, help="measured steps of each number of threads")
    parser.add_argument("--threads", default="1,2,8", help="data.read_threads, comma-separated")
    parser.add_argument("--output", default="loader", help="name of the file in benchmarks/results")
    args = parser.parse_args()
    from mucpt_jax.run import metrics  # brings jax: not for --help

    model = config.MODELS["qwen2.5-1.5b"]
    needed = MFU * metrics.PEAK_FLOPS["H200"] / metrics.flops_per_token(model, args.tokens)
    with tempfile.TemporaryDirectory() as folder:
        for role, rows, scored in (("domain", args.rows, True), ("general", args.rows // 3, False)):
            write_folder(Path(folder) / role, role, rows, args.tokens, scored, model.vocab_size)
        rows = [measure(Path(folder), int(threads), needed, args) for threads in args.threads.split(",")]
    facts.write(
        args.output,
        f"data.batches, rows of {args.tokens} tokens, {args.batch_rows} a step, page cache warm, against the "
        f"{needed:,.0f} tokens/s of one H200 at 1.5B and {MFU:.0%} MFU; bar: {BAR} times that",
        rows,
    )


def measure(folder: Path, threads: int, needed: float, args) -> dict:
    from absl import flags

    from mucpt_jax.run import data  # brings jax and grain: not for --help

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads absl flags, which only launch.py parses
    warmup = 3 * args.rows // (2 * args.batch_rows)  # more than an epoch: every row was read once
    cfg = config.Config(
        model=config.MODELS["qwen2.5-1.5b"],
        data=config.Data(
            domain=str(folder / "domain"), general=str(folder / "general"), sequence_length=args.tokens,
            batch_rows=args.batch_rows, read_threads=threads,
        ),
        optimizer=config.Optimizer(steps=warmup + args.steps + 1),
    )  # fmt: skip
    batches = data.batches(data.mixture(data.open_sources(cfg), cfg), cfg, list(range(args.batch_rows)), 0)
    for _ in range(warmup):
        next(batches)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(args.steps):
        next(batches)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    rows = args.steps * args.batch_rows
    return {
        "read_threads": threads,
        "rows/s": rows / seconds,
        "tokens/s": rows * args.tokens / seconds,
        "tokens/s_of_a_core": rows * args.tokens / cpu,  # by processor time: other work does not count
        "cores_busy": cpu / seconds,
        "times_needed": rows * args.tokens / seconds / needed,
        "bar_holds": bool(rows * args.tokens / seconds >= BAR * needed),
    }


def write_folder(folder: Path, source: str, rows: int, tokens: int, scored: bool, vocab: int) -> None:
    """A row folder of four shards: random tokens in segments of 64 to 1024, as data_prep.shard packs them."""
    folder.mkdir(parents=True)
    rng, shards, each = np.random.default_rng(0), [], -(-rows // 4)
    for number in range(4):
        shard = [random_row(rng, tokens, scored, vocab) for _ in range(min(each, rows - number * each))]
        name = shard_name(source, number, 4)
        targets = sum(int(target_mask(row["segment_ids"]).sum()) for row in shard)
        shards.append({"name": name, "source": source, "targets": targets, **write_shard(folder / name, shard)})
    total = {key: sum(shard[key] for shard in shards) for key in ("records", "targets")}
    grid = {"0.001": 1.0, "100.0": 1.0}  # of floors; mean weights play no part here
    write_json(folder / "manifest.json", {
        "schema": SCHEMA, "sequence_length": tokens, "tokenizer_hash": "none", "vocab_size": vocab,
        "shards": shards, "sources": {source: total}, "scores": {"mean_raw_weight": grid} if scored else None,
    })  # fmt: skip


def random_row(rng: np.random.Generator, tokens: int, scored: bool, vocab: int) -> dict:
    slots = tokens + 1
    starts = np.zeros(slots, np.uint16)
    starts[np.cumsum(rng.integers(64, 1024, slots // 64)) % slots] = 1
    rm_nll = rng.gamma(1.0, 3.0, slots).astype(np.float16) if scored else np.full(slots, np.nan, np.float16)
    segment_ids = (np.cumsum(starts) + 1).astype(np.uint16)
    return {"tokens": rng.integers(0, vocab, slots, np.int32), "segment_ids": segment_ids, "rm_nll": rm_nll}


if __name__ == "__main__":
    main()
