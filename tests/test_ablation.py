"""The ablation's world, its pseudo-scores, its arithmetic, and one very short run of all of it."""

import itertools
import json
import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
from conftest import T, small_config, write_rows

from ablation import jobs, run, scores, table, world
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.rows import read_shard, target_mask, write_shard
from mucpt_jax.formats.tokenizer import end_of_document
from mucpt_jax.run import data
from mucpt_jax.step import objective

NAME = f"{world.FIRST[0]} {world.LAST[0]}"
SIZE = world.Size(rounds=4, famous_rounds=2, general=200, mixed=50, heldout=20)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    world.write(folder, 0, SIZE)
    return folder


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def documents(raw: Path, *roles: str) -> list[dict]:
    return [d for role in roles for file in sorted((raw / role).glob("*.jsonl")) for d in read(file)]


def words(raw: Path, *roles: str) -> set[str]:
    return {word for d in documents(raw, *roles) for word in d["text"].split()}


def names(raw: Path, *roles: str) -> set[str]:
    """A first name and a last name side by side."""
    pairs = {pair for d in documents(raw, *roles) for pair in itertools.pairwise(d["text"].split())}
    return {f"{a} {b}" for a, b in pairs if a in world.FIRST and b in world.LAST}


def name_of(question: dict) -> str:
    return question["question"].partition(" : ")[0]


def answers(document: dict, kinds: str) -> list[str]:
    """The document's runs of tokens of these kinds."""
    text = document["text"].split()
    return [" ".join(text[m.start() : m.end()]) for m in re.finditer(f"[{kinds}]+", document["kinds"])]


# The world


def test_every_artist_has_answers_of_1_2_3_4_and_6_words(raw):
    asked = [q for q in read(raw / "questions.jsonl") if not q["famous"]]
    assert len(asked) == 150 * 5
    for length in (1, 2, 3, 4, 6):
        mine = [q for q in asked if q["length"] == length]
        assert len(mine) == 150 and all(len(q["answer"].split()) == length for q in mine)


def test_exactly_the_first_30_percent_of_the_artists_are_covered(raw):
    asked = [q for q in read(raw / "questions.jsonl") if not q["famous"]]
    assert sum(q["covered"] for q in asked) == 45 * 5
    covered = {name_of(q): q["covered"] for q in asked}
    assert len(covered) == 150
    assert names(raw, "seed_partial") == {name for name, told in covered.items() if told}
    for role in ("domain", "seed_covered", "seed_weak"):
        assert names(raw, role) == set(covered)


def test_a_round_states_every_fact_once_and_a_fifth_of_them_wrong(raw):
    facts = {q["answer"] for q in read(raw / "questions.jsonl")}
    told = documents(raw, "domain")
    right = [text for d in told for text in answers(d, "aA")]
    wrong = [text for d in told for text in answers(d, "wW")]
    assert len(right) + len(wrong) == 4 * 750  # rounds
    assert len(wrong) / 3000 == pytest.approx(0.4 * 0.5, abs=0.03)
    assert set(right) <= facts
    bad = sum(bool(answers(d, "wW")) for d in told)
    assert bad / len(told) < 0.4  # a bad document may, by chance, have no wrong fact


def test_an_answer_is_right_or_wrong_for_the_artist_that_the_document_is_about(raw):
    known = {}
    for q in read(raw / "questions.jsonl"):
        known.setdefault(name_of(q), set()).add(q["answer"])
    for d in documents(raw, "domain"):
        (own,) = (known[name] for name in known if name in d["text"])
        assert set(answers(d, "aA")) <= own and not set(answers(d, "wW")) & own
        assert len(d["kinds"]) == len(d["text"].split()) < world.LENGTH


def test_half_of_the_domains_tokens_are_noise_and_the_seed_has_none(raw):
    letters = "".join(d["kinds"] for d in documents(raw, "domain"))
    assert sum(map(letters.count, "bdc")) / len(letters) == pytest.approx(0.5, abs=0.03)
    for kind in "bdc":
        assert letters.count(kind) / len(letters) == pytest.approx(1 / 6, abs=0.02)
    for regime in world.REGIMES:
        assert {k for d in documents(raw, f"seed_{regime}") for k in d["kinds"]} <= set("taA")


