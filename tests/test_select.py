import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import T, scores_of, sources_of, write_rows

from data_prep import select
from data_prep.packing import pack
from mucpt_jax.errors import UserError
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest, write_index
from mucpt_jax.formats.rows import NO_LOSS, read_shard, shard_name, target_mask, write_shard

# (source, document, offset, -log p of its targets by the RM, by the start model); nats, exact in float16
SEGMENTS = [
    ("music", "A", 0, [1, 1, 1, 1], [2, 2, 2, 2]),
    ("music", "A", 5, [4, 4], [1, 1]),
    ("music", "B", 0, [0.5, 0.5, 0.5], [0.5, 0.5, 1]),
    ("music", "C", 0, [], []),
    ("songs", "A", 0, [2, 2], [2, 2]),
]
# rho:  A of music (8 + 2) / (4 + 8) = 0.8333 (its segments 2 and 0.25);  B 2 / 1.5 = 1.3333;  C none;  A of songs 1


def write(folder, segments=SEGMENTS, which=0, rows_per_shard=100, **manifest):
    """Scored rows of T=8; which: 0 the RM's scores, 1 the start model's."""
    folder.mkdir()
    shards, tables = [], []
    for source in sorted({segment[0] for segment in segments}):
        made = []
        for _, document, offset, *scores in (s for s in segments if s[0] == source):
            run = np.zeros(1 + len(scores[which]), pack.SCORED)
            run["tokens"] = 7 + offset + np.arange(len(run))
            run["rm_nll"] = [np.nan, *scores[which]]
            made.append(pack.Segment(run, document, offset))
        packed = [[made[i] for i in row] for row in pack.pack([len(run) for run, _, _ in made], 9)]
        parts = [packed[i : i + rows_per_shard] for i in range(0, len(packed), rows_per_shard)]
        for number, part in enumerate(parts):
            path = folder / shard_name(source, number, len(parts))
            shards.append({**pack.write_shard(path, part, 8), "source": source})
            table = pq.read_table(path.with_suffix(".index"))
            tables.append(table.set_column(0, "shard", [[path.name] * len(table)]))
            path.with_suffix(".index").unlink()
    write_index(folder, tables)
    values = {"schema": 1, "sequence_length": 8, "tokenizer_hash": "t", "vocab_size": 97, "sources": sources_of(shards)}
    scores = scores_of(rm_hash=("rm", "start")[which])
    if manifest.get("scores"):
        manifest["scores"] = scores_of(**manifest["scores"])
    write_json(folder / "manifest.json", values | {"shards": shards, "scores": scores} | manifest)
    return folder


@pytest.fixture
def folders(tmp_path):
    return write(tmp_path / "scored"), write(tmp_path / "base", which=1)


def run(folders, *flags):
    scored, base = folders
    output = scored.parent / "out"
    report = select.run([f"--scored={scored}", f"--base={base}", f"--output={output}", *flags])
    return report, output


def kept(folder):
    """{(source, document, offset): (tokens, scores)} as bytes, from rows and index."""
    manifest, found = read_manifest(folder), {}
    length = manifest["sequence_length"]
    for facts in manifest["shards"]:
        held = list(read_shard(folder / facts["name"], length))
        for line in pq.read_table(folder / "index.parquet").to_pylist():
            if line["shard"] == facts["name"]:
                row = held[line["row"]]
                own = row["segment_ids"] == line["segment"]
                assert own.sum() == line["length"]
                run = row["tokens"][own].tobytes(), row["rm_nll"][own].tobytes()
                found[facts["source"], line["document"], line["offset"]] = run
    return found


# What is kept


def test_documents_at_or_above_the_threshold_are_kept(folders):
    report, output = run(folders, "--threshold=1.0")
    assert kept(output).keys() == {("music", "B", 0), ("songs", "A", 0)}
    assert report["lowest_rho"] == 1.0
    assert report["sources"]["music"] == {
        "read": {"documents": 3, "segments": 4, "targets": 9},
        "kept": {"documents": 1, "segments": 1, "targets": 3},
        "dropped": {"documents": 2, "segments": 3, "targets": 6},
    }
    assert report["sources"]["songs"]["kept"] == {"documents": 1, "segments": 1, "targets": 2}
    counts = json.loads((output / "counts.json").read_text())
    assert counts == {"read": 4, "kept": 2, "dropped": {"below_threshold": 1, "no_targets": 1}}


