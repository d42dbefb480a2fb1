"""What must be in the environment before jax is imported: XLA's flags, simulated devices.  Nothing here imports jax.

XLA reads its flags once, when jaxlib is loaded.
"""

import glob
import importlib.util
import math
import os
from collections.abc import Mapping, MutableMapping

from mucpt_jax.config import AXES, Config, changed
from mucpt_jax.errors import UserError

MIB = 2**20
# The flags are unmeasured here; they are what MaxText and JAX-Toolbox train with, where XLA's default differs.
# A flag that XLA does not know ends the process, so tests/test_runtime.py gives all of these to the installed jaxlib.
GPU_FLAGS = {
    # Order work so that collectives run beside matmuls; by default they wait for each other.
    "xla_gpu_enable_latency_hiding_scheduler": "true",
    # Start the next layer's all-gather, and end the last one's reduction, beside this layer's matmuls.
    # (jax 0.12 calls them xla_gpu_pipeline_*=on and still takes these names; 0.10 knows only these.  Some releases are
    # said to take them without effect: openxla/xla#44228.)
    "xla_gpu_enable_pipelined_all_gather": "true",
    "xla_gpu_enable_pipelined_reduce_scatter": "true",
    "xla_gpu_enable_pipelined_all_reduce": "true",
    # Two layers in turn in the body of the loop over layers: no copy of what was gathered ahead.
    "xla_gpu_enable_while_loop_double_buffering": "true",
    # Bytes up to which collectives become one: a layer's parameters in bfloat16 (32B: 975 MB) in one or two calls.
    # Great calls use the links better, but each lies in memory whole.
    "xla_gpu_all_gather_combine_threshold_bytes": str(1024 * MIB),
    "xla_gpu_reduce_scatter_combine_threshold_bytes": str(1024 * MIB),
    # All-reduces are the replica axis and the norms: small enough to start while the backward pass goes on.
    "xla_gpu_all_reduce_combine_threshold_bytes": str(128 * MIB),
    # cuBLAS for all matmuls: no Triton kernels to generate and time at every first start.
    "xla_gpu_enable_triton_gemm": "false",
}
# libtpu schedules around collectives by default.  Not here, though widely copied: *_async_collective_fusion_*,
# which libtpu 0.0.50 refuses to compile on anything but a v5e ("incorrect results, hang"), where it is the default.
TPU_FLAGS = {
    # For replica > 1: gradients' all-reduces, of any size, run beside other work (on networks between slices).
    "xla_tpu_enable_data_parallel_all_reduce_opt": "true",
    "xla_tpu_data_parallel_opt_different_sized_ops": "true",
}
# Share of a GPU's memory that jax may take; its default of 0.75 leaves a quarter unused.  The plan's limit, too.
GPU_MEMORY = 0.92
VARIABLES = {"gpu": ("XLA_FLAGS", GPU_FLAGS), "tpu": ("LIBTPU_INIT_ARGS", TPU_FLAGS)}
GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")  # dxg: Windows' Linux, kfd: AMD
SWITCH = "MUCPT_XLA_FLAGS"  # =off: none of ours, for a jaxlib that no longer knows one of them


def accelerator(env: Mapping = os.environ) -> str:
    """What jax will use on this host: gpu | tpu | cpu.

    JAX_PLATFORMS decides where it is set.  Else the driver's device files, which containers show too; /dev/vfio alone
    says little (any passed-through device has it), so a TPU also needs libtpu.
    """
    asked = env.get("JAX_PLATFORMS", "").split(",")[0].strip().lower()
    if asked:
        return {"cuda": "gpu", "rocm": "gpu", "gpu": "gpu", "tpu": "tpu"}.get(asked, "cpu")
    if any(map(os.path.exists, GPU_FILES)):
        return "gpu"
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return "tpu" if chips and importlib.util.find_spec("libtpu") else "cpu"


def set_xla_flags(env: MutableMapping = os.environ) -> str:
    """Adds our flags to XLA_FLAGS or LIBTPU_INIT_ARGS; what stands there wins.  Returns a line for the log."""
    kind = accelerator(env)
    if kind not in VARIABLES:
        return f"XLA flags: none of ours on {kind}"
    if kind == "gpu" and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in env:  # its old name
        env.setdefault("XLA_CLIENT_MEM_FRACTION", str(GPU_MEMORY))
    variable, ours = VARIABLES[kind]
    given = env.get(variable, "")
    if env.get(SWITCH, "").lower() in ("off", "0", "false"):
        return f"XLA flags: {SWITCH}=off, so only {variable}={given!r}"
    if given.strip() and not given.lstrip().startswith("-"):  # XLA takes such a value for the name of a file
        return f"XLA flags: those of the file {given}, none of ours"
    theirs = {flag.lstrip("-").partition("=")[0] for flag in given.split()}
    added = " ".join(f"--{name}={value}" for name, value in ours.items() if name not in theirs)
    env[variable] = f"{added} {given}".strip()  # of two names for one thing XLA takes the last
    return f"XLA flags for {kind}: {variable}={env[variable]!r}"


def simulate_devices(cfg: Config) -> Config:
    """As many CPU devices as the mesh has, or libtpu's description of a TPU slice.  Before jax is imported."""
    sizes = [getattr(cfg.mesh, axis) for axis in AXES]
    fixed, count = math.prod(n for n in sizes if n > 0), cfg.plan.devices
    if -1 in sizes and count is None and not cfg.plan.topology:
        raise UserError(f"mesh {sizes} has a -1; add --config.plan.devices=N, N a multiple of {fixed}")
    if -1 not in sizes and count not in (None, fixed):
        raise UserError(f"plan.devices={count}, but the mesh {sizes} is of {fixed}; leave one of the two away")
    count = count or fixed
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "1"  # the compiler's warnings are part of the plan
    os.environ.pop("JAX_NUM_CPU_DEVICES", None)  # it would win over the flag
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # libtpu would ask a metadata server that is not there
    if not cfg.plan.topology:
        flag = f"--xla_force_host_platform_device_count={count}"
        given = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{given} {flag}" if given.lstrip().startswith("-") else flag  # else a file's name
    return changed(cfg, {"mesh.distributed": False})
