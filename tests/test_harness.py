"""General ability by lm-eval on our model: scores, local data, results.  (Its hf model speaks in test_parity.py.)"""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest
from conftest import VOCAB, one_device_mesh, small_config
from test_evaluate import write_tokenizer

from mucpt_jax import harness
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import generate
from mucpt_jax.exams import results, scoring, tasks
from mucpt_jax.run import lineage
from mucpt_jax.step import losses, model

pytest.importorskip("lm_eval", reason="an extra: pip install -r requirements-eval.txt")


@pytest.fixture(scope="module")
def params():
    """With attention that matters: initial matrices are so small that no token heeds another."""
    return jax.tree.map(lambda p: p * (8 if p.ndim > 2 else 1), model.init(small_config().model, jax.random.key(3)))


@pytest.fixture
def trained(params, monkeypatch):
    monkeypatch.setattr(lineage, "load_params", lambda *_: params)
    return params


# Scores


def draw(rng, longest=40) -> list[scoring.Request]:
    """Five questions behind the same three shots, options of one to three tokens; of one question a single option is cut, of one all."""
    shots, requests = rng.integers(1, VOCAB, 12).tolist(), []
    for length in (4, 9, 15, 27, 40):
        context = shots + rng.integers(1, VOCAB, length).tolist()
        for size in (1, 1, 2, 3):
            requests.append(scoring.request(context, rng.integers(1, VOCAB, size).tolist(), longest))
    return requests


def by_training_forward(params, cfg, request) -> tuple[float, bool]:
    """log p and greediness as training computes them: the row alone, no cache, no mask but the causal one."""
    row = request.tokens[None]
    nll = losses.batch_nll(params, {"tokens": row, "segment_ids": np.ones_like(row)}, cfg)[0]
    hidden = model.hidden(params, row[:, :-1], np.ones_like(row[:, :-1]), cfg.model, cfg.train)[0]
    best = np.asarray(hidden @ model.unembed(params)).argmax(-1)[-request.scored :]
    return -float(nll[-request.scored :].sum()), bool((best == request.tokens[-request.scored :]).all())


def test_shared_scores_are_those_of_a_row_an_option_and_of_training(params):
    cfg, requests = small_config(), draw(np.random.default_rng(0))
    assert [r.cut for r in requests] == [False] * 15 + [True] * 5  # 39 + 2 still fit: 40 are read
    greedy = generate.greedy(
        params, [requests[0].tokens[:-1].tolist()], cfg, one_device_mesh(), new=2, ends=(VOCAB - 1,)
    )[0]
    requests.append(scoring.request(requests[0].tokens[:-1].tolist(), greedy, 40))  # what greedy decoding gives
    scorer = scoring.Scorer(params, cfg, one_device_mesh())
    shared = scoring.score(requests, scorer)
    plain = scoring.score(requests, scorer._replace(shared=False))
    np.testing.assert_allclose([s.log_p for s in shared], [s.log_p for s in plain], rtol=0, atol=1e-5)
    assert [s.greedy for s in shared] == [s.greedy for s in plain]
    for request, score in zip(requests[::3], shared[::3], strict=True):
        log_p, greedy = by_training_forward(params, cfg, request)
        assert (score.log_p, score.greedy) == (pytest.approx(log_p, abs=1e-5), greedy)
    assert shared[-1].greedy and not all(s.greedy for s in shared)


def test_a_cut_request_keeps_its_last_tokens_whichever_way_it_is_scored():
    context = list(range(1, 50))
    assert scoring.request(context, [60], 49).cut is False  # 49 tokens are read, the 50th is predicted
    request = scoring.request(context, [60, 61], 40)
    assert (request.tokens.tolist(), request.scored, request.cut) == ([*context[-39:], 60, 61], 2, True)
    with pytest.raises(UserError, match=r"a continuation of 41 tokens .* reads 40; .* --max_length"):
        scoring.request(context, [1] * 41, 40)
    with pytest.raises(UserError, match="a continuation of 0 tokens"):
        scoring.request(context, [], 40)


def test_what_requests_share_stands_once_and_rows_are_full():
    requests = draw(np.random.default_rng(0), longest=100)
    (rows,) = scoring.packed(requests, shared=True).values()
    # 12 tokens of shots, the questions, and of options all but what is not read or was read before.
    assert len(rows) == 1
    assert len(rows[0].tokens) == 12 + (4 + 9 + 15 + 27 + 40) + 5 * (1 + 2)
    assert sorted(number for number, *_ in rows[0].requests) == list(range(20))
    (alone,) = scoring.packed(requests, shared=False).values()
    assert len(alone) == 20


def test_batches_are_split_over_a_mesh(params):
    cfg, requests = small_config(mesh={"fsdp": 2, "tensor": 2}), draw(np.random.default_rng(1))
    from mucpt_jax.step import sharding

    mesh = sharding.make_mesh(cfg, jax.devices()[:4])
    placed = jax.device_put(params, jax.tree.map(lambda p: p.sharding, lineage.abstract_params(cfg, mesh)))
    one = scoring.score(requests, scoring.Scorer(params, cfg, one_device_mesh()))
    with jax.set_mesh(mesh):
        split = scoring.score(requests, scoring.Scorer(placed, cfg, mesh))
    np.testing.assert_allclose([s.log_p for s in split], [s.log_p for s in one], rtol=0, atol=1e-5)


# Tasks and their data


