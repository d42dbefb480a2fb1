"""Starts a job, on every host the same command:

    python launch.py --config=configs/demo.py [--job=train] [--workdir=runs/mine] [--config.loss.alpha=2]

The config file gives every knob its value; a flag --config.KEY=VALUE wins over the file.
"""

import dataclasses
import difflib
import importlib
import logging
import re
import sys
from pathlib import Path
from typing import NamedTuple

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from mucpt_jax import checks, config
from mucpt_jax.errors import UserError, clipped, exiting
from mucpt_jax.formats import version
from mucpt_jax.formats.files import write_json
from mucpt_jax.run import hosts, lineage, peers, runtime


class Job(NamedTuple):
    """Runs mucpt_jax.NAME.NAME(config, mesh, workdir)."""

    help: str
    takes_trained: bool = True  # needs a trained model: model and tokenizer are those of the run that trained it
    simulated: bool = False  # its devices are not here: mucpt_jax.NAME.simulated_mesh gives the mesh


JOBS = {
    "train": Job("trains to optimizer.steps, from the newest checkpoint, init_from or random parameters", False),
    "score": Job("writes -log p of every token of score.input, by a trained model, to score.output"),
    "evaluate": Job("held-out loss on evaluate.rows, answers to evaluate.questions"),
    "export": Job("writes the newest checkpoint as a Hugging Face folder"),
    "plan": Job("memory, traffic and days of a training run, without its devices and data", False, simulated=True),
}
OPTIONS = {
    "config": "FILE or FILE:ARGUMENT",
    "job": f"{', '.join(JOBS)}; default train",
    "workdir": "folder of the run; default runs/FILE, or runs/FILE-ARGUMENT",
    "coordinator": "HOST:PORT of process 0, where nothing starts the processes",
    "num_processes": "with --coordinator: how many",
    "process_id": "with --coordinator: which one this is, from 0",
}
_CONFIG = config_flags.DEFINE_config_file("config", None, OPTIONS["config"])
_JOB = flags.DEFINE_enum("job", "train", list(JOBS), OPTIONS["job"])
_WORKDIR = flags.DEFINE_string("workdir", None, OPTIONS["workdir"])
_COORDINATOR = flags.DEFINE_string("coordinator", None, OPTIONS["coordinator"])
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, OPTIONS["num_processes"])
_PROCESS_ID = flags.DEFINE_integer("process_id", None, OPTIONS["process_id"])


def usage() -> str:
    """What --help prints."""
    jobs = [f"  {name:14}{job.help}" for name, job in JOBS.items()]
    options = [f"  --{name:14}{meaning}" for name, meaning in OPTIONS.items()]
    return "\n".join([__doc__, "Jobs:", *jobs, "\nFlags:", *options, "\nKeys of the config:", checks.explained()])


def parse(argv: list[str]) -> list[str]:
    """absl's parser of the command line; a misspelt key ends the process with the nearest key's name."""
    if {"--help", "-help", "-h", "--helpfull", "--helpshort"} & set(argv):
        print(usage())
        sys.exit(0)
    try:
        checks.check_overrides(argv)
        given, unset = checks.without_unset(argv)
        rest = flags.FLAGS(given)
        if rest[1:]:
            near = difflib.get_close_matches(rest[1], JOBS, 1, 0.5) or ["train"]
            meant = rest[1].lstrip("-") if "=" in rest[1] else f"job={near[0]}"
            raise UserError(f"{rest[1]!r} is no flag; did you mean --{meant}?")
        if flags.FLAGS.config is None:
            raise UserError("--config is missing; for example --config=configs/demo.py")
        _ = flags.FLAGS.config.to_dict  # a file that cannot be loaded says so only when it is used
        checks.unset(flags.FLAGS.config, unset)
        return rest
    except (flags.Error, UserError, AttributeError, OSError) as error:
        sys.exit(f"error: {clipped(checks.explain(error))}")
    except Exception as error:  # whatever the config file raised
        sys.exit(f"error: {clipped(checks.explain(error))} ({type(error).__name__} in the config file)")


