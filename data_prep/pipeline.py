"""The whole recipe, from raw text to packed rows, with the counts of the whole road and a report.

    python -m data_prep.pipeline --input=raw/ --output=out/ [--config=configs/curation.py] [--config.KEY=VALUE ...]

STAGES has the stages in their order; each is the job of that name with the options of its section of the config
(config.clean.min_chars=10 is --min_chars=10 of clean), and writes out/STAGE (shard: out/rows; with held_out=0.02
2% of the documents go to out/held_out and not to rows) with its counts.json.  Without questions decontaminate is left
out, without a tokenizer shard.

Stopped?  The same command goes on behind the last whole stage; with another config, other input files, or other files
that a stage names (questions, tokenizer, outputs of earlier runs) it begins again where they differ.  out/report.html
and report.json tell what became of the corpus.  Where out/counts.json stands, the folders of stages are of one
finished run.  What others wrote into out/ since, such as out/scored, stays as it is.
"""

import argparse
import dataclasses
import glob
import hashlib
import itertools
import json
import logging
import os
import re
import runpy
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec
from absl import flags
from ml_collections import ConfigDict, config_flags

from data_prep import boilerplate, clean, decontaminate, dedup, mask, quality, report, shard
from data_prep.jobs import job, options, runner
from data_prep.jobs.stage import Counts, Stage, check_stage, most_dropped, run_stage
from data_prep.jobs.stage import parser as parser_of
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import Number, read_json
from mucpt_jax.formats.files import locked, writable, write_json

STAGES = tuple(module.STAGE for module in (clean, boilerplate, quality, dedup, decontaminate, mask, shard))
RECIPE = str(Path(__file__).parents[1] / "configs/curation.py")
FILES = ("report.html", "report.json", "config.json", "stages.json", "counts.json", "lock")
log = logging.getLogger(__name__)


class Step(NamedTuple):
    """A stage as one recipe has it."""

    stage: Stage
    folder: str
    options: Any


class Recipe(NamedTuple):
    config: ConfigDict
    steps: list[Step]
    left_out: dict[str, str]  # {folder: why}


def run(argv: list[str] | None = None) -> dict:
    args, config, beam_args = arguments(argv)
    files, recipe = job.find_files(args.input), recipe_of(config)
    runner.options_of(beam_args)  # from here to begin(): what would fail only after hours of other stages
    out = Path(args.output)
    for step in recipe.steps:
        check_stage(step.stage, step.options, str(out / step.folder))
    with writable(f"--output={args.output}"):
        check_output(args.output, files)
        out.mkdir(parents=True, exist_ok=True)
    with locked(out, f"--output={args.output}"):
        begin(out, recipe)
        done = run_steps(args, recipe.steps, beam_args, marks_of(recipe.steps, files, args.columns))
        counts = {step.folder: read_counts(out, step) for step in recipe.steps if step.folder != "held_out"}
        seconds = {name: done[name]["seconds"] for name in counts}
        more = {"input": args.input, "stages": counts, "seconds": seconds, "left_out": recipe.left_out}
        write_json(out / "counts.json", total(counts) | more)
        report.write(out)
        (out / "lock").unlink()
    print_table(counts)
    for step in recipe.steps:
        if warning := most_dropped(step.stage, read_counts(out, step)):
            print(warning)
    print(f"{out / 'report.html'}   <- open this in a browser")
    return total(counts) | more


# The recipe


def defaults() -> ConfigDict:
    """All keys: `stages`, and a section for each with the options of its job."""
    sections = {stage.name: options.section_of(stage.options) for stage in STAGES}
    return ConfigDict({"stages": ",".join(stage.name for stage in STAGES), **sections})