def test_general_text_tells_no_fact_of_an_artist_and_the_domain_none_of_the_famous(raw):
    everyday = {
        w
        for role in ("base", "general", "heldout")
        for d in read(raw / role / "general.jsonl")
        for w in d["text"].split()
    }
    values = {word for pool in world.POOLS.values() for word in pool}
    assert not everyday & (values | set(world.POOLS) | set(world.FIRST) | set(world.LAST))
    asked = read(raw / "questions.jsonl")
    famous, artists = ({name_of(q) for q in asked if q["famous"] == side} for side in (True, False))
    assert len(famous) == 40 and not famous & artists
    assert names(raw, "base") == names(raw, "general") == famous
    assert not names(raw, "domain", *(f"seed_{r}" for r in world.REGIMES)) & famous


def test_seed_documents_are_17_percent_of_the_mixed_folder(tmp_path):
    world.write(tmp_path, 0, SIZE._replace(rounds=2))
    for name in world.REGIMES:
        seed, domain = (
            sum(len(d["kinds"]) for d in read(tmp_path / f"mixed_{name}" / f"{s}.jsonl")) for s in ("seed", "domain")
        )
        assert seed / (seed + domain) == pytest.approx(0.17, abs=0.005)


def test_worlds_of_two_seeds_differ_and_of_one_seed_agree():
    facts = [world.people(Random(f"world {seed}"), SIZE)[0] for seed in (0, 0, 1)]
    assert facts[0] == facts[1] != facts[2]


def test_a_word_is_a_token_and_comes_back_as_it_was(tmp_path, raw):
    from transformers import AutoTokenizer

    world.write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    known = world.vocabulary()
    assert len(set(known)) == len(known) == len(tokenizer)
    text = documents(raw, "domain")[0]["text"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [known[i] for i in ids] == text.split() and tokenizer.decode(ids) == text
    assert words(raw, *(p.name for p in raw.iterdir() if p.is_dir())) <= set(known)
    assert end_of_document(tokenizer) == 0


# Pseudo-scores


def domain_rows(folder: Path, r: float) -> Path:
    """Two rows with every score r; segments of 8 to 10 tokens called music-ROW-SEGMENT."""
    write_rows(folder, {"music": 2})
    name = "music-00000-of-00001.array_record"
    rows = list(read_shard(folder / name, T))
    for row in rows:
        mask = np.concatenate([[False], target_mask(row["segment_ids"])])
        row["rm_nll"] = np.where(mask, r, np.nan).astype("f2")
    manifest = read_json(folder / "manifest.json")
    manifest["shards"][0] |= write_shard(folder / name, rows)
    write_json(folder / "manifest.json", manifest)
    return folder


def weights_of(folder: Path, **loss) -> tuple[np.ndarray, np.ndarray]:
    """(weights [B, T], is a target [B, T]) of a folder's rows by mucpt's own loss."""
    cfg = small_config(loss={"kind": "mucpt", **loss}, data={"domain": str(folder)})
    rows = list(read_shard(folder / "music-00000-of-00001.array_record", T))
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]} | {"is_domain": np.ones(2, bool)}
    weight_BT = objective.token_weights(np.zeros((2, T), np.float32), batch, data.resolved_loss(cfg))
    return np.asarray(weight_BT), target_mask(batch["segment_ids"])


def kinds_of_segments(rows: Path, documents: Path, letters: str) -> None:
    """Every document's tokens are letters[0], letters[1], ... in turn; its last token is the end of the document."""
    lines = []
    for number, row in enumerate(read_shard(rows / "music-00000-of-00001.array_record", T)):
        for segment in (1, 2, 3):
            n = int((row["segment_ids"] == segment).sum()) - 1
            lines.append(json.dumps({"id": f"music-{number}-{segment}", "kinds": (letters * n)[:n]}) + "\n")
    documents.mkdir()
    (documents / "music.jsonl").write_text("".join(lines), encoding="utf-8")