def default_workdir(config_flag: str) -> str:
    """configs/qwen1_5b.py:rho1 -> runs/qwen1_5b-rho1."""
    file, _, argument = config_flag.partition(":")
    return "runs/" + "-".join(filter(None, (Path(file).stem, argument.replace("/", "-"))))


def main(argv: list[str]) -> None:
    start(_JOB.value, JOBS[_JOB.value])


def start(name: str, job: Job) -> None:
    with exiting():
        cfg = checks.build(_CONFIG.value)
        workdir = Path(_WORKDIR.value or default_workdir(config_flags.get_config_filename(flags.FLAGS["config"])))
        if job.simulated:
            cfg = runtime.simulate_devices(cfg)
        flags_line = runtime.set_xla_flags()  # before jax is loaded: XLA reads its flags once
        set_up_logging()
        logging.info(flags_line)
        run(name, job, cfg, workdir)


def set_up_logging() -> None:
    logging.getLogger().setLevel(logging.INFO)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for noisy in ("absl", "jax", "orbax"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # For an error that it raises too Orbax logs 400 lines of stacks; checkpoint.py has the sentence.
    logging.getLogger("absl").addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))


def run(name: str, job: Job, cfg: config.Config, workdir: Path) -> None:
    """jax is loaded here, after the checks of the config: a typo costs no device start."""
    module = importlib.import_module(f"mucpt_jax.{name}")
    # First: looking into a run's checkpoints starts the backend.
    with peers.together(None if job.simulated else join_hosts(cfg, workdir)):
        work(name, job, cfg, workdir, module)


def work(name: str, job: Job, cfg: config.Config, workdir: Path, module) -> None:
    import jax

    if job.takes_trained:
        cfg = of_run(cfg, workdir)
    workdir.mkdir(parents=True, exist_ok=True)  # not where a job finds nothing that was trained
    cfg, mesh = (cfg, module.simulated_mesh(cfg)) if job.simulated else on_devices(cfg)
    logging.info("config\n%s", describe(cfg))
    if jax.process_index() == 0 and name != "train":  # train saves its own when it really starts
        write_json(workdir / f"config.{name}.json", config.to_saved(cfg))
    logging.info(
        "%s by %s on %d %s as %s, host %d of %d", name, version.as_text(version.written_by()), mesh.size,
        jax.devices()[0].device_kind, dict(mesh.shape), jax.process_index(), jax.process_count(),
    )  # fmt: skip
    with jax.set_mesh(mesh):
        getattr(module, name)(cfg, mesh, workdir)


def describe(cfg: config.Config) -> str:
    """The resolved config, a section a line."""
    lines = []
    for name, value in dataclasses.asdict(cfg).items():
        knobs = [f"{k}={v!r}" for k, v in value.items()] if isinstance(value, dict) else []
        lines.append(f"  {name}: {' '.join(knobs)}" if knobs else f"  {name}={value!r}")
    return "\n".join(lines)


def of_run(cfg: config.Config, workdir: Path) -> config.Config:
    """Model and tokenizer, where the command line does not name them, from the run in workdir or in init_from."""

    named = {match[1] for word in sys.argv if (match := re.match(r"--?config\.([\w.]+)", word))}
    cfg = lineage.of_run(cfg, workdir, named)
    checks.check(cfg)
    return cfg


def join_hosts(cfg: config.Config, workdir: Path) -> peers.Peers | None:
    """Finds the other processes of the run, if there are any."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(workdir.parent.absolute() / "compile_cache"))
    triple = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    if cfg.mesh.distributed or triple != (None, None, None):
        return hosts.start(jax.distributed.initialize, *triple, seconds=cfg.mesh.join_seconds)
    hosts.refuse_strangers()
    return None


def on_devices(cfg: config.Config) -> tuple:
    """(config, mesh): takes all devices, and chooses the attention that they can run."""
    from mucpt_jax.step import attention, sharding

    mesh = sharding.make_mesh(cfg)
    return config.changed(cfg, {"train.attention": attention.of_device(cfg)}), mesh


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
