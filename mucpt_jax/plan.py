"""The plan job: compiles the train step for devices that are not here and says what to expect before renting them.

Nothing is allocated and no data is read: shapes and shardings go in, and out come the compiler's memory figures, the
collectives and matrix products of the compiled program, model FLOPs, and days at an assumed MFU.

It is an estimate.  Without an accelerator XLA compiles for CPUs, which compute and send bfloat16 as float32 and know no
reduce-scatter (they write all-reduce and a slice): temporaries and bytes sent come out too large, up to twice.

The jobs that come after the training are compiled too: what is trained must also be scored with, asked and exported.
"""

import contextlib
import functools
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from math import prod
from pathlib import Path

import jax
import numpy as np
from jax.experimental import topologies

from mucpt_jax import train
from mucpt_jax.config import AXES, Config, changed
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import generate
from mucpt_jax.formats.files import write_json
from mucpt_jax.planning import accelerators, advice, hlo, search
from mucpt_jax.run import checkpoint, data, lineage, metrics
from mucpt_jax.step import attention, losses, optimizer, sharding

SOURCES = 2  # domain and general: sizes a few sums of the metrics, nothing else
ONE_HOST = {"mesh.replica": 1, "mesh.fsdp": -1, "mesh.context": 1, "mesh.tensor": 1}
QUESTION = 2 * generate.BUCKET  # tokens that a question is taken to have, with its prompt


def plan(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    """Prints what to expect and writes it to WORKDIR/plan.json; with plan.search, other settings too."""
    if cfg.plan.search and cfg.plan.topology:
        raise UserError(
            "plan.search counts collectives, which programs for TPUs do not tell; leave plan.topology empty"
        )
    cfg = stand_in(changed(cfg, {f"mesh.{axis}": size for axis, size in mesh.shape.items()}))  # no -1 any more
    try:
        facts = measure(cfg, mesh)
    except jax.errors.JaxRuntimeError as error:  # compilers for TPUs refuse what does not fit
        raise UserError(
            f"the step does not compile for {cfg.plan.topology or 'CPUs'} ({str(error).splitlines()[0][:300]}); "
            f"try train.remat=full, more train.micro_batches or more devices"
        ) from error
    facts["other_jobs"] = other_jobs(cfg, mesh)
    facts["advice"] = [] if facts["fits"] else advice.advice(cfg, facts)
    write_json(workdir / "plan.json", facts)
    print(report(cfg, facts), flush=True)
    if cfg.plan.search:
        on = list(mesh.devices.flat)
        facts["search"] = search.search(cfg, lambda tried: measure(tried, sharding.make_mesh(tried, on)), facts)
        write_json(workdir / "plan.json", facts)
    print(f"{workdir / 'plan.json'}")


def simulated_mesh(cfg: Config) -> jax.sharding.Mesh:
    """Over the devices of plan.topology, or those that runtime.simulate_devices made."""
    jax.config.update("jax_enable_compilation_cache", False)  # a cached program would hide the compiler's warnings
    return sharding.make_mesh(cfg, devices(cfg) if cfg.plan.topology else None)


def devices(cfg: Config) -> list:
    """Devices of plan.topology."""
    if cfg.plan.topology.partition(":")[0] != cfg.plan.accelerator:
        raise UserError(
            f"plan.topology={cfg.plan.topology} is not of plan.accelerator={cfg.plan.accelerator}; set both alike"
        )
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=cfg.plan.topology)
    except Exception as error:  # libtpu missing, or a name that it does not know: several classes
        raise UserError(
            f"plan.topology={cfg.plan.topology} cannot be compiled for ({str(error).splitlines()[0]}); "
            "pip install libtpu and name a slice such as v5e:2x4 or v5p:4x8x8, or leave it empty to compile for CPUs"
        ) from error
    return list(topology.devices)


def stand_in(cfg: Config) -> Config:
    """The config with the attention that compiles: for TPUs `auto` is resolved; CPUs have neither cudnn nor splash and
    take `chunked`, whose memory is linear in T too."""
    wanted = backend = cfg.train.attention
    if cfg.plan.topology and wanted == "auto":
        backend = attention.best("tpu", cfg.train.compute_dtype, cfg.data.sequence_length, cfg.mesh.context)
    elif not cfg.plan.topology and wanted in ("auto", "cudnn", "splash"):
        backend = "chunked"
    if backend != wanted:
        logging.info("attention: compiled with %s in place of %s", backend, wanted)
    return changed(cfg, {"train.attention": backend})


