"""The whole recipe, from raw text to packed rows, with the counts of the whole road and a report.

    python -m data_prep.pipeline --input=raw/ --output=out/ [--config=configs/curation.py] [--config.KEY=VALUE ...]

The config names the stages, in this order: clean, boilerplate, quality, dedup, decontaminate, mask, shard.  Each is the
job of that name with the flags of its section of the config (config.clean.min_chars=10 is --min_chars=10 of clean) and
writes out/STAGE (shard: out/rows, and with held_out=0.02 that share of the documents to out/held_out instead), each
with its counts.json.  Without questions decontaminate is left out, without a tokenizer shard.

Stopped?  The same command goes on behind the last whole stage; with another config or other input files it begins
again where they differ.  out/report.html and report.json tell what became of the corpus.  Where out/counts.json
stands, all of out/ is of one finished run.
"""

import argparse
import hashlib
import itertools
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from data_prep import boilerplate, clean, decontaminate, dedup, documents, job, mask, quality, report, shard
from mucpt_jax.records import UserError, write_json

JOBS = {
    "clean": clean, "boilerplate": boilerplate, "quality": quality, "dedup": dedup, "decontaminate": decontaminate,
    "mask": mask, "shard": shard,
}  # fmt: skip
NEEDS = {"decontaminate": "questions", "shard": "tokenizer"}  # without it, the stage is left out
RECIPE = str(Path(__file__).parents[1] / "configs/curation.py")
FILES = ("report.html", "report.json", "config.json", "stages.json", "counts.json")
# The hidden ones are of a stage that was killed.
OWN = (*(f"{name}/" for name in JOBS), "rows/", "held_out/", *FILES, "*.writing", ".*.writing/", ".*.old/")
log = logging.getLogger(__name__)


class Stage(NamedTuple):
    job: str
    folder: str
    flags: list[str]


def run(argv: list[str] | None = None) -> dict:
    args, config, beam_args = arguments(argv)
    out, files, stages = Path(args.output), job.find_files(args.input), list(stages_of(config))
    job.options_of(beam_args)
    for stage in stages:
        JOBS[stage.job].parse([f"--input={args.input}", f"--output={args.output}", *stage.flags])
    with job.writable(args.output):
        job.check_output(args.output, files, OWN)
        out.mkdir(parents=True, exist_ok=True)
        (out / "counts.json").unlink(missing_ok=True)
        for name in {*JOBS, "rows", "held_out"} - {stage.folder for stage in stages}:  # of another recipe
            shutil.rmtree(out / name, ignore_errors=True)
        write_json(out / "config.json", config.to_dict())

    done = whole_stages(out, stages, fingerprint(files, args))
    source, columns = args.input, [f"--columns={join(args.columns)}"] if args.columns else []
    for stage in stages:
        if stage.folder in done:
            log.info("%s is whole already", out / stage.folder)
        else:
            started = time.monotonic()
            between = [f"--input={source}", f"--output={out / stage.folder}"]
            JOBS[stage.job].run([*between, *stage.flags, *columns, *beam_args])
            done[stage.folder] = {"flags": stage.flags, "seconds": round(time.monotonic() - started, 1)}
            write_json(out / "stages.json", {"input": fingerprint(files, args), "stages": done})
        if stage.job != "shard":
            source, columns = out / stage.folder, []

    counts = {stage.folder: read_counts(out, stage) for stage in stages if stage.folder != "held_out"}
    seconds = {name: done[name]["seconds"] for name in counts}
    made = total(counts) | {"input": args.input, "stages": counts, "seconds": seconds}
    write_json(out / "counts.json", made)
    report.write(out)
    print_table(counts)
    return made


