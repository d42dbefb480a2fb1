import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from data_prep import pipeline
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
    return [f"--input={raw}", f"--output={out}", f"--tokenizer={tokenizer}", "--sequence_length=16"]


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
    counts = pipeline.run([*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), "--min_chars=10"])
    assert json.loads((tmp_path / "out/counts.json").read_text()) == counts
    assert counts["read"] == 7 and counts["kept"] == 3
    assert counts["dropped"] == {"empty": 1, "exact_duplicate": 1, "not_json": 1, "too_short": 1}
    assert counts["stages"] == {
        "clean": {"read": 7, "kept": 4, "dropped": {"empty": 1, "not_json": 1, "too_short": 1}},
        "dedup": {"read": 4, "kept": 3, "dropped": {"exact_duplicate": 1}},
        "shard": {"read": 3, "kept": 3, "dropped": {}},
    }
    assert records.read_manifest(str(tmp_path / "out/rows"))["sources"]["raw"]["documents"] == 3
    assert "exact_duplicate" in capsys.readouterr().out


def test_held_out_documents_stand_apart_and_every_document_on_one_side(tmp_path, tokenizer):
    lines = [
        json.dumps({"id": f"d{i}", "text": f"Song number {i} was written by singer {i * 7}."})
        for i in range(200)
    ]
    (tmp_path / "raw.jsonl").write_text("\n".join(lines) + "\n")
    counts = pipeline.run([*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), "--held_out=0.1"])
    sides = [
        set(pq.read_table(tmp_path / f"out/{side}/index.parquet")["document"].to_pylist())
        for side in ("rows", "held_out")
    ]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 200
    assert 8 <= len(sides[1]) <= 35  # 20 +- 4 standard deviations
    assert counts["dropped"] == {"held_out": len(sides[1])} and counts["kept"] == len(sides[0])
    aside = json.loads((tmp_path / "out/held_out/counts.json").read_text())
    assert aside == {"read": 200, "kept": len(sides[1]), "dropped": {"not_held_out": len(sides[0])}}
    pipeline.run([*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)])
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
    for more, kept in (([], 2), (["--near"], 1)):
        counts = pipeline.run([*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), *more])
        assert counts["kept"] == kept
    assert counts["dropped"] == {"near_duplicate": 1}
