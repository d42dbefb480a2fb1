from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import T, random_row, small_config, write_rows

from mucpt_jax.errors import UserError
from mucpt_jax.formats.rows import read_shard, target_mask
from mucpt_jax.run import data

SCORES = {"scores": {"mean_raw_weight": {"0.1": 4.0, "1.0": 0.5, "10.0": 0.05}}}


def scored_row(rng, r=2.0):
    row = random_row(rng)
    row["rm_nll"][1:][target_mask(row["segment_ids"])] = r
    return row


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    domain = write_rows(tmp_path / "domain", {"music": 20}, rows=[scored_row(rng) for _ in range(20)], **SCORES)
    general = write_rows(tmp_path / "general", {"web": 30, "books": 10}, seed=1)
    return {"domain": str(domain), "general": str(general)}


def config_of(folders, fraction=0.25, **more):
    return small_config(data={**folders, "general_fraction": fraction}, **more)


def first_rows(cfg, count):
    sources = data.open_sources(cfg)
    dataset = data.mixture(sources, cfg)
    return sources, [dataset[i] for i in range(count)]


def test_the_mixture_is_exact_in_target_tokens(folders):
    for fraction in (0.25, 0.5):
        sources, rows = first_rows(config_of(folders, fraction), 800)
        tokens = Counter()
        for row in rows:
            tokens[sources[int(row["source"])].name] += int(target_mask(row["segment_ids"]).sum())
        total = sum(tokens.values())
        assert tokens["music"] / total == pytest.approx(1 - fraction, abs=0.005)
        web = next(s for s in sources if s.name == "web").targets
        books = next(s for s in sources if s.name == "books").targets
        assert tokens["web"] / tokens["books"] == pytest.approx(web / books, rel=0.03)


def test_every_epoch_sees_every_row_once_in_another_order(folders):
    sources, rows = first_rows(config_of(folders), 80)
    music = [int(row["row"]) for row in rows if sources[int(row["source"])].name == "music"]
    first, second = music[:20], music[20:40]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(folders):
    orders = [[int(row["row"]) for row in first_rows(config_of(folders, seed=seed), 30)[1]] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_any_number_of_hosts_reads_the_same_global_batches(folders):
    cfg = config_of(folders)
    dataset = data.mixture(data.open_sources(cfg), cfg)
    whole = [batch["tokens"] for batch in data.batches(dataset, cfg, list(range(8)), 0)]
    assert len(whole) == cfg.optimizer.steps
    for hosts in (2, 4):
        share = 8 // hosts
        parts = [list(data.batches(dataset, cfg, list(range(h * share, (h + 1) * share)), 0)) for h in range(hosts)]
        for step in range(6):
            np.testing.assert_array_equal(np.concatenate([p[step]["tokens"] for p in parts]), whole[step])


def test_a_resumed_loader_goes_on_where_it_stopped(folders):
    cfg = config_of(folders)
    dataset = data.mixture(data.open_sources(cfg), cfg)
    whole = list(data.batches(dataset, cfg, list(range(8)), 0))
    resumed = list(data.batches(dataset, cfg, list(range(8)), 4))
    for a, b in zip(whole[4:], resumed, strict=True):
        np.testing.assert_array_equal(a["tokens"], b["tokens"])


def test_a_row_is_taken_back_to_file_record_and_documents(folders):
    cfg = config_of(folders, fraction=0.0)
    sources, rows = first_rows(cfg, 3)
    number = int(rows[2]["row"])
    (told,) = data.describe_rows(data.mixture(sources, cfg), sources, cfg, [2])
    assert told["file"].endswith("music-00000-of-00001.array_record")
    documents = [f"music-{number}-{segment}" for segment in (1, 2, 3)]
    assert told | {"file": ""} == {"row": 2, "file": "", "record": number, "documents": documents}


def test_the_corpus_mean_is_read_at_the_floor_and_between_grid_points(folders):
    def mean(floor):
        return data.resolved_loss(config_of(folders, loss={"rm_floor": floor})).mean_raw_weight

    assert mean(1.0) == pytest.approx(0.5)
    assert mean(10**0.5) == pytest.approx((0.5 * 0.05) ** 0.5)  # halfway in log-log
    with pytest.raises(UserError, match=r"rm_floor=20.0 is off the scored grid 0.1..10.0"):
        mean(20.0)
    assert data.resolved_loss(config_of(folders, loss={"weight_norm": "none"})).mean_raw_weight is None
    assert data.resolved_loss(config_of(folders, loss={"kind": "ntp"})).mean_raw_weight is None


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ({"sequence_length": 64}, "holds rows of T=64, the config has data.sequence_length=32; set it to 64"),
        ({"vocab_size": 500}, "was tokenised with 500 token ids, nano has vocab_size=97"),
        ({"scores": None}, "holds no reference scores .* but loss.kind=mucpt needs them; run launch.py --job=score"),
    ],
)
def test_rows_that_do_not_fit_the_config_are_refused(tmp_path, manifest, sentence):
    folder = write_rows(tmp_path / "rows", {"music": 2}, **(SCORES | manifest))
    with pytest.raises(UserError, match=sentence):
        data.open_sources(config_of({"domain": str(folder)}, fraction=0.0))


