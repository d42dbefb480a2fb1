"""Every knob of the device jobs, with its default, unit and meaning.  Plain Python: no jax here.

A file in configs/ starts from `default(model)` and changes a few keys; the command line changes a few more
(`--config.loss.alpha=2`); `checks.build` turns the result into frozen dataclasses after checking all of it.
"""

import dataclasses
import difflib
import functools
import logging
import typing
from dataclasses import dataclass, field
from typing import Literal

from ml_collections import ConfigDict, config_dict

from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import checked
from mucpt_jax.formats.ranges import BelowOne, Bytes, Count, Devices, NotNegative, Portion, Positive, Share, Size
from mucpt_jax.formats.version import Writer, Written, as_text, written_by


@dataclass(frozen=True)
class Model:
    """The Qwen2 decoder.  Field names are those of Hugging Face's config.json."""

    name: str = "tiny"  # for messages
    vocab_size: Size = 2048  # rows of the embedding; may exceed the tokenizer's, never fall short of it
    hidden_size: Size = 64  # width of the model, D
    intermediate_size: Size = 192  # width of the MLP
    num_hidden_layers: Size = 2  # decoder layers
    num_attention_heads: Size = 4  # query heads
    num_key_value_heads: Size = 2  # key and value heads, each shared by a group of query heads
    head_dim: Size = 16  # width of one head; even
    rope_theta: Positive = 10_000.0  # base of the rotary angles
    rms_norm_eps: NotNegative = 1e-6  # added to the mean square
    tie_word_embeddings: bool = True  # the head is the embedding (0.5B to 3B)
    max_position_embeddings: Size = 4096  # longest row that it takes, tokens


WeightNorm = Literal["none", "corpus_mean_one", "batch_mean_one", "loss_match"]


@dataclass(frozen=True)
class Loss:
    """The objective on domain text; general text always counts plainly.  Nats."""

    kind: str = "mucpt"  # an entry of step/objective.py
    alpha: Positive = 1.0  # mucpt: multiplies the domain weight after normalisation and caps
    rm_floor: Positive = 1.0  # mucpt: nats; the raw weight is 1 / max(-log p_RM, rm_floor)
    weight_norm: WeightNorm = "corpus_mean_one"  # mucpt: what the raw weight is divided by, see objective.py
    mean_raw_weight: Positive | None = None  # mucpt: what the norm divides by; the corpus's unless given
    min_weight: NotNegative = 0.0  # mucpt: lower cap, after normalisation (1 = a general token)
    max_weight: Positive | None = None  # mucpt: upper cap, after normalisation
    reference: str | None = None  # small runs: folder of an RM that scores while training (not in a plan)
    rm_hash: str | None = None  # refuse scores of any other reference model
    keep: Portion = 0.6  # rho1: share of the step's domain tokens that is trained on
    vocab_parts: Size = 16  # parts of the vocabulary; logits exist for one of them at a time


@dataclass(frozen=True)
class Data:
    """Row folders, as written by data_prep.shard (general) and by --job=score (domain)."""

    domain: str | None = None  # folder of scored rows (ntp also takes unscored ones)
    general: str | None = None  # folder of rows
    general_fraction: Share = 0.25  # share of general text among all target tokens
    sequence_length: Size = 128  # T, tokens; a row holds T + 1
    batch_rows: Size = 16  # rows of one optimiser step, over all hosts and micro-batches
    read_threads: Size = 8  # threads that read rows ahead, per host
    check_rows: bool = True  # compare the sha256 of all shards before the first step; about 1 s for each GB, core, host


@dataclass(frozen=True)
class Optimizer:
    """AdamW after clipping; linear warm-up to peak_lr, cosine to final_lr, which stays."""

    steps: Size = 400  # optimiser steps
    schedule_steps: Size | None = None  # steps from first to final_lr, which then stays; default: the first `steps`
    peak_lr: Positive = 6e-5  # after the warm-up
    final_lr: NotNegative = 3e-5  # at the last step of the schedule
    warmup_fraction: BelowOne = 0.0005  # share of the schedule's steps
    b1: BelowOne = 0.9  # AdamW: decay of the mean
    b2: BelowOne = 0.95  # AdamW: decay of the mean square
    eps: Positive = 1e-8  # AdamW: added to the root
    weight_decay: NotNegative = 0.1  # matrices only: not on norms and biases
    clip_norm: Positive = 1.0  # largest global norm of a gradient; a larger one is scaled down
    trainable: str | None = None  # regex over parameter paths; the rest is frozen and has no moments
    moments_dtype: Literal["float32", "bfloat16"] = "float32"  # how the two moments are kept; updates are float32
    offload: bool = False  # keep the moments in the host's memory, on the device only during the update


