"""The pipeline's recipe: the one that ships, one's own, and what is wrong in one."""

import dataclasses
import json

import pyarrow.parquet as pq
import pytest
from test_pipeline import flags, write_raw

from data_prep import pipeline
from data_prep.jobs import documents
from data_prep.jobs.options import option
from data_prep.jobs.stage import Stage, each_batch
from mucpt_jax.errors import UserError
from mucpt_jax.formats.manifest import read_manifest

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
