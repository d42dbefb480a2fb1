"""Rows as seqio Tasks.  seqio brings TensorFlow, so it is asked in a process of its own, where it is installed.

MUCPT_SEQIO_PYTHON=.venv-seqio/bin/python pytest tests/test_seqio.py    (make seqio)
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import VOCAB, T, random_row, small_config, write_rows

from mucpt_jax import config, seqio_tasks
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import read_shard, shard_name, target_mask
from mucpt_jax.run import data
from mucpt_jax.step import model

ROOT = Path(__file__).parents[1]
PYTHON = os.environ.get("MUCPT_SEQIO_PYTHON") or (importlib.util.find_spec("seqio") and sys.executable)
needs_seqio = pytest.mark.skipif(
    not PYTHON, reason="seqio is not installed here (make seqio; or set MUCPT_SEQIO_PYTHON)"
)
SCORES = {"scores": {"mean_raw_weight": {"0.1": 4.0, "1.0": 0.5, "10.0": 0.05}}}
MIXED = 4000  # rows

# Reads {"configs": {name: Config}, "asked": {case: {...}}} and writes arrays by "case/feature", and facts.
CHILD = """
import json, sys
import numpy as np
from mucpt_jax import config, seqio_tasks
out, told = sys.argv[1], json.load(sys.stdin)
facts = {"loaded": [name for name in ("seqio", "tensorflow") if name in sys.modules]}
import seqio
for name, values in told["configs"].items():
    mixture = seqio_tasks.register(name, config.from_dict(config.Config, values))
    facts[name] = dict(mixture.rate_per_task_name)
for task in map(seqio.TaskRegistry.get, seqio.TaskRegistry.names()):
    vocabulary = task.output_features["decoder_target_tokens"].vocabulary
    facts[task.name] = {
        "rows": {split: task.num_input_examples(split) for split in task.splits},
        "vocabulary": [vocabulary.vocab_size, vocabulary.eos_id], "cached": task.source.caching_permitted,
    }
arrays = {}
for case, asked in told["asked"].items():
    take, batch = asked.pop("take", -1), asked.pop("batch", 1000)
    asked["shard_info"] = seqio.ShardInfo(*asked["shard_info"]) if "shard_info" in asked else None
    converter = getattr(seqio, asked.pop("converter", "PassThroughFeatureConverter"))()
    dataset = seqio.get_dataset(
        task_feature_lengths={"targets": told["length"]}, feature_converter=converter, **asked)
    try:
        batches = list(dataset.take(take).batch(batch).as_numpy_iterator())
    except Exception as error:
        facts[case] = str(error)
        continue
    for key in batches[0]:
        arrays[f"{case}/{key}"] = np.concatenate([b[key] for b in batches])
source = seqio.TaskRegistry.get("m.music").source
order = source.get_dataset("train", shuffle=True, seed=3).repeat(2).as_numpy_iterator()
arrays["order"] = np.array([place["row"] for place in order])
asked = {"mixture_or_task_name": "m", "shuffle": True, "seed": 0, "num_epochs": None}
iterator = iter(seqio.get_dataset(task_feature_lengths={"targets": told["length"]},
                                  feature_converter=seqio.PassThroughFeatureConverter(), **asked))