def measure(cfg: Config, mesh: jax.sharding.Mesh) -> dict:
    """Compiles the train step of a config on a mesh -> everything that plan.json says of it."""
    compiled, log, seconds = compile_step(cfg, mesh)
    params, moments = train.abstract_state(cfg, optimizer.make(cfg), mesh)
    counts = hlo.count(compiled.as_text())
    return {
        "model": cfg.model.name,
        "params": sum(prod(leaf.shape) for leaf in jax.tree.leaves(params)),
        "accelerator": cfg.plan.accelerator,
        "devices": mesh.size,
        "mesh": dict(mesh.shape),
        "micro_batches": cfg.train.micro_batches,
        "remat": cfg.train.remat,
        "attention": cfg.train.attention,
        **expected(cfg, mesh.size),
        **memory(cfg, compiled.memory_analysis(), bytes_of(params), on_host(moments)),
        "flops_per_token": flops(cfg, counts, mesh.size),
        "collectives": None if counts.loops_unknown else collectives(counts),
        "warnings": hlo.rematerialised(log),
        "compile_seconds": round(seconds, 1),
        "compiled_for": cfg.plan.topology or mesh.devices.flat[0].platform,
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "optax")},
    }


def compile_step(cfg: Config, mesh: jax.sharding.Mesh) -> tuple[jax.stages.Compiled, str, float]:
    """-> the compiled step, what the compiler wrote to stderr, seconds."""
    start, tx = time.monotonic(), optimizer.make(cfg)
    # No scores are read here; what weights are divided by costs the same, whatever it is.
    cfg = changed(cfg, {"loss.mean_raw_weight": cfg.loss.mean_raw_weight or 1.0})
    with jax.set_mesh(mesh), stderr_of_compiler() as log:
        step = train.jitted_step(cfg, tx, mesh, SOURCES)
        abstract = train.abstract_state(cfg, tx, mesh), data.abstract_batch(cfg, mesh)
        compiled = step.lower(*abstract).compile()
    return compiled, "".join(log), time.monotonic() - start


@contextlib.contextmanager
def stderr_of_compiler() -> Iterator[list[str]]:
    """Collects file descriptor 2, where XLA's C++ writes; all but rematerialisations are passed on at the end."""
    lines = []
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines(keepends=True)
            os.write(2, "".join(line for line in lines if not hlo.rematerialised(line)).encode())


def memory(cfg: Config, stats, params: int, offloaded: int) -> dict:
    """Bytes on one device.  A step's state is donated: its outputs take the place of its arguments (alias).

    offloaded: moments in the host's memory, which the CPU backend counts as arguments.  They come to the device for the
    update, when the gradients (as large as `params`) still lie there and the activations are gone.
    """
    limit = accelerators.limit(cfg.plan.accelerator)
    arguments = stats.argument_size_in_bytes - (0 if cfg.plan.topology else offloaded)
    results = stats.output_size_in_bytes - stats.alias_size_in_bytes
    temporaries = max(stats.temp_size_in_bytes, offloaded + params if offloaded else 0)
    total = arguments + results + temporaries
    parts = {
        "arguments": arguments,
        "results": results,
        "temporaries": temporaries,
        "total": total,
        "limit": round(limit),
        "memory": round(accelerators.ACCELERATORS[cfg.plan.accelerator].memory),
        "host": offloaded,
    }
    return {"bytes_per_device": parts, "fits": total <= limit}


