import os
import socket
import subprocess
import sys

import jax
import pytest

from mucpt_jax import runtime
from mucpt_jax.records import UserError

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_NTASKS": "16",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
}
GPUS = {"JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}


def started(env: dict, *given, raises: Exception | None = None) -> tuple[tuple, dict]:
    """What jax.distributed.initialize would be called with."""
    calls = []

    def initialize(*args, **named):
        calls.append((args, named))
        if raises:
            raise raises

    runtime.start_hosts(initialize, *given, env=env)
    return calls[0]


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_every_gpu_flag_is_known_to_the_installed_jaxlib():
    # jaxlib for CPUs holds XLA's options for GPUs too, and ends the process at one that it does not know.
    def loads(flags: str) -> subprocess.CompletedProcess:
        env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        code = "import jax; jax.devices()"
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)

    env = {"JAX_PLATFORMS": "cuda"}
    runtime.set_xla_flags(env)
    found = loads(env["XLA_FLAGS"])
    assert found.returncode == 0, found.stderr[-2000:]
    assert "Unknown flag" in loads("--xla_gpu_no_such_flag=true").stderr


@pytest.mark.parametrize(
    ("platform", "kind"), [("cuda,cpu", "gpu"), ("tpu", "tpu"), ("cpu", "cpu"), ("rocm", "gpu")]
)
def test_JAX_PLATFORMS_decides_which_flags_are_set(platform, kind):
    env = {"JAX_PLATFORMS": platform}
    told = runtime.set_xla_flags(env)
    assert runtime.accelerator(env) == kind and kind in told
    set_now = env.get("XLA_FLAGS", "") + env.get("LIBTPU_INIT_ARGS", "")
    assert set_now.split() == [f"--{name}={value}" for name, value in runtime.xla_flags(kind).items()]


def test_flags_of_the_user_win_and_come_last():
    mine = "--xla_gpu_enable_triton_gemm=true --xla_dump_to=here"
    env = {"JAX_PLATFORMS": "cuda", "XLA_FLAGS": mine}
    told = runtime.set_xla_flags(env)
    assert env["XLA_FLAGS"].endswith(mine) and env["XLA_FLAGS"] in told
    assert env["XLA_FLAGS"].count("triton_gemm") == 1
    again = env["XLA_FLAGS"]
    runtime.set_xla_flags(env)
    assert env["XLA_FLAGS"] == again


@pytest.mark.parametrize("extra", [{"XLA_FLAGS": "flags.txt"}, {"MUCPT_XLA_FLAGS": "off"}])
def test_a_flag_file_and_the_switch_keep_ours_out(extra):
    env = {"JAX_PLATFORMS": "cuda"} | extra
    runtime.set_xla_flags(env)
    assert env.get("XLA_FLAGS") == extra.get("XLA_FLAGS")


def test_explicit_hosts_keep_all_gpus_under_slurm_too(listening):
    env = SLURM | GPUS | {"JAX_NUM_PROCESSES": "5", "JAX_PROCESS_ID": "1"}
    alone = {"cluster_detection_method": "deactivate"}
    assert started(env, listening) == ((listening, 5, 1), alone)
    assert started(env, listening, 3, 2) == ((listening, 3, 2), alone)  # arguments win
    assert started({}, "elsewhere:1", 2, 0) == (("elsewhere:1", 2, 0), alone)  # process 0 waits for nobody


@pytest.mark.parametrize(
    ("env", "given", "message"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, (), "--num_processes .* and --process_id .* must be given too"),
        ({}, (None, 2, 0), "--coordinator .JAX_COORDINATOR_ADDRESS. must be given too"),
        ({"JAX_NUM_PROCESSES": "two"}, ("a:1", None, 0), "whole numbers"),
        ({}, ("node001", 2, 0), "must be HOST:PORT"),
        ({}, ("a:1", 2, 2), r"must be in 0..1"),
    ],
)
def test_half_a_coordinator_is_refused(env, given, message):
    with pytest.raises(UserError, match=message):
        started(env, *given)


