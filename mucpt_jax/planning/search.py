"""Compiles meshes x remat x micro-batches for a fixed number of devices and puts them in order, best first.

Best is: fits, then the shortest predicted step. Predicted seconds are

    compiled FLOPs / (devices * peak * plan.mfu)  +  bytes that a device sends / its links

one after the other, recomputation included.  Links are those of the data sheets and nothing overlaps, so this orders
settings; it does not promise a step time.  Where the compiler for CPUs sends float32 in place of bfloat16, bytes are
halved.  Its all-reduce in place of reduce-scatter stays: reductions over large fsdp axes look up to twice as slow.
"""

from collections.abc import Callable
from itertools import product
from math import prod

import jax
from rich.console import Console
from rich.table import Table

from mucpt_jax import checks
from mucpt_jax.config import AXES, Config, changed, choices
from mucpt_jax.errors import UserError
from mucpt_jax.planning import accelerators, advice

MAX_MESHES = 8  # compiled with full remat, those with the fewest copies of the state first
FINALISTS = 3  # of these every remat and number of micro-batches is tried
MAX_COMPILES = 24  # in all: 10 to 20 s each for 32B on two cores


def search(cfg: Config, measure: Callable[[Config], dict], first: dict) -> dict:
    """{"rows": settings, best first, "notes": what was left out}; prints each as it is compiled, then a table.

    measure: plan.measure on a mesh of the same devices.  first: the plan of cfg itself.
    """
    console = Console(width=118, highlight=False)
    rows, notes = [row(cfg, first)], []
    meshes = candidates(cfg)
    if len(meshes) > MAX_MESHES:
        notes.append(f"{len(meshes)} meshes pass the checks; the {MAX_MESHES} with the fewest copies are compiled")
        meshes = meshes[:MAX_MESHES]

    def attempt(change: dict) -> dict | None:
        """The row of one setting, compiled unless it was; None where the limit of compiles is reached."""
        known = next((r for r in rows if r["change"] == change), None)
        if known or len(rows) >= MAX_COMPILES:
            return known
        rows.append(compiled(cfg, change, measure))
        console.print(f"  [{len(rows)}] {line(rows[-1])}", markup=False)
        return rows[-1]

    for mesh in meshes:
        attempt(mesh | {"train.remat": "full", "train.micro_batches": micro_batches(cfg, mesh)[0]})
    best = [mesh_of(r) for r in sorted(rows, key=order)]  # cfg's own mesh may stand twice
    for mesh in [mesh for i, mesh in enumerate(best) if mesh not in best[:i]][:FINALISTS]:
        notes += widen(cfg, mesh, attempt)
    rows.sort(key=order)
    console.print(table(rows))
    for note in notes:
        console.print(f"  left out: {note}", markup=False)
    word = "best" if rows[0]["fits"] else "none fits; the smallest"
    console.print(f"  {word}: {advice.flags(rows[0]['change'])}", markup=False)
    return {"rows": rows, "notes": notes}


def candidates(cfg: Config) -> list[dict]:
    """Meshes of as many devices that pass the checks with some number of micro-batches, fewest copies first."""
    devices = prod(getattr(cfg.mesh, axis) for axis in AXES)
    meshes = []
    for tensor, context, replica in product(checks.divisors(devices), repeat=3):
        fsdp, rest = divmod(devices, tensor * context * replica)
        if rest or tensor > accelerators.HOST or context > accelerators.HOST:  # both need fast links
            continue
        sizes = {"replica": replica, "fsdp": fsdp, "context": context, "tensor": tensor}
        mesh = {f"mesh.{axis}": n for axis, n in sizes.items()}
        if micro_batches(cfg, mesh):
            meshes.append(mesh)
    return sorted(meshes, key=lambda m: (m["mesh.replica"] * m["mesh.context"], m["mesh.context"], m["mesh.tensor"]))


