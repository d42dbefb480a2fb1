"""A pipeline that was stopped or changed runs again what it must, and nothing else."""

import dataclasses
import json
import sys

import pytest
from test_pipeline import flags, replace, write_raw

from data_prep import dedup, pipeline
from mucpt_jax.errors import UserError


def test_a_failing_stage_leaves_the_earlier_ones(tmp_path, tokenizer):
    write_raw(tmp_path / "raw.jsonl")
    (tmp_path / "out/rows").mkdir(parents=True)
    (tmp_path / "out/rows/mine.txt").write_text("dear")
    (tmp_path / "out/counts.json").write_text("{}")  # of an earlier run
    (tmp_path / "out/.clean.writing").mkdir()  # of a killed one
    with pytest.raises(UserError, match=r"holds mine\.txt"):
        pipeline.run(flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer))
    assert (tmp_path / "out/dedup/counts.json").is_file()
    assert not (tmp_path / "out/counts.json").exists()


def stages_run(monkeypatch) -> list[str]:
    """Names of the stages that run from now on, as they do."""
    told, run = [], pipeline.run_stage
    monkeypatch.setattr(pipeline, "run_stage", lambda stage, *rest: (told.append(stage.name), run(stage, *rest))[1])
    return told


def test_a_stopped_pipeline_goes_on_behind_the_last_whole_stage(tmp_path, tokenizer, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)
    with monkeypatch.context() as patch:
        replace(patch, "dedup", build=lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            pipeline.run(asked)
    told = stages_run(monkeypatch)
    counts = pipeline.run(asked)
    assert told == ["dedup", "shard"]
    alone = pipeline.run(flags(tmp_path / "raw.jsonl", tmp_path / "alone", tokenizer))
    assert counts["stages"] == alone["stages"]
    rows = [path.read_bytes() for path in sorted(tmp_path.glob("*/rows/*.array_record"))]
    assert len(rows) == 2 and rows[0] == rows[1]


def test_another_config_or_input_begins_again_where_it_differs(tmp_path, tokenizer, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)
    pipeline.run(asked)
    told = stages_run(monkeypatch)
    pipeline.run([*asked, "--config.shard.rows_per_shard=1"])
    assert told == ["shard"]
    pipeline.run([*asked, "--config.shard.rows_per_shard=1", "--config.clean.min_chars=10"])
    assert told[1:] == ["clean", "dedup", "shard"]
    with open(tmp_path / "raw.jsonl", "a") as f:
        f.write(json.dumps({"text": "Another song by nobody."}) + "\n")
    pipeline.run([*asked, "--config.shard.rows_per_shard=1", "--config.clean.min_chars=10"])
    assert told[4:] == ["clean", "dedup", "shard"]


def test_a_stage_that_is_left_out_begins_those_behind_it_again(tmp_path, tokenizer, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    asked = [f"--input={tmp_path / 'raw.jsonl'}", f"--output={tmp_path / 'out'}", "--config.clean.min_chars=10"]
    asked += ["--config.quality.min_words=7", "--config.dedup.similarity=0", "--config.dedup.signatures=False"]
    longer = pipeline.run([*asked, "--config.stages=clean,quality,dedup"])
    told = stages_run(monkeypatch)
    shorter = pipeline.run([*asked, "--config.stages=clean,dedup"])
    assert told == ["dedup"] and shorter["kept"] > longer["kept"]


def test_other_contents_under_the_same_names_begin_again(tmp_path, tokenizer, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    questions, song = tmp_path / "questions.jsonl", "A song by nobody in particular."
    questions.write_text(json.dumps({"question": "Who wrote the tune of the year?", "answer": "nobody"}) + "\n")
    asked = [f"--input={tmp_path / 'raw.jsonl'}", f"--output={tmp_path / 'out'}"]
    asked += ["--config.stages=clean,decontaminate,mask,shard", f"--config.decontaminate.questions={questions}"]
    asked += [f"--config.shard.tokenizer={tokenizer}", "--config.shard.sequence_length=16"]
    before = pipeline.run(asked)
    told = stages_run(monkeypatch)
    questions.write_text(json.dumps({"question": song, "answer": "nobody"}) + "\n")
    assert pipeline.run(asked)["kept"] < before["kept"]
    assert told == ["decontaminate", "mask", "shard"]
    (tokenizer / "tokenizer_config.json").write_text((tokenizer / "tokenizer_config.json").read_text() + "\n")
    pipeline.run(asked)
    assert told[3:] == ["shard"]


def test_another_earlier_output_under_the_same_name_begins_dedup_again(tmp_path, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    earlier, texts = (tmp_path / "earlier", ["Something else, from long ago.", "A song by nobody in particular."])
    asked = [f"--input={tmp_path / 'raw.jsonl'}", f"--output={tmp_path / 'out'}", "--config.stages=clean,dedup"]
    for number, text in enumerate(texts):
        (tmp_path / "old.jsonl").write_text(json.dumps({"text": text}) + "\n")
        dedup.run([f"--input={tmp_path / 'old.jsonl'}", f"--output={earlier}", "--signatures"])
        counts = pipeline.run([*asked, f"--config.dedup.against={earlier}"])
        assert counts["dropped"].get("exact_duplicate_of_earlier", 0) == 2 * number


def test_a_stage_whose_files_were_taken_away_runs_again(tmp_path, tokenizer, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)
    counts, told = pipeline.run(asked), stages_run(monkeypatch)
    next((tmp_path / "out/rows").glob("*.array_record")).unlink()
    next((tmp_path / "out/dedup").glob("part-*.parquet")).unlink()
    assert pipeline.run(asked)["stages"] == counts["stages"] and told == ["dedup", "shard"]
    next((tmp_path / "out/rows").glob("*.array_record")).unlink()
    assert pipeline.run(asked)["stages"] == counts["stages"] and told[2:] == ["shard"]


def test_input_that_changes_while_it_is_read_begins_again(tmp_path, tokenizer, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)

    def append(_):
        with open(tmp_path / "raw.jsonl", "a") as f:
            f.write(json.dumps({"text": "Another song by nobody."}) + "\n")

    with monkeypatch.context() as patch:
        replace(patch, "clean", finish=append)
        pipeline.run(asked)
    told = stages_run(monkeypatch)
    pipeline.run(asked)
    assert told[0] == "clean"


def test_what_later_jobs_write_beside_the_stages_stays(tmp_path, tokenizer):
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)
    pipeline.run(asked)
    for name in ("scored/manifest.json", "scored/audit.html", "overlap.json", "kept/select.json"):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("{}")
    for more in ([], ["--config.clean.min_chars=10"]):
        pipeline.run([*asked, *more])
        assert (tmp_path / "out/scored/audit.html").read_text() == (tmp_path / "out/overlap.json").read_text() == "{}"
        assert (tmp_path / "out/kept/select.json").is_file()


def test_an_option_that_came_later_had_its_default_before(tmp_path, tokenizer, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)
    pipeline.run(asked)
    noted = json.loads((tmp_path / "out/stages.json").read_text())
    del noted["clean"]["options"]["simplify"]
    (tmp_path / "out/stages.json").write_text(json.dumps(noted))
    told = stages_run(monkeypatch)
    pipeline.run(asked)
    assert told == []
    pipeline.run([*asked, "--config.clean.simplify=True"])
    assert told == ["clean", "dedup", "shard"]


@pytest.mark.parametrize("stage", pipeline.STAGES, ids=lambda stage: stage.name)
def test_an_option_of_any_type_that_came_later_had_its_default_before(stage):
    """Whatever its type is: a stage that is whole is not run again for it."""
    mark = {"options": json.loads(json.dumps(dataclasses.asdict(stage.options()))), "files": "hash"}
    for name in mark["options"]:
        older = {**mark, "options": {key: value for key, value in mark["options"].items() if key != name}}
        assert pipeline.same(older, mark, stage), name
        assert not pipeline.same({**mark, "options": mark["options"] | {name: "other"}}, mark, stage)
