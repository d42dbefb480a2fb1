"""What is wrong with a config, in one sentence each, before any device or file is touched."""

import dataclasses
import difflib
import inspect
import re
import typing

from ml_collections import ConfigDict

from mucpt_jax import config as knobs
from mucpt_jax.config import (
    AXES,
    Config,
    Mesh,
    Model,
    changed,
    check_choice,
    choices,
    from_dict,
    keys,
    nearest,
    value_of,
)
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import prompts
from mucpt_jax.formats.ranges import fault
from mucpt_jax.step import objective


def build(values: ConfigDict) -> Config:
    """ConfigDict -> checked Config.  Raises UserError in one sentence; touches no device and no file."""
    unknown = sorted(set(values) - {f.name for f in dataclasses.fields(Config)})
    if unknown:
        raise UserError(
            f"the config sets {unknown[0]}, which launch.py does not know; is it a recipe of data_prep.pipeline?"
        )
    config = unescaped(from_dict(Config, values.to_dict()))
    check(config)
    return config


def unescaped(config: Config) -> Config:
    r"""\n, \t and \\ in texts that a model reads or writes: a shell hands them on as two characters."""
    meant = {"n": "\n", "t": "\t", "\\": "\\"}
    texts = {"evaluate.prompt": config.evaluate.prompt}
    if config.evaluate.stop and not prompts.is_list(config.evaluate.stop):  # JSON has its own
        texts["evaluate.stop"] = config.evaluate.stop
    return changed(config, {k: re.sub(r"\\([nt\\])", lambda m: meant[m[1]], text) for k, text in texts.items()})


def check(config: Config) -> None:
    """Every inconsistency that can be seen without files and devices."""
    for key in choices():
        check_choice(key, value_of(config, key))
    check_ranges(config)
    check_regex(config)
    check_together(config)
    prompts.stops(config.evaluate.stop, config.evaluate.style)
    check_model(config.model, config.mesh)
    check_batch(config)


def check_ranges(config: Config) -> None:
    """Each knob alone: type and range as its field is annotated, and what a range cannot say."""
    loss, optimizer, train, mesh = config.loss, config.optimizer, config.train, config.mesh
    if wrong := fault(dataclasses.asdict(config), Config):
        raise UserError(wrong)
    rules = {
        "loss.max_weight must not be below loss.min_weight": loss.max_weight is None
        or loss.max_weight >= loss.min_weight,
        "optimizer.final_lr must be in [0, peak_lr]": optimizer.final_lr <= optimizer.peak_lr,
        "mesh.replica must be >= 1, or -1: all remaining devices": mesh.replica != 0,
        "mesh.fsdp must be >= 1, or -1: all remaining devices": mesh.fsdp != 0,
        "train.watchdog must be 0 or >= 2 medians of a step": train.watchdog == 0 or train.watchdog >= 2,
        "score.worker must be in 0..workers-1": config.score.worker < config.score.workers,
        "evaluate.prompt must hold {question}": "{question}" in config.evaluate.prompt,
    }
    for sentence, fine in rules.items():
        if not fine:
            key, _, rest = sentence.partition(" ")
            raise UserError(f"{key}={value_of(config, key)!r} {rest}")


def check_regex(config: Config) -> None:
    try:
        re.compile(config.optimizer.trainable or "")
    except re.error as error:
        raise UserError(
            f"optimizer.trainable={config.optimizer.trainable!r} is no regular expression ({error}); mend it"
        ) from error