def micro_batches(cfg: Config, mesh: dict) -> list[int]:
    """Numbers of micro-batches with which a mesh passes the checks, the most (least memory) first."""
    rows = max(1, cfg.data.batch_rows // (mesh["mesh.replica"] * mesh["mesh.fsdp"]))
    numbers = reversed(checks.divisors(rows))
    return [n for n in numbers if advice.passes(changed(cfg, mesh | {"train.micro_batches": n}))]


def widen(cfg: Config, mesh: dict, attempt: Callable) -> list[str]:
    """Less recomputation and fewer micro-batches, until memory is full -> what was left out and why."""
    axes, notes, numbers = advice.flags(mesh).replace("--config.mesh.", ""), [], micro_batches(cfg, mesh)
    for remat in choices()["train.remat"]:  # in growing order of memory
        for n in numbers:
            result = attempt(mesh | {"train.remat": remat, "train.micro_batches": n})
            if result is None:
                return [*notes, f"{axes}: from remat={remat} micro_batches={n} on ({MAX_COMPILES} compiles reached)"]
            if not result["fits"] and n == numbers[0]:
                return [*notes, f"{axes}: what needs more memory than remat={remat} micro_batches={n}"]
            if not result["fits"]:
                if n != numbers[-1]:
                    notes.append(f"{axes} remat={remat}: fewer micro-batches than {n}")
                break
    return notes


def compiled(cfg: Config, change: dict, measure: Callable) -> dict:
    tried = changed(cfg, change)
    try:
        result = row(tried, measure(tried))
    except (UserError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError) as error:
        result = row(tried, None) | {"error": str(error).splitlines()[0]}
    jax.clear_caches()  # else every program that was traced stays in memory
    return result


def row(cfg: Config, facts: dict | None) -> dict:
    """A setting and what came of it; facts None: it did not compile."""
    change = {f"mesh.{axis}": getattr(cfg.mesh, axis) for axis in AXES}
    change |= {"train.remat": cfg.train.remat, "train.micro_batches": cfg.train.micro_batches}
    if facts is None:
        return {"change": change, "fits": False, "bytes": None, "compute_seconds": None, "link_seconds": None}
    compiled_flops = facts["flops_per_token"]["compiled"]
    flops = compiled_flops * facts["tokens_per_step"] / facts["devices"]
    wide = 2 if cfg.train.compute_dtype == "bfloat16" and facts["compiled_for"] == "cpu" else 1
    return {
        "change": change,
        "fits": facts["fits"],
        "bytes": facts["bytes_per_device"]["total"],
        "compute_seconds": flops / (accelerators.peak(cfg) * cfg.plan.mfu),
        "link_seconds": accelerators.link_seconds(facts["collectives"], cfg.plan.accelerator) / wide,
        "flops_per_token": compiled_flops,
        "rematerialised": len(facts["warnings"]),
        "compile_seconds": facts["compile_seconds"],
    }


def seconds(result: dict) -> float:
    return result["compute_seconds"] + result["link_seconds"]


def order(result: dict) -> tuple:
    """Settings that fit by time, then those that do not fit by size, then those that do not compile."""
    if result["bytes"] is None:
        return (2, 0)
    return (0, seconds(result)) if result["fits"] else (1, result["bytes"])


def mesh_of(result: dict) -> dict:
    return {key: n for key, n in result["change"].items() if key.startswith("mesh.")}


def cells(result: dict) -> list[str]:
    change = result["change"]
    named = " ".join(f"{axis}={change[f'mesh.{axis}']}" for axis in AXES if change[f"mesh.{axis}"] > 1) or "1 device"
    setting = [named, change["train.remat"], str(change["train.micro_batches"])]
    if result["bytes"] is None:
        return [*setting, "-", "-", "-", "-", result["error"][:40]]
    numbers = (result["bytes"] / 1e9, result["compute_seconds"], result["link_seconds"], seconds(result))
    outcome = ("fits" if result["fits"] else "no") + (", rematerialises" if result["rematerialised"] else "")
    return [*setting, *(f"{n:.1f}" for n in numbers), outcome]


def line(result: dict) -> str:
    mesh, remat, micro, size, _, _, total, outcome = cells(result)
    return f"{mesh} remat={remat} micro_batches={micro}: {size} GB, predicted {total} s, {outcome}"


def table(rows: list[dict]) -> Table:
    columns = ["mesh", "remat", "micro", "GB", "compute s", "links s", "sum s", ""]
    grid = Table(*columns, title="settings, best first (seconds order them, they are no promise)")
    for result in rows:
        grid.add_row(*cells(result))
    return grid
