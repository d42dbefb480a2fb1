"""Eight simulated CPU devices for every test, and small row folders."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is most of the time, and small models run as fast without it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Many tests compile the same small step, in several processes.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath(f"{__file__}/../../.pytest_cache/jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import dataclasses
import json
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pytest
from absl import flags

from mucpt_jax import config
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.files import file_hash, write_json
from mucpt_jax.formats.manifest import INDEX_SCHEMA, write_index
from mucpt_jax.formats.rows import shard_name, target_mask, write_shard

flags.FLAGS.mark_as_parsed()  # Grain reads absl flags, which only launch.py parses
T = 32
VOCAB = 97
# Begun first, so that two workers end together.
SLOW = (
    "test_two_processes",
    "test_train",
    "test_end_to_end",
    "test_ablation",
    "test_objective",
    "test_attention",
    "test_export",
    "test_parity",
)


def small_config(**sections) -> config.Config:
    """A nano model in float32 with T=32; sections: loss={...}, data={...}, ... and top-level values."""
    cfg = config.Config(
        model=dataclasses.replace(config.MODELS["nano"], vocab_size=VOCAB),
        data=config.Data(sequence_length=T, batch_rows=8),
        train=config.Train(compute_dtype="float32", remat="none", log_every=1, checkpoint_every=100),
        optimizer=config.Optimizer(steps=6, peak_lr=1e-2, final_lr=1e-3),
        score=config.Score(batch_rows=8),
    )
    for name, values in sections.items():
        old = getattr(cfg, name)
        new = dataclasses.replace(old, **values) if isinstance(values, dict) else values
        cfg = dataclasses.replace(cfg, **{name: new})
    return cfg


def one_device_mesh() -> jax.sharding.Mesh:
    axes = ("replica", "fsdp", "context", "tensor")
    kinds = (jax.sharding.AxisType.Auto,) * 4
    return jax.make_mesh((1, 1, 1, 1), axes, axis_types=kinds, devices=jax.devices()[:1])


def random_row(rng: np.random.Generator, scored: bool = False) -> dict:
    """Three segments of 8 to 10 tokens and padding."""
    tokens = np.zeros(T + 1, np.int32)
    segment_ids = np.zeros(T + 1, np.uint16)
    start = 0
    for number in (1, 2, 3):
        end = start + int(rng.integers(8, 11))
        tokens[start:end] = rng.integers(1, VOCAB, end - start)
        segment_ids[start:end] = number
        start = end
    rm_nll = np.full(T + 1, np.nan, np.float16)
    if scored:
        rm_nll[1:][target_mask(segment_ids)] = rng.gamma(1.0, 3.0)
    return {"tokens": tokens, "segment_ids": segment_ids, "rm_nll": rm_nll}


SUMS = ("records", "segments", "tokens", "targets")  # of a shard


def scores_of(**known) -> dict:
    """A manifest's scores, of no targets where they are not given."""
    about = {"rm_hash": "rm", "compute_dtype": "float32", "head_dtype": "float32", "encoding": "float16"}
    return about | score_sums.summary(score_sums.stats_of(np.zeros(0), "")) | known


def sources_of(shards: list[dict]) -> dict[str, dict]:
    """A manifest's sources, of the sums of their shards; each segment counts as a document."""
    sources: dict[str, dict] = {}
    for shard in shards:
        sums = sources.setdefault(shard["source"], dict.fromkeys(("documents", *SUMS), 0))
        for name in SUMS:
            sums[name] += shard[name]
        sums["documents"] += shard["segments"]
    return sources


def write_rows(folder: Path, sources: dict[str, int], seed: int = 0, rows: list | None = None, **manifest) -> Path:
    """A row folder with one shard per source: {"music": 20} rows; documents are called music-3-1 (row, segment)."""
    folder.mkdir(parents=True)
    rng, shards, facts, index = np.random.default_rng(seed), [], {}, []
    for source, count in sources.items():
        name = shard_name(source, 0, 1)
        made = rows or [random_row(rng) for _ in range(count)]
        targets = int(sum(target_mask(row["segment_ids"]).sum() for row in made))
        numbers = {
            "segments": 3 * count,
            "tokens": int(sum((r["segment_ids"] > 0).sum() for r in made)),
            "targets": targets,
        }
        shards.append({"name": name, "source": source, **numbers, **write_shard(folder / name, made)})
        facts[source] = {"documents": 3 * count, "records": count, **numbers}
        for row in range(count):
            for segment in (1, 2, 3):
                length = int((made[row]["segment_ids"] == segment).sum())
                index.append((name, row, segment, f"{source}-{row}-{segment}", 0, length))
    columns = {field: [line[i] for line in index] for i, field in enumerate(INDEX_SCHEMA.names)}
    write_index(folder, [pa.table(columns, schema=INDEX_SCHEMA)])
    values = {"schema": 1, "sequence_length": T, "tokenizer_hash": "t", "vocab_size": VOCAB, "eod": 0, "fill": 0.9}
    values["index_sha256"] = file_hash(folder / "index.parquet")
    scores = scores_of(**manifest.pop("scores")) if manifest.get("scores") else None
    write_json(folder / "manifest.json", values | {"shards": shards, "sources": facts, "scores": scores} | manifest)
    return folder


def write_config(folder: Path, steps: int) -> Path:
    """A config file for launch.py: small_config's model and data, a checkpoint every 20 steps."""
    file = folder / "mine.py"
    file.write_text(
        "from mucpt_jax import config\n"
        "def get_config():\n"
        "    c = config.default('nano')\n"
        f"    c.loss.kind, c.data.general_fraction, c.data.sequence_length = 'ntp', 1.0, {T}\n"
        "    c.data.batch_rows = c.score.batch_rows = c.evaluate.batch_rows = 8\n"
        "    c.train.compute_dtype, c.train.log_every, c.train.checkpoint_every = 'float32', 1, 20\n"
        f"    c.optimizer.steps, c.optimizer.peak_lr = {steps}, 1e-2\n"
        "    return c\n"
    )
    return file


def wait_for_lines(file: Path, lines: int, processes: list) -> None:
    """Until a run has logged so many steps; fails when one of its processes ends before."""
    deadline = time.monotonic() + 180
    while not (file.exists() and len(file.read_text().splitlines()) >= lines):
        ended = [p.returncode for p in processes if p.poll() is not None]
        assert not ended and time.monotonic() < deadline, f"exit status {ended} before {lines} lines in {file}"
        time.sleep(0.02)


@contextmanager
def files_of_at_most(size: int):
    """Longer ones cannot be written, as on a full disk (but EFBIG for ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW))


@pytest.fixture(scope="session")
def audited(tmp_path_factory) -> Path:
    """A folder of scored rows and their audit.html, see audit_rows.py."""
    from audit_rows import write_audited  # takes seconds, which few files need

    return write_audited(tmp_path_factory.mktemp("audited"))


@pytest.fixture
def tokenizer(tmp_path) -> Path:
    """The folder of one whose tokens are bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # few files need it

    folder = tmp_path / "tokenizer"
    folder.mkdir()
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    letters = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.add_special_tokens(["<|endoftext|>"])
    letters.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(autouse=True)
def no_silent_rank_promotion():
    with jax.numpy_rank_promotion("raise"):
        yield