def write_exam(folder, subject="arts", questions=9, **changed):
    """CMMLU's files of a subject, or C-Eval's; the answers are A B C D A ..."""
    ceval = {"art_studies": "val"}.get(subject)
    header = "id,question,A,B,C,D,answer" if ceval else ",Question,A,B,C,D,Answer"
    for split, count in ((ceval or "test", questions), ("dev", 5)):
        path = folder / split / (f"{subject}_{split}.csv" if ceval else f"{subject}.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        more = ",explanation" if ceval and split == "dev" else ""
        lines = [f"{i},which {'abcdefghij'[i]}?,0.50,None,c,d,{'ABCD'[i % 4]}{more and ',why'}" for i in range(count)]
        path.write_text("\n".join([header + more, *lines]) + "\n", encoding="utf-8")
    return str(folder)


def test_prompts_of_cmmlu_and_ceval_are_those_of_lm_eval_and_cells_stay_as_they_are(tmp_path):
    folders = [write_exam(tmp_path / "cmmlu"), write_exam(tmp_path / "elsewhere", "art_studies")]
    cmmlu, ceval = tasks.load(["cmmlu_arts", "ceval-valid_art_studies"], folders, 1)
    for task in (cmmlu.task, ceval.task):
        task.build_all_requests(limit=2)
    question = "A. 0.50\nB. None\nC. c\nD. d\n答案："
    asked = f"which a?\n{question} A\n\nwhich b?\n{question}"
    first = cmmlu.task.instances[4].args
    assert first == (f"以下是关于艺术学的单项选择题，请直接给出正确答案的选项。\n\n{asked}", " A")
    assert ceval.task.instances[7].args == (
        f"以下是中国关于艺术学的单项选择题，请选出其中的正确答案。\n\n{asked}", " D"
    )  # fmt: skip
    assert [cmmlu.task.doc_to_target(doc) for doc in cmmlu.task.eval_docs] == [0, 1, 2, 3] * 2 + [0]
    assert (cmmlu.group, cmmlu.data, ceval.data) == (None, *folders)


def test_only_where_its_data_lie_differs_from_the_file_that_lm_eval_ships(tmp_path):
    from lm_eval.tasks._yaml_loader import load_yaml

    ((_, shipped),) = tasks.configs("cmmlu_arts")
    (loaded,) = tasks.load(["cmmlu_arts"], [write_exam(tmp_path)], None)
    assert shipped == load_yaml(next(tasks_folder().glob("cmmlu/cmmlu_arts.yaml")))
    for key in shipped.keys() - {"include", "metadata", "fewshot_config", "metric_list", "fewshot_split", "task"}:
        assert loaded.task.get_config(key) == shipped[key], key
    assert loaded.task.get_config("num_fewshot") == 0


def tasks_folder():
    import lm_eval.tasks
    from pathlib import Path

    return Path(lm_eval.tasks.__file__).parent


def test_a_group_has_its_tasks_and_a_tag_and_a_task_of_another_folder_are_known():
    names = [config["task"] for group, config in tasks.configs("cmmlu")]
    assert len(names) == 67 and names[0] == "cmmlu_agronomy"
    assert {group for group, _ in tasks.configs("ceval-valid")} == {"ceval-valid"}
    mmlu = list(tasks.configs("mmlu"))
    assert len(mmlu) == 57 and {group for group, _ in mmlu} >= {"mmlu_stem", "mmlu_humanities"}


def test_data_that_are_not_here_or_have_no_answers_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"--data=.* has no test/arts.csv, nor cmmlu/test/arts.csv; .*test/SUBJECT.csv"):
        tasks.load(["cmmlu_arts"], [str(tmp_path)], None)
    folder = write_exam(tmp_path, "art_studies")
    path = tmp_path / "val/art_studies_val.csv"
    text = path.read_text()
    path.write_text(text.replace(",answer", "").replace(",A\n", "\n").replace(",B\n", "\n"))
    with pytest.raises(UserError, match=r"art_studies_val.csv gives no answer \(answer: .* to question 1, and to 9 of 9"):
        tasks.load(["ceval-valid_art_studies"], [folder], None)
    path.write_text(text.replace("which c?,0.50,None,c,d,C", "which c?,0.50,None,c,d,"))
    with pytest.raises(UserError, match="to question 3, and to 1 of 9; a set without answers"):
        tasks.load(["ceval-valid_art_studies"], [folder], None)
    path.write_text(text.replace("question,A", "questions,A"))
    with pytest.raises(UserError, match="has no column 'question'"):
        tasks.load(["ceval-valid_art_studies"], [folder], None)
    with pytest.raises(UserError, match="lm-eval knows no task 'cmmlu_songs'"):
        tasks.members("cmmlu_songs", {}, None).__next__() if False else tasks.index_with("cmmlu_songs")


# The command


YAML = """task: sung
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/sung.jsonl}}
test_split: test
output_type: OUTPUT
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
MORE
"""


def own_task(folder, output: str, *more: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"question": f"who is {c}?", "answer": f"{c} {c}"} for c in "abc"]
    (folder / "sung.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = YAML.replace("FOLDER", str(folder)).replace("OUTPUT", output).replace("MORE", "\n".join(more))
    (folder / "sung.yaml").write_text(text)
    return str(folder / "sung.yaml")


def run(tmp_path, task: str, **settings) -> dict:
    cfg = small_config(tokenizer=write_tokenizer(tmp_path / "tokenizer"), init_from=str(tmp_path / "absent"))
    cfg = dataclasses.replace(cfg, tokenizer=write_tokenizer(tmp_path / "tokenizer"))
    harness.measure(harness.Settings(task, **settings), cfg, one_device_mesh(), tmp_path / "run")
    return json.loads((tmp_path / "run/harness/harness.json").read_text())
