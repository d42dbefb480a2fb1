"""The whole road in one process, with a nano model and few steps: raw text in, an exported and evaluated model out."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import one_device_mesh, small_config, write_rows
from transformers import AutoTokenizer

from data_prep import pipeline, sample_corpus
from demo import noise, report, results
from mucpt_jax import compare, config, evaluate, export, score, train
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import read_shard
from mucpt_jax.weights import hf

T = 64


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Raw corpus and rows of every role."""
    folder = tmp_path_factory.mktemp("road")
    sample_corpus.run([f"--output={folder / 'raw'}"])
    for role in results.ROLES:
        for file in (folder / "raw" / role).glob("*.jsonl"):  # a tenth is enough here
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            file.write_text("".join(lines[::10]), encoding="utf-8")
        pipeline.run(
            [f"--input={folder / 'raw' / role}", f"--output={folder / 'data' / role}",
             f"--config={pipeline.RECIPE}:plain", f"--config.shard.tokenizer={folder / 'raw' / 'tokenizer'}",
             f"--config.shard.sequence_length={T}"]
        )  # fmt: skip
    return folder


def config_of(run: Path, **sections) -> config.Config:
    data = {"sequence_length": T, "general": str(run / "data/general/rows")} | sections.pop("data", {})
    return small_config(
        data=data, model={"vocab_size": 2048}, tokenizer=str(run / "raw/tokenizer"),
        optimizer={"steps": 4}, **sections,
    )  # fmt: skip


def save_config(cfg: config.Config, workdir: Path) -> None:
    write_json(workdir / "config.json", dataclasses.asdict(cfg))


def test_the_whole_road(run):
    mesh = one_device_mesh()
    base = config_of(run, data={"general_fraction": 1.0}, export={"dtype": "float32"})
    train.train(base, mesh, run / "base")
    export.export(base, mesh, run / "base")
    start = str(run / "base" / "hf")
    seed = {"domain": str(run / "data/seed/rows"), "general": None, "general_fraction": 0.0}
    reference = config_of(run, loss={"kind": "ntp"}, data=seed, init_from=start)
    train.train(reference, mesh, run / "reference")
    for name, cfg in (("", reference), ("_base", base)):
        folders = {"input": str(run / "data/domain/rows"), "output": str(run / f"data/domain/scored{name}")}
        score.score(
            dataclasses.replace(cfg, score=config.Score(**folders, batch_rows=8)), mesh, run / (name[1:] or "reference")
        )

    lines = (run / "raw/questions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "questions.jsonl").write_text("".join(lines[:6]), encoding="utf-8")
    asked = {"rows": str(run / "data/heldout/rows"), "questions": str(run / "questions.jsonl"), "batch_questions": 3}
    objectives = ("ntp", "rho1", "mucpt")
    for name in objectives:
        data = {"domain": str(run / "data/domain/scored")}
        cfg = config_of(run, loss={"kind": name}, data=data, init_from=start)
        train.train(cfg, mesh, run / name)
        save_config(cfg, run / name)
    for name in ("base", "reference", *objectives):
        evaluate.evaluate(config_of(run, evaluate=asked), mesh, run / name)

    folders = [str(run / name) for name in ("base", "reference", *objectives)]
    compare.main([*folders, f"--baseline={run / 'ntp'}", f"--page={run / 'compared'}"])
    table = results.collect(run, json.loads((run / "raw/corpus.json").read_text()), objectives, 60.0)
    report.write(run, table)
    rows = {row["objective"]: row for row in table["rows"]}
    assert list(rows) == ["base", "reference", *objectives]
    assert rows["ntp"]["weight_noise"] == rows["ntp"]["weight_rest"] == 1.0
    mucpt = rows["mucpt"]  # corpus_mean_one: the mean over noise and rest together is one
    total = mucpt["noise_tokens"] + mucpt["rest_tokens"]
    mean = (mucpt["weight_noise"] * mucpt["noise_tokens"] + mucpt["weight_rest"] * mucpt["rest_tokens"]) / total
    assert mean == pytest.approx(1.0, abs=1e-3)
    assert all(row["questions"]["n"] == 6 for row in table["rows"])
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and page.count("<svg") == 3
    assert f"{rows['mucpt']['heldout']['heldout_music_zh']:.3f}" in page


def test_the_export_is_the_trained_model(run):
    cfg = hf.read_config(run / "base" / "hf")
    assert cfg.vocab_size == 2048
    assert len(AutoTokenizer.from_pretrained(run / "base" / "hf")) <= 2048
    mesh = one_device_mesh()
    results_of = {}
    for name, workdir in (("checkpoint", run / "base"), ("export", run / "from_export")):
        settings = config_of(run, evaluate={"rows": str(run / "data/heldout/rows")}, init_from=str(run / "base/hf"))
        evaluate.evaluate(settings, mesh, workdir)
        results_of[name] = json.loads((workdir / "evaluate.json").read_text())
    steps = [results_of[name].pop("step") for name in ("checkpoint", "export")]
    assert steps[0] > 0 and steps[1] is None  # an export knows no step
    same = {
        key: results_of["checkpoint"][key] for key in results_of["export"]
    }  # the checkpoint was asked questions too
    assert same == results_of["export"]


def test_noise_slots_hold_the_planted_noise_and_nothing_else(run):
    found = noise.noise_slots(run, str(run / "raw/tokenizer"))
    tokenizer = AutoTokenizer.from_pretrained(run / "raw/tokenizer")
    truth = [json.loads(line) for line in (run / "raw/truth.jsonl").read_text(encoding="utf-8").splitlines()]
    planted = "\n".join(span["text"] for t in truth for span in t["spans"] if span["kind"] in noise.NOISE)
    manifest = read_manifest(run / "data/domain/rows")
    slots, checked = 0, 0
    for shard in manifest["shards"]:
        for number, row in enumerate(read_shard(run / "data/domain/rows" / shard["name"], T)):
            mask = found["slots"][shard["name"], number]
            slots += int(mask.sum())
            assert not mask[row["segment_ids"] == 0].any()
            for piece in runs(mask):
                text = tokenizer.decode(row["tokens"][piece]).strip().strip("\N{REPLACEMENT CHARACTER}")
                lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 3]
                checked += len(lines)
                assert all(line in planted for line in lines), text
    assert found["spans"]["found"] > 100 and checked > 100
    assert found["spans"].get("cut_by_cleaning", 0) == 0
    assert 0.35 < slots / manifest["sources"]["music_en"]["tokens"] < 2  # about half of both sources