ahead = lambda: np.stack([next(iterator)["decoder_target_tokens"].numpy() for _ in range(20)])
ahead()
saved = seqio.utils.tf.train.Checkpoint(iterator=iterator)
path = saved.save(out + "/checkpoint")
arrays["after saving"] = ahead()
saved.restore(path)
arrays["after restoring"] = ahead()
np.savez(out + "/arrays.npz", **arrays)
json.dump(facts, open(out + "/facts.json", "w"))
"""


def scored(rng) -> dict:
    row = random_row(rng)
    mask = target_mask(row["segment_ids"])
    row["rm_nll"][1:][mask] = rng.gamma(1.0, 3.0, mask.sum())
    return row


def short(row: dict) -> dict:
    """Its first segment, then padding."""
    outside = row["segment_ids"] != 1
    empty = {"tokens": 0, "segment_ids": 0, "rm_nll": np.nan}
    return {name: np.where(outside, empty[name], array).astype(array.dtype) for name, array in row.items()}


def joined(folder: Path, parts: list[Path]) -> Path:
    """Row folders of a shard each -> one folder with all their shards; equal sources become one."""
    folder.mkdir()
    manifests = [read_manifest(part) for part in parts]
    shards, sources = [], {}
    for number, (part, manifest) in enumerate(zip(parts, manifests, strict=True)):
        for shard in manifest["shards"]:
            name = shard_name(shard["source"], number, len(parts))
            (part / shard["name"]).rename(folder / name)
            shards.append(shard | {"name": name})
            old = sources.setdefault(shard["source"], {})
            for fact, value in manifest["sources"][shard["source"]].items():
                old[fact] = old.get(fact, 0) + value
    write_json(folder / "manifest.json", manifests[0] | {"shards": shards, "sources": sources})
    return folder


def on_disk(folder: Path, source: str) -> dict[str, np.ndarray]:
    """{tokens, segment_ids, rm_nll}: [rows, T+1], in the manifest's order."""
    shards = [s["name"] for s in read_manifest(folder)["shards"] if s["source"] == source]
    rows = [row for name in shards for row in read_shard(folder / name, T)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    here, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    parts = [
        write_rows(here / "a", {"music": 12}, rows=[scored(rng) for _ in range(12)], **SCORES, eod=5),
        write_rows(here / "b", {"music": 9}, rows=[scored(rng) for _ in range(9)], **SCORES, eod=5),
        write_rows(here / "c", {"song-lyrics": 8}, rows=[short(scored(rng)) for _ in range(8)], **SCORES),
    ]
    bad = [scored(rng), random_row(rng)]  # the second has no scores
    return {
        "domain": joined(here / "domain", parts),
        "general": write_rows(here / "general", {"music": 30, "web": 10}, seed=1, eod=5),
        "held_out": write_rows(here / "held_out", {"music": 6, "seed": 3}, seed=2, eod=5),
        "bad": write_rows(here / "bad", {"music": 2}, rows=bad, **SCORES),
    }


@pytest.fixture(scope="module")
def cfg(folders):
    rows = {"domain": str(folders["domain"]), "general": str(folders["general"]), "general_fraction": 0.4}
    return small_config(data=rows, evaluate={"rows": str(folders["held_out"])})


@pytest.fixture(scope="module")
def seen(folders, cfg, tmp_path_factory) -> tuple[dict, dict]:
    """What the child saw: arrays by case/feature, and facts."""
    out = tmp_path_factory.mktemp("seen")
    names = {"m.music", "m.song_lyrics", "m.music_general", "m.web"}
    bad = small_config(data={"domain": str(folders["bad"]), "general_fraction": 0.0})
    asked = {name: {"mixture_or_task_name": name} for name in names}
    asked |= {
        f"{name} held out": {"mixture_or_task_name": name, "dataset_split": "validation"}
        for name in ("m.music", "m.seed")
    }
    for seed in (1, 1, 2):
        asked[f"seed {seed}{'again' if f'seed {seed}' in asked else ''}"] = {
            "mixture_or_task_name": "m.music",
            "shuffle": True,
            "seed": seed,
        }
    for shard in (0, 1):  # hosts that agreed on no seed
        asked[f"shard {shard}"] = {"mixture_or_task_name": "m.music", "shuffle": True, "shard_info": (shard, 2)}
    mixed = {"mixture_or_task_name": "m", "shuffle": True, "seed": 0, "num_epochs": None}
    asked["mixed"] = mixed | {"take": MIXED}
    asked["trainer"] = mixed | {"take": 8, "batch": 8, "converter": "PrePackedLMFeatureConverter"}
    asked["bad"] = {"mixture_or_task_name": "bad.music"}
    told = {"configs": {"m": dataclasses.asdict(cfg), "bad": dataclasses.asdict(bad)}, "asked": asked, "length": T}
    ran = subprocess.run(
        [PYTHON, "-c", CHILD, str(out)],
        input=json.dumps(told),
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(np.load(out / "arrays.npz")), json.loads((out / "facts.json").read_text())


def of(seen, case: str) -> dict[str, np.ndarray]:
    return {key.split("/")[1]: array for key, array in seen[0].items() if key.startswith(f"{case}/")}


CASES = {
    "m.music": ("domain", "music"),
    "m.song_lyrics": ("domain", "song-lyrics"),
    "m.music_general": ("general", "music"),
    "m.web": ("general", "web"),
    "m.music held out": ("held_out", "music"),
    "m.seed held out": ("held_out", "seed"),
}


def test_importing_the_module_loads_no_tensorflow_and_without_seqio_it_says_what_to_install():
    script = (
        "import sys; from mucpt_jax import seqio_tasks; loaded = {'seqio', 'tensorflow'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "sys.modules['seqio'] = None\n"
        "try: seqio_tasks.register('m', None)\n"
        "except ValueError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "pip install -r requirements-seqio.txt" in told.stdout, told.stderr[-2000:]


@needs_seqio
@pytest.mark.parametrize("case", CASES)
def test_every_row_of_a_task_is_the_row_on_disk_in_its_order(seen, folders, case):
    found, (folder, source) = of(seen, case), CASES[case]
    rows = on_disk(folders[folder], source)
    tokens = np.concatenate([found["decoder_input_tokens"], found["decoder_target_tokens"][:, -1:]], 1)
    np.testing.assert_array_equal(tokens, rows["tokens"])
    np.testing.assert_array_equal(found["decoder_target_tokens"], rows["tokens"][:, 1:])
    np.testing.assert_array_equal(found["decoder_segment_ids"], rows["segment_ids"][:, :-1])
    np.testing.assert_array_equal(found["rm_nll"], rows["rm_nll"][:, 1:].astype(np.float32))
    assert (found["is_domain"] == (folder == "domain" or case == "m.music held out")).all()


@needs_seqio
def test_dtypes_are_those_of_seqio(seen):
    dtypes = {key: array.dtype.name for key, array in of(seen, "m.music").items()}
    assert dtypes.pop("rm_nll") == "float32" and dtypes.pop("is_domain") == "bool"
    assert len(dtypes) == 5 and set(dtypes.values()) == {"int32"}


@needs_seqio
@pytest.mark.parametrize("case", CASES)
def test_only_targets_weigh_in_the_loss(seen, folders, case):
    folder, source = CASES[case]
    mask = target_mask(on_disk(folders[folder], source)["segment_ids"])
    weights = of(seen, case)["decoder_loss_weights"]
    np.testing.assert_array_equal(weights, mask.astype(int))
    assert 0 < mask.mean() < 1


@needs_seqio
def test_inputs_are_targets_shifted_right_inside_segments_and_positions_the_models(seen):
    found = of(seen, "m.music")
    segments = found["decoder_segment_ids"]
    inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    shifted = found["decoder_target_tokens"][:, :-1]
    np.testing.assert_array_equal(found["decoder_input_tokens"][:, 1:][inside], shifted[inside])
    wanted = np.asarray(model.segment_positions(jnp.asarray(segments)))
    np.testing.assert_array_equal(found["decoder_positions"][segments > 0], wanted[segments > 0])
    assert (found["decoder_positions"][segments == 0] == 0).all()


@needs_seqio
def test_tasks_know_their_rows_vocabulary_and_splits_and_are_not_cached(seen):
    facts = seen[1]
    assert facts["loaded"] == []
    assert facts["m.music"]["rows"] == {"train": 21, "validation": 6}
    assert facts["m.web"]["rows"] == {"train": 10} and facts["m.seed"]["rows"] == {"validation": 3}
    assert facts["m.music"]["vocabulary"] == [VOCAB, 5] and not facts["m.music"]["cached"]


@needs_seqio
def test_the_mixture_has_the_rates_of_the_training_run(seen, folders, cfg):
    """Rows by source: of Grain's mixture exactly, of seqio's, which draws, within 5 standard deviations."""
    tokens = {name: on_disk(folders[folder], s)["tokens"] for name, (folder, s) in list(CASES.items())[:4]}
    owner = {row.tobytes(): name for name, rows in tokens.items() for row in rows[:, 1:]}
    drawn = Counter(owner[row.tobytes()] for row in of(seen, "mixed")["decoder_target_tokens"])
    dataset = data.mixture(data.open_sources(cfg), cfg)
    ours = Counter(owner[dataset[i]["tokens"][1:].tobytes()] for i in range(MIXED))
    rates = seen[1]["m"]
    assert drawn.keys() == ours.keys() == rates.keys()
    for name, rate in rates.items():
        p = rate / sum(rates.values())
        assert ours[name] == pytest.approx(p * MIXED, abs=2)
        assert abs(drawn[name] - p * MIXED) < 5 * (MIXED * p * (1 - p)) ** 0.5
    assert rates["m.song_lyrics"] / 8 == pytest.approx(rates["m.music"] / 21)  # by tokens: rows come alike
    assert rates["m.music_general"] / 30 != pytest.approx(rates["m.music"] / 21, rel=0.1)


@needs_seqio
def test_two_shards_part_the_rows_even_without_a_common_seed(seen, folders):
    halves = [{row.tobytes() for row in of(seen, f"shard {i}")["decoder_target_tokens"]} for i in (0, 1)]
    assert [len(half) for half in halves] == [11, 10]
    assert halves[0] | halves[1] == {row.tobytes() for row in on_disk(folders["domain"], "music")["tokens"][:, 1:]}


@needs_seqio
def test_every_epoch_has_every_row_once_in_another_order_that_the_seed_fixes(seen):
    first, second = np.split(seen[0]["order"], 2)
    assert sorted(first) == sorted(second) == list(range(21))
    assert list(first) != list(second) and list(first) != list(range(21))
    one, again, two = (of(seen, f"seed {seed}")["decoder_target_tokens"] for seed in ("1", "1again", "2"))
    np.testing.assert_array_equal(one, again)
    assert (one != two).any()


def test_rows_of_another_tokenizer_than_the_start_run_had_are_refused(tmp_path, monkeypatch):
    """By the run's own config.json, and by that of the run before it; seqio is not asked."""
    monkeypatch.setattr(seqio_tasks, "libraries", lambda: (None, None))
    for name, of in (("mine", "a" * 64), ("others", "b" * 64)):
        write_rows(tmp_path / name, {"web": 8}, tokenizer_hash=of)
    for name, knobs, known in (
        ("first", {}, {"tokenizer_hash": "a" * 64}), ("second", {"init_from": str(tmp_path / "first")}, {}),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", config.to_saved(small_config(**knobs)) | known)
    others = {"general": str(tmp_path / "others"), "general_fraction": 1.0}
    for start in ("first", "second"):
        cfg = small_config(data=others, loss={"kind": "ntp"}, init_from=str(tmp_path / start))
        with pytest.raises(UserError, match=r"others was written with another tokenizer than the rows .*first was "):
            seqio_tasks.register("x", cfg)


@needs_seqio
def test_a_restored_iterator_goes_on_where_it_was_saved(seen):
    np.testing.assert_array_equal(seen[0]["after saving"], seen[0]["after restoring"])


@needs_seqio
def test_a_trainer_that_takes_packed_rows_gets_the_five_features_it_knows(seen):
    found = of(seen, "trainer")
    assert {key: array.shape for key, array in found.items()} == dict.fromkeys(
        [f"decoder_{n}" for n in ("input_tokens", "loss_weights", "positions", "segment_ids", "target_tokens")], (8, T)
    )


@needs_seqio
def test_a_bad_score_is_named_with_file_and_record(seen):
    assert "music-00000-of-00001.array_record record 1 has an rm_nll that is NaN" in seen[1]["bad"]
