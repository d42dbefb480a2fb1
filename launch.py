"""Starts a job, on every host the same command:

    python launch.py --config=configs/demo.py [--job=train] [--workdir=runs/demo] [--config.loss.alpha=2]

Jobs: train, score, evaluate, export; plan, which needs neither accelerator nor data.  All keys of the config stand in
mucpt_jax/config.py.
"""

import dataclasses
import logging
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from mucpt_jax import checks, config
from mucpt_jax.errors import UserError, exiting
from mucpt_jax.formats.files import write_json
from mucpt_jax.run import hosts, runtime

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; FILE:ARGUMENT passes an argument.")
_JOB = flags.DEFINE_enum("job", "train", ["train", "score", "evaluate", "export", "plan"], "What to do.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/<name of the config>.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where nothing starts the processes.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator: how many.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --coordinator: which one this is, from 0.")


def parse(argv: list[str]) -> list[str]:
    """absl's parser, with the nearest key named where one is misspelt."""
    try:
        checks.check_overrides(argv)
        rest = flags.FLAGS(argv)
        if rest[1:]:
            raise UserError(f"{rest[1]!r} is no flag; did you mean --{rest[1].lstrip('-')}?")
        if flags.FLAGS.config is None:
            raise UserError("--config is missing; for example --config=configs/demo.py")
        _ = flags.FLAGS.config.to_dict  # a file that cannot be loaded says so only when it is used
        return rest
    except (flags.Error, UserError, AttributeError, OSError) as error:
        sys.exit(f"error: {checks.explain(error)}")
    except Exception as error:  # whatever the config file raised
        sys.exit(f"error: {checks.explain(error)} ({type(error).__name__} in the config file)")


def default_workdir() -> str:
    """configs/qwen1_5b.py:rho1 -> runs/qwen1_5b-rho1."""
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    argument = next((a.partition(f"{file}:")[2] for a in sys.argv if f"{file}:" in a), "")
    return f"runs/{Path(file).stem}{'-' + argument if argument else ''}"


def main(_) -> None:
    with exiting():
        cfg = checks.build(_CONFIG.value)
        if _JOB.value == "plan":
            cfg = runtime.simulate_devices(cfg)
        run(cfg, Path(_WORKDIR.value or default_workdir()))


def run(cfg: config.Config, workdir: Path) -> None:
    told = runtime.set_xla_flags()  # before jax is loaded: XLA reads its flags once
    import jax  # after the config was found good: a typo costs no device start

    from mucpt_jax import evaluate, export, plan, score, train
    from mucpt_jax.step import attention, sharding

    logging.getLogger().setLevel(logging.INFO)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for noisy in ("absl", "jax", "orbax"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    workdir.mkdir(parents=True, exist_ok=True)
    if _JOB.value == "plan":  # a cached program would hide the compiler's warnings
        jax.config.update("jax_enable_compilation_cache", False)
    elif jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(workdir.parent.absolute() / "compile_cache"))
    logging.info(told)
    given = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    if _JOB.value != "plan" and (cfg.mesh.distributed or given != (None, None, None)):
        hosts.start(jax.distributed.initialize, *given)
    elif _JOB.value != "plan":
        hosts.refuse_strangers()
    mesh = sharding.make_mesh(cfg, plan.devices(cfg) if _JOB.value == "plan" else None)
    job = {
        "train": train.train,
        "score": score.score,
        "evaluate": evaluate.evaluate,
        "export": export.export,
        "plan": plan.plan,
    }
    if _JOB.value != "plan":  # its devices are not here
        cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, attention=attention.of_device(cfg)))
    logging.info("config\n%s", config.describe(dataclasses.asdict(cfg)))
    if jax.process_index() == 0 and _JOB.value != "train":  # train saves its own when it really starts
        write_json(workdir / f"config.{_JOB.value}.json", dataclasses.asdict(cfg))
    logging.info(
        "%s on %d %s as %s, host %d of %d", _JOB.value, mesh.size, jax.devices()[0].device_kind,
        dict(mesh.shape), jax.process_index(), jax.process_count(),
    )  # fmt: skip
    with jax.set_mesh(mesh):
        job[_JOB.value](cfg, mesh, workdir)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
