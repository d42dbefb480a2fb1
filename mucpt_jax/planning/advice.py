"""What to change when a plan does not fit into memory, the most useful first, as flags to type."""

import dataclasses

from mucpt_jax import checks
from mucpt_jax.config import Config
from mucpt_jax.errors import UserError


def advice(cfg: Config, facts: dict) -> list[dict]:
    """[{"why", "flags"}]: changes that pass the checks.  Every axis of cfg.mesh is known.

    What holds more bytes comes first: temporaries (activations, logits, gradients) or arguments (parameters, moments).
    """
    held = facts["bytes_per_device"]
    groups = [for_temporaries(cfg), for_arguments(cfg, facts)]
    if held["arguments"] + held["results"] > held["temporaries"]:
        groups.reverse()
    possible = [(why, change) for group in groups for why, change in group if passes(changed(cfg, change))]
    return [{"why": why, "flags": flags(change)} for why, change in possible]


def for_temporaries(cfg: Config) -> list[tuple[str, dict]]:
    mesh, micro = cfg.mesh, cfg.train.micro_batches
    rows = cfg.data.batch_rows // (mesh.replica * mesh.fsdp * micro)
    half = {"mesh.fsdp": mesh.fsdp // 2, "train.micro_batches": 2 * micro} if mesh.fsdp % 2 == 0 else None
    found = []
    if cfg.train.remat != "full":
        found.append(("keep only the layers' inputs for the backward pass", {"train.remat": "full"}))
    if rows > 1:
        fewer = min(d for d in checks.divisors(rows) if d > 1)
        why = f"{rows} rows run at once on a device; fewer hold less"
        found.append((why, {"train.micro_batches": fewer * micro}))
    if cfg.loss.vocab_parts < 64:
        found.append(("logits of fewer ids at a time", {"loss.vocab_parts": 4 * cfg.loss.vocab_parts}))
    if half:
        found.append(("split heads, MLP and vocabulary further", half | {"mesh.tensor": 2 * mesh.tensor}))
        found.append(("split the tokens of rows (the state is then copied)", half | {"mesh.context": 2 * mesh.context}))
    return found


def for_arguments(cfg: Config, facts: dict) -> list[tuple[str, dict]]:
    mesh, shards = cfg.mesh, cfg.mesh.fsdp * cfg.mesh.tensor
    found = []
    if mesh.replica > 1:
        why = f"the state lies {mesh.replica} times in the mesh; split it"
        found.append((why, {"mesh.replica": 1, "mesh.fsdp": mesh.replica * mesh.fsdp}))
    if cfg.optimizer.moments_dtype == "float32" and not cfg.optimizer.offload:
        why = f"saves {4 * facts['params'] / shards / 1e9:.2f} GB: half of the moments"
        found.append((why, {"optimizer.moments_dtype": "bfloat16"}))
    if not cfg.optimizer.offload:
        width = 8 if cfg.optimizer.moments_dtype == "float32" else 4
        why = f"keeps {width * facts['params'] / shards / 1e9:.2f} GB of moments in the host's memory"
        found.append((why, {"optimizer.offload": True}))
    found.append(("twice the devices hold half of the state each", {"mesh.fsdp": 2 * mesh.fsdp}))
    return found


def changed(cfg: Config, change: dict) -> Config:
    """{"train.remat": "full"} applied."""
    for key, value in change.items():
        section, name = key.split(".")
        new = dataclasses.replace(getattr(cfg, section), **{name: value})
        cfg = dataclasses.replace(cfg, **{section: new})
    return cfg


def passes(cfg: Config) -> bool:
    try:
        checks.check(cfg)
    except UserError:
        return False
    return True


def flags(change: dict) -> str:
    return " ".join(f"--config.{key}={value}" for key, value in change.items())


def lines(found: list[dict]) -> list[str]:
    """For the report."""
    if not found:
        return []
    told = [f"    {number}. {one['flags']}   {one['why']}" for number, one in enumerate(found, 1)]
    return ["  to make it fit, the most useful first, each alone or together:", *told]
