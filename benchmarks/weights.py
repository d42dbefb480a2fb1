"""Hugging Face weights in and out: time against reading the files plainly, peak memory of a process.

    python -m benchmarks.weights [--gigabytes=2] [--folder=FOLDER]

A random Qwen2 folder in bfloat16, sides in turns:

    plain      reads every byte of its files
    allocate   makes float32 parameters of zeros: the memory alone
    in         makes parameters of the files, on one device, on 8 simulated ones (fsdp 4, tensor 2), and by two
               processes that hold one half each
    save, restore   what a converted copy would cost and bring: Orbax, in the files' dtype, and back as float32
    out        writes parameters as bfloat16          convert   goes from folder to folder

Each measurement is a process of its own and times the work alone, not the start.  `cold`: the files' pages are dropped
from memory before.

Peak memory is that of anonymous pages over what stood before the work (mapped pages of files are the system's to take
back).  On a CPU the devices' memory is the host's, so that the parameters are part of it; bar: 1.2 times the process's
share of them and the largest tensor, in float32.
"""

import argparse
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks import facts

TIME, MEMORY = 1.5, 1.2  # bars
SIDES = {
    "plain": 1,
    "allocate": 1,
    "in": 1,
    "in, 8 devices": 8,
    "in, two processes": 1,
    "save": 1,
    "restore": 1,
    "out": 1,
    "convert": 1,
}  # devices each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of the folder, about")
    parser.add_argument("--folder", help="where the random folder is; default: a temporary place")
    parser.add_argument("--rounds", type=int, default=3, help="measured turns of each side")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, Path(args.folder), args.gigabytes)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary) / "random"
        start("write", folder, args.gigabytes)
        rows = compare(folder, args.rounds)
    facts.write("weights", f"A Qwen2 folder of {rows[0]['GB']:.1f} GB; bars: {TIME} times plain reading, {MEMORY} "
                "times share + largest tensor", rows)  # fmt: skip


def compare(folder: Path, rounds: int) -> list[dict]:
    gigabytes = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e9
    runs_of = {}
    for _ in range(rounds):
        for cache in ("warm", "cold"):
            for side in SIDES:
                drop(folder) if cache == "cold" else start("plain", folder)
                runs_of.setdefault((side, cache), []).append(start(side, folder))
    rows = []
    for (side, cache), own in runs_of.items():
        seconds = facts.median([run["seconds"] for run in own])
        plain = facts.median([run["seconds"] for run in runs_of["plain", cache]])
        row = {"side": side, "cache": cache, "GB": gigabytes, "seconds": seconds, "times_plain": seconds / plain}
        if own[0].get("bound"):
            peak = max(run["peak"] for run in own)
            row |= {"peak_GB": peak / 1e9, "of_share_and_largest": peak / own[0]["bound"]}
        rows.append(row)
    return rows


def drop(folder: Path) -> None:
    """Gives up the pages of the files; the next reader takes them from the disk."""
    for file in (path for path in folder.parent.rglob("*") if path.is_file()):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def start(side: str, folder: Path, gigabytes: float = 0.0) -> dict:
    """Runs measure() in one process, or in two that are one run, and returns what it found (the larger peak)."""
    own = [sys.executable, "-m", "benchmarks.weights", f"--side={side}", f"--folder={folder}"]
    count = 2 if "two processes" in side else 1
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={SIDES.get(side, 1)}"
    if count == 2:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            env |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free.getsockname()[1]}", "JAX_NUM_PROCESSES": "2"}
    runs = [
        subprocess.Popen(
            [*own, f"--gigabytes={gigabytes}"], env=env | {"JAX_PROCESS_ID": str(i)}, stdout=subprocess.PIPE, text=True
        )
        for i in range(count)
    ]
    results = []
    for run in runs:
        out, _ = run.communicate()
        if run.returncode:
            raise SystemExit(f"error: {side} failed")
        results.append(json.loads(out.splitlines()[-1]))
    print(f"{side}: {results}", flush=True)
    return max(results, key=lambda one: one.get("peak", 0))


