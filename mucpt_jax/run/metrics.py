"""What a run says about itself: metrics.jsonl, TensorBoard events, the progress line, model FLOPs and MFU."""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

import jax
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mucpt_jax.config import Config, Model, Train
from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats import decode
from mucpt_jax.formats.files import finite, write_text
from mucpt_jax.run.data import Source, epochs, token_share
from mucpt_jax.step import optimizer

# Dense bfloat16 FLOP/s of one device, from the makers' data sheets; matched in jax's device_kind.
PEAK_FLOPS = {
    "H20": 148e12,  # before H200, which holds the same letters
    "H100 PCIe": 756e12,  # these two before H100
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "v5 lite": 197e12,  # v5e
    "v5p": 459e12,
    "v5": 459e12,  # how a v5p names itself; after v5 lite
    "v6 lite": 918e12,  # v6e
    "v6e": 918e12,
}


def peak_flops(device_kind: str) -> float | None:
    """FLOP/s of one device, None where it is not known (CPUs: MFU is then not shown)."""
    words = f" {device_kind.replace('-', ' ')} "
    return next((peak for name, peak in PEAK_FLOPS.items() if f" {name} " in words), None)


def matmul_parameters(cfg: Model) -> int:
    """Weights that multiply every token: all matrices but the embedding, the head included."""
    q, kv = cfg.num_attention_heads * cfg.head_dim, cfg.num_key_value_heads * cfg.head_dim
    attention = cfg.hidden_size * (2 * q + 2 * kv)
    mlp = 3 * cfg.hidden_size * cfg.intermediate_size
    return cfg.num_hidden_layers * (attention + mlp) + cfg.hidden_size * cfg.vocab_size


def flops_per_token(cfg: Model, sequence_length: int) -> float:
    """Model FLOPs of forward and backward per token, causal attention; recomputation does not count."""
    q = cfg.num_attention_heads * cfg.head_dim
    # q.k and p.v: 2 * 2 * q * T forward, three times that with backward, half of it under the causal mask.
    attention = 6 * cfg.num_hidden_layers * q * sequence_length
    return 6 * matmul_parameters(cfg) + attention


def packed_flops(cfg: Model, tokens: float, pairs: float) -> float:
    """Model FLOPs of forward and backward for real tokens of packed rows that attend to `pairs` keys together."""
    q = cfg.num_attention_heads * cfg.head_dim
    return 6 * matmul_parameters(cfg) * tokens + 12 * cfg.num_hidden_layers * q * pairs


def describe_run(cfg: Config, sources: list[Source], params: dict, start: int) -> None:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    tokens = cfg.data.batch_rows * cfg.data.sequence_length
    logging.info(
        "%s: %s parameters; %s tokens a step; steps %d..%d; learning rate %.3g now, %.3g at step %d; loss %s",
        cfg.model.name, f"{parameters:,}", f"{tokens:,}", start + 1, cfg.optimizer.steps,
        *(float(optimizer.schedule(cfg.optimizer)(step)) for step in (start, cfg.optimizer.steps - 1)),
        cfg.optimizer.steps, json.dumps(dataclasses.asdict(cfg.loss)),
    )  # fmt: skip
    for source, times in zip(sources, epochs(sources, cfg), strict=True):
        logging.info(
            "%s source %s: %d rows, %d target tokens, share %.4f, %.2f epochs in %d steps",
            "domain" if source.is_domain else "general", source.name, source.rows, source.targets,
            token_share(source, sources, cfg), times, cfg.optimizer.steps,
        )  # fmt: skip


class Clock:
    """Tokens, FLOPs and seconds since the start, the first step (compilation) apart."""

    def __init__(self, cfg: Config, start: int):
        self.cfg, self.first, self.tokens, self.flops = cfg, start + 1, 0, 0.0
        self.by_source: dict[str, int] = {}  # target tokens
        self.since = self.last = time.monotonic()
        kind = jax.devices()[0].device_kind
        device_peak = cfg.mesh.peak_tflops * 1e12 if cfg.mesh.peak_tflops else peak_flops(kind)
        self.peak = device_peak and device_peak * jax.device_count()
        if not self.peak:
            logging.info("MFU is unknown: name the dense bfloat16 peak of %s by --config.mesh.peak_tflops", kind)

    def add(self, step: int, values: dict, sources: list[Source]) -> None:
        for i, source in enumerate(sources):
            n = int(values["tokens"][i])
            self.by_source[source.name] = self.by_source.get(source.name, 0) + n
        self.last = time.monotonic()
        if step == self.first:
            self.since = self.last
        else:
            self.tokens += int(values["tokens"].sum())
            self.flops += packed_flops(self.cfg.model, float(values["real_tokens"]), float(values["attended_pairs"]))

    def rates(self, step: int) -> dict[str, float | None]:
        """tokens_per_second: target tokens.  mfu counts real tokens, each attending inside its document; mfu_causal, as
        usually published, counts all positions, attending to their whole row.  None where not known (yet)."""
        cfg, done = self.cfg, step - self.first
        seconds = max(self.last - self.since, 1e-9)
        positions = done * cfg.data.batch_rows * cfg.data.sequence_length
        causal = positions * flops_per_token(cfg.model, cfg.data.sequence_length)
        return {
            "tokens_per_second": self.tokens / seconds,
            "mfu": self.flops / (seconds * self.peak) if self.peak else None,
            "mfu_causal": causal / (seconds * self.peak) if self.peak else None,
            "eta_seconds": seconds / done * (cfg.optimizer.steps - step) if done else None,
        }

    def summary(self, sources: list[Source]) -> None:
        total = max(sum(self.by_source.values()), 1)
        for source in sources:
            n = self.by_source.get(source.name, 0)
            logging.info(
                "realised mixture: %s %.4f of the target tokens (wanted %.4f), %d tokens, %.2f epochs in this start",
                source.name, n / total, token_share(source, sources, self.cfg), n, n / source.targets,
            )  # fmt: skip


