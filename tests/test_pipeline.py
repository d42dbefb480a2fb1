import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from data_prep import dedup, pipeline
from mucpt_jax import records
from mucpt_jax.records import UserError


@pytest.fixture
def tokenizer(tmp_path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


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
    counts = pipeline.run(
        [*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), "--config.clean.min_chars=10"]
    )
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
    assert records.read_manifest(str(tmp_path / "out/rows"))["sources"]["raw"]["documents"] == 3
    assert "exact_duplicate" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/config.json").read_text())["clean"]["min_chars"] == 10
    assert (tmp_path / "out/report.html").is_file() and (tmp_path / "out/report.json").is_file()


def test_held_out_documents_stand_apart_and_every_document_on_one_side(tmp_path, tokenizer):
    lines = [
        json.dumps({"id": f"d{i}", "text": f"Song number {i} was written by singer {i * 7}."})
        for i in range(200)
    ]
    (tmp_path / "raw.jsonl").write_text("\n".join(lines) + "\n")
    counts = pipeline.run(
        [*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), "--config.shard.held_out=0.1"]
    )
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
    code = (
        "import sys, data_prep.pipeline; print(*{m.split('.')[0] for m in sys.modules}); import transformers"
    )
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


def stages_run(monkeypatch) -> list[str]:
    """Names of the stages that run from now on, as they do."""
    told = []
    for name, module in pipeline.JOBS.items():
        run = module.run
        monkeypatch.setattr(module, "run", lambda argv, name=name, run=run: (told.append(name), run(argv))[1])
    return told


def test_a_stopped_pipeline_goes_on_behind_the_last_whole_stage(tmp_path, tokenizer, monkeypatch):
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)
    with monkeypatch.context() as patch:
        patch.setattr(dedup, "run", lambda argv: sys.exit("killed"))
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


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--config.clean.min_char=3", "min_char"),
        ("--config.stages=clean,cook", "cook"),
        ("--config.stages=dedup,clean", "in this order"),
        ("--config.clean.min_chars=-1", "negative"),
        ("--config=configs/absent.py", "absent"),
        ("--runer=Flink", "runer"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_is_read(tmp_path, tokenizer, flag, told):
    write_raw(tmp_path / "raw.jsonl")
    with pytest.raises(UserError, match=told):
        pipeline.run([*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), flag])
    assert not (tmp_path / "out").exists()


def test_the_whole_recipe_from_a_crawl_to_rows(tmp_path, tokenizer):
    pages = [
        f"The band played song number {i} in a small hall, and the people who had come for it stayed until the end. "
        f"Its singer wrote the words in the year {1900 + i} and the tune came later.\nShare on Facebook\n"
        for i in range(30)
    ]
    pages += [
        pages[0],
        "买 " * 200,
        "Der Sänger schrieb das Lied, und die Leute sangen es auf allen Straßen der alten Stadt.",
    ]
    pages += [
        "He wrote to a.b@example.org that the song which was sung by the choir of his town had been his own work."
    ]
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": pages[3][:100], "answer": "stayed"}) + "\n")
    lines = [json.dumps({"content": page, "site": "crawl"}) for page in pages]
    (tmp_path / "raw.jsonl").write_text("\n".join(lines) + "\n")
    counts = pipeline.run(
        [
            f"--input={tmp_path / 'raw.jsonl'}", f"--output={tmp_path / 'out'}", "--columns=text=content,source=site",
            f"--config.shard.tokenizer={tokenizer}", "--config.shard.sequence_length=64",
            f"--config.decontaminate.questions={questions}", "--config.dedup.similarity=0",
            "--config.dedup.signatures=False",
        ]
    )  # fmt: skip
    assert list(counts["stages"]) == [*list(pipeline.JOBS)[:-1], "rows"]
    assert counts["read"] == 34 and counts["masked"] == {"documents": 1, "email": 1}
    assert (
        counts["dropped"]["language"]
        == counts["dropped"]["exact_duplicate"]
        == counts["dropped"]["contaminated"]
        == 1
    )
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    manifest = records.read_manifest(str(tmp_path / "out/rows"))
    facts = manifest["sources"]["crawl"]
    assert facts["targets"] == facts["tokens"] - facts["segments"] - len("<|email|>")
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["kept"] == counts["kept"]