def test_a_silent_coordinator_is_an_error_and_no_stack_trace(listening):
    runtime.wait_for(listening, 1)
    with socket.socket() as bound:  # taken, but nobody listens
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="did not answer in 0 s"):
            runtime.wait_for(f"127.0.0.1:{bound.getsockname()[1]}", 0)


def test_slurm_one_process_per_gpu_is_left_to_jax_and_one_per_host_gets_all_gpus():
    named = {"cluster_detection_method": "slurm"}
    assert started(SLURM | GPUS) == ((), named | {"local_device_ids": None})
    one = SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    assert started(one | GPUS)[1]["local_device_ids"] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert started(one | GPUS | {"JAX_LOCAL_DEVICE_IDS": "3"})[1]["local_device_ids"] is None
    bound = SLURM | GPUS | {"CUDA_VISIBLE_DEVICES": "5"}  # --gpus-per-task=1
    assert started(bound)[1]["local_device_ids"] == [0]
    assert started(one | {"JAX_PLATFORMS": "cpu"})[1]["local_device_ids"] is None
    with pytest.raises(UserError, match="started 2 processes on a host with 8 GPUs"):
        started(SLURM | GPUS | {"SLURM_STEP_TASKS_PER_NODE": "8,2"})


def test_jax_reads_slurm_as_we_think_it_does(monkeypatch):
    from jax._src.clusters.slurm_cluster import SlurmCluster

    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert SlurmCluster.is_env_present()
    assert SlurmCluster.get_coordinator_address(1, None).startswith("node01:")
    found = (
        SlurmCluster.get_process_count(),
        SlurmCluster.get_process_id(),
        SlurmCluster.get_local_process_id(),
    )
    assert found == (16, 9, 1)
    names = {cluster.name for cluster in SlurmCluster._cluster_types}
    assert {method for *_, method in runtime.LAUNCHERS if method} <= names


def test_launchers():
    old = {"OMPI_MCA_orte_hnp_uri": "1;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "4"}
    assert runtime.launcher(SLURM | old) == ("Open MPI", "ompi")  # mpirun in a Slurm allocation
    assert runtime.launcher(SLURM | {"OMPI_COMM_WORLD_SIZE": "4"}) == ("MPI", "mpi4py")
    assert runtime.launcher(SLURM | {"PMI_SIZE": "16"}) == ("Slurm", "slurm")  # srun --mpi=pmi2
    assert runtime.launcher({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == ("Kubernetes", None)
    assert runtime.launcher({}) == ("", None)


def test_no_cluster_is_one_sentence():
    with pytest.raises(
        UserError, match=r"no Slurm, MPI or Kubernetes was found \(coordinator_address should"
    ):
        started({}, raises=ValueError("coordinator_address should be defined."))
    with pytest.raises(UserError, match=r"Kubernetes could not be asked .* \(KeyError\)"):
        started({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, raises=KeyError())


def test_a_lone_process_among_others_is_refused():
    runtime.refuse_strangers({})
    runtime.refuse_strangers({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"})  # a shell in an allocation
    with pytest.raises(UserError, match="16 processes were started"):
        runtime.refuse_strangers({"SLURM_STEP_NUM_TASKS": "16"})


def test_hosts_on_cpus_talk_through_gloo_without_being_told():
    assert jax.config.jax_cpu_collectives_implementation == "gloo"


def test_two_processes_find_each_other():
    code = (
        "import jax, sys; from mucpt_jax import runtime;"
        "runtime.start_hosts(jax.distributed.initialize, sys.argv[1], 2, int(sys.argv[2]));"
        "from jax.experimental import multihost_utils as m; import numpy as np;"
        "print(m.process_allgather(np.array(jax.process_index())).tolist())"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-c", code, address]
    hosts = [
        subprocess.Popen(
            [*command, str(i)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for i in (1, 0)
    ]
    told = [host.communicate(timeout=120) for host in hosts]
    assert [out.splitlines()[-1:] for out, _ in told] == [["[0, 1]"]] * 2, told  # Gloo prints a line before
