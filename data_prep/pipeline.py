"""The whole recipe: raw text -> clean -> without duplicates -> packed rows, with the counts of the whole road.

    python -m data_prep.pipeline --input=raw/ --output=out/ --tokenizer=qwen2.5/ --sequence_length=4096

Exact duplicates go, with --near near-duplicates too (dedup.py).  Writes out/clean, out/dedup, out/rows (each with its
counts.json), with --held_out=0.02 that share of the documents to out/held_out in place of out/rows, and, last of all,
out/counts.json: where it stands, all of out/ is of one finished run.  A stage that fails leaves the folders of the
stages before it in place.
"""

import argparse
import itertools
import shutil
from pathlib import Path

from data_prep import clean, dedup, job, shard
from mucpt_jax.records import write_json

# The hidden ones are of a stage that was killed.
OWN = ("clean/", "dedup/", "rows/", "held_out/", "counts.json", "counts.writing", ".*.writing/", ".*.old/")


def run(argv: list[str] | None = None) -> dict:
    args, beam_args = arguments(argv)
    out = Path(args.output)
    shard.check_arguments(args)
    files = job.find_files(args.input)
    with job.writable(args.output):
        job.check_output(args.output, files, OWN)
        (out / "counts.json").unlink(missing_ok=True)
        shutil.rmtree(out / "held_out", ignore_errors=True)  # of a run that held some out

    near = [] if args.near else ["--no_near"]
    stages = {
        "clean": clean.run(
            [*between(args.input, out / "clean"), f"--min_chars={args.min_chars}", *beam_args]
        ),
        "dedup": dedup.run([*between(out / "clean", out / "dedup"), *near, *beam_args]),
        "shard": shard.run([*between(out / "dedup", out / "rows"), *shard_flags(args), *beam_args]),
    }

    if args.held_out:
        aside = [*between(out / "dedup", out / "held_out"), *shard_flags(args), "--only_held_out"]
        shard.run([*aside, *beam_args])

    counts = total(stages)
    write_json(out / "counts.json", counts | {"stages": stages})
    print_table(stages)
    return counts | {"stages": stages}


def between(source: str | Path, target: Path) -> list[str]:
    return [f"--input={source}", f"--output={target}"]


def total(stages: dict[str, dict]) -> dict:
    """Counts of stages, in their order -> counts of the whole road."""
    in_order = list(stages.values())
    for before, after in itertools.pairwise(in_order):
        assert before["kept"] == after["read"], f"documents lost between stages: {stages}"
    dropped = {}
    for counts in in_order:
        for reason, documents in counts["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + documents
    return {"read": in_order[0]["read"], "kept": in_order[-1]["kept"], "dropped": dropped}


def print_table(stages: dict[str, dict]) -> None:
    read = next(iter(stages.values()))["read"]
    print(f"{'stage':<10}{'reason':<24}{'documents':>12}{'of read':>10}")
    for stage, counts in stages.items():
        for reason, documents in counts["dropped"].items():
            print(f"{stage:<10}{reason:<24}{documents:>12}{documents / read:>10.2%}")
        print(f"{stage:<10}{'kept':<24}{counts['kept']:>12}{counts['kept'] / read:>10.2%}")


def shard_flags(args: argparse.Namespace) -> list[str]:
    return [
        f"--{name}={getattr(args, name)}"
        for name in ("tokenizer", "sequence_length", "rows_per_shard", "held_out")
    ]


def arguments(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = job.parser(__doc__)
    clean.add_arguments(parser)
    parser.add_argument("--near", action="store_true", help="drop near-duplicates too, not only exact ones")
    shard.add_arguments(parser)
    return parser.parse_known_args(argv)


if __name__ == "__main__":
    job.main(run)