def stages_of(config: ConfigDict) -> Iterator[Stage]:
    names = config.stages.split(",")
    if names != [name for name in JOBS if name in names]:
        raise UserError(
            f"config.stages={config.stages} is no part of {','.join(JOBS)}, in this order; give one"
        )
    for name in names:
        needed = NEEDS.get(name)
        if needed and not config[name][needed]:
            log.warning("%s is left out; it needs --config.%s.%s", name, name, needed)
        elif name != "shard":
            yield Stage(name, name, flags_of(config[name]))
        else:
            yield Stage(name, "rows", flags_of(config[name]))
            if config.shard.held_out:
                yield Stage(name, "held_out", [*flags_of(config[name]), "--only_held_out"])


def flags_of(section: ConfigDict) -> list[str]:
    """{"near": True, "min": 0, "sources": ("a", "b"), "none": ""} -> --near --min=0 --sources=a,b"""
    joined = {key: ",".join(value) if isinstance(value, tuple) else value for key, value in section.items()}
    given = {key: value for key, value in joined.items() if value is not False and value not in (None, "")}
    return [f"--{key}" if value is True else f"--{key}={value}" for key, value in given.items()]


def fingerprint(files: list[str], args: argparse.Namespace) -> str:
    """Changes where the input does."""
    known = [(f, os.path.getsize(f), os.path.getmtime(f)) if os.path.exists(f) else f for f in files]
    return hashlib.sha256(json.dumps([known, args.columns]).encode()).hexdigest()[:16]


def whole_stages(out: Path, stages: list[Stage], source: str) -> dict[str, dict]:
    """Folders that a run before this one left whole, from the same input by the same flags all the way."""
    try:
        noted = json.loads((out / "stages.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = {}
    for stage in stages:
        before = noted["stages"].get(stage.folder)
        whole = (out / stage.folder / "counts.json").is_file()
        if noted["input"] != source or not before or before["flags"] != stage.flags or not whole:
            break
        found[stage.folder] = before
    write_json(
        out / "stages.json", noted | {"stages": found}
    )  # those behind are of another corpus from now on
    return found


def read_counts(out: Path, stage: Stage) -> dict:
    return json.loads((out / stage.folder / "counts.json").read_text(encoding="utf-8"))


def total(stages: dict[str, dict]) -> dict:
    """Counts of stages, in their order -> counts of the whole road."""
    in_order = list(stages.values())
    for before, after in itertools.pairwise(in_order):
        assert before["kept"] == after["read"], f"documents lost between stages: {stages}"
    sums = {name: dict(sum((Counter(counts.get(name, {})) for counts in in_order), Counter()))
            for name in ("dropped", *job.MORE)}  # fmt: skip
    more = {name: sums[name] for name in job.MORE if sums[name]}
    return {"read": in_order[0]["read"], "kept": in_order[-1]["kept"], "dropped": sums["dropped"]} | more


def print_table(stages: dict[str, dict]) -> None:
    read = next(iter(stages.values()))["read"]
    print(f"{'stage':<14}{'reason':<28}{'documents':>12}{'of read':>10}")
    for stage, counts in stages.items():
        for reason, dropped in counts["dropped"].items():
            print(f"{stage:<14}{reason:<28}{dropped:>12}{dropped / read:>10.2%}")
        print(f"{stage:<14}{'kept':<28}{counts['kept']:>12}{counts['kept'] / read:>10.2%}")


def join(columns: dict[str, str]) -> str:
    return ",".join(f"{ours}={theirs}" for ours, theirs in columns.items())


def arguments(argv: list[str] | None) -> tuple[argparse.Namespace, ConfigDict, list[str]]:
    """(--input, --output, --columns; the config; what is for Beam)"""
    args, rest = job.parser(__doc__).parse_known_args(argv)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", RECIPE, flag_values=values, sys_argv=["", *rest])
    try:
        rest = values(["", *rest], known_only=True)[1:]
        return args, ConfigDict(values.config.to_dict()), rest
    except UserError:
        raise
    except Exception as error:  # whatever the config file raised
        raise UserError(f"the config cannot be used: {documents.one_line(error)}; see {RECIPE}") from error


if __name__ == "__main__":
    job.main(run)