def test_a_document_is_one_whatever_shards_its_segments_lie_in(tmp_path):
    """Rows of 9 slots: A and B, then the rest of A and C."""
    folders = [write(tmp_path / name, which=i, rows_per_shard=1) for i, name in enumerate(("scored", "base"))]
    assert len(read_manifest(folders[0])["shards"]) == 3
    report, output = run(folders, "--keep=1")
    rho = {(unit["source"], unit["document"]): unit["rho"] for unit in report["nearest"]["kept"]}
    assert rho == {("music", "A"): 0.833333, ("music", "B"): 1.333333, ("songs", "A"): 1.0}
    whole = {name: run for name, run in kept(folders[0]).items() if name[1] != "C"}
    assert kept(output) == whole


def test_segments_of_one_document_are_judged_apart(folders):
    report, output = run(folders, "--threshold=1.0", "--level=segment")
    assert kept(output).keys() == {("music", "A", 0), ("music", "B", 0), ("songs", "A", 0)}
    assert report["sources"]["music"]["kept"] == {"documents": 2, "segments": 2, "targets": 7}
    counts = json.loads((output / "counts.json").read_text())
    assert counts == {"read": 4, "kept": 3, "dropped": {"no_targets": 1}}


@pytest.mark.parametrize(
    ("keep", "targets"),
    # Best first: B with 3 targets, A of songs with 2, A of music with 6; 11 in all, so 5/11 = 0.4545.
    [(0.01, 3), (0.27, 3), (0.28, 5), (0.4545, 5), (5 / 11, 5), (0.46, 11), (1.0, 11)],
)
def test_keep_takes_the_best_until_the_share_of_targets_is_reached(folders, keep, targets):
    _, output = run(folders, f"--keep={keep}")
    assert sum(s["targets"] for s in read_manifest(output)["shards"]) == targets


def test_a_share_that_comes_out_whole_takes_no_unit_more():
    """0.28 x 25 is 7.000000000000001 in floats."""
    units = {"rho": np.linspace(2, 1, 25), "targets": np.ones(25, np.int64)}
    args = select.arguments(["--scored=a", "--base=b", "--output=c", "--keep=0.28"])
    assert select.choose(units, args)[1] == 7


def test_equal_ratios_are_taken_in_the_corpus_order(tmp_path):
    same = [("music", name, 0, [1, 1], [1, 1]) for name in "ZYX"]
    folders = (write(tmp_path / "scored", same), write(tmp_path / "base", same, which=1, scores={"rm_hash": "s"}))
    _, output = run(folders, "--keep=0.6")  # 4 of 6 targets
    first = pq.read_table(folders[0] / "index.parquet")["document"].to_pylist()[:2]
    assert {name for _, name, _ in kept(output)} == set(first)


def test_a_whole_document_keeps_its_segment_of_one_token(tmp_path):
    """It fills a hole of the row; only on its own has it nothing to be judged by."""
    made = [("music", "A", 0, [1] * 7, [2] * 7), ("music", "A", 8, [], [])]
    folders = write(tmp_path / "scored", made), write(tmp_path / "base", made, which=1)
    _, output = run(folders, "--threshold=1")
    assert kept(output).keys() == {("music", "A", 0), ("music", "A", 8)}


# What is written


def scored_pair(tmp_path, encoding="float16"):
    """Random rows of T=32 in two sources, scored by two models."""
    made = {}
    for name, seed in (("scored", 1), ("base", 2)):
        made[name] = write_rows(tmp_path / name, {"music": 20, "songs": 11})
        manifest = read_manifest(made[name])
        rng = np.random.default_rng(seed)
        for facts in manifest["shards"]:
            changed = []
            for row in read_shard(made[name] / facts["name"], T):
                r, mask = np.full(T + 1, np.nan, np.float16), target_mask(row["segment_ids"])
                r[1:][mask] = rng.gamma(1.0, 3.0, mask.sum())
                changed.append(row | {"rm_nll": r})
            facts |= write_shard(made[name] / facts["name"], changed, encoding)
        scores = scores_of(rm_hash=name, encoding=encoding)
        write_json(made[name] / "manifest.json", manifest | {"scores": scores})
    return made["scored"], made["base"]


@pytest.mark.parametrize("level", ["document", "segment"])
@pytest.mark.parametrize("encoding", ["float16", "uint8_log"])
def test_tokens_and_scores_stay_the_same_bit_for_bit(tmp_path, level, encoding):
    folders = scored_pair(tmp_path, encoding)
    before = kept(folders[0])
    report, output = run(folders, "--keep=0.5", f"--level={level}", "--rows_per_shard=3")
    after = kept(output)
    assert after.items() < before.items()
    sides = [sum(c[side]["segments"] for c in report["sources"].values()) for side in ("read", "kept", "dropped")]
    assert sides == [93, len(after), 93 - len(after)]
    assert all(facts["records"] <= 3 for facts in read_manifest(output)["shards"])


