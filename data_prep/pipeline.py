"""The whole recipe, from raw text to packed rows, with the counts of the whole road and a report.

    python -m data_prep.pipeline --input=raw/ --output=out/ [--config=configs/curation.py] [--config.KEY=VALUE ...]

The config names the stages, in this order: clean, boilerplate, quality, dedup, decontaminate, mask, shard.  Each is the
job of that name with the flags of its section of the config (config.clean.min_chars=10 is --min_chars=10 of clean) and
writes out/STAGE (shard: out/rows, and with held_out=0.02 that share of the documents to out/held_out instead), each
with its counts.json.  Without questions decontaminate is left out, without a tokenizer shard.

Stopped?  The same command goes on behind the last whole stage; with another config, other input files, or other files
that a stage names (questions, tokenizer, outputs of earlier runs) it begins again where they differ.  out/report.html
and report.json tell what became of the corpus.  Where out/counts.json stands, all of out/ is of one finished run.
"""

import argparse
import glob
import hashlib
import itertools
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from data_prep import boilerplate, clean, decontaminate, dedup, mask, quality, report, shard
from data_prep.jobs import job, runner
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest

JOBS = {
    "clean": clean, "boilerplate": boilerplate, "quality": quality, "dedup": dedup, "decontaminate": decontaminate,
    "mask": mask, "shard": shard,
}  # fmt: skip
NEEDS = {"decontaminate": "questions", "shard": "tokenizer"}  # without it, the stage is left out
READS = {"dedup": "--against=", "decontaminate": "--questions=", "shard": "--tokenizer="}  # files besides the input
RECIPE = str(Path(__file__).parents[1] / "configs/curation.py")
FILES = ("report.html", "report.json", "config.json", "stages.json", "counts.json", "lock")
# The hidden ones are of a stage that was killed.
OWN = (*(f"{name}/" for name in JOBS), "rows/", "held_out/", *FILES, "*.writing", ".*.writing/", ".*.old/")
log = logging.getLogger(__name__)


class Stage(NamedTuple):
    job: str
    folder: str
    flags: list[str]


def run(argv: list[str] | None = None) -> dict:
    args, config, beam_args = arguments(argv)
    files, stages = job.find_files(args.input), list(stages_of(config))
    check(args, stages, beam_args)
    out = Path(args.output)
    with job.writable(args.output):
        check_output(args.output, files)
        out.mkdir(parents=True, exist_ok=True)
    with job.locked(out, args.output):
        begin(out, stages, config)
        done = run_stages(args, stages, marks_of(stages, files, args.columns), beam_args)
        counts = {stage.folder: read_counts(out, stage) for stage in stages if stage.folder != "held_out"}
        seconds = {name: done[name]["seconds"] for name in counts}
        made = total(counts) | {"input": args.input, "stages": counts, "seconds": seconds}
        write_json(out / "counts.json", made)
        report.write(out)
        (out / "lock").unlink()
    print_table(counts)
    return made


def check(args: argparse.Namespace, stages: list[Stage], beam_args: list[str]) -> None:
    """UserError for what would fail only after hours of other stages."""
    runner.options_of(beam_args)
    for stage in stages:
        own = [f"--input={args.input}", f"--output={Path(args.output) / stage.folder}", *stage.flags]
        _, unknown = JOBS[stage.job].parse(own)
        if unknown:
            raise UserError(
                f"config.{stage.job} makes {unknown[0]}, which no flag of that job is; "
                f"see python -m data_prep.{stage.job} --help"
            )


def check_output(output: str, files: list[str]) -> None:
    final = job.check_output(output, files, OWN)
    inside = [file for file in files if "://" not in file and final in Path(file).resolve().parents]
    if inside:
        raise UserError(f"--output={output} holds the input {inside[0]}, which it would replace; name another")


def begin(out: Path, stages: list[Stage], config: ConfigDict) -> None:
    with job.writable(str(out)):
        (out / "counts.json").unlink(missing_ok=True)
        for name in {*JOBS, "rows", "held_out"} - {stage.folder for stage in stages}:  # of another recipe
            shutil.rmtree(out / name, ignore_errors=True)
        write_json(out / "config.json", config.to_dict())


def run_stages(
    args: argparse.Namespace, stages: list[Stage], marks: dict[str, str], beam_args: list[str]
) -> dict[str, dict]:
    """Those that are not whole yet, each on the output of the one before; {folder: what stages.json has}."""
    out = Path(args.output)
    done = whole_stages(out, stages, marks)
    source, columns = args.input, [f"--columns={join(args.columns)}"] if args.columns else []
    for stage in stages:
        if stage.folder in done:
            log.info("%s is whole already", out / stage.folder)
        else:
            started = time.monotonic()
            between = [f"--input={source}", f"--output={out / stage.folder}"]
            JOBS[stage.job].run([*between, *stage.flags, *columns, *beam_args])
            seconds = round(time.monotonic() - started, 1)
            done[stage.folder] = {"mark": marks[stage.folder], "seconds": seconds}
            write_json(out / "stages.json", done)
        if stage.job != "shard":
            source, columns = out / stage.folder, []
    return done