@dataclass(frozen=True)
class Mesh:
    """Devices per mesh axis; one axis may be -1: all that remain."""

    replica: Devices = 1  # copies of the parameters; splits the batch
    fsdp: Devices = -1  # splits parameters and batch
    context: Size = 1  # splits the tokens of a row
    tensor: Size = 1  # splits heads, MLP and vocabulary; at most num_key_value_heads
    distributed: bool = False  # several hosts: call jax.distributed.initialize()
    join_seconds: Positive = 50.0  # how long hosts wait for each other at the start
    peak_tflops: Positive | None = None  # of one device, dense bfloat16; for MFU where its kind is not known


@dataclass(frozen=True)
class Train:
    micro_batches: Size = 1  # gradient accumulation: parts of a step's batch that are run one after another
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"  # parameters are float32
    remat: Literal["full", "attention", "dots", "none"] = "full"  # what the backward pass recomputes, see model.py
    attention: Literal["auto", "xla", "chunked", "cudnn", "splash"] = "auto"  # auto: the device's, see attention.py
    log_every: Size = 10  # steps between two lines of the log
    checkpoint_every: Size = 500  # steps between two states to go on from
    keep_checkpoints: Size = 2  # how many stay, the newest
    keep: Literal["newest", "best"] = "newest"  # which states are kept: one each checkpoint_every, or the best
    evaluate_every: Count = 0  # steps, 0 never; measures the loss on evaluate.rows, by which keep=best judges
    evaluate_questions: Count = 0  # how many of evaluate.questions are answered at each evaluation, always the same
    patience: Count = 0  # with keep=best: stop after so many evaluations without a better one; 0 never stops
    gradient_norms_every: Count = 0  # steps, 0 never; norms of the domain's and the general part, 2 passes
    on_bad_step: Literal["stop", "skip"] = "stop"  # a loss or gradient that is not finite, or a spike; skip: no update
    spike: Positive | None = None  # nats; a loss so far above the mean of the last steps is a bad step
    watchdog: NotNegative = 20.0  # abort with stack traces when no step ends in so many medians; 0 never
    watchdog_seconds: Positive = 600.0  # but never sooner; the first step may take six times as long
    profile_step: Size | None = None  # first step of a profiler window, written to WORKDIR/profile
    profile_steps: Size = 3  # length of that window, steps


@dataclass(frozen=True)
class Score:
    input: str | None = None  # folder of rows
    output: str | None = None  # folder of scored rows
    encoding: Literal["float16", "uint8_log"] = "float16"  # uint8_log, one byte: weights within 2.1%, r .001 to 32
    worker: Count = 0  # of `workers` processes that share the shards without talking, from 0
    workers: Size = 1  # how many processes share the shards
    batch_rows: Size = 16  # rows of one forward pass


@dataclass(frozen=True)
class Evaluate:
    rows: str | None = None  # folder of held-out rows: plain loss per source
    batch_rows: Size = 16  # rows of one forward pass
    questions: str | None = None  # JSONL of {id, question, answer, aliases}
    style: Literal["prompt", "few_shot", "chat"] = "prompt"  # how questions are put, see evaluation/prompts.py
    prompt: str = "Q: {question}\nA:"  # style prompt: what the model continues; \n is a new line, from a shell too
    stop: str | None = None  # the text, or JSON list of texts, that ends an answer; default: a new line, in chat none
    max_new_tokens: Size = 24  # tokens of an answer at most
    batch_questions: Size = 50  # questions decoded together


@dataclass(frozen=True)
class Export:
    path: str | None = None  # Hugging Face folder to write; default WORKDIR/hf
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the parameters
    max_shard_bytes: Bytes = 5_000_000_000  # largest size of one safetensors file