def test_the_manifest_tells_of_what_was_kept(tmp_path):
    folders = scored_pair(tmp_path)
    _, output = run(folders, "--keep=0.5")
    manifest, base = read_manifest(output), kept(folders[1])
    r = {name: np.frombuffer(scores, np.float16)[1:] for name, (_, scores) in kept(output).items()}
    c = [np.frombuffer(base[name][1], np.float16)[1:] for name in r]
    expected = score_sums.summary(score_sums.stats_of(np.concatenate([*r.values()]), "", np.concatenate(c)))
    scores, shards = manifest["scores"], manifest["shards"]
    assert (scores["rm_hash"], scores["base_hash"]) == ("scored", "base")
    assert scores["tokens"] == expected["tokens"] == sum(facts["targets"] for facts in shards)
    assert scores["histogram"] == expected["histogram"]
    for grid in ("mean_raw_weight", "ess", "mean_raw_weight_by_base_nll"):
        np.testing.assert_allclose([*scores[grid].values()], [*expected[grid].values()], rtol=1e-12)
    songs = np.concatenate([values for name, values in r.items() if name[0] == "songs"]).astype(float)
    assert manifest["sources"]["songs"]["targets"] == scores["sources"]["songs"]["tokens"] == songs.size
    mean = (1 / np.maximum(songs, 1.0)).mean()
    assert scores["sources"]["songs"]["mean_raw_weight"]["1.0"] == pytest.approx(mean, 1e-12)
    slots = 33 * sum(facts["records"] for facts in shards)
    assert manifest["fill"] == sum(facts["tokens"] for facts in shards) / slots
    assert manifest["tokenizer_hash"] == "t" and manifest["selected"]["keep"] == 0.5


def test_scores_counted_by_their_float16_code_give_the_sums_of_all(tmp_path):
    """Scores that come often, and both ends of what float16 holds."""
    r = np.array([0.0, -0.0, 65504, *[0.5] * 5, *np.random.default_rng(0).gamma(1, 3, 100)], np.float16)
    c = np.random.default_rng(1).gamma(1, 3, len(r)).astype(np.float16)
    counted, ids = np.zeros((2, select.CODES)), np.ones(len(r) + 1, np.uint16)
    rows_of = ({"rm_nll": np.append(np.float16(np.nan), x), "segment_ids": ids} for x in (r, c))
    select.count_scores(counted, *rows_of, np.array([True]))
    found, expected = select.stats_of_counts(*counted, ""), score_sums.stats_of(r, "", c)
    assert found.keys() == expected.keys()
    for name, sums in expected.items():
        np.testing.assert_allclose(found[name], sums, rtol=1e-12)


def test_same_input_same_bytes(tmp_path):
    folders = scored_pair(tmp_path)
    for name in ("one", "two"):
        flags = [f"--scored={folders[0]}", f"--base={folders[1]}", f"--output={tmp_path / name}", "--keep=0.7"]
        select.run(flags)
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    facts = {"manifest.json", "index.parquet", "counts.json", "select.json"}
    assert {name for name in one if not name.endswith(".array_record")} == facts


def test_what_lies_next_to_the_threshold_is_shown(folders, capsys):
    report, _ = run(folders, "--threshold=1.0", "--level=segment")
    kept, dropped = ([(u["rho"], u["document"], u["offset"]) for u in side] for side in report["nearest"].values())
    assert kept == [(1.0, "A", 0), (1.333333, "B", 0), (2.0, "A", 0)]
    assert dropped == [(0.25, "A", 5)]
    printed = capsys.readouterr().out
    assert "next to the threshold, dropped" in printed and "0.25" in printed


def test_a_source_of_which_nothing_is_left_is_gone(folders):
    report, output = run(folders, "--threshold=1.2")
    assert {shard["source"] for shard in read_manifest(output)["shards"]} == {"music"}
    assert report["sources"]["songs"]["dropped"] == report["sources"]["songs"]["read"]


def test_shown_text_cannot_steer_a_terminal():
    assert select.shown("歌\x1b[2J\u202e\n\x9b") == "歌\\x1b[2J\\u202e\\n\\x9b"


# Bad input


