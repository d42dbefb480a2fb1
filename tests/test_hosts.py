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


def started(env: dict, *given, raises: Exception | None = None) -> dict:
    """How all processes are awaited, how jax is asked about the launcher, and what jax.distributed is started with."""
    calls = {}

    def detect(devices, method, seconds):
        calls["asked"] = (devices, method)
        if raises:
            raise raises
        return "node01:1234", 16, 9, [1] if devices is None else devices  # as jax does for Slurm

    def initialize(*args, local_device_ids, cluster_detection_method):
        assert cluster_detection_method == "deactivate" and calls["gathered"] == args
        calls["started"] = (*args, local_device_ids)

    hosts.start(initialize, *given, env=env, gather=lambda *args: calls.update(gathered=args[:3]), detect=detect)
    return calls


def test_explicit_hosts_keep_all_gpus_under_slurm_too():
    env = SLURM | GPUS | {"JAX_NUM_PROCESSES": "5", "JAX_PROCESS_ID": "1"}
    assert started(env, "node:1")["started"] == ("node:1", 5, 1, None)
    assert started(env, "node:1", 3, 2)["started"] == ("node:1", 3, 2, None)  # arguments win
    assert started({}, "elsewhere:1", 2, 0)["started"] == ("elsewhere:1", 2, 0, None)


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


def test_slurm_one_process_per_gpu_is_left_to_jax_and_one_per_host_gets_all_gpus():
    left = started(SLURM | GPUS)
    assert left["asked"] == (None, "slurm") and left["started"] == ("node01:1234", 16, 9, [1])
    one = SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    assert started(one | GPUS)["started"][3] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert started(one | GPUS | {"JAX_LOCAL_DEVICE_IDS": "3"})["started"][3] is None  # jax reads the variable
    bound = SLURM | GPUS | {"CUDA_VISIBLE_DEVICES": "5"}  # --gpus-per-task=1
    assert started(bound)["started"][3] == [0]
    assert started(one | {"JAX_PLATFORMS": "cpu"})["asked"][0] is None
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
    assert hosts.detected([0, 1], "slurm", 5)[1:] == (16, 9, [0, 1])
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