def other_jobs(cfg: Config, mesh: jax.sharding.Mesh) -> dict[str, dict]:
    """Job -> bytes on one device and whether they fit, of the jobs that take the trained parameters.

    hash: params_hash, which all of them compute, and training by keep=best.  export: on the devices of one host.
    """
    params, limit = lineage.abstract_params(cfg, mesh), accelerators.limit(cfg.plan.accelerator)
    held = bytes_of(params)
    with jax.set_mesh(mesh):
        hashed = max(temporaries(checkpoint.checksum.lower(leaf)) for leaf in jax.tree.leaves(params))
        temporaries_of = {
            "score, evaluate on rows": temporaries(forward(cfg, mesh, params)),
            "evaluate on questions": decoding(cfg, mesh, params),
            "hash": hashed,
        }
    host = sharding.make_mesh(changed(cfg, ONE_HOST), list(mesh.devices.flat)[: accelerators.HOST])
    leaves = jax.tree.leaves(lineage.abstract_params(cfg, host))
    sizes = {job: held + max(size, hashed) for job, size in temporaries_of.items()}
    sizes["export, on one host"] = bytes_of(leaves) + max(map(bytes_of, leaves))  # the hash mixes one array's bits
    return {job: {"total": size, "fits": size <= limit} for job, size in sizes.items()}


def temporaries(lowered: jax.stages.Lowered) -> int:
    """Bytes on one device beside the parameters; batches are small."""
    stats = lowered.compile().memory_analysis()
    return stats.temp_size_in_bytes + stats.output_size_in_bytes


def forward(cfg: Config, mesh: jax.sharding.Mesh, params: dict) -> jax.stages.Lowered:
    """What score computes for a batch of rows, and evaluate with a smaller head."""
    nll = functools.partial(losses.batch_nll, cfg=cfg, head_dtype="float32")
    step = jax.jit(nll, out_shardings=sharding.replicated(mesh))
    shape = max(cfg.score.batch_rows, cfg.evaluate.batch_rows), cfg.data.sequence_length + 1
    kinds = {"tokens": np.int32, "segment_ids": np.uint16}
    return step.lower(params, {name: abstract(shape, kind, mesh) for name, kind in kinds.items()})


def decoding(cfg: Config, mesh: jax.sharding.Mesh, params: dict) -> int:
    """What evaluate computes for a batch of questions."""
    return max(map(temporaries, generate.lowered(params, QUESTION, cfg, mesh)))