def test_rows_of_another_tokenizer_are_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    folder = write_rows(tmp_path / "rows", {"music": 2}, **SCORES)
    with pytest.raises(UserError, match="was written with another tokenizer"):
        data.open_sources(config_of({"domain": str(folder)}, fraction=0.0, tokenizer=str(tmp_path)))


def test_folders_of_different_tokenizers_do_not_mix(folders, tmp_path):
    other = write_rows(tmp_path / "other", {"web": 5}, tokenizer_hash="another")
    with pytest.raises(UserError, match=r"other was written with another tokenizer than .*"):
        data.open_sources(config_of(folders | {"general": str(other)}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_bad_score_stops_with_file_and_record(tmp_path, bad):
    rng = np.random.default_rng(0)
    rows = [scored_row(rng), scored_row(rng, bad)]
    folder = write_rows(tmp_path / "rows", {"music": 2}, rows=rows, **SCORES)
    with pytest.raises(UserError, match=r"array_record record 1 has an rm_nll that is NaN, infinite or negative"):
        first_rows(config_of({"domain": str(folder)}, fraction=0.0), 2)
    ntp = config_of({"domain": str(folder)}, fraction=0.0, loss={"kind": "ntp"})
    assert len(first_rows(ntp, 2)[1]) == 2  # ntp takes no scores and asks for none


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        data.open_sources(config_of({"domain": str(tmp_path / "absent")}, fraction=0.0))
    with pytest.raises(UserError, match=r"data\.domain names no rows .* wants 75%"):
        data.open_sources(config_of({}))


def test_damage_inside_a_shard_is_named(folders):
    """Same size, other bytes: the checksums inside ArrayRecord tell."""
    shard = Path(folders["general"]) / "books-00000-of-00001.array_record"
    whole = shard.read_bytes()
    for place, sentence in ((400, r"books-00000-of-00001.array_record record \d+ is damaged"),
                            (1484, r"a shard of books is damaged")):  # fmt: skip
        shard.write_bytes(whole[:place] + b"\xff" * 16 + whole[place + 16 :])
        with pytest.raises(UserError, match=sentence):
            first_rows(config_of({"general": folders["general"]}, fraction=1.0), 100)
        with pytest.raises(UserError, match=r"books-00000-of-00001.array_record.* is damaged"):
            list(read_shard(shard, T))


def test_the_rest_of_the_rows_is_taken_in_halves():
    assert data.batch_sizes(13, 8) == [8, 4, 1]
    assert data.batch_sizes(300, 256, multiple=8) == [256, 32, 8, 8]  # 4 rows of padding
    assert data.batch_sizes(16, 8) == [8, 8] and data.batch_sizes(0, 8) == []
    assert data.batch_sizes(5, 6) == [3, 3]  # 3 has no half
    rows = [{"x": np.array(i)} for i in range(7)]
    found = [(batch["x"].tolist(), count) for batch, count in data.in_batches(rows, 4, multiple=2)]
    assert found == [([0, 1, 2, 3], 4), ([4, 5], 2), ([6, 6], 1)]