# In a process of its own


def measure(side: str, folder: Path, gigabytes: float) -> dict:
    if side == "plain":
        return {"seconds": plain(folder)}
    if side == "write":
        return write(folder, gigabytes)
    import jax
    import orbax.checkpoint as ocp

    from mucpt_jax import config
    from mucpt_jax.step import model, sharding
    from mucpt_jax.weights import hf, hf_write, transfer

    if "two processes" in side:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(os.environ["JAX_COORDINATOR_ADDRESS"], 2, int(os.environ["JAX_PROCESS_ID"]))
    cfg = hf.read_config(str(folder))
    about = hf_write.About(str(folder.with_name("out")), like=str(folder))
    if side == "convert":
        return timed(lambda: transfer.folder_to_folder(str(folder), about))
    tensor = 2 if jax.device_count() == 8 else 1
    mesh = sharding.make_mesh(config.Config(model=cfg, mesh=config.Mesh(tensor=tensor)))
    shapes = sharding.with_shardings(model.abstract(cfg), mesh)
    sizes = [4 * math.prod(shape) for _, _, shape in transfer.tensor_places(shapes, cfg).values()]
    bound = sum(sizes) / jax.process_count() + max(sizes)
    if side == "allocate":
        zeros = jax.jit(lambda: jax.tree.map(jax.numpy.zeros_like, shapes)).lower().compile()
        return timed(lambda: jax.block_until_ready(zeros()))
    copy = folder.with_name("copy")
    if side == "restore":
        return timed(lambda: jax.block_until_ready(ocp.StandardCheckpointer().restore(copy, shapes)))
    if side == "save":
        shutil.rmtree(copy, ignore_errors=True)
        params = jax.tree.map(lambda x: x.astype("bfloat16"), transfer.from_hf(str(folder), cfg, shapes))
        return timed(lambda: save(ocp.StandardCheckpointer(), copy, params))
    if side == "out":
        params = jax.block_until_ready(transfer.from_hf(str(folder), cfg, shapes))
        return timed(lambda: transfer.to_hf(params, cfg, about))
    return timed(lambda: jax.block_until_ready(transfer.from_hf(str(folder), cfg, shapes))) | {"bound": bound}


def save(checkpointer, folder: Path, params: dict) -> None:
    checkpointer.save(folder, params)
    checkpointer.wait_until_finished()


def plain(folder: Path) -> float:
    began, buffer = time.perf_counter(), bytearray(1 << 24)
    for path in folder.glob("*.safetensors"):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - began


def timed(work) -> dict:
    """Seconds, and the peak of anonymous memory in bytes over what stood before."""
    before, peak, done = anonymous(), [0], threading.Event()

    def watch():
        while not done.wait(0.005):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    del result
    return {"seconds": seconds, "peak": max(peak[0] - before, 0)}


def anonymous() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


def write(folder: Path, gigabytes: float) -> dict:
    """Random weights of a model with as many layers as the size asks for, tied, as Hugging Face has them."""
    import jax
    import numpy as np

    from mucpt_jax.config import Model
    from mucpt_jax.step import model
    from mucpt_jax.weights import hf_write, transfer

    def of(layers: int) -> Model:
        return Model("random", 65_536, 2048, 5504, layers, 16, 4, 128, 1e6, 1e-6, True, 32_768)

    one, two = (2 * sum(x.size for x in jax.tree.leaves(model.abstract(of(n)))) for n in (1, 2))  # bytes
    cfg = of(max(1, round((gigabytes * 1e9 - one) / (two - one)) + 1))
    places, rng = transfer.tensor_places(model.abstract(cfg), cfg), np.random.default_rng(0)
    shapes = {name: shape for name, (_, _, shape) in places.items()}
    hf_write.write(shapes, lambda name: rng.standard_normal(shapes[name], np.float32), cfg,
                   hf_write.About(str(folder), max_shard_bytes=10**9))  # fmt: skip
    shutil.rmtree(folder.with_name("out"), ignore_errors=True)
    return {}


if __name__ == "__main__":
    main()
