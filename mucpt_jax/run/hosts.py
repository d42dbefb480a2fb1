"""Finding the other processes of a run: explicit flags, JAX_ variables, Slurm, MPI, Kubernetes."""

import glob
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Mapping

from mucpt_jax.errors import UserError
from mucpt_jax.run import peers, runtime

# Who starts processes, the variables that show it, jax's name for it (None: jax looks itself).  First match wins.
# Open MPI stands before Slurm: inside an allocation mpirun's processes see Slurm's variables of mpirun's daemons.
LAUNCHERS = (
    ("Open MPI", ("OMPI_MCA_orte_hnp_uri",), "ompi"),  # up to 4
    ("MPI", ("OMPI_COMM_WORLD_SIZE",), "mpi4py"),  # Open MPI 5
    ("Slurm", ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"), "slurm"),
    ("MPI", ("PMI_SIZE",), "mpi4py"),  # MPICH, Intel MPI
    ("Kubernetes", ("KUBERNETES_SERVICE_HOST",), None),
)
TRIPLE = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
FLAGS = ("--coordinator", "--num_processes", "--process_id")


def launcher(env: Mapping = os.environ) -> tuple[str, str | None]:
    """(who started this process beside others, jax's name for it); ("", None) where nobody is seen."""
    return next(((name, method) for name, signs, method in LAUNCHERS if all(v in env for v in signs)), ("", None))


def processes_started(env: Mapping = os.environ) -> int:
    """How many processes srun, mpirun or the JAX_ variables speak of; 1 where there is no sign of others."""
    for name in ("JAX_NUM_PROCESSES", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "PMI_SIZE"):
        if env.get(name, "").isdigit():
            return int(env[name])
    return 1


def refuse_strangers(env: Mapping = os.environ) -> None:
    """Without mesh.distributed each process would train a whole model alone, all in the same workdir."""
    if (count := processes_started(env)) > 1:
        raise UserError(
            f"{count} processes were started but mesh.distributed is off; add --config.mesh.distributed=True, "
            "or start one process"
        )


def detected(devices: list[int] | None, method: str | None, seconds: float) -> tuple:
    """What jax.distributed.initialize finds out about the launcher: HOST:PORT, how many, which one, local devices."""
    from jax._src.clusters import ClusterEnv  # as it was in jax 0.10 and is in 0.12

    return ClusterEnv.auto_detect_unset_distributed_params(None, None, None, devices, method, int(seconds))


def start(initialize: Callable, coordinator: str | None = None, processes: int | None = None,
          process: int | None = None, seconds: float = 50, env: Mapping = os.environ,
          gather: Callable = peers.gather, detect: Callable = detected) -> peers.Peers:  # fmt: skip
    """Joins the other processes of the run, which are waited for so many seconds.

    Where they are is asked in this order: the three arguments, the three JAX_ variables, the launcher (Slurm, MPI, TPU,
    Kubernetes).  `initialize` is jax.distributed.initialize.
    """
    values: list = [
        env.get(name) or None if value is None else value
        for name, value in zip(TRIPLE, (coordinator, processes, process), strict=True)
    ]
    devices = None
    if None not in values:
        address, count, index = checked_triple(*values)
    elif values != [None] * 3:
        missing = [f"{f} ({n})" for f, n, v in zip(FLAGS, TRIPLE, values, strict=True) if v is None]
        raise UserError(
            f"{' and '.join(missing)} must be given too: the three of {', '.join(FLAGS)} belong together; "
            "give all, or none where Slurm, MPI or Kubernetes starts the processes"
        )
    else:
        address, count, index, devices = ask_launcher(detect, seconds, env)
    logging.info("process %d of %d, coordinator %s", index, count, address)
    joined = gather(address, count, index, seconds)
    # deactivate: else Slurm's variables, where there are any, would hide all GPUs but one.
    initialize(address, count, index, local_device_ids=devices, cluster_detection_method="deactivate")
    return joined


def ask_launcher(detect: Callable, seconds: float, env: Mapping) -> tuple[str, int, int, list[int] | None]:
    """jax asks the launcher where the other processes are, and which devices this one is to drive."""
    name, method = launcher(env)
    devices = local_gpus(name, env)
    if method == "mpi4py" and importlib.util.find_spec("mpi4py") is None:
        raise UserError(f"jax asks {name}'s launcher through mpi4py; pip install mpi4py, or give {', '.join(FLAGS)}")
    try:
        address, count, index, devices = detect(devices, method, seconds)
        if address is None:
            raise ValueError("jax sees none")
        return address, count, index, None if env.get("JAX_LOCAL_DEVICE_IDS") else devices  # jax reads the variable
    except Exception as error:  # whatever jax's search raises, down to the Kubernetes client's own errors
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        failure = f"{name} could not be asked for the other hosts" if name else "no Slurm, MPI or Kubernetes was found"
        raise UserError(
            f"mesh.distributed is on but {failure} ({cause}); give {', '.join(FLAGS)} (docs/scaling.md), or set "
            "--config.mesh.distributed=False for a single process"
        ) from error


def checked_triple(coordinator: str, processes: int | str, process: int | str) -> tuple[str, int, int]:
    """("host:port", how many, which one) as numbers, or what is wrong with them."""
    try:
        count, index = int(processes), int(process)
    except ValueError:
        raise UserError(f"{processes!r} processes, number {process!r}: these must be whole numbers") from None
    if not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"the coordinator {coordinator!r} must be HOST:PORT of process 0; for example node001:9876")
    if not 0 <= index < count:
        raise UserError(f"the process id {index} must be in 0..{count - 1}: there are {count} processes")
    return coordinator, count, index


def local_gpus(name: str, env: Mapping = os.environ) -> list[int] | None:
    """Numbers of those visible GPUs that this process is to drive; None: jax decides.

    Under Slurm and MPI jax gives process i of a host GPU i alone.  That fits one process per GPU.  With one process per
    host it would leave all GPUs but the first idle, and with --gpus-per-task each process sees one GPU, called 0.
    """
    here = processes_here(name, env)
    if here is None or env.get("JAX_LOCAL_DEVICE_IDS") or runtime.accelerator(env) != "gpu":
        return None
    visible = env.get("CUDA_VISIBLE_DEVICES")
    gpus = len(visible.split(",")) if visible else len(glob.glob("/dev/nvidia[0-9]*"))
    if gpus and (here == 1 or gpus == 1):
        return list(range(gpus))
    if gpus and here != gpus:
        raise UserError(
            f"{name} started {here} processes on a host with {gpus} GPUs; start one per GPU or one per host "
            "(Slurm: --ntasks-per-node), or name each one's GPUs in JAX_LOCAL_DEVICE_IDS"
        )
    return None


def processes_here(name: str, env: Mapping = os.environ) -> int | None:
    """How many processes this host runs, as far as the launcher says so."""
    if name == "Slurm":  # "8(x31),4": by node of the step
        counts = []
        for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", env.get("SLURM_STEP_TASKS_PER_NODE", "")):
            counts += [int(count)] * int(times or 1)
        node = int(env.get("SLURM_NODEID", 0))
        return counts[node] if node < len(counts) else None
    local = env.get("OMPI_COMM_WORLD_LOCAL_SIZE") or env.get("MPI_LOCALNRANKS")
    return int(local) if local else None