def test_the_oracle_puts_all_weight_on_right_text_and_its_mean_is_one(tmp_path):
    rows = domain_rows(tmp_path / "rows", 1.0)
    kinds_of_segments(rows, tmp_path / "raw", "tawbdcAW")
    scores.write_oracle(rows, tmp_path / "raw", tmp_path / "oracle")
    weight_BT, mask_BT = weights_of(tmp_path / "oracle", rm_floor=1.0)
    slots = scores.slot_kinds(tmp_path / "oracle", tmp_path / "raw")
    kind_BT = np.stack([slots["music-00000-of-00001.array_record", n][1:] for n in (0, 1)])
    wanted_BT = mask_BT & np.isin(kind_BT, ["t", "a", "A"])
    share = wanted_BT.sum() / mask_BT.sum()
    np.testing.assert_allclose(weight_BT[wanted_BT], 1 / share, rtol=1e-3)
    assert weight_BT[mask_BT & ~wanted_BT].max() < 1e-4
    assert weight_BT[mask_BT].mean() == pytest.approx(1, rel=1e-6)
    assert (kind_BT[mask_BT] != scores.PAD).all()


def test_mean_weights_by_kind_are_those_of_the_loss(tmp_path):
    rows = domain_rows(tmp_path / "rows", 1.0)
    kinds_of_segments(rows, tmp_path / "raw", "tb")
    scores.write_oracle(rows, tmp_path / "raw", tmp_path / "oracle")
    cfg = small_config(loss={"kind": "mucpt", "weight_norm": "none"}, data={"domain": str(tmp_path / "oracle")})
    found = scores.mean_weights(tmp_path / "oracle", tmp_path / "raw", cfg)
    assert found == pytest.approx({"t": 1.0, "b": 1 / 60_000})


def over_neighbours(segments: list[list[float]], kind: str, starts: list | None = None) -> list[float]:
    """Of the targets of one row; a segment's first token has no score."""
    r = np.array([x for part in segments for x in (np.nan, *part)])
    ids = np.concatenate([[n] * (len(part) + 1) for n, part in enumerate(segments, 1)]).astype(np.uint16)
    smooth = scores.over_neighbours(r, ids, np.array(starts) if starts else np.ones(len(r)), kind)
    return smooth[np.isfinite(r)].tolist()


def test_a_window_averages_neighbours_and_never_crosses_a_segment():
    row = [[1.0, 4.0, 7.0, 0.0], [9.0, 3.0]]
    assert over_neighbours(row, "mean") == pytest.approx([2.5, 4.0, 11 / 3, 3.5, 6.0, 6.0])
    assert over_neighbours(row, "median") == [2.5, 4.0, 4.0, 3.5, 6.0, 6.0]


def test_words_and_names_are_pooled_before_their_neighbours_are_looked_at():
    # Units: [1], [4, 8], [0] | [9], [3, 1], of means 1, 6, 0 | 9, 2
    starts = [1, 1, 1, 0, 1, 1, 1, 1, 0]
    found = over_neighbours([[1.0, 4.0, 8.0, 0.0], [9.0, 3.0, 1.0]], "mean", starts)
    assert found == pytest.approx([3.5, 7 / 3, 7 / 3, 3.0, 5.5, 5.5, 5.5])


def test_smoothed_scores_give_the_weight_through_mucpts_own_loss(tmp_path):
    scored = domain_rows(tmp_path / "scored", 4.0)
    (shard,) = scores.shards_of(scored)
    rows = scores.rows_of(scored, shard)
    for row in rows:
        row["rm_nll"] = np.where(np.arange(T + 1) % 2, row["rm_nll"], row["rm_nll"] / 4).astype("f2")  # 4 and 1
    write_shard(scored / shard, rows)
    for kind in ("mean", "median"):
        scores.write_smoothed(scored, tmp_path / kind, kind)
    scores.write_mix(tmp_path / "mean", tmp_path / "median", tmp_path / "mix")
    weight_BT, mask_BT = weights_of(tmp_path / "mean", rm_floor=0.5, weight_norm="none")
    inner_BT = mask_BT & np.roll(mask_BT, 1, 1) & np.roll(mask_BT, -1, 1)
    assert {round(float(w), 3) for w in weight_BT[inner_BT]} == {0.333, 0.5}  # of 3 and 2: 4 1 4, 1 4 1
    median_BT, _ = weights_of(tmp_path / "median", rm_floor=0.5, weight_norm="none")
    assert set(median_BT[inner_BT].tolist()) == {0.25, 1.0}
    mix_BT, _ = weights_of(tmp_path / "mix", rm_floor=0.01)
    means = [part_BT[mask_BT].mean() for part_BT in (weight_BT, median_BT)]
    wanted_BT = 0.6 * weight_BT / means[0] + 0.4 * median_BT / means[1]  # no r is below a floor
    np.testing.assert_allclose(mix_BT[mask_BT], wanted_BT[mask_BT], rtol=2e-3)