def abstract(shape: tuple[int, ...], dtype, mesh: jax.sharding.Mesh) -> jax.ShapeDtypeStruct:
    """As sharding.place puts a batch."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.rows_where_they_divide(shape, mesh))


def bytes_of(tree) -> int:
    """Of one device's shards."""
    leaves = jax.tree.leaves(tree)
    return sum(prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def on_host(tree) -> int:
    """Bytes of a device's shards that lie in the host's memory."""
    return bytes_of([leaf for leaf in jax.tree.leaves(tree) if "host" in (leaf.sharding.memory_kind or "")])


def flops(cfg: Config, counts: hlo.Counts, devices: int) -> dict:
    """Per token, forward and backward; `compiled` is what the program really multiplies, recomputation included."""
    tokens = cfg.data.batch_rows * cfg.data.sequence_length
    causal = metrics.flops_per_token(cfg.model, cfg.data.sequence_length)
    return {
        "causal": causal,
        "full": 2 * causal - 6 * metrics.matmul_parameters(cfg.model),  # twice the attention, the rest once
        "compiled": None if counts.loops_unknown else counts.flops * devices / tokens,
    }


def expected(cfg: Config, devices: int) -> dict:
    """Steps, tokens, and time at the assumed share of the peak."""
    tokens = cfg.data.batch_rows * cfg.data.sequence_length
    model_flops = metrics.flops_per_token(cfg.model, cfg.data.sequence_length)
    seconds = tokens * model_flops / (devices * accelerators.peak(cfg) * cfg.plan.mfu)
    return {
        "steps": cfg.optimizer.steps,
        "tokens_per_step": tokens,
        "tokens": tokens * cfg.optimizer.steps,
        "mfu": cfg.plan.mfu,
        "step_seconds": seconds,
        "days": cfg.optimizer.steps * seconds / 86400,
    }


def collectives(counts: hlo.Counts) -> list[dict]:
    """Alike ones together, the most bytes first.  in_program: operations; a_step: runs; bytes: results of all runs."""
    row_of = {}
    for c in counts.collectives:
        key = (c.kind, c.dtype, c.group, near(c.members))
        start = dict(zip(("kind", "dtype", "group", "near"), key, strict=True))
        row = row_of.setdefault(key, start | {"in_program": 0, "a_step": 0, "bytes": 0})
        row["in_program"] += 1
        row["a_step"] += c.executed
        row["bytes"] += c.executed * c.bytes
    return sorted(row_of.values(), key=lambda row: -row["bytes"])


def near(members: tuple[int, ...]) -> int:
    """How many of a group are on the first one's host."""
    return sum(n // accelerators.HOST == members[0] // accelerators.HOST for n in members)


def report(cfg: Config, facts: dict) -> str:
    """The facts for people; GB is 1e9 bytes."""
    work, plan = facts["flops_per_token"], cfg.plan
    held = {name: n / 1e9 for name, n in facts["bytes_per_device"].items()}
    mesh = " ".join(f"{axis}={facts['mesh'][axis]}" for axis in AXES)
    lines = [
        f"plan: {facts['model']}, {facts['params'] / 1e9:.5g}e9 parameters, {facts['devices']} {plan.accelerator}",
        f"  setting      {mesh}; remat={facts['remat']} micro_batches={facts['micro_batches']} "
        f"attention={facts['attention']}",
        f"  compiled     for {facts['compiled_for']} in {facts['compile_seconds']:.0f} s",
        f"  memory       {held['total']:.4g} GB a device: state and batch {held['arguments']:.4g}, "
        f"temporaries {held['temporaries']:.4g}"
        + (f", results {held['results']:.4g}" if held["results"] > held["total"] / 100 else "")
        + (f"; {held['host']:.4g} in the host's memory" if held["host"] else ""),
        f"  {'fits' if facts['fits'] else 'TOO LARGE':12} {held['total'] / held['limit']:.0%} of "
        f"{held['limit']:.4g} GB: "
        f"{held['memory']:.0f} less {accelerators.RESERVE:.0%} for runtime, NCCL, workspaces",
        *other_job_lines(facts.get("other_jobs", {}), held["limit"]),
        f"  FLOPs/token  causal {work['causal'] / 1e9:.5g}e9, full attention {work['full'] / 1e9:.5g}e9, "
        + computed(work),
        f"  time         {facts['steps']:,} steps of {facts['tokens_per_step']:,} tokens = "
        f"{facts['tokens'] / 1e9:.3g}e9; {facts['step_seconds']:.3g} s a step, {facts['days']:.3g} days",
        f"  assumed      {plan.mfu:.0%} MFU of {accelerators.peak(cfg) / 1e12:.0f} TFLOP/s (plan.mfu)",
        *traffic(facts["collectives"]),
    ]
    if facts["compiled_for"] == "cpu":
        lines.append(
            "  read it so   the CPU's compiler keeps and sends bfloat16 as float32 and writes reduce-scatter as "
            "all-reduce: temporaries and bytes are upper bounds, up to twice"
        )
    for tensor in facts["warnings"]:
        where = f" ({tensor['op_name']})" if tensor["op_name"] else ""
        lines.append(
            f"  warning      {tensor['tensor']} {tensor['shape']}{where} is made whole on every device to reshard it, "
            f"from {tensor['from']} to {tensor['to']}: look at its rule in sharding.py"
        )
    return "\n".join(lines + advice.lines(facts["advice"]))


def other_job_lines(jobs: dict[str, dict], limit: float) -> list[str]:
    """A line of the report for each row of other_jobs(); limit in GB."""
    lines = [
        f"    {job:30} {of['total'] / 1e9:9.4g} GB a device{'' if of['fits'] else f', TOO LARGE for {limit:.4g}'}"
        for job, of in jobs.items()
    ]
    return ["  the jobs that take the trained model", *lines] if lines else []


def computed(work: dict) -> str:
    """What the compiled program multiplies per token, of facts["flops_per_token"]."""
    if work["compiled"] is None:
        return "compiled not countable: this compiler writes no trip counts"
    return f"compiled {work['compiled'] / 1e9:.5g}e9 ({work['compiled'] / work['full']:.2f} of full: recomputation)"


def traffic(rows: list[dict] | None) -> list[str]:
    """A line of the report for each row of collectives()."""
    if rows is None:
        return ["  collectives  not countable: this compiler writes no trip counts"]
    lines = ["  collectives of one device            group  in program  a step   results GB a step"]
    for row in rows:
        name = f"{row['kind']} {row['dtype']}"
        lines.append(
            f"    {name:30} {row['group']:8} {row['in_program']:11} {row['a_step']:7} {row['bytes'] / 1e9:12.4g}"
        )
    return lines
