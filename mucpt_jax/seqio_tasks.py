"""Rows for trainers that read seqio, as t5x does: a Task for each source and a Mixture with the recipe's rates.

    c = qwen1_5b.get_config("mucpt")  # a file of configs/, importable from the repository's root
    c.data.domain, c.data.general, c.evaluate.rows = "SCORED", "GENERAL", "HELDOUT/held_out"
    seqio_tasks.register("music", checks.build(c))  # from here on gin files and get_dataset know "music"
    ds = seqio.get_dataset("music", {"targets": 4096}, seqio.PrePackedLMFeatureConverter(), shuffle=True, seed=0)
    batch = next(ds.batch(8).as_numpy_iterator())

PrePackedLMFeatureConverter keeps the five decoder_ features and so suits plain continued pretraining;
PassThroughFeatureConverter also keeps rm_nll and is_domain, which a weighted loss needs.  Nothing else of mucpt_jax
needs seqio or TensorFlow, and importing this module loads neither: pip install -r requirements-seqio.txt.
"""

import re

import numpy as np

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.formats import rows
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.tokenizer import check_same_tokenizer
from mucpt_jax.run import data, tokenizers


def register(name: str, cfg: Config):
    """Registers Tasks "name.source" and the Mixture "name", which it returns.

    Split train: the rows of data.domain and data.general.  In a Task each row comes once an epoch, in the order on disk
    or (shuffle=True) in another order in every epoch.  Split validation: the rows of evaluate.rows, if given; a source
    of these rows alone has a Task, but no part in the Mixture.  A shard of ShardInfo reads its own rows only.
    An example has the arrays of `features` and the scalar is_domain (bool), never cached on disk by seqio.
    Raises UserError where rows do not fit the config, as training does, or seqio is missing.
    """
    seqio, _ = libraries()
    sources = data.open_sources(cfg)
    for folder in data.folders(cfg):
        tokenizers.check(folder, tokenizers.folders_behind(cfg.init_from))
    held_out = {source.name: source for source in held_out_sources(cfg)}
    alone = [source for source in held_out.values() if source.name not in {s.name for s in sources}]
    tasks = {source.name: task_name(name, source) for source in sources + alone}
    if len(set(tasks.values())) < len(tasks):
        raise UserError(f"two sources have one name as seqio Tasks: {tasks}; rename one and shard again")
    for source in sources:
        add_task(tasks[source.name], {"train": source, "validation": held_out.get(source.name)}, cfg)
    for source in alone:
        add_task(tasks[source.name], {"validation": source}, cfg)
    rates = [data.token_share(s, sources, cfg) * s.rows / s.targets for s in sources]  # tokens -> rows
    pairs = [(tasks[s.name], rate) for s, rate in zip(sources, rates, strict=True)]
    return seqio.MixtureRegistry.add(name, pairs)


def libraries() -> tuple:
    try:
        import seqio
        import tensorflow
    except ImportError as error:
        raise UserError(
            f"seqio cannot be imported ({error}); pip install -r requirements-seqio.txt, best into a venv of its own"
        ) from error
    return seqio, tensorflow


def held_out_sources(cfg: Config) -> list[data.Source]:
    """Sources of evaluate.rows; not as domain text, since held-out rows need no scores."""
    folder = cfg.evaluate.rows
    if not folder:
        return []
    manifest = read_manifest(folder)
    data.check_manifest(manifest, folder, cfg)
    check_same_tokenizer(folder, *data.folders(cfg))
    return [source for source in data.split_sources(manifest, folder, False, set()) if source.rows]


def task_name(name: str, source: data.Source) -> str:
    """seqio takes letters, digits and . : _ # only."""
    return f"{name}." + re.sub(r"[^\w.:#]+", "_", source.name).strip("_")