def test_a_threshold_that_keeps_nothing_is_refused(folders, tmp_path):
    with pytest.raises(UserError, match=r"--threshold=1\.5 keeps nothing .*the best rho is 1\.333"):
        run(folders, "--threshold=1.5")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("told", "flags"),
    [("is no share", ["--keep=0"]), ("is no share", ["--keep=1.1"]), ("is no share", ["--keep=nan"]),
     ("is no ratio", ["--threshold=0"]), ("is no ratio", ["--threshold=nan"]),
     ("--rows_per_shard=0 holds no row", ["--keep=0.5", "--rows_per_shard=0"])],
)  # fmt: skip
def test_numbers_have_bounds(folders, told, flags):
    with pytest.raises(UserError, match=told):
        run(folders, *flags)


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({"shards": []}, "base holds no rows"),
        ({"tokenizer_hash": "u"}, "base was written with another tokenizer than .*scored"),
        ({"scores": None}, "base holds no scores"),
        ({"scores": {"rm_hash": "rm"}}, "was scored by the same model"),
        ({"sequence_length": 16}, "base holds other rows than"),
    ],
)
def test_folders_that_do_not_belong_together_are_refused(tmp_path, manifest, told):
    folders = write(tmp_path / "scored"), write(tmp_path / "base", which=1, **manifest)
    with pytest.raises(UserError, match=told):
        run(folders, "--keep=0.5")


def damaged(folder, array, value):
    """The first target of the only row of songs gets another value."""
    name = "songs-00000-of-00001.array_record"
    (row,) = read_shard(folder / name, 8)
    row[array] = row[array].copy()
    row[array][1] = value
    write_shard(folder / name, [row])


def test_other_tokens_are_refused_with_their_row(folders):
    damaged(folders[1], "tokens", 96)
    with pytest.raises(UserError, match=r"songs-00000-of-00001\.array_record record 0 differs between"):
        run(folders, "--keep=0.5")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_score_that_is_none_is_refused_with_its_row(folders, bad):
    damaged(folders[1], "rm_nll", bad)
    with pytest.raises(UserError, match=r"base/songs-.* record 0 has an rm_nll that is NaN, infinite or negative"):
        run(folders, "--keep=0.5")


def test_other_shards_are_refused(tmp_path):
    folders = write(tmp_path / "scored"), write(tmp_path / "base", SEGMENTS[:4], which=1)
    with pytest.raises(UserError, match="base holds other rows than"):
        run(folders, "--keep=0.5")


def test_an_index_of_other_rows_is_refused(folders):
    table = pq.read_table(folders[0] / "index.parquet")
    write_index(folders[0], [table.slice(1)])
    with pytest.raises(UserError, match=r"index\.parquet has . segments of music-.*, the manifest 4"):
        run(folders, "--keep=0.5")
    lengths = np.array(table["length"].to_pylist(), np.int32)
    lengths[:2] = lengths[:2][::-1]  # the first row's two segments
    write_index(folders[0], [table.set_column(5, "length", [lengths])])
    with pytest.raises(UserError, match="its segments are not those in"):
        run(folders, "--keep=0.5")


def test_an_input_folder_is_never_the_output(folders):
    with pytest.raises(UserError, match="is the folder of the input"):
        select.run([f"--scored={folders[0]}", f"--base={folders[1]}", f"--output={folders[1]}", "--keep=0.5"])


def test_rows_of_another_job_are_not_replaced(folders, tmp_path):
    """They have the same file names."""
    rows_folder = write_rows(tmp_path / "rows", {"web": 2})
    with pytest.raises(UserError, match="rows holds files that this job did not write"):
        select.run([f"--scored={folders[0]}", f"--base={folders[1]}", f"--output={rows_folder}", "--keep=1"])
    assert len(kept(rows_folder)) == 6
    run(folders, "--keep=1")
    assert run(folders, "--threshold=1.2")[0]["threshold"] == 1.2  # its own are


def test_tokens_without_loss_stay_so(folders):
    for folder in folders:
        facts = next(f for f in read_manifest(folder)["shards"] if f["source"] == "songs")
        (row,) = read_shard(folder / facts["name"], 8)
        ids = row["segment_ids"].copy()
        ids[1] |= NO_LOSS
        write_shard(folder / facts["name"], [row | {"segment_ids": ids}])
    _, output = run(folders, "--threshold=0.1")
    (row,) = read_shard(output / "songs-00000-of-00001.array_record", 8)
    assert row["segment_ids"].tolist()[:3] == [1, 1 + NO_LOSS, 1]