def recipe_of(config: ConfigDict) -> Recipe:
    """UserError for an order of stages, a key or a value that is none."""
    known = [stage.name for stage in STAGES]
    options.check_keys(config, ["stages", *known], "config")
    names = str(config.get("stages", "")).split(",")
    if names != [name for name in known if name in names]:
        raise UserError(f"config.stages={','.join(names)} is no part of {','.join(known)}, in this order; give one")
    steps, left_out = [], {}
    for stage in STAGES:
        values = options.of_section(stage.options, config.get(stage.name, {}), f"config.{stage.name}")
        if stage.name not in names:
            left_out[stage.output] = "config.stages does not name it"
        elif stage.needs and not getattr(values, stage.needs):
            left_out[stage.output] = f"needs --config.{stage.name}.{stage.needs}"
            log.warning("%s is left out; it %s", stage.name, left_out[stage.output])
        else:
            steps.append(Step(stage, stage.output, values))
            if getattr(values, "held_out", 0):
                steps.append(Step(stage, "held_out", dataclasses.replace(values, only_held_out=True)))
    if not steps:
        raise UserError(f"config.stages={config.stages} leaves no stage to run; give what it needs")
    return Recipe(config, steps, left_out)


def arguments(argv: list[str] | None) -> tuple[argparse.Namespace, ConfigDict, list[str]]:
    """(--input, --output, --columns; the config; what is for Beam)"""
    parser = parser_of(__doc__, keys())
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
    except Exception as error:  # whatever the config file raised
        reason = error.args[0] if isinstance(error, KeyError) else str(error)  # of a KeyError, str would be quoted
        if isinstance(error, KeyError) and str(reason).isidentifier():
            reason = f"it has no {reason}; is it a config of launch.py?"
        line = (str(reason).strip().splitlines() or [repr(error)])[-1]  # behind a stack
        line = re.sub(r"^[\w.]*Error: ", "", line).replace("\\n", " ").strip()
        raise UserError(f"--config={args.config} cannot be used: {line[:300]}; --help has all keys") from error


def keys() -> str:
    """For --help: every key of the recipe, its value and what it means."""
    config = runpy.run_path(RECIPE)["get_config"]()
    lines = [f"keys, as they are without --config:\n  --config.stages={config.stages}"]
    for stage in STAGES:
        lines.append(f"\n  {stage.name}: {stage.does}")
        for field in dataclasses.fields(stage.options):
            setting = f"--config.{stage.name}.{field.name}={config[stage.name][field.name]}"
            lines.append(f"  {setting:<48} {field.metadata['meaning']}")
    return "\n".join([*lines, "", ""])


# Its output


def check_output(output: str, files: list[str]) -> None:
    """Refuses a folder of other things.  Once it is ours, what others have put there stays, as it is never touched."""
    ours = (Path(output) / "stages.json").is_file()
    # The hidden ones are of a stage that was killed.
    names = (*(f"{name}/" for name in folders()), *FILES, "*.writing", ".*.writing/", ".*.old/")
    final = job.check_output(output, files, ("*",) if ours else names)
    inside = [file for file in files if "://" not in file and final in Path(file).resolve().parents]
    if inside:
        raise UserError(f"--output={output} holds the input {inside[0]}, which it would replace; name another")


def folders() -> set[str]:
    return {"held_out", *(stage.output for stage in STAGES)}


def begin(out: Path, recipe: Recipe) -> None:
    with writable(f"--output={out}"):
        (out / "counts.json").unlink(missing_ok=True)
        for name in folders() - {step.folder for step in recipe.steps}:  # of another recipe
            shutil.rmtree(out / name, ignore_errors=True)
        write_json(out / "config.json", recipe.config.to_dict())


def run_steps(
    args: argparse.Namespace, steps: list[Step], beam_args: list[str], marks: dict[str, dict]
) -> dict[str, dict]:
    """Those that are not whole yet, each on the output of the one before; {folder: what stages.json has}."""
    out = Path(args.output)
    done = whole_steps(out, steps, marks)
    source, columns = args.input, args.columns
    others = sorted({path.name for path in out.iterdir() if path.is_dir() and path.name[0] != "."} - folders())
    if others and len(done) < len(steps):
        log.warning("%s is made anew, but %s of earlier documents stay: make them again too", out, ", ".join(others))
    for step in steps:
        folder = out / step.folder
        if step.folder in done:
            log.info("%s is whole already", folder)
        else:
            started = time.monotonic()
            run_stage(step.stage, source, str(folder), columns, step.options, beam_args)
            done[step.folder] = marks[step.folder] | {"seconds": round(time.monotonic() - started, 1)}
            write_json(out / "stages.json", done)
        if step.stage.writes_documents:
            source, columns = str(folder), {}
    return done