def test_a_name_is_one_unit(tmp_path):
    world.write_tokenizer(tmp_path)
    (tmp_path / "names.txt").write_text(f"{NAME}\n")
    known = world.vocabulary()
    words = [known[1], *NAME.split(), known[2]]
    tokens = np.array([known.index(word) for word in words])
    starts = scores.name_starts(tmp_path, tmp_path / "names.txt")(tokens)
    assert starts.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("base", "reference", "raw"),
    [(4.0, 0.5, 5.0), (1.0, 2.0, 0.5), (3.0, 3.0, 1.0), (0.0, 7.0, 0.1), (0.25, 0.0, 5.0), (9.0, 2.25, 4.0)],
)
def test_the_static_ratio_is_base_over_reference_between_its_caps(tmp_path, base, reference, raw):
    scored = domain_rows(tmp_path / "scored", reference)
    scores.write_ratio(scored, domain_rows(tmp_path / "scored_base", base), tmp_path / "ratio")
    weight_BT, mask_BT = weights_of(tmp_path / "ratio", rm_floor=0.2, weight_norm="none")
    np.testing.assert_allclose(weight_BT[mask_BT], raw, rtol=5e-4)  # float16
    weight_BT, _ = weights_of(tmp_path / "ratio", rm_floor=0.2)
    np.testing.assert_allclose(weight_BT[mask_BT], 1, rtol=1e-5)


# Arithmetic


def test_ess_of_two_domain_sources_is_that_of_all_their_weights():
    """Weights 1, 1 and 4, 0: (1+1+4+0)^2 / (4 * (1+1+16)) = 1/2; general text does not count."""
    sources = {
        "a": {"is_domain": True, "tokens": 2, "mean_weight": 1.0, "ess": 1.0},
        "b": {"is_domain": True, "tokens": 2, "mean_weight": 2.0, "ess": 0.5},
        "c": {"is_domain": False, "tokens": 9, "mean_weight": 1.0, "ess": 1.0},
    }
    assert table.domain_ess(sources) == pytest.approx(0.5)
    assert table.domain_ess({"c": sources["c"]}) is None


def test_only_an_answer_that_is_equal_word_for_word_counts():
    asked = [{"prediction": p, "answer": "moonsong"} for p in ("moonsong", "moonsong moonsong", "Moonsong", "")]
    assert table.exact(asked) == 0.25
    assert table.exact([]) is None


def made_runs(**rows) -> list[dict]:
    """{"ntp": (all of seed 0, all of seed 1)} in the covered regime."""
    return [
        {"seed": seed, "regime": "covered", "row": row, "all": value}
        for row, found in rows.items()
        for seed, value in enumerate(found)
    ]


def test_differences_are_paired_by_seed():
    runs = made_runs(ntp=(0.1, 0.3), mucpt=(0.4, 0.5))
    gaps = table.differences(runs[::-1], "covered", "mucpt", "ntp", "all")
    assert gaps == pytest.approx([0.3, 0.2])
    assert table.paired_cell(gaps) == "+0.250 (+.300 +.200)"
    assert table.paired_cell([-0.5, 0.25]) == "-0.125 (-.500 +.250)"
    assert table.paired_cell([]) == "-"


def test_orders_are_judged_by_the_mean_against_the_best_of_the_rho1_grid():
    runs = made_runs(ntp=(0.1, 0.3), rho1_40=(0.3, 0.3), rho1_60=(0.0, 0.2), mucpt=(0.2, 0.35), mucpt_literal=(0, 0))
    found = {claim["says"]: claim for claim in table.claims(runs)}
    must = {says: claim["holds"] for says, claim in found.items() if claim["must"]}
    assert must == {
        "mucpt > best rho1 (rho1_40)": False,  # -.1 and +.05
        "best rho1 (rho1_40) > ntp": True,  # +.2 and 0
        "ntp > mucpt_literal": True,
    }
    assert found["mucpt > best rho1 (rho1_40)"]["per_seed"] == pytest.approx([-0.1, 0.05])
    lines = [table.sentence(claim) for claim in found.values()]
    assert "- covered, all: mucpt > best rho1 (rho1_40): **does not hold**, -0.025 (-.100 +.050)" in lines