def per_source(values: dict, sources: list[Source]) -> dict:
    """Means over the step's tokens of each source, nats; ess: effective share of tokens, 1 = equal weights;
    at_floor, at_cap: shares of the tokens with r at or below the floor, with a weight at a cap."""
    means = {}
    for i, source in enumerate(sources):
        n = int(values["tokens"][i])
        if n == 0:
            continue
        weight = float(values["weight"][i])
        means[source.name] = {
            "is_domain": source.is_domain,
            "nll": float(values["nll"][i]) / n,
            "weighted_nll": float(values["weighted_nll"][i]) / n,
            "mean_weight": weight / n,
            "ess": weight**2 / (n * max(float(values["weight_squared"][i]), 1e-30)),
            "at_floor": int(values["floored"][i]) / n,
            "at_cap": int(values["capped"][i]) / n,
            "tokens": n,
        }
    return means


@contextlib.contextmanager
def profiler(cfg: Train, workdir: Path) -> Iterator[Callable]:
    """Gives at(step, pending), called before each step: traces train.profile_steps steps from train.profile_step on.

    The trace also ends with the run.  A run that goes on from a later step than train.profile_step traces nothing.
    """
    last = 0  # the step before

    def stop() -> None:
        jax.profiler.stop_trace()
        logging.info("profile of steps %d..%d in %s/profile", cfg.profile_step, last, workdir)

    def at(step: int, pending) -> None:
        nonlocal last
        if step == cfg.profile_step:
            jax.block_until_ready(pending)
            jax.profiler.start_trace(str(workdir / "profile"))
            trace.callback(stop)
        elif cfg.profile_step is not None and step == cfg.profile_step + cfg.profile_steps:
            jax.block_until_ready(pending)
            trace.close()
        last = step

    with contextlib.ExitStack() as trace:
        yield at


@contextlib.contextmanager
def log(workdir: Path, after_step: int) -> Iterator[Callable[[dict], None]]:
    """Gives write(values): one line of metrics.jsonl and TensorBoard scalars.  Only host 0 writes.

    Lines after `after_step` belong to a run that was cut off and will be written again, so they go.
    A disk that is full ends the run where metrics.jsonl stops, for no checkpoint could be saved either.
    """
    if jax.process_index() > 0:
        yield lambda values: None
        return
    path = workdir / "metrics.jsonl"
    keep_until(path, after_step)
    draw = board(workdir / "tensorboard", after_step)

    def write(values: dict) -> None:
        append(path, to_json(values))
        draw(values)

    yield write


def append(path: Path, text: str) -> None:
    """To a record of the run; opened for each call, so that no buffer waits for a full disk to refuse it again."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({one_line(error)}); make room and start the same command again, which goes on "
            "from the newest checkpoint"
        ) from error


def board(folder: Path, after_step: int) -> Callable[[dict], None]:
    """Gives draw(values): scalars as TensorBoard events; those of a run that was cut off go.

    Not by tensorboardX's SummaryWriter: on a full disk its thread dies, its queue fills and add_scalar waits for ever.
    Here a fault ends the events with a warning, and training goes on.
    """
    writer: EventsWriter | None = None
    ended = False

    def draw(values: dict) -> None:
        nonlocal writer, ended
        if ended:
            return
        try:
            writer = writer or begin_events(folder, after_step)
            for name, value in flat(values):
                event = Event(wall_time=time.time(), step=values["step"], summary=summary.scalar(name, value))
                writer.write_event(event)
            writer.flush()
        except OSError as error:
            ended = True
            logging.warning("no more TensorBoard events in %s (%s); metrics.jsonl has the same numbers", folder, error)

    return draw


def begin_events(folder: Path, after_step: int) -> EventsWriter:
    folder.mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(f"{folder.absolute()}/events")
    session = SessionLog(status=SessionLog.START)  # TensorBoard hides steps from this one on that older files have
    writer.write_event(Event(wall_time=time.time(), step=after_step + 1, session_log=session))
    return writer


class Stepped(TypedDict):
    step: decode.Count


def to_json(values: dict) -> str:
    """One line; what is not finite becomes null, as JSON has no NaN."""
    return json.dumps(finite(values), ensure_ascii=False, allow_nan=False) + "\n"


def keep_until(path: Path, step: int) -> None:
    """Drops the lines after a step, of any file whose lines have one."""
    if path.exists():
        write_text(path, "".join(to_json(line) for line in decode.read_log(path, Stepped) if line["step"] <= step))


def flat(values: dict, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield prefix + name, value


def progress(values: dict, steps: int) -> str:
    """One line for people: loss, per source weighted and plain, speed, MFU, time left."""
    sources = "  ".join(
        f"{name} {s['nll']:.3f} (weighted {s['weighted_nll']:.3f})" for name, s in values["sources"].items()
    )
    share = "MFU n/a" if values["mfu"] is None else f"MFU {values['mfu']:.1%}"
    minutes, seconds = divmod(round(values["eta_seconds"] or 0), 60)
    return (
        f"step {values['step']}/{steps}  loss {values['loss']:.4f} | {sources} | "
        f"{values['tokens_per_second']:,.0f} tok/s  {share}  ETA {minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    )