def check_together(config: Config) -> None:
    """Knobs that would do nothing, or half of what they say, together with the others."""
    loss, train = config.loss, config.train
    corpus_mean, given = objective.wants_corpus_mean(loss), bool(loss.mean_raw_weight)
    rules = {
        "train.keep=best needs losses to compare; add --config.train.evaluate_every=STEPS and "
        "--config.evaluate.rows=FOLDER, or leave train.keep=newest": train.keep == "best" and not train.evaluate_every,
        f"train.evaluate_questions={train.evaluate_questions} needs questions and steps; add --config."
        "evaluate.questions=FILE and --config.train.evaluate_every=STEPS, or leave it 0": train.evaluate_questions
        and not (train.evaluate_every and config.evaluate.questions),
        # It would end a run with a state that is not the best.
        f"train.patience={train.patience} stops a run that keeps its best state; add --config.train.keep=best, or "
        "leave train.patience=0": train.patience and train.keep != "best",
        "init_state=all takes up another run; name its workdir with --config.init_from": config.init_state == "all"
        and not config.init_from,
        f"loss.mean_raw_weight is not read by weight_norm={loss.weight_norm} of {loss.kind}; leave it empty": given
        and not corpus_mean,
        f"loss.reference scores while training, {loss.kind} needs no scores; leave it empty": loss.reference
        and not objective.OBJECTIVES[loss.kind].needs_scores,
        f"loss.reference scores while training, so no corpus mean is known for weight_norm={loss.weight_norm}; use "
        "batch_mean_one or none, or set loss.mean_raw_weight": loss.reference and corpus_mean and not given,
    }
    for sentence, broken in rules.items():
        if broken:
            raise UserError(sentence)


def check_model(model: Model, mesh: Mesh) -> None:
    heads, kv, tensor = model.num_attention_heads, model.num_key_value_heads, mesh.tensor
    if heads % kv:
        raise UserError(
            f"num_key_value_heads={kv} must divide num_attention_heads={heads} of {model.name}; "
            f"use {max(d for d in divisors(heads) if d <= kv)}"
        )
    if model.head_dim % 2:
        raise UserError(f"head_dim={model.head_dim} of {model.name} must be even: rotary turns pairs")
    for name, size in (("num_key_value_heads", kv), ("intermediate_size", model.intermediate_size)):
        if size % tensor:
            fits = max(d for d in divisors(kv) if d <= tensor and model.intermediate_size % d == 0)
            raise UserError(f"mesh.tensor={tensor} does not divide {name}={size} of {model.name}; use tensor={fits}")


def check_batch(config: Config) -> None:
    mesh, data = config.mesh, config.data
    sizes = {axis: getattr(mesh, axis) for axis in AXES}
    if list(sizes.values()).count(-1) > 1:
        raise UserError(f"mesh {sizes} has two -1; leave at most one -1 (all remaining devices)")
    if data.sequence_length % mesh.context:
        raise UserError(f"mesh.context={mesh.context} does not divide data.sequence_length={data.sequence_length}")
    if data.sequence_length > config.model.max_position_embeddings:
        raise UserError(
            f"data.sequence_length={data.sequence_length} is longer than max_position_embeddings="
            f"{config.model.max_position_embeddings} of {config.model.name}; use shorter rows"
        )
    if -1 not in sizes.values():  # else known only with the devices: see sharding.make_mesh
        check_mesh(config, sizes)


def check_mesh(config: Config, sizes: dict[str, int]) -> None:
    """Devices per axis, all known: does every array divide?"""
    check_batch_rows(config, sizes["replica"] * sizes["fsdp"])
    model, ways, tensor = config.model, sizes["fsdp"] * sizes["tensor"], sizes["tensor"]
    if model.hidden_size % ways:
        fits = max((d for d in divisors(model.hidden_size) if d <= ways and d % tensor == 0), default=tensor)
        raise UserError(
            f"mesh fsdp*tensor={ways} does not divide hidden_size={model.hidden_size} of {model.name}: its state would "
            f"lie whole on every device; use fsdp={fits // tensor} and more of replica or context"
        )