@dataclass(frozen=True)
class Plan:
    """What to expect before renting: --job=plan compiles the train step for devices that are not here."""

    accelerator: Literal["H20", "H100", "H200", "A100", "v5e", "v5p", "v6e"] = "H20"  # memory and peak
    devices: Size | None = None  # how many devices, where the mesh has a -1
    mfu: Portion = 0.4  # share of the peak (model FLOPs, causal) that the step time is predicted with
    search: bool = False  # compile meshes x remat x micro-batches too and print a table, best first
    topology: str | None = None  # compile for a TPU by libtpu, e.g. v5p:4x8x8 (pip install libtpu)


@dataclass(frozen=True)
class Config:
    seed: Count = 0  # initialisation and shuffling
    tokenizer: str | None = None  # Hugging Face tokenizer folder; default: of init_from, or of the run
    init_from: str | None = None  # Hugging Face folder, or another run's workdir
    init_state: Literal["params", "all"] = "params"  # of init_from; all, of a run: step and optimiser state too
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    mesh: Mesh = field(default_factory=Mesh)
    train: Train = field(default_factory=Train)
    score: Score = field(default_factory=Score)
    evaluate: Evaluate = field(default_factory=Evaluate)
    export: Export = field(default_factory=Export)
    plan: Plan = field(default_factory=Plan)


# Sizes of the released base models (their config.json files on the Hugging Face hub).
# fmt: off
QWEN = [  # vocab    D      F      layers heads kv head_dim  theta eps   tied   positions
    ("0.5b", 151_936, 896,  4864,   24, 14, 2, 64,  1e6, 1e-6, True,  32_768),
    ("1.5b", 151_936, 1536, 8960,   28, 12, 2, 128, 1e6, 1e-6, True,  131_072),
    ("3b",   151_936, 2048, 11_008, 36, 16, 2, 128, 1e6, 1e-6, True,  32_768),
    ("7b",   152_064, 3584, 18_944, 28, 28, 4, 128, 1e6, 1e-6, False, 131_072),
    ("14b",  152_064, 5120, 13_824, 48, 40, 8, 128, 1e6, 1e-5, False, 131_072),
    ("32b",  152_064, 5120, 27_648, 64, 40, 8, 128, 1e6, 1e-5, False, 131_072),
    ("72b",  152_064, 8192, 29_568, 80, 64, 8, 128, 1e6, 1e-5, False, 131_072),
]
# fmt: on
TINY = [Model(), Model("nano", hidden_size=32, intermediate_size=64, head_dim=8)]
MODELS = {model.name: model for model in TINY + [Model(f"qwen2.5-{size}", *rest) for size, *rest in QWEN]}
AXES = ("replica", "fsdp", "context", "tensor")  # of the mesh; their sizes stand in Mesh


def default(model: str = "tiny") -> ConfigDict:
    """All defaults as a locked ConfigDict, with the named model's sizes."""
    if model not in MODELS:
        raise UserError(f"no model is called {model!r}; {nearest(model, MODELS)}")
    return to_config_dict(Config(model=MODELS[model]))


def to_config_dict(section) -> ConfigDict:
    """A Config, or a section of one, as a locked ConfigDict."""
    result = ConfigDict()
    for name, hint in typing.get_type_hints(type(section)).items():
        value = getattr(section, name)
        if dataclasses.is_dataclass(hint):
            result[name] = to_config_dict(value)
        elif type(None) in typing.get_args(hint):  # `str | None`: a typed hole
            result[name] = config_dict.placeholder(typing.get_args(hint)[0])
        else:
            result[name] = value
    return result.lock()


def from_dict(kind: type, values: dict):
    """The inverse: {name: value or {name: value}} -> Config or section, of class `kind`."""
    hints = typing.get_type_hints(kind)
    inner = {k: from_dict(hints[k], v) for k, v in values.items() if dataclasses.is_dataclass(hints[k])}
    return kind(**(values | inner))


def changed(config: Config, values: dict) -> Config:
    """The config with {"train.remat": "full"} put in: dotted keys of knobs in sections."""
    for key, value in values.items():
        section, name = key.split(".")
        new = dataclasses.replace(getattr(config, section), **{name: value})
        config = dataclasses.replace(config, **{section: new})
    return config