def add_task(name: str, splits: dict[str, data.Source | None], cfg: Config) -> None:
    seqio, tf = libraries()
    splits = {split: source for split, source in splits.items() if source}
    manifest = read_manifest(next(iter(splits.values())).folder)
    vocabulary = seqio.PassThroughVocabulary(manifest["vocab_size"], manifest.get("eod"))
    rows_of = {split: data.Rows(source, 0, cfg) for split, source in splits.items()}
    is_domain = any(source.is_domain for source in splits.values())
    dtypes = {key: tf.float32 if key == "rm_nll" else tf.int32 for key in FEATURES}
    output = {key: seqio.Feature(vocabulary, add_eos=False, dtype=dtype) for key, dtype in dtypes.items()}
    output["is_domain"] = seqio.Feature(vocabulary, add_eos=False, dtype=tf.bool, rank=0)

    def read(dataset):
        return read_rows(dataset, rows_of, dtypes, cfg.data.sequence_length, is_domain)

    counts = {split: source.rows for split, source in splits.items()}
    seqio.TaskRegistry.add(name, row_numbers(counts), preprocessors=[read], output_features=output)


def row_numbers(counts: dict[str, int]):
    """A seqio DataSource of {"split", "row"}: rows are only read after sharding and shuffling, by their numbers.

    A FunctionDataSource cannot take a ShardInfo: every host would read all rows and, without a seed, hosts would pick
    from different orders.  Of a small source (below 10,000 rows a shard) seqio keeps the numbers in memory, in the
    order of the first epoch; then only the Task's shuffle buffer changes the order.
    """
    seqio, tf = libraries()

    class RowNumbers(seqio.DataSource):
        supports_arbitrary_sharding = True

        def list_shards(self, split):
            return [split]

        def get_dataset(self, split="train", shuffle=True, seed=None, shard_info=None, **_):
            shard = shard_info or seqio.ShardInfo(0, 1)
            mine = range(counts[split])[shard.index :: shard.num_shards]
            numbers = shuffled(len(mine), seed) if shuffle else tf.data.Dataset.range(len(mine))
            return numbers.map(lambda i: {"split": split, "row": mine.start + mine.step * i})

    return RowNumbers(counts, num_input_examples=counts, caching_permitted=False)


def shuffled(count: int, seed: int | None):
    """tf.data.Dataset of 0 .. count - 1 in any order, another in each iteration; takes no memory."""
    _, tf = libraries()

    def epoch(key):
        pair = tf.stack([key, 0])
        numbers = tf.data.Dataset.range(count)
        return numbers.map(lambda i: tf.random.experimental.index_shuffle(i, pair, count - 1))

    keys = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    return keys.take(1).flat_map(epoch)


def read_rows(dataset, rows_of: dict[str, data.Rows], dtypes: dict, length: int, is_domain: bool):
    """{"split", "row"} -> examples, by threads, in the dataset's order.

    stateful=False lets tf.train.Checkpoint save an iterator: a row depends on its number alone.
    """
    _, tf = libraries()

    def arrays(split, row):
        return list(features(rows_of[split.decode()][int(row)]).values())

    def example(place):
        values = tf.numpy_function(arrays, [place["split"], place["row"]], list(dtypes.values()), stateful=False)
        shaped = {key: tf.ensure_shape(value, [length]) for key, value in zip(dtypes, values, strict=True)}
        return shaped | {"is_domain": is_domain}

    return dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)


FEATURES = (
    "decoder_input_tokens",  # int32: token t
    "decoder_target_tokens",  # int32: token t + 1
    "decoder_loss_weights",  # int32: 1 where token t + 1 is a target, 0 where it begins a segment or pads
    "decoder_segment_ids",  # int32: of token t; 0 is padding
    "decoder_positions",  # int32: of token t in its segment
    "rm_nll",  # float32: -log p_RM of token t + 1, nats; NaN where there is no score
)


def features(row: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Packed row of T + 1 tokens -> FEATURES, [T] each, as mucpt_jax trains on them.

    seqio's own converters put a 0 before every segment and train on its first token; these rows do neither.
    """
    segments = rows.segment_numbers(row["segment_ids"][:-1]).astype(np.int32)
    values = (
        row["tokens"][:-1],
        row["tokens"][1:],
        rows.target_mask(row["segment_ids"]).astype(np.int32),
        segments,
        positions(segments),
        row["rm_nll"][1:].astype(np.float32),
    )
    return dict(zip(FEATURES, values, strict=True))


def positions(segments: np.ndarray) -> np.ndarray:
    """i4[T] segment ids -> i4[T]: 0, 1, ... in each segment; 0 in the padding."""
    place = np.arange(len(segments), dtype=np.int32)
    begins = np.r_[True, segments[1:] != segments[:-1]]
    return np.where(segments > 0, place - np.maximum.accumulate(np.where(begins, place, 0)), 0)
