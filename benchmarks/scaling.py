"""Compiles the train step of every Qwen2.5 size for 8 to 1024 devices that are not here: bytes and FLOPs of one device.

    python -m benchmarks.scaling [--sizes=0.5b,7b,32b] [--devices=8,64,512]

Rows of 4096 tokens, one for each part of the batch (replica * fsdp), full remat, float32 state (12 bytes a parameter),
bfloat16 compute; compiled for CPUs, see mucpt_jax/plan.py for what that means.  fsdp takes as many devices as divide
hidden_size, tensor as many of the rest as it can, and the rest are replicas: from there on the state falls no further.
Fails unless the state falls with the devices that it is split over and FLOPs per token stay the same.
"""

import argparse
import os
import time

from benchmarks import facts

SIZES = "0.5b,1.5b,3b,7b,14b,32b,72b"
DEVICES = "8,64,256,1024"
T = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--devices", default=DEVICES)
    flags = parser.parse_args()
    sizes, counts = flags.sizes.split(","), sorted(int(n) for n in flags.devices.split(","))
    # Before jax is imported.  Meshes take the first devices of them.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={counts[-1]}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    start, rows = time.monotonic(), []
    for size in sizes:
        for count in counts:
            rows.append(measure(size, count))
            print(line(rows[-1]), f"  ({time.monotonic() - start:.0f} s)", flush=True)
        check(rows, size)
    facts.write(
        "scaling",
        "The train step compiled for devices that are not here (CPU backend): bytes on one of them, and FLOPs a token; "
        f"rows of {T} tokens, one for each part of the batch, full remat; GB are 1e9 bytes of one device",
        [shown(row) for row in rows],
    )


def measure(size: str, devices: int) -> dict:
    import jax

    from mucpt_jax import checks, config, plan
    from mucpt_jax.step import sharding

    c = config.default(f"qwen2.5-{size}")
    model = config.MODELS[f"qwen2.5-{size}"]
    fsdp, tensor, replica = mesh(model, devices)
    c.mesh.replica, c.mesh.fsdp, c.mesh.tensor = replica, fsdp, tensor
    c.data.sequence_length, c.data.batch_rows = T, replica * fsdp
    c.score.batch_rows = c.evaluate.batch_rows = replica * fsdp
    c.train.attention = "chunked"
    cfg = checks.build(c)
    planned = plan.measure(cfg, sharding.make_mesh(cfg, jax.devices()[:devices]))
    jax.clear_caches()  # else every traced program stays in memory
    held = {k: v for k, v in planned["bytes_per_device"].items() if k in ("arguments", "temporaries", "total")}
    # A row: 8 bytes (id 4, segment 2, score 2) for each of T + 1 tokens, source 4, is_domain 1.
    batch = cfg.data.batch_rows // (replica * fsdp) * ((T + 1) * 8 + 5)
    work = planned["flops_per_token"]
    return {
        "size": size,
        "devices": devices,
        "replica": replica,
        "fsdp": fsdp,
        "tensor": tensor,
        "params": planned["params"],
        "unsplit": vectors(model),
        "batch_bytes": batch,
        **held,
        "flops_per_token": work["compiled"],
        "flops_per_token_full": work["full"],
        "collective_bytes": sum(c["bytes"] for c in planned["collectives"]),
        "rematerialised": len(planned["warnings"]),
        "compile_seconds": planned["compile_seconds"],
    }


def shown(row: dict) -> dict:
    """For the table; a share of the state over its shards that stays the same means that it falls as 1/devices."""
    shards = row["fsdp"] * row["tensor"]
    return {
        "size": row["size"],
        "devices": row["devices"],
        "mesh": " ".join(f"{axis}={row[axis]}" for axis in ("replica", "fsdp", "tensor") if row[axis] > 1),
        "state_GB": round(row["arguments"] / 1e9, 3),
        "state_GB_x_shards": round(row["arguments"] * shards / 1e9, 1),
        "temporaries_GB": round(row["temporaries"] / 1e9, 2),
        "total_GB": round(row["total"] / 1e9, 2),
        "GFLOP_a_token": round(row["flops_per_token"] / 1e9, 2),
        "of_model_full_attention": round(row["flops_per_token"] / row["flops_per_token_full"], 3),
        "collectives_GB_a_step": round(row["collective_bytes"] / 1e9, 1),
        "rematerialised": row["rematerialised"],
        "compile_s": row["compile_seconds"],
    }


def mesh(model, devices: int) -> tuple[int, int, int]:
    """(fsdp, tensor, replica)."""
    ways = [n for n in range(1, devices + 1) if devices % n == 0]
    fsdp = max(n for n in ways if model.hidden_size % n == 0)
    fits = [n for n in ways if (devices // fsdp) % n == 0 and model.hidden_size % (fsdp * n) == 0]
    tensor = max(n for n in fits if model.num_key_value_heads % n == 0 and model.intermediate_size % n == 0)
    return fsdp, tensor, devices // (fsdp * tensor)


def vectors(model) -> int:
    """Parameters that every device holds: two norms and three biases a layer, the last norm."""
    heads = model.num_attention_heads + 2 * model.num_key_value_heads
    return model.num_hidden_layers * (2 * model.hidden_size + heads * model.head_dim) + model.hidden_size


def check(rows: list[dict], size: str) -> None:
    """Arguments: 12 bytes a parameter, matrices split over fsdp * tensor.  Work does not grow with the devices."""
    rows = [row for row in rows if row["size"] == size]
    for row in rows:
        shards = row["fsdp"] * row["tensor"]
        held = (row["arguments"] - row["batch_bytes"] - 12 * row["unsplit"]) * shards
        wanted = 12 * (row["params"] - row["unsplit"])
        assert abs(held / wanted - 1) < 0.03, (row, held / wanted)
        assert abs(row["flops_per_token"] / rows[0]["flops_per_token"] - 1) < 0.001, (row, rows[0])


def line(row: dict) -> str:
    axes = " ".join(f"{k}={row[k]}" for k in ("replica", "fsdp", "tensor") if row[k] > 1)
    return (
        f"{row['size']:>5} {row['devices']:5} devices  {axes:24} state {row['arguments'] / 1e9:8.3f} GB  "
        f"temporaries {row['temporaries'] / 1e9:7.2f}  total {row['total'] / 1e9:7.2f}  "
        f"{row['flops_per_token'] / 1e9:7.2f}e9 FLOPs/token"
    )


if __name__ == "__main__":
    main()
