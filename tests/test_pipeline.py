"""The stages of the pipeline as a whole: counts, sides, outputs."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_prep import pipeline
from mucpt_jax.errors import UserError
from mucpt_jax.formats.manifest import read_manifest


def flags(raw: Path, out: Path, tokenizer: Path) -> list[str]:
    shard = [f"--config.shard.tokenizer={tokenizer}", "--config.shard.sequence_length=16"]
    return [f"--input={raw}", f"--output={out}", f"--config={pipeline.RECIPE}:plain", *shard]


def write_raw(path: Path) -> None:
    texts = [
        "晴天是周杰伦的一首歌曲，收录于专辑《叶惠美》。",
        "Home | Log in",
        "A song by nobody in particular.",
        "short",
        "not so short",  # for --min_chars=10, not for the 20 without it
    ]
    lines = [json.dumps({"text": text}) for text in [*texts, texts[2].upper()]]
    path.write_text("\n".join([*lines, "not json"]) + "\n")


def test_counts_add_up_over_the_whole_road(tmp_path, tokenizer, capsys):
    write_raw(tmp_path / "raw.jsonl")
    counts = pipeline.run([*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), "--config.clean.min_chars=10"])
    assert json.loads((tmp_path / "out/counts.json").read_text()) == counts
    assert counts["read"] == 7 and counts["kept"] == 3
    assert counts["dropped"] == {"empty": 1, "exact_duplicate": 1, "not_json": 1, "too_short": 1}
    assert counts["stages"] == {
        "clean": {
            "read": 7,
            "kept": 4,
            "dropped": {"empty": 1, "not_json": 1, "too_short": 1},
            "lines": {"navigation": 1},
        },
        "dedup": {"read": 4, "kept": 3, "dropped": {"exact_duplicate": 1}},
        "rows": {"read": 3, "kept": 3, "dropped": {}},
    }
    assert read_manifest(str(tmp_path / "out/rows"))["sources"]["raw"]["documents"] == 3
    assert "exact_duplicate" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/config.json").read_text())["clean"]["min_chars"] == 10
    assert (tmp_path / "out/report.html").is_file() and (tmp_path / "out/report.json").is_file()


def test_held_out_documents_stand_apart_and_every_document_on_one_side(tmp_path, tokenizer):
    lines = [json.dumps({"id": f"d{i}", "text": f"Song number {i} was written by singer {i * 7}."}) for i in range(200)]
    (tmp_path / "raw.jsonl").write_text("\n".join(lines) + "\n")
    counts = pipeline.run([*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), "--config.shard.held_out=0.1"])
    sides = [
        set(pq.read_table(tmp_path / f"out/{side}/index.parquet")["document"].to_pylist())
        for side in ("rows", "held_out")
    ]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 200
    assert 8 <= len(sides[1]) <= 35  # 20 +- 4 standard deviations
    assert counts["dropped"] == {"held_out": len(sides[1])} and counts["kept"] == len(sides[0])
    aside = json.loads((tmp_path / "out/held_out/counts.json").read_text())
    assert aside == {"read": 200, "kept": len(sides[1]), "dropped": {"not_held_out": len(sides[0])}}
    pipeline.run(flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer))
    assert not (tmp_path / "out/held_out").exists()


def test_a_lost_document_between_stages_shows():
    clean = {"read": 5, "kept": 4, "dropped": {"empty": 1}}
    with pytest.raises(AssertionError, match="lost between stages"):
        pipeline.total({"clean": clean, "dedup": {"read": 3, "kept": 3, "dropped": {}}})


def test_a_wrong_tokenizer_is_found_before_the_first_stage(tmp_path):
    write_raw(tmp_path / "raw.jsonl")
    with pytest.raises(UserError, match="is not a folder"):
        pipeline.run(flags(tmp_path / "raw.jsonl", tmp_path / "out", tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()


def test_only_its_own_output_is_replaced_and_only_by_input(tmp_path, tokenizer):
    write_raw(tmp_path / "raw.jsonl")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/counts.json").write_text("{}")
    with pytest.raises(UserError, match="does not exist"):
        pipeline.run(flags(tmp_path / "nothing.jsonl", tmp_path / "out", tokenizer))
    (tmp_path / "out/thesis").mkdir()
    with pytest.raises(UserError, match="holds thesis"):
        pipeline.run(flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"counts.json", "thesis"}
    with pytest.raises(UserError, match="cannot be made or written"):
        pipeline.run(flags(tmp_path / "raw.jsonl", tmp_path / "raw.jsonl/out", tokenizer))


def test_importing_the_jobs_loads_no_framework_and_says_nothing():
    code = "import sys, data_prep.pipeline; print(*{m.split('.')[0] for m in sys.modules}); import transformers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"jax", "flax", "torch", "tensorflow", "transformers"} & set(done.stdout.split())
    assert done.stderr == ""


def test_near_duplicates_stay_unless_asked_for(tmp_path, tokenizer):
    words = [f"word{i}" for i in range(60)]
    texts = [" ".join(words), " ".join([*words[:-1], "other"])]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for more, kept in (([], 2), (["--config.dedup.similarity=0.8"], 1)):
        counts = pipeline.run([*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), *more])
        assert counts["kept"] == kept
    assert counts["dropped"] == {"near_duplicate": 1}


def replace(patch, name: str, **fields) -> None:
    """Another entry for a stage."""
    stages = [stage._replace(**fields) if stage.name == name else stage for stage in pipeline.STAGES]
    patch.setattr(pipeline, "STAGES", tuple(stages))


def test_earlier_output_is_not_replaced_by_what_is_compared_with_it(tmp_path):
    write_raw(tmp_path / "raw.jsonl")
    asked = [f"--input={tmp_path / 'raw.jsonl'}", f"--output={tmp_path / 'out'}", "--config.stages=clean,dedup"]
    pipeline.run(asked)
    before = {path: path.stat().st_mtime for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match="would replace what --against names"):
        pipeline.run([*asked, f"--config.dedup.against={tmp_path / 'out/dedup'}"])
    assert {path: path.stat().st_mtime for path in tmp_path.rglob("*")} == before


def test_the_input_is_never_within_the_output(tmp_path, tokenizer):
    write_raw(tmp_path / "raw.jsonl")
    pipeline.run(flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="holds the input"):
        pipeline.run([f"--input={tmp_path / 'out/clean'}", f"--output={tmp_path / 'out'}", "--config.stages=dedup"])
    assert sorted(tmp_path.rglob("*")) == before


def test_two_runs_at_once_into_one_output_are_refused(tmp_path, tokenizer, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)

    def second_beside(_):
        with pytest.raises(UserError, match="being written by another run"):
            pipeline.run([*asked, "--config.clean.min_chars=10"])

    replace(monkeypatch, "clean", finish=second_beside)
    assert pipeline.run(asked)["stages"]["clean"]["kept"] == 3
    assert json.loads((tmp_path / "out/config.json").read_text())["clean"]["min_chars"] == 20


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_of_a_small_corpus_one_document_stands_on_either_side(tmp_path, tokenizer, share):
    lines = [json.dumps({"id": f"d{i}", "text": f"Song number {i} is by singer {i * 7}."}) for i in range(5)]
    (tmp_path / "raw.jsonl").write_text("\n".join(lines) + "\n")
    asked = [*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), f"--config.shard.held_out={share}"]
    kept = pipeline.run(asked)["kept"]
    places = {f"d{i}": int.from_bytes(hashlib.sha256(f"d{i}".encode()).digest()[:8]) for i in range(5)}
    alone, pick = ("held_out", min) if share < 0.5 else ("rows", max)
    assert kept == (4 if share < 0.5 else 1)
    names = pq.read_table(tmp_path / f"out/{alone}/index.parquet")["document"].to_pylist()
    assert set(names) == {pick(places, key=places.get)}
    (tmp_path / "raw.jsonl").write_text(lines[0] + "\n")
    with pytest.raises(UserError, match=r"held_out=0.*needs two documents"):
        pipeline.run(asked)


def test_a_stage_that_drops_most_says_why_and_what_to_change(tmp_path, tokenizer, capsys, caplog):
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)
    pipeline.run([*asked, "--config.clean.min_chars=24"])
    warning = "WARNING: clean dropped 5 of 7 documents, 3 of them as too_short"
    assert warning in caplog.text and warning in (told := capsys.readouterr().out) and "--min_chars of clean" in told
    assert told.splitlines()[-1].startswith(f"{tmp_path / 'out/report.html'} ")
    pipeline.run([*asked, "--config.clean.min_chars=10"])
    assert "WARNING" not in capsys.readouterr().out