def runs(mask: np.ndarray) -> list[slice]:
    """Maximal runs of true as slices."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [slice(a, b) for a, b in edges.reshape(-1, 2)]


def test_mean_weights_go_to_noise_and_rest_by_hand(run, tmp_path):
    """Two rows, r = 4 on noise and r = 1 elsewhere, floor 1: weights 1/4 and 1, over their mean of 0.625."""
    rng = np.random.default_rng(0)
    rows, slots = [], {}
    for number in range(2):
        row = {"tokens": rng.integers(1, 90, T + 1).astype("i4"), "segment_ids": np.ones(T + 1, "u2")}
        noisy = np.arange(T + 1) > T // 2  # targets T/2 + 1 .. T: half of the T targets
        rows.append(row | {"rm_nll": np.where(noisy, 4.0, 1.0).astype("f2")})
        slots["music-00000-of-00001.array_record", number] = noisy
    cfg = config_of(run, data={"domain": str(tmp_path / "data/domain/scored"), "sequence_length": T})
    scores = {"scores": {"mean_raw_weight": {"0.5": 1.0, "1.0": 0.625, "2.0": 0.4}}}
    for name in ("scored", "scored_base"):
        write_rows(tmp_path / "data/domain" / name, {"music": 2}, rows=rows, sequence_length=T, **scores)
    (tmp_path / "mucpt").mkdir()
    save_config(cfg, tmp_path / "mucpt")
    found = results.mean_weights(tmp_path, "mucpt", slots)
    assert found == pytest.approx({"weight_noise": 0.4, "weight_rest": 1.6, "noise_tokens": T, "rest_tokens": T})


def test_a_second_start_of_the_demo_on_other_data_is_refused(tmp_path):
    from demo.run import refuse_other_data

    refuse_other_data(tmp_path, {"data": ""}, "")
    refuse_other_data(tmp_path, {"data": str(tmp_path)}, f"{tmp_path}/../{tmp_path.name}")
    with pytest.raises(SystemExit, match="was made from the invented corpus"):
        refuse_other_data(tmp_path, {"data": ""}, str(tmp_path))


def test_report_escapes_what_names_hold():
    assert "<b>" not in report.html_table([["source"], ["<b>"]], {})