def check_batch_rows(config: Config, ways: int) -> None:
    """`ways`: into how many parts the mesh splits a batch (replica * fsdp)."""
    parts = ways * config.train.micro_batches
    for key, rows, multiple in (
        ("data.batch_rows", config.data.batch_rows, parts),
        ("score.batch_rows", config.score.batch_rows, ways),
        ("evaluate.batch_rows", config.evaluate.batch_rows, ways),
    ):
        if rows % multiple:
            raise UserError(
                f"{key}={rows} must be a multiple of {multiple} (mesh replica*fsdp={ways}"
                f"{'' if multiple == ways else f', micro_batches={config.train.micro_batches}'}); "
                f"use {max(1, round(rows / multiple)) * multiple}"
            )


def divisors(n: int) -> list[int]:
    """Those up to a million: a mistyped number may have 30 digits."""
    return [d for d in range(1, min(n, 1 << 20) + 1) if n % d == 0]


def check_overrides(argv: list[str]) -> None:
    """Refuses `--config.loss.alfa=2` before anything else looks at it."""
    sections = [f.name for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.type)]
    for argument in argv:
        match = re.match(r"--?config\.([\w.]+)", argument)
        if match and match[1] not in [*keys(), *sections]:
            raise UserError(f"--config.{match[1]}: there is no such key; {nearest(match[1], keys())}")


def without_unset(argv: list[str]) -> tuple[list[str], list[str]]:
    """The arguments without `--config.KEY=None`, and these keys; UserError where a knob must have a value."""
    flag = r"--?config\.([\w.]+)"
    argv = re.sub(rf"(?<=\0)({flag})\0None(?=\0|$)", r"\1=None", "\0".join(argv)).split("\0")
    last = {match[1]: match[2] for word in argv if (match := re.match(rf"{flag}=(.*)", word, re.S))}
    keys = [key for key, value in last.items() if value == "None"]
    for key in keys:
        if type(None) not in typing.get_args(knobs.type_of_keys().get(key)):
            raise UserError(f"--config.{key}=None: {key} always has a value; leave this flag out for the config's own")
    return [word for word in argv if not re.fullmatch(f"{flag}=None", word)], keys


def unset(values: ConfigDict, keys: list[str]) -> None:
    """Empties these knobs."""
    for key in keys:
        *section, name = key.split(".")
        (values[section[0]] if section else values)[name] = None


def explain(error: Exception) -> str:
    """The one sentence for what absl and ml_collections raise on a bad value, key or config file."""
    message = " ".join(str(error).split())
    if match := re.search(r"flag --config\.([\w.]+)=", message):
        return f"{message}; {match[1]} is {value_of(Config(), match[1])!r} by default"
    if match := re.search(r"\[Errno \d+\] ([\w ]+): '(.+)'", message):
        return f"the config file {match[2]} cannot be read ({match[1]}); name another, such as configs/demo.py"
    if "takes 0 positional arguments" in message:
        return "the config file takes no argument; leave out the colon and what stands behind it"
    if "has no attribute 'get_config'" in message:
        return "the config file has no get_config(); name another, such as configs/demo.py"
    if match := re.search(r'Key "(\w+)" does not exist', message):
        leaves = {key.rsplit(".", 1)[-1]: key for key in keys()}
        close = difflib.get_close_matches(match[1], leaves, 1, 0.5)
        way_out = f"did you mean {leaves[close[0]]}?" if close else "mucpt_jax/config.py has all keys"
        return f"the config sets {match[1]}, there is no such key; {way_out}"
    return message


def explained() -> str:
    """All keys with default, choices and meaning, which is the comment beside the knob in config.py."""
    lines, words_of = [], choices()
    for key, value in knobs.flat(Config()).items():
        section, _, name = key.rpartition(".")
        source = inspect.getsource(type(value_of(Config(), section)) if section else Config)
        meaning = re.search(rf"^    {name}: .* = .*?  # (.*)$", source, re.M)[1]
        words = f" ({' | '.join(words_of[key])})" if key in words_of else ""
        lines += [f"  --config.{key}={value!r}{words}", f"      {meaning}"]
    return "\n".join(lines)
