import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from data_prep import dedup, pipeline
from data_prep.jobs import documents
from data_prep.jobs.options import option
from data_prep.jobs.stage import Stage, each_batch
from mucpt_jax.errors import UserError
from mucpt_jax.formats.manifest import read_manifest


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


def test_earlier_output_is_not_replaced_by_what_is_compared_with_it(tmp_path):
    write_raw(tmp_path / "raw.jsonl")
    asked = [f"--input={tmp_path / 'raw.jsonl'}", f"--output={tmp_path / 'out'}", "--config.stages=clean,dedup"]
    pipeline.run(asked)
    before = {path: path.stat().st_mtime for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match="would replace what --against names"):
        pipeline.run([*asked, f"--config.dedup.against={tmp_path / 'out/dedup'}"])
    assert {path: path.stat().st_mtime for path in tmp_path.rglob("*")} == before


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


OWN_RECIPE = """
from ml_collections import ConfigDict
def get_config(argument=""):
    config = ConfigDict(dict(stages="clean,dedup,shard", clean=dict(min_chars=5, languages=["en", "zh-Hans"])))
    if argument == "unknown":
        config.clean.foo = 1
    if argument == "no_stage":
        config.stages = "shard"
    if argument == "no_stages":
        del config.stages
    if argument == "misspelt":
        config.claen = dict(min_chars=3)
    if argument == "wrong":
        config.mask = dict(placeholder=3)
    return config
"""


def test_a_recipe_of_ones_own_may_leave_sections_out(tmp_path):
    write_raw(tmp_path / "raw.jsonl")
    (tmp_path / "my own.py").write_text(OWN_RECIPE)
    asked = [f"--input={tmp_path / 'raw.jsonl'}", f"--output={tmp_path / 'out put'}"]
    counts = pipeline.run([*asked, f"--config={tmp_path / 'my own.py'}"])
    assert list(counts["stages"]) == ["clean", "dedup"]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("unknown", r"config\.clean\.foo is none of its keys"), ("no_stage", "no stage to run"),
        ("no_stages", "is no part of"), ("wrong", r"config\.mask\.placeholder=3 is no str"),
        ("misspelt", "did you mean clean"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_recipe_of_ones_own_is_told(tmp_path, argument, told):
    write_raw(tmp_path / "raw.jsonl")
    (tmp_path / "own.py").write_text(OWN_RECIPE)
    with pytest.raises(UserError, match=told):
        pipeline.run(
            [
                f"--input={tmp_path / 'raw.jsonl'}",
                f"--output={tmp_path / 'out'}",
                f"--config={tmp_path / 'own.py'}:{argument}",
            ]
        )
    assert not (tmp_path / "out").exists()


def test_what_mask_writes_is_what_gets_no_loss():
    def stages(*argv):
        _, config, _ = pipeline.arguments(["--input=raw", "--output=out", "--config.shard.tokenizer=t", *argv])
        return {step.folder: step.options for step in pipeline.recipe_of(config).steps}

    for placeholder in ("<|{type}|>", "<{type}>"):
        found = stages(f"--config.mask.placeholder={placeholder}")
        assert found["mask"].placeholder == found["rows"].no_loss == placeholder
    found = stages("--config.shard.no_loss=")
    assert found["mask"].placeholder == "<|{type}|>" and not found["rows"].no_loss


def test_help_names_the_recipe_and_how_to_change_it(capsys):
    with pytest.raises(SystemExit):
        pipeline.run(["--help"])
    told = capsys.readouterr().out
    assert "--config FILE" in told and "curation.py" in told and "--config.SECTION.KEY" in told
    for stage in pipeline.STAGES:
        for field in dataclasses.fields(stage.options):
            assert f"--config.{stage.name}.{field.name}=" in told and field.metadata["meaning"] in told
    assert "--config.clean.languages=en,zh-Hans,zh-Hant" in told  # as the recipe has it


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--config.dedup.against=/nowhere --config.dedup.similarity=0.8", "holds no signatures"),
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
        pipeline.run([*flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer), *flag.split()])
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
    assert list(counts["stages"]) == [stage.output for stage in pipeline.STAGES]
    assert counts["read"] == 34 and counts["masked"] == {"documents": 1, "email": 1}
    assert (
        counts["dropped"]["language"] == counts["dropped"]["exact_duplicate"] == counts["dropped"]["contaminated"] == 1
    )
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    manifest = read_manifest(str(tmp_path / "out/rows"))
    facts = manifest["sources"]["crawl"]
    assert facts["targets"] == facts["tokens"] - facts["segments"] - len("<|email|>")
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["kept"] == counts["kept"]


@dataclasses.dataclass(frozen=True)
class ShoutOptions:
    least: int = option(1, "letters that make a shout")


def shout(batch, folder, options):
    loud = [text.upper() if len(text) >= options.least else text for text in batch["text"].to_pylist()]
    return documents.replace(batch, "text", loud)


def test_one_entry_makes_a_stage(tmp_path, tokenizer, monkeypatch, capsys):
    made_up = Stage("shout", "capital letters", "Shout.", ShoutOptions, each_batch(shout), counts={})
    monkeypatch.setattr(pipeline, "STAGES", (*pipeline.STAGES[:-1], made_up, pipeline.STAGES[-1]))
    with pytest.raises(SystemExit):
        pipeline.run(["--help"])
    told = capsys.readouterr().out
    assert "shout: capital letters" in told and "--config.shout.least=1 " in told and "that make a shout" in told
    write_raw(tmp_path / "raw.jsonl")
    asked = flags(tmp_path / "raw.jsonl", tmp_path / "out", tokenizer)
    counts = pipeline.run([*asked, "--config.stages=clean,shout,shard", "--config.shout.least=30"])
    assert list(counts["stages"]) == ["clean", "shout", "rows"]
    texts = pq.read_table(tmp_path / "out/shout/part-00000-000.parquet")["text"].to_pylist()
    assert "A SONG BY NOBODY IN PARTICULAR." in texts and "晴天是周杰伦的一首歌曲，收录于专辑《叶惠美》。" in texts
    found = json.loads((tmp_path / "out/report.json").read_text())
    assert [point["stage"] for point in found["funnel"]] == ["input", "clean", "shout", "rows"]
    assert "shout<small>capital letters</small>" in (tmp_path / "out/report.html").read_text()


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