# Version of what a run saves (config.json, checkpoints).  2: train.keep says what is saved; before, evaluate_every did.
FORMAT = 2
RETIRED = {  # knobs that are gone, with the default under which a saved run goes on without them
    "loss.smooth": "none",
    "loss.smooth_window": 3,
    "loss.smooth_unit": "token",
    "loss.smooth_names": None,
    "loss.smooth_mix": 0.4,
    "loss.smooth_median_floor": 0.5,
    "loss.mean_raw_median": None,
}


def to_saved(config: Config) -> dict:
    """What a run's config.json holds."""
    return dataclasses.asdict(config) | {"format": FORMAT, "written_by": written_by()}


def from_saved(values: dict, where: str = "config.json") -> Config:
    """config.json of any version -> Config.  A key that the file lacks has its default, an unknown key goes."""
    for kind in (Config, Written):
        checked(values, kind, where, "copy it again, or go on with the version that wrote it")
    fields = typing.get_type_hints(Config)
    kept = {name: value for name, value in values.items() if name in fields}
    for name, section in kept.items():
        if dataclasses.is_dataclass(fields[name]):
            kept[name] = {k: v for k, v in section.items() if k in typing.get_type_hints(fields[name])}
    if values.get("format", 1) < 2 and kept.get("train", {}).get("evaluate_every"):
        kept["train"]["keep"] = "best"
    return from_dict(Config, kept)


def gone_knobs(values: dict) -> dict:
    """{dotted key: value} of a saved config's knobs that this version does not know and that may have had an effect."""
    sections = [f.name for f in dataclasses.fields(Config) if isinstance(values.get(f.name), dict)]
    knobs = {f"{section}.{name}": value for section in sections for name, value in values[section].items()}
    return {key: knobs[key] for key in sorted(knobs.keys() - set(keys())) if knobs[key] != RETIRED.get(key, ...)}


def without_retired(values: dict, where: str, writer: Writer | None) -> dict:
    """{dotted key: value} of a saved run without the knobs that are gone, which are logged.  Raises UserError
    where such a knob had another value than its default, or was never known to this version."""
    gone = sorted(key for key in values if "." in key and key not in keys())
    for key in gone:
        if key not in RETIRED or values[key] != RETIRED[key]:
            raise UserError(
                f"{where} has {key}={values[key]!r}, which mucpt_jax {written_by()['version']} does not know; go on "
                f"with the version that wrote it ({as_text(writer)}), or start in another --workdir with "
                "--config.init_from"
            )
    if gone:
        logging.info("%s has %s: not known any more; all had their default, so nothing changes", where, ", ".join(gone))
    return {key: value for key, value in values.items() if key not in gone}


def type_of_keys(kind: type = Config, prefix: str = "") -> dict[str, type]:
    """Dotted key of every knob ("loss.alpha", ...) -> its type."""
    type_of = {}
    for name, hint in typing.get_type_hints(kind).items():
        is_section = dataclasses.is_dataclass(hint)
        type_of |= type_of_keys(hint, f"{prefix}{name}.") if is_section else {prefix + name: hint}
    return type_of


def keys() -> list[str]:
    """Dotted keys of all knobs."""
    return list(type_of_keys())


def choices() -> dict[str, tuple[str, ...]]:
    """Dotted key of a knob of words -> the words that it may be."""
    from mucpt_jax.step.objective import OBJECTIVES  # which needs Loss

    literals = {k: typing.get_args(hint) for k, hint in type_of_keys().items() if typing.get_origin(hint) is Literal}
    return {"loss.kind": tuple(OBJECTIVES)} | literals


def check_choice(key: str, value: str) -> None:
    """Raises UserError where the value is none of the words that the knob may be."""
    if value not in (allowed := choices()[key]):
        raise UserError(f"{key}={value!r} is not one of {allowed}; {nearest(value, allowed)}")


def value_of(config: Config, key: str):
    """Value of a dotted key."""
    return functools.reduce(getattr, key.split("."), config)


def flat(config: Config) -> dict:
    """Dotted key of every knob -> its value."""
    return {key: value_of(config, key) for key in keys()}


def nearest(word: str, among) -> str:
    """'did you mean ...?' with the word that is spelt most alike, or all words where none is near."""
    among = list(among)
    close = difflib.get_close_matches(word, among, 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"there is {', '.join(among)}"
