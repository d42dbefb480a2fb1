"""The same exported model by lm-eval's own `hf` model, in PyTorch: equal log p of every option, cut rows among them."""

import numpy as np
import pytest
from conftest import one_device_mesh, small_config
from lm_eval.evaluator import evaluate
from test_harness import folder, own_task, params, write_exam  # noqa: F401 (fixtures)

from mucpt_jax.exams import adapter, scoring, tasks
from mucpt_jax.formats.tokenizer import load_tokenizer

pytest.importorskip("torch", reason="torch is no dependency; `make parity` installs it")


@pytest.fixture(scope="module")
def theirs(folder):  # noqa: F811
    """Their model and ours, of the same folder; each reads 60 tokens."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=3, max_length=60)


@pytest.fixture(scope="module")
def ours(folder, params):  # noqa: F811
    return adapter.Model(scoring.Scorer(params, small_config(), one_device_mesh()), load_tokenizer(folder), (0,), 60)


def answers(lm, names: list[str], folders: list[str], shots: int) -> list:
    loaded = tasks.load(names, folders, shots)
    result = evaluate(lm, {"tasks": {task.name: task.task for task in loaded}, "groups": {}}, bootstrap_iters=0)
    return [(sample["resps"], sample["target"]) for task in loaded for sample in result["samples"][task.name]]


@pytest.mark.parametrize("shots", [0, 2])
def test_multiple_choice_has_the_same_log_p_and_the_same_choice(shots, theirs, ours, tmp_path):
    folders = [write_exam(tmp_path / "cmmlu"), write_exam(tmp_path / "ceval", "art_studies")]
    names, ours.cut = ["cmmlu_arts", "ceval-valid_art_studies"], 0
    mine, other = (answers(lm, names, folders, shots) for lm in (ours, theirs))
    assert ours.cut == (72 if shots else 0)  # with shots no question fits into 60 tokens
    log_p, greedy = (np.array([[r[0][i] for r in resps] for resps, _ in mine]) for i in (0, 1))
    wanted, wanted_greedy = (np.array([[r[0][i] for r in resps] for resps, _ in other]) for i in (0, 1))
    assert log_p.shape == (18, 4)
    np.testing.assert_allclose(log_p, wanted, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(greedy, wanted_greedy)
    np.testing.assert_array_equal(log_p.argmax(1), wanted.argmax(1))


@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling"])
def test_texts_have_the_same_log_p(kind, theirs, ours, tmp_path):
    metric = "perplexity" if kind == "loglikelihood" else "word_perplexity"
    name = own_task(tmp_path, kind, f"metric_list: [{{metric: {metric}}}]")
    mine, other = (answers(lm, [name], [], 0) for lm in (ours, theirs))
    for (resps, _), (wanted, _) in zip(mine, other, strict=True):
        np.testing.assert_allclose(resps[0][0], wanted[0][0], rtol=0, atol=1e-4)


def test_generated_answers_are_the_same(theirs, ours, tmp_path):
    more = "generation_kwargs: {until: ['c'], max_gen_toks: 20}", "metric_list: [{metric: exact_match}]"
    name = own_task(tmp_path, "generate_until", *more)
    mine, other = (answers(lm, [name], [], 0) for lm in (ours, theirs))
    assert mine == other and len({resps[0][0] for resps, _ in mine}) > 1
