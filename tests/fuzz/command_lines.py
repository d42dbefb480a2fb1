"""Bad command lines of every job: parsed and checked in this process, but nothing is run."""

import contextlib
import copy
import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest import mock

from absl import flags
from ml_collections import config_flags

import launch
from data_prep import pipeline, select
from data_prep.jobs import runner
from mucpt_jax import checks, config
from mucpt_jax.errors import exiting

ROOT = Path(__file__).parents[2]
VALUES = (
    "", "0", "-1", "1", "2", "3.5", "nan", "inf", "-inf", "1e309", "9" * 30, "9" * 5000, "None", "null", "True", "x",
    "=", "x" * 10_000, "[x]", "a,b", ",", "'", '"', "\\", "\n", "\0", "\u2028", "\ud83d", "{}", "{question}", "*", "?",
    "../..", "/", "~", "-x", "--x", "%s", "{", "(1,2)", "歌", "gs://x", "float32", "mucpt", "1/0", "__import__('os')",
    "0x10", "1_000",
)  # fmt: skip
CONFIGS = [
    str(ROOT / "configs" / name)
    for name in ("demo.py", "reference.py", "qwen1_5b.py", "qwen1_5b.py:ntp", "curation.py")
]
# Commands with the words that each needs; their files are not there, so that each ends behind its checks.
MODULES = {
    "mucpt_jax.audit": ["scored"], "mucpt_jax.compare": ["run", "--baseline=run"], "mucpt_jax.calibration": ["scored"],
    "data_prep.report": ["out"], "data_prep.overlap": ["seed", "corpus"],
    "data_prep.agree": ["scored", "--output=agreed", "--names=n", "--tokenizer=t"],
}  # fmt: skip
SELECT = ["--scored=a", "--base=b", "--output=c", "--keep=0.5"]


def fuzzer(folder: Path) -> Callable[[Random], None]:
    jobs = [of_launch] * 6 + [of_pipeline] * 3 + [of_stage] * 5 + [of_module] * 2 + [of_select]

    def case(rng: Random) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), exiting():
            rng.choice(jobs)(rng)

    return case


def bad(rng: Random, words: list[str], names: list[str], most: int = 3) -> list[str]:
    """The words with some flags more, fewer, twice, cut or of a wrong value."""
    for _ in range(rng.randint(1, most)):
        kind = rng.randrange(10)
        flag = "--" + rng.choice(names)
        if kind < 5:
            words = [*words, f"{flag}={rng.choice(VALUES)}"]
        elif kind == 5:
            words = [*words, flag, rng.choice(VALUES)]
        elif kind == 6 and words:
            words = [w for w in words if w != rng.choice(words)]
        elif kind == 7 and words:
            place = rng.randrange(len(words))
            word = words[place]
            cut = rng.randrange(len(word) + 1)
            words = [
                *words[:place],
                word[:cut] + rng.choice(["", "x", "=", "."]) + word[cut + rng.randrange(2) :],
                *words[place + 1 :],
            ]
        elif kind == 8:
            words = [*words, rng.choice([flag, flag[:-1], flag + "x", flag.replace("--", "-"), rng.choice(VALUES)])]
        else:
            rng.shuffle(words)
    return words


def of_launch(rng: Random) -> None:
    names = [f"config.{key}" for key in config.type_of_keys()] * 3 + [
        "config",
        "job",
        "workdir",
        "num_processes",
        "config.x",
        "x",
    ]
    argv = [
        "launch.py",
        *bad(rng, [f"--config={rng.choice(CONFIGS)}", f"--job={rng.choice(list(launch.JOBS))}"], names),
    ]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    for flag in flags.FLAGS.get_flags_for_module(launch):
        if "config" not in flag.name:
            values[flag.name] = copy.deepcopy(flag)
    with mock.patch.object(launch.flags, "FLAGS", values):
        launch.parse(argv)
        checks.build(values.config)
        launch.default_workdir(config_flags.get_config_filename(values["config"]))


def of_pipeline(rng: Random) -> None:
    keys = [f"config.{s.name}.{key}" for s in pipeline.STAGES for key in pipeline.defaults()[s.name]]
    words = [f"--config={rng.choice(CONFIGS[-1:] * 4 + CONFIGS)}", "--input=raw", "--output=out"]
    words = bad(rng, words, [*keys, "config", "config.stages", "input", "output", "columns", "runner", "x"])
    args, values, beam_args = pipeline.arguments(words)
    for step in pipeline.recipe_of(values).steps:
        pipeline.check_stage(step.stage, step.options, args.output)
    runner.options_of(beam_args)


def of_stage(rng: Random) -> None:
    stage = rng.choice(pipeline.STAGES)
    names = [*stage.options.__dataclass_fields__, "input", "output", "columns", "runner", "direct_num_workers", "x"]
    needed = {"shard": ["--tokenizer=t"], "decontaminate": ["--questions=q"]}.get(stage.name, [])
    _, beam_args = stage.parse(bad(rng, ["--input=raw", "--output=out", *needed], names))
    runner.options_of(beam_args)


def of_module(rng: Random) -> None:
    name = rng.choice(list(MODULES))
    known = [
        "base",
        "output",
        "rows",
        "split",
        "by_seed",
        "markdown",
        "documents",
        "cap",
        "workers",
        "sample",
        "threshold",
        "x",
    ]
    module = importlib.import_module(name)
    with mock.patch.object(sys, "argv", [name, *bad(rng, MODULES[name], known)]):
        module.main() if hasattr(module, "main") else module.run()


def of_select(rng: Random) -> None:
    select.arguments(
        bad(rng, SELECT, ["scored", "keep", "threshold", "level", "rows_per_shard", "output", "seed", "x"])
    )
