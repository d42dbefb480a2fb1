"""What to change when a plan does not fit into memory, the most useful first, as flags to type."""

from mucpt_jax import checks
from mucpt_jax.config import Config, changed
from mucpt_jax.errors import UserError


def advice(cfg: Config, facts: dict) -> list[dict]:
    """[{"why", "flags"}]: changes that pass the checks.  Every axis of cfg.mesh is known.

    First what shrinks the larger part: temporaries (activations, logits, gradients) or arguments (parameters, moments).
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
    changes = []
    if cfg.train.remat != "full":
        changes.append(("keep only the layers' inputs for the backward pass", {"train.remat": "full"}))
    if rows > 1:
        fewer = min(d for d in checks.divisors(rows) if d > 1)
        why = f"{rows} rows run at once on a device; fewer hold less"
        changes.append((why, {"train.micro_batches": fewer * micro}))
    if cfg.loss.vocab_parts < 64:
        changes.append(("logits of fewer ids at a time", {"loss.vocab_parts": 4 * cfg.loss.vocab_parts}))
    if mesh.fsdp % 2 == 0:
        half = {"mesh.fsdp": mesh.fsdp // 2, "train.micro_batches": 2 * micro}
        changes.append(("split heads, MLP and vocabulary further", half | {"mesh.tensor": 2 * mesh.tensor}))
        why = "split the tokens of rows (the state is then copied)"
        changes.append((why, half | {"mesh.context": 2 * mesh.context}))
    return changes


def for_arguments(cfg: Config, facts: dict) -> list[tuple[str, dict]]:
    mesh, shards = cfg.mesh, cfg.mesh.fsdp * cfg.mesh.tensor
    changes = []
    if mesh.replica > 1:
        why = f"the state lies {mesh.replica} times in the mesh; split it"
        changes.append((why, {"mesh.replica": 1, "mesh.fsdp": mesh.replica * mesh.fsdp}))
    if not cfg.optimizer.offload:
        half = 4 * facts["params"] / shards / 1e9  # GB of one of the two moments in float32, of both in bfloat16
        if cfg.optimizer.moments_dtype == "float32":
            changes.append((f"saves {half:.2f} GB: half of the moments", {"optimizer.moments_dtype": "bfloat16"}))
        moments = 2 * half if cfg.optimizer.moments_dtype == "float32" else half
        changes.append((f"keeps {moments:.2f} GB of moments in the host's memory", {"optimizer.offload": True}))
    changes.append(("twice the devices hold half of the state each", {"mesh.fsdp": 2 * mesh.fsdp}))
    return changes


def passes(cfg: Config) -> bool:
    try:
        checks.check(cfg)
    except UserError:
        return False
    return True


def flags(change: dict) -> str:
    return " ".join(f"--config.{key}={value}" for key, value in change.items())


def lines(changes: list[dict]) -> list[str]:
    """What advice() returns, for the report."""
    if not changes:
        return []
    numbered = [f"    {number}. {change['flags']}   {change['why']}" for number, change in enumerate(changes, 1)]
    return ["  to make it fit, the most useful first, each alone or together:", *numbered]
