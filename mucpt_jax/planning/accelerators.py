"""What the makers' data sheets say about one device: memory, links.  Peaks stand in metrics.PEAK_FLOPS.

GB is 1e9 bytes, as printed there; NVIDIA's devices show about 7% more (an "80 GB" H100 has 79.6 GiB).
Links count one direction.  GPUs: NVLink among the 8 of a host, one network card each between hosts (400 Gb/s; 200 with
A100).  TPUs: all ICI links of a chip together, wherever the other chip of the slice is.
"""

from dataclasses import dataclass

from mucpt_jax.config import Config
from mucpt_jax.run import metrics, runtime

# Of the memory: runtime, NCCL buffers, workspaces of kernels, fragmentation.  None of it is in the compiler's figures,
# and on GPUs jax is not given more.
RESERVE = 1 - runtime.GPU_MEMORY
HOST = 8  # GPUs


@dataclass(frozen=True)
class Accelerator:
    kind: str  # in metrics.PEAK_FLOPS
    memory: float  # bytes
    link: float  # bytes/s to devices of the same host (TPU: slice)
    network: float  # bytes/s to other hosts


ACCELERATORS = {
    "H20": Accelerator("H20", 96e9, 450e9, 50e9),
    "H100": Accelerator("H100", 80e9, 450e9, 50e9),
    "H200": Accelerator("H200", 141e9, 450e9, 50e9),
    "A100": Accelerator("A100", 80e9, 300e9, 25e9),
    "v5e": Accelerator("v5 lite", 16e9, 200e9, 200e9),
    "v5p": Accelerator("v5p", 95e9, 600e9, 600e9),
    "v6e": Accelerator("v6 lite", 32e9, 448e9, 448e9),
}


def limit(name: str) -> float:
    """Bytes of one device that a program may use."""
    return ACCELERATORS[name].memory * (1 - RESERVE)


def peak(cfg: Config) -> float:
    """FLOP/s of one device, dense bfloat16: mesh.peak_tflops where it is given."""
    if cfg.mesh.peak_tflops:
        return cfg.mesh.peak_tflops * 1e12
    return metrics.PEAK_FLOPS[ACCELERATORS[cfg.plan.accelerator].kind]


def sent_bytes(kind: str, group: int, result: int) -> float:
    """Bytes that a device sends when a ring of `group` devices runs a collective with `result` bytes on each."""
    others = (group - 1) / group
    times = {"all-reduce": 2 * others, "reduce-scatter": group - 1, "collective-permute": 1.0}
    return result * times.get(kind, others)


def link_seconds(collectives: list[dict], name: str) -> float:
    """Seconds a step on the links, one collective after the other; {"kind", "group", "near", "bytes" a step} each.

    A ring that runs through several hosts uses as many network cards of each host as it has devices there (`near`).
    """
    device = ACCELERATORS[name]

    def rate(c: dict) -> float:
        return device.link if c["near"] == c["group"] else min(device.link, c["near"] * device.network)

    return sum(sent_bytes(c["kind"], c["group"], c["bytes"]) / rate(c) for c in collectives)
