import pytest
from test_compare import write_run

from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import run_files

PREDICTION = '{"id": 1, "question": "q", "answer": "a", "aliases": %s, "prediction": "p", "correct": true}\n'


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", "{", "config.json cannot be read as JSON"),
        ("evaluate.json", "[]", r"evaluate\.json is damaged .*Expected `object`, got `array`"),
        ("evaluate.json", '{"heldout": {"music": {}}}', r"missing required field `nll` - at `\$\.heldout\[\.\.\.\]`"),
        ("evaluate.json", '{"heldout": [1]}', r"got `array` - at `\$\.heldout`"),
        ("evaluate.json", '{"questions": [1]}', r"got `array` - at `\$\.questions`"),
        ("predictions.jsonl", "{\n", r"predictions\.jsonl line 1 cannot be read as JSON"),
        ("predictions.jsonl", '{"id": 1}\n', "line 1 is damaged .*missing required field"),
        ("predictions.jsonl", PREDICTION % '[["a"]]', r"Expected `str`, got `array` - at `\$\.aliases\[0\]`"),
        ("predictions.jsonl", PREDICTION % '"a"', r"got `str` - at `\$\.aliases`"),
        ("predictions.jsonl", "", "has 0 right of 0, evaluate.json beside it says 1 of 2"),
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