def test_where_all_facts_were_told_all_count_as_covered(tmp_path):
    asked = [
        {"prediction": "x", "answer": "x", "length": 1, "covered": True, "famous": False},
        {"prediction": "y", "answer": "x", "length": 6, "covered": False, "famous": False},
        {"prediction": "x", "answer": "x", "length": 6, "covered": False, "famous": True},
    ]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in asked))
    (tmp_path / "metrics.jsonl").write_text('{"sources": {}, "grad_norm": 2.0}\n{"sources": {}, "grad_norm": 1.0}\n')
    write_json(tmp_path / "evaluate.json", {"heldout": {"general": {"nll": 1.5}}})
    found = table.figures(tmp_path, "weak")
    assert (found["all"], found["covered"], found["uncovered"], found["famous"]) == (0.5, 0.5, None, 1.0)
    found = table.figures(tmp_path, "partial")
    assert (found["all"], found["covered"], found["uncovered"]) == (0.5, 1.0, 0.0)
    assert found["by_length"]["6"] == {"all": 0.0, "covered": None, "uncovered": 0.0}
    assert (found["general_loss"], found["grad_norm"], found["ess"]) == (1.5, 1.5, None)


# All of it


def test_a_very_short_run_ends_in_tables_and_a_second_start_repeats_nothing(tmp_path, monkeypatch):
    size = world.Size(artists=10, famous=2, rounds=3, famous_rounds=3, general=40, mixed=30, heldout=5)
    settings = {"size": size, "budget": jobs.Budget(base=4, steps=3)}
    rows = ["ntp", "ntp_seed", "mucpt_seed_agree", "mucpt_mix3", "oracle"]
    found = run.run(tmp_path / "run", range(1), ["partial"], rows, **settings)
    assert [r["row"] for r in found["runs"]] == ["base", "rm", *rows]
    by_row = {r["row"]: r for r in found["runs"]}
    assert by_row["ntp"]["ess"] == by_row["ntp_seed"]["ess"] == pytest.approx(1)
    assert by_row["oracle"]["weights"]["b"] < 1e-3 < 1 < by_row["oracle"]["weights"]["A"]
    assert set(by_row["mucpt_seed_agree"]["weights"]) == set(by_row["mucpt_mix3"]["weights"])  # of seed documents too
    assert 0 < by_row["base"]["general_loss"] < np.log(len(world.vocabulary())) + 1
    assert "### Regime partial" in (tmp_path / "run" / "table.md").read_text()
    assert (tmp_path / "run" / "ablation.svg").read_text().count("ntp_seed") > 0

    for job in ("base", "reference", "continued"):
        monkeypatch.setattr(jobs, job, lambda *_: pytest.fail("done already"))
    page = tmp_path / "ablation.md"
    for name, path in (("RESULT", "ablation.json"), ("PLOT", "ablation.svg"), ("PAGE", "ablation.md")):
        monkeypatch.setattr(table, name, tmp_path / path)
    with pytest.raises(UserError, match=r"ablation\.md has no lines <!-- ablation"):
        run.run(tmp_path / "run", range(1), ["partial"], rows, publish=True, **settings)
    page.write_text(f"before\n{table.MARKS[0]}\nOUTDATED\n{table.MARKS[1]}\nafter\n")
    again = run.run(tmp_path / "run", range(1), ["partial"], rows, publish=True, **settings)
    assert again["runs"] == found["runs"] == read_json(tmp_path / "ablation.json")["runs"]
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "OUTDATED" not in text
    assert table.main_table(found["runs"], "partial")[0] in text
    with pytest.raises(UserError, match="was made with other settings"):
        run.run(tmp_path / "run", range(1), ["partial"], rows, size=size._replace(rounds=2))
    changed = run.ROWS["mucpt_mix3"]._replace(lr=2.0)
    monkeypatch.setitem(run.ROWS, "mucpt_mix3", changed)
    with pytest.raises(UserError, match="was made with other settings"):
        run.run(tmp_path / "run", range(1), ["partial"], rows, **settings)


def test_unknown_rows_are_refused_with_the_nearest_one():
    assert run.chosen("mucpt,ntp", run.ROWS, "--rows") == ["ntp", "mucpt"]
    with pytest.raises(UserError, match="'rho1_50' is unknown; did you mean rho1_"):
        run.chosen("rho1_50", run.ROWS, "--rows")
