import pytest
from test_compare import write_run

from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import run_files

PREDICTION = '{"id": 1, "question": "q", "answer": "a", "aliases": %s, "correct": true}\n'


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", "{", "config.json cannot be read as JSON"),
        ("evaluate.json", "[]", "evaluate.json holds no JSON object"),
        ("evaluate.json", '{"heldout": {"music": {}}}', "a held-out source without nll and tokens"),
        ("evaluate.json", '{"heldout": [1]}', "a held-out source without nll and tokens"),
        ("evaluate.json", '{"questions": [1]}', "has questions without k and n"),
        ("predictions.jsonl", "{\n", "predictions.jsonl line 1 is no JSON object"),
        ("predictions.jsonl", '{"id": 1}\n', "line 1 is no prediction"),
        ("predictions.jsonl", PREDICTION % '[["a"]]', "line 1 is no prediction"),
        ("predictions.jsonl", PREDICTION % '"a"', "line 1 is no prediction"),
        ("predictions.jsonl", "", "has 0 right of 0, evaluate.json beside it says 1 of 2"),
        ("metrics.jsonl", '{"st\n{"step": 1}\n', "metrics.jsonl line 1 is no JSON object"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, sentence):
    run = write_run(tmp_path / "run", "+-")
    (tmp_path / "run" / file).write_text(content)
    with pytest.raises(UserError, match=sentence):
        run_files.read(run)


def test_a_knob_that_is_gone_makes_runs_differ_only_where_it_was_used(tmp_path):
    loss = {"kind": "mucpt"}
    runs = [write_run(tmp_path / str(i), loss=loss | more) for i, more in enumerate(({}, {"smooth": "none"}))]
    new, old = (run_files.read(run)["settings"] for run in runs)
    assert new == old
    smoothed = run_files.read(write_run(tmp_path / "smoothed", loss=loss | {"smooth": "mean"}))["settings"]
    assert smoothed == new | {"loss.smooth": "mean"}