# What is whole already


class Mark(TypedDict, total=False):
    """Of a folder, in stages.json."""

    after: str
    options: dict[str, Any]
    files: str
    seconds: Number


def marks_of(steps: list[Step], files: list[str], columns: dict[str, str]) -> dict[str, dict]:
    """{folder: the stage before, the options, and a hash of the input and of the files that the options name}"""
    marks, before = {}, ""
    for step in steps:
        named = options.names(getattr(step.options, step.stage.reads)) if step.stage.reads else ()
        read = [seen(named)] if before else [seen(named), seen(files), columns]
        settings = in_json(step.options)
        marks[step.folder] = {"after": before, "options": settings, "files": hash_of(read)}
        before = step.folder
    return marks


def in_json(values: Any) -> dict:
    """Options as stages.json has them: lists for tuples."""
    return msgspec.json.decode(msgspec.json.encode(values))


def hash_of(value: list) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def seen(paths: Iterable[str]) -> list:
    """Files, folders and globs -> (file, bytes, time) of each file; what this machine does not see by name alone."""
    matches = [file for path in paths for file in sorted(glob.glob(path, recursive=True)) or [path]]
    inside = [sorted(map(str, Path(path).rglob("*"))) if os.path.isdir(path) else [path] for path in matches]
    files = itertools.chain(*inside)
    return [(f, os.path.getsize(f), os.path.getmtime(f)) if os.path.isfile(f) else f for f in files]


def whole_steps(out: Path, steps: list[Step], marks: dict[str, dict]) -> dict[str, dict]:
    """What a run before this one left whole; stages.json forgets the rest, which is of another corpus from now on."""
    try:
        noted = read_json(out / "stages.json", dict[str, Mark])
    except UserError:  # missing, or damaged: all stages are made again
        return {}
    whole = {}
    for step in steps:
        before = noted.get(step.folder, {})
        if not same(before, marks[step.folder], step.stage) or not is_whole(out, step):
            break
        whole[step.folder] = before
    write_json(out / "stages.json", whole)
    return whole


def same(before: dict, mark: dict, stage: Stage) -> bool:
    """An option that came after `before` was written had its default then."""
    defaults = in_json(stage.options())
    known = defaults | before.get("options", {})
    return {**before, "options": known}.items() >= mark.items()


def is_whole(out: Path, step: Step) -> bool:
    """Whether the folder holds what its counts tell: someone may have taken files away."""
    try:
        return step.stage.kept(out / step.folder) == read_counts(out, step)["kept"]
    except (OSError, ValueError):
        return False


def read_counts(out: Path, step: Step) -> Counts:
    return read_json(out / step.folder / "counts.json", Counts)


# What is told at the end


def total(stages: dict[str, dict]) -> dict:
    """Counts of stages, in their order -> counts of the whole road."""
    in_order = list(stages.values())
    for before, after in itertools.pairwise(in_order):
        assert before["kept"] == after["read"], f"documents lost between stages: {stages}"
    sums = {name: dict(sum((Counter(counts.get(name, {})) for counts in in_order), Counter()))
            for name in ("dropped", *runner.MORE)}  # fmt: skip
    more = {name: sums[name] for name in runner.MORE if sums[name]}
    return {"read": in_order[0]["read"], "kept": in_order[-1]["kept"], "dropped": sums["dropped"]} | more


def print_table(stages: dict[str, dict]) -> None:
    read = next(iter(stages.values()))["read"]
    print(f"{'stage':<14}{'reason':<28}{'documents':>12}{'of read':>10}")
    for name, counts in stages.items():
        for reason, dropped in counts["dropped"].items():
            print(f"{name:<14}{reason:<28}{dropped:>12}{dropped / read:>10.2%}")
        print(f"{name:<14}{'kept':<28}{counts['kept']:>12}{counts['kept'] / read:>10.2%}")


if __name__ == "__main__":
    job.main(run)
