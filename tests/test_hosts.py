import socket

import jax
import pytest

from mucpt_jax.errors import UserError
from mucpt_jax.run import hosts

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

    hosts.start(initialize, *given, env=env)
    return calls[0]


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


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
    hosts.wait_for(listening, 1)
    with socket.socket() as bound:  # taken, but nobody listens
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="did not answer in 0 s"):
            hosts.wait_for(f"127.0.0.1:{bound.getsockname()[1]}", 0)


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
    found = (SlurmCluster.get_process_count(), SlurmCluster.get_process_id(), SlurmCluster.get_local_process_id())
    assert found == (16, 9, 1)
    names = {cluster.name for cluster in SlurmCluster._cluster_types}
    assert {method for *_, method in hosts.LAUNCHERS if method} <= names


def test_launchers():
    old = {"OMPI_MCA_orte_hnp_uri": "1;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "4"}
    assert hosts.launcher(SLURM | old) == ("Open MPI", "ompi")  # mpirun in a Slurm allocation
    assert hosts.launcher(SLURM | {"OMPI_COMM_WORLD_SIZE": "4"}) == ("MPI", "mpi4py")
    assert hosts.launcher(SLURM | {"PMI_SIZE": "16"}) == ("Slurm", "slurm")  # srun --mpi=pmi2
    assert hosts.launcher({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == ("Kubernetes", None)
    assert hosts.launcher({}) == ("", None)


def test_no_cluster_is_one_sentence():
    with pytest.raises(UserError, match=r"no Slurm, MPI or Kubernetes was found \(coordinator_address should"):
        started({}, raises=ValueError("coordinator_address should be defined."))
    with pytest.raises(UserError, match=r"Kubernetes could not be asked .* \(KeyError\)"):
        started({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, raises=KeyError())


def test_a_lone_process_among_others_is_refused():
    hosts.refuse_strangers({})
    hosts.refuse_strangers({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"})  # a shell in an allocation
    with pytest.raises(UserError, match="16 processes were started"):
        hosts.refuse_strangers({"SLURM_STEP_NUM_TASKS": "16"})


def test_hosts_on_cpus_talk_through_gloo_without_being_told():
    assert jax.config.jax_cpu_collectives_implementation == "gloo"
