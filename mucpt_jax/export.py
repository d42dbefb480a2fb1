"""The export job: the newest checkpoint of a run -> a Hugging Face folder, which transformers, vLLM and SGLang load."""

import dataclasses
import json
import logging
import os
from pathlib import Path

import jax

from mucpt_jax import config
from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation.cards import cell
from mucpt_jax.formats import version
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import text_hash
from mucpt_jax.formats.manifest import load_manifest
from mucpt_jax.formats.results import Evaluated
from mucpt_jax.run import checkpoint, lineage, tokenizers
from mucpt_jax.step.objective import OBJECTIVES
from mucpt_jax.weights import hf, hf_write, transfer


def export(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    if jax.process_count() > 1:
        raise UserError("export runs on one host; start it there with a mesh of that host's devices")
    tokenizer, model_from = hf.tokenizer_folder(cfg.tokenizer, cfg.init_from), lineage.folders(cfg, workdir)
    tokenizers.check(tokenizer, model_from)
    params = lineage.load_params(cfg, mesh, workdir)
    about = hf_write.About(
        folder=cfg.export.path or str(workdir / "hf"),
        dtype=cfg.export.dtype,
        max_shard_bytes=cfg.export.max_shard_bytes,
        like=origin(cfg, [*model_from, cfg.init_from, tokenizer]),
        longest=longest_rows(model_from),
        tokenizer=tokenizer,
        card=card(cfg, workdir, checkpoint.params_hash(params)),
    )
    transfer.to_hf(params, cfg.model, about)
    logging.info("wrote %s (%s, %s)", about.folder, cfg.model.name, about.dtype)


def origin(cfg: Config, folders: list[str | None]) -> str | None:
    """The first Hugging Face folder of the same model: an export keeps its token ids and its generation config."""
    for folder in filter(None, folders):
        if (Path(folder) / "config.json").is_file() and lineage.saved_config(folder) is None:
            try:
                hf.check_same_model(hf.read_config(folder), cfg.model, folder)
                return folder
            except UserError:  # the tokenizer of another size: nothing to keep
                continue
    return None


def longest_rows(folders: list[str]) -> int:
    """Tokens of the longest rows that a model's runs were trained on; 0 where it was not."""
    return max((run.data.sequence_length for run in map(lineage.saved_config, folders) if run), default=0)


# The model card


def card(cfg: Config, workdir: Path, params_hash: str) -> str:
    """README.md: what was trained on what, how, and what came out; as Hugging Face's hub shows it."""
    step = checkpoint.newest_step(workdir)
    if step is None:
        return front(cfg.init_from) + f"# {cfg.model.name}\n\nThe weights of {name_of(cfg.init_from)}, unchanged.\n"
    saved = read_json(workdir / "config.json", dict)
    run = dataclasses.asdict(config.from_saved(saved))
    loss, data, optimizer = run["loss"], run["data"], run["optimizer"]
    tokens = step * data["batch_rows"] * data["sequence_length"]
    start = name_of(run["init_from"]) if run["init_from"] else "random parameters"
    gone = config.gone_knobs(saved)
    if gone:
        logging.warning("%s was trained with %s, which this version does not know", workdir, gone)
    settings = loss | {"reference": name_of(loss["reference"])} if loss.get("reference") else loss
    settings |= gone
    facts = {
        "parameters": params_hash,
        "started from": start + (", with its optimiser state" if run["init_state"] == "all" else ""),
        "trained": cell(optimizer["trainable"] or "all parameters"),
        "steps": f"{step:,} of {optimizer['steps']:,}, {tokens:,} tokens",
        "batch": f"{data['batch_rows']} rows of {data['sequence_length']} tokens",
        "learning rate": f"{optimizer['peak_lr']:g} to {optimizer['final_lr']:g}, cosine",
        "weight decay, clipping": f"{optimizer['weight_decay']:g}, {optimizer['clip_norm']:g}",
        "general text": f"{data['general_fraction']:.2%} of the target tokens",
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    known = OBJECTIVES.get(loss["kind"])
    about = known.sentence.format(**loss) if known else f"{loss['kind']}, which this version does not know."
    about += f" With {', '.join(gone)} of an older version, which change the weights." if gone else ""
    return (
        f"{front(run['init_from'])}# {cfg.model.name}, {step:,} steps of {loss['kind']}\n\n"
        f"Continued pretraining with {version.as_text(saved.get('written_by'))}.\n\n| | |\n|---|---|\n{rows}\n\n"
        f"## Objective\n\n{about}\n\n```json\n{json.dumps(settings, indent=1)}\n```\n\n"
        f"## Data\n\n{data_table(data)}\n{results(workdir, params_hash)}"
    )


def name_of(folder: str) -> str:
    """A local path is told by its last part; it stands in a table's cell."""
    return cell(os.path.basename(os.path.abspath(folder)))


def front(start: str | None) -> str:
    """The block that the hub reads; JSON's strings are YAML's too."""
    base = f"base_model: {json.dumps(name_of(start))}\n" if start else ""
    return f"---\nlibrary_name: transformers\n{base}tags:\n- continued-pretraining\n- mucpt\n---\n"


def data_table(data: dict) -> str:
    """Sources with their sizes and the hash of their shards, from the manifests that still stand."""
    lines = ["| | source | documents | target tokens | shards |", "|---|---|---|---|---|"]
    for role in ("domain", "general"):
        if not data[role] or not (Path(data[role]) / "manifest.json").is_file():
            lines += [f"| {role} | {name_of(data[role])}, not here any more | | | |"] if data[role] else []
            continue
        written = load_manifest(data[role])
        for name, source in written["sources"].items():
            sums = [shard["sha256"] for shard in written["shards"] if shard["source"] == name]
            size = f"{source['documents']:,} | {source['targets']:,}"
            lines.append(f"| {role} | {cell(name)} | {size} | {text_hash(''.join(sums))[:16]} |")
    return "\n".join(lines) + "\n"


def results(workdir: Path, params_hash: str) -> str:
    """What --job=evaluate found for these very parameters."""
    path = workdir / "evaluate.json"
    measured: Evaluated = read_json(path, Evaluated, "evaluate again") if path.is_file() else {}
    if measured.get("params_hash") != params_hash:
        return ""
    heldout = measured.get("heldout") or {}
    lines = [f"| loss on {cell(name)}, nats a token | {of['nll']:.4f} |" for name, of in heldout.items()]
    if asked := measured.get("questions"):
        lines.append("| questions | {k} of {n} right: {accuracy:.4f} (95% {low:.4f} to {high:.4f}) |".format(**asked))
    return "\n## Results\n\n| | |\n|---|---|\n" + "\n".join(lines) + "\n" if lines else ""