def stages_of(config: ConfigDict) -> Iterator[Stage]:
    names = str(config.get("stages", "")).split(",")
    if names != [name for name in JOBS if name in names]:
        raise UserError(f"config.stages={','.join(names)} is no part of {','.join(JOBS)}, in this order; give one")
    names = [name for name in names if is_usable(name, config)]
    if not names:
        raise UserError(f"config.stages={config.stages} leaves no stage to run; give what it needs")
    for name in names:
        section = config.get(name, {})
        yield Stage(name, "rows" if name == "shard" else name, flags_of(section))
        if name == "shard" and section.get("held_out"):
            yield Stage(name, "held_out", [*flags_of(section), "--only_held_out"])


def is_usable(name: str, config: ConfigDict) -> bool:
    needed = NEEDS.get(name)
    if needed and not config.get(name, {}).get(needed):
        log.warning("%s is left out; it needs --config.%s.%s", name, name, needed)
        return False
    return True


def flags_of(section: Mapping) -> list[str]:
    """{"near": True, "min": 0, "sources": ("a", "b"), "none": ""} -> --near --min=0 --sources=a,b"""
    joined = {key: ",".join(map(str, v)) if isinstance(v, (list, tuple)) else v for key, v in section.items()}
    given = {key: value for key, value in joined.items() if value is not False and value not in (None, "")}
    return [f"--{key}" if value is True else f"--{key}={value}" for key, value in given.items()]


# What is whole already


def marks_of(stages: list[Stage], files: list[str], columns: dict[str, str]) -> dict[str, str]:
    """{folder: what changes with the input, with any stage up to this one, and with the files that these name}"""
    mark, made = hash_of(["", seen(files), columns]), {}
    for stage in stages:
        named = [flag.partition("=")[2] for flag in stage.flags if flag.startswith(READS.get(stage.job, "="))]
        mark = hash_of([mark, stage.folder, stage.flags, seen(filter(None, ",".join(named).split(",")))])
        made[stage.folder] = mark
    return made


def hash_of(value: list) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def seen(paths: Iterable[str]) -> list:
    """Files, folders and globs -> (file, bytes, time) of each file; what this machine does not see by name alone."""
    found = [file for path in paths for file in sorted(glob.glob(path, recursive=True)) or [path]]
    inside = [sorted(map(str, Path(path).rglob("*"))) if os.path.isdir(path) else [path] for path in found]
    files = itertools.chain(*inside)
    return [(f, os.path.getsize(f), os.path.getmtime(f)) if os.path.isfile(f) else f for f in files]


def whole_stages(out: Path, stages: list[Stage], marks: dict[str, str]) -> dict[str, dict]:
    """What a run before this one left whole; stages.json forgets the rest, which is of another corpus from now on."""
    try:
        noted = json.loads((out / "stages.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = {}
    for stage in stages:
        before = noted.get(stage.folder, {})
        if before.get("mark") != marks[stage.folder] or not is_whole(out, stage):
            break
        found[stage.folder] = before
    write_json(out / "stages.json", found)
    return found


def is_whole(out: Path, stage: Stage) -> bool:
    """Whether the folder holds what its counts tell: someone may have taken files away."""
    folder = out / stage.folder
    try:
        kept = read_counts(out, stage)["kept"]
        if stage.job == "shard":
            return bool(read_manifest(str(folder)))
        return job.kept_rows(folder) == kept
    except (OSError, ValueError, KeyError):
        return False


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
    parser = job.parser(__doc__)
    parser.add_argument(
        "--config", default=RECIPE, metavar="FILE[:ARGUMENT]",
        help=f"the recipe ({RECIPE}); --config.SECTION.KEY=VALUE sets one of its keys",
    )  # fmt: skip
    args, rest = parser.parse_known_args(argv)
    rest, values = ["", f"--config={args.config}", *rest], flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=rest)
    try:
        rest = values(rest, known_only=True)[1:]
        return args, ConfigDict(values.config.to_dict()), rest
    except UserError:
        raise
    except Exception as error:  # whatever the config file raised
        told = (str(error).strip().splitlines() or [repr(error)])[-1]  # behind a stack
        raise UserError(f"--config={args.config} cannot be used: {told[:300]}; see {RECIPE}") from error


if __name__ == "__main__":
    job.main(run)
