"""General ability by lm-eval on our model: scores, local data, results.  (Its hf model speaks in test_parity.py.)"""

import inspect
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import VOCAB, one_device_mesh, small_config, write_config
from test_evaluate import write_tokenizer

from mucpt_jax import harness
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import alias, generate
from mucpt_jax.exams import adapter, results, scoring, tasks
from mucpt_jax.formats.files import file_hash
from mucpt_jax.formats.tokenizer import load_tokenizer
from mucpt_jax.run import lineage
from mucpt_jax.step import model, sharding
from mucpt_jax.weights import hf_write, transfer

HIDDEN = jax.jit(model.hidden, static_argnames=("cfg", "run"))


@pytest.fixture(scope="module")
def params():
    """With attention that matters: initial matrices are so small that no token heeds another."""
    return jax.tree.map(lambda p: p * (8 if p.ndim > 2 else 1), model.init(small_config().model, jax.random.key(3)))


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory) -> str:
    """The model as a Hugging Face folder; its tokenizer knows single characters."""
    path = tmp_path_factory.mktemp("exams")
    tokenizer = write_tokenizer(path / "tokenizer", more="BCD.0123456789Nwhouis")
    about = hf_write.About(str(path / "hf"), dtype="float32", tokenizer=tokenizer)
    transfer.to_hf(params, small_config().model, about)
    return str(path / "hf")


# Scores


def draw(rng, longest=40) -> list[scoring.Request]:
    """Five questions behind the same shots, options of 1, 1, 2, 3 tokens; of the fourth one is cut, of the last all."""
    shots, requests = rng.integers(1, VOCAB, 12).tolist(), []
    for length in (4, 9, 15, 27, 40):
        context = shots + rng.integers(1, VOCAB, length).tolist()
        for size in (1, 1, 2, 3):
            requests.append(scoring.request(context, rng.integers(1, VOCAB, size).tolist(), longest))
    return requests


def by_training_forward(params, cfg, request) -> tuple[float, bool]:
    """log p and greediness as training computes them: the row alone, no cache, no mask but the causal one."""
    read, wanted = np.zeros((1, 41), np.int32), request.tokens[-request.scored :]
    end = len(request.tokens) - 1
    read[0, :end] = request.tokens[:-1]
    hidden = HIDDEN(params, read, (np.arange(41) < end)[None].astype(np.int32), cfg=cfg.model, run=cfg.train)
    log_p = np.asarray(jax.nn.log_softmax(hidden[0] @ model.unembed(params)))[end - request.scored : end]
    return float(log_p[range(request.scored), wanted].sum()), bool((log_p.argmax(-1) == wanted).all())


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
    for i in (3, 15, 19):
        request, score = requests[i], shared[i]
        log_p, greedy = by_training_forward(params, cfg, request)
        assert (score.log_p, score.greedy) == (pytest.approx(log_p, abs=1e-5), greedy)
    assert shared[-1].greedy and not all(s.greedy for s in shared)


def test_a_model_of_nans_is_refused_and_does_not_answer_a(params):
    broken = params | {"norm": jax.tree.map(lambda p: p * np.nan, params["norm"])}
    with pytest.raises(UserError, match=r"NaN or infinite log p, .* look at its weights"):
        scoring.score(draw(np.random.default_rng(0))[:4], scoring.Scorer(broken, small_config(), one_device_mesh()))


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
    cfg, requests = small_config(mesh={"fsdp": 2, "context": 2, "tensor": 2}), draw(np.random.default_rng(1))
    mesh = sharding.make_mesh(cfg, jax.devices()[:8])
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
    ((_, shipped),) = tasks.configs("cmmlu_arts")
    (loaded,) = tasks.load(["cmmlu_arts"], [write_exam(tmp_path)], None)
    assert shipped["dataset_path"] == "haonan-li/cmmlu" and shipped["doc_to_text"].endswith("D. {{D}}\n答案：")
    for key in shipped.keys() - {"include", "metadata", "fewshot_config", "metric_list", "fewshot_split", "task"}:
        assert loaded.task.get_config(key) == shipped[key], key
    assert loaded.task.get_config("num_fewshot") == 0


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
    with pytest.raises(
        UserError, match=r"art_studies_val.csv gives no answer \(answer: .* to question 1, and to 9 of 9"
    ):
        tasks.load(["ceval-valid_art_studies"], [folder], None)
    path.write_text(text.replace("which c?,0.50,None,c,d,C", "which c?,0.50,None,c,d,"))
    with pytest.raises(UserError, match="to question 3, and to 1 of 9; a set without answers"):
        tasks.load(["ceval-valid_art_studies"], [folder], None)
    path.write_text(text.replace("question,A", "questions,A"))
    with pytest.raises(UserError, match="has no column 'question'"):
        tasks.load(["ceval-valid_art_studies"], [folder], None)
    with pytest.raises(UserError, match="lm-eval knows no task 'cmmlu_songs'"):
        tasks.load(["cmmlu_songs"], [], None)


def test_another_task_finds_its_data_under_their_name(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)  # as the command has it by its variable
    name = own_task(tmp_path, "generate_until", "metric_list: [{metric: exact_match}]")
    text = "\n".join(line for line in Path(name).read_text().splitlines() if "dataset_kwargs" not in line)
    Path(name).write_text(text.replace("dataset_path: json", "dataset_path: someone/songs"))
    with pytest.raises(
        UserError, match=r"sung: its data \(someone/songs\) are not here, .* copy them to FOLDER/someone"
    ):
        tasks.load([name], [str(tmp_path)], None)
    (tmp_path / "someone/songs").mkdir(parents=True)
    shutil.copy(tmp_path / "sung.jsonl", tmp_path / "someone/songs/test.jsonl")
    (loaded,) = tasks.load([name], [str(tmp_path / "none"), str(tmp_path)], None)
    assert [doc["answer"] for doc in loaded.task.eval_docs] == ["a a", "b b", "c c"]
    assert loaded.data == str(tmp_path / "someone/songs")


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


def run(tmp_path, folder, names: str, **settings) -> tuple[dict, list[dict]]:
    """harness.json and harness.jsonl"""
    cfg = small_config(init_from=folder, tokenizer=folder)
    harness.measure(harness.Settings(names, **settings), cfg, one_device_mesh(), tmp_path / "run")
    output = tmp_path / "run/harness"
    lines = (output / "harness.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads((output / "harness.json").read_text()), [json.loads(line) for line in lines]


@pytest.fixture
def data(tmp_path) -> str:
    write_exam(tmp_path / "data/cmmlu"), write_exam(tmp_path / "data/cmmlu", "logical", questions=3)
    return str(tmp_path / "data")


def test_a_run_writes_a_line_a_question_and_grades_with_their_intervals(tmp_path, folder, data, capsys):
    result, lines = run(tmp_path, folder, "cmmlu_arts,cmmlu_logical", data=data)
    assert [line["id"] for line in lines[7:]] == [
        "cmmlu_arts/7",
        "cmmlu_arts/8",
        *(f"cmmlu_logical/{i}" for i in range(3)),
    ]
    for i, line in enumerate(lines[:9]):
        assert line["answer"] == i % 4 and line["choice"] == int(np.argmax(line["lls"])) and len(line["lls"]) == 4
        assert line["correct"] == (line["choice"] == line["answer"])
    k = sum(line["correct"] for line in lines[:9])
    arts = result["tasks"]["cmmlu_arts"]
    assert (arts["k"], arts["n"], arts["accuracy"]) == (k, 9, pytest.approx(k / 9))
    assert (arts["num_fewshot"], arts["target_delimiter"], arts["metric"], arts["truncated"]) == (0, " ", "acc", 0)
    assert arts["metrics"]["acc,none"] == pytest.approx(k / 9)
    assert result["micro"]["n"] == 12 and result["macro"]["tasks"] == 2
    assert result["settings"]["max_length"] == 4096 and result["settings"]["lm_eval"].startswith("0.4.")
    assert result["rate"] > 0 and result["written_by"]["version"]
    assert f"cmmlu_arts                       {k / 9:.4f} (" in capsys.readouterr().out


def test_a_task_that_is_measured_stays_and_another_setting_is_another_task(tmp_path, folder, data, monkeypatch):
    before = run(tmp_path, folder, "cmmlu_arts", data=data)
    asked = []
    monkeypatch.setattr(scoring, "score", lambda *args, score=scoring.score: asked.append(len(args[0])) or score(*args))
    after = run(tmp_path, folder, "cmmlu_arts,cmmlu_logical", data=data)
    assert asked == [12] and after[1][:9] == before[1]
    run(tmp_path, folder, "cmmlu_arts,cmmlu_logical", data=data, num_fewshot=2)
    assert asked == [12, 36, 12]
    # A damaged result, and other questions.
    (tmp_path / "run/harness/parts/cmmlu_arts.json").write_text("{")
    path = tmp_path / "data/cmmlu/test/logical.csv"
    path.write_text(path.read_text().replace("which a", "which z"))
    again = run(tmp_path, folder, "cmmlu_arts,cmmlu_logical", data=data, num_fewshot=2)
    assert asked == [12, 36, 12, 36, 12] and again[0]["tasks"]["cmmlu_logical"]["num_fewshot"] == 2


def test_rows_that_are_cut_are_counted_and_a_limit_takes_the_first(tmp_path, folder, data, caplog):
    result, lines = run(tmp_path, folder, "cmmlu_arts", data=data, max_length=20, limit=0.5)
    assert len(lines) == 5 and result["truncated"] == result["tasks"]["cmmlu_arts"]["truncated"] == 20
    assert "cmmlu_arts: 20 requests lost the beginning of their context" in caplog.text
    with pytest.raises(UserError, match=r"--num_fewshot=-1 must be >= 0"):
        run(tmp_path, folder, "cmmlu_arts", data=data, num_fewshot=-1)


def test_generated_answers_and_whole_texts_are_measured_too(tmp_path, folder, params):
    until = "generation_kwargs: {until: ['\\n'], max_gen_toks: 5}"
    shots = "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]"
    result, lines = run(tmp_path, folder, own_task(tmp_path / "own", "generate_until", until, shots))
    assert (result["tasks"]["sung"]["metric"], result["tasks"]["sung"]["n"]) == ("exact_match", 3)
    tokenizer = load_tokenizer(folder)
    prompt = tokenizer("who is a?")["input_ids"]
    (greedy,) = generate.greedy(params, [prompt], small_config(), one_device_mesh(), new=5, ends=(0,))
    assert lines[0]["prediction"] == tokenizer.decode(greedy).partition("\n")[0] and lines[0]["answer"] == "a a"
    name = own_task(tmp_path / "own", "loglikelihood_rolling", "metric_list: [{metric: word_perplexity}]")
    result, lines = run(tmp_path, folder, name, max_length=2)
    # "a a" in windows of two: its tokens once each, behind the end of a document or what stands before.
    ids = [0, *tokenizer("a a")["input_ids"]]
    pairs = [scoring.request(ids[:1], ids[1:3], 9), scoring.request(ids[1:3], ids[3:], 9)]
    scores = scoring.score(pairs, scoring.Scorer(params, small_config(), one_device_mesh()))
    assert lines[0]["lls"] == [pytest.approx(sum(score.log_p for score in scores), abs=1e-5)]
    perplexity = np.exp(-sum(line["lls"][0] for line in lines) / 6)  # two words a line
    assert result["measures"]["sung"]["metrics"]["word_perplexity,none"] == pytest.approx(perplexity)
    assert result["micro"] is None


def test_a_multiple_choice_of_ones_own_as_the_manual_shows_it(tmp_path, folder, monkeypatch):
    manual = (Path(__file__).parents[1] / "docs/evaluation.md").read_text(encoding="utf-8")
    lines = manual.split("    task: ziqi\n")[1].split("\n\n")[0].splitlines()
    text = "\n".join(["task: ziqi", *(line[4:] for line in lines)])
    monkeypatch.chdir(tmp_path)
    Path("ziqi").mkdir()
    table = "Question,A,B,C,D,Answer\nwho is a?,NA,None,,a,D\nwho is b?,b,c,d,0.50,A\n"
    Path("ziqi/test.csv").write_text(table)
    Path("ziqi.yaml").write_text(text)
    (loaded,) = tasks.load(["ziqi.yaml"], [], None)
    asked = loaded.task.doc_to_text(loaded.task.eval_docs[0])
    assert asked == "who is a?\nA. NA\nB. None\nC. \nD. a\nAnswer:"
    result, lines = run(tmp_path, folder, "ziqi.yaml")
    assert [line["answer"] for line in lines] == [3, 0] and result["tasks"]["ziqi"]["n"] == 2
    # Another metric is another result; the same file is the same one.
    parts = tmp_path / "run/harness/parts/ziqi.json"
    first = json.loads(parts.read_text())
    run(tmp_path, folder, "ziqi.yaml")
    assert json.loads(parts.read_text()) == first
    Path("ziqi.yaml").write_text(f"{text}\nmetric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]\n")
    run(tmp_path, folder, "ziqi.yaml")
    assert json.loads(parts.read_text())["key"] != first["key"]
    for changed, sentence in (
        (table.replace(",A\n", ",\n"), r"ziqi: question 2 has none of its options as answer \(.*not in list"),
        (table.replace(",D\n", ",E\n"), r"ziqi: its data \(csv\) .* mend them, or data_files in the task's YAML file"),
    ):
        Path("ziqi/test.csv").write_text(changed)
        with pytest.raises(UserError, match=sentence):
            tasks.load(["ziqi.yaml"], [], None)
    Path("ziqi/test.csv").write_text(table.replace(",A\n", ",F\n"))
    Path("ziqi.yaml").write_text(re.sub("doc_to_target.*", 'doc_to_target: "{{Answer}}"', text))
    with pytest.raises(UserError, match=r"ziqi: question 2 has none of its options as answer \('F'\); mend its files"):
        tasks.load(["ziqi.yaml"], [], None)


def test_a_function_of_a_task_has_the_same_key_at_each_start():
    def metric(x):
        return x

    assert harness.spelled([{"metric": metric}]) == [{"metric": inspect.getsource(metric)}]
    assert "0x" not in str(harness.spelled({"f": metric, "g": None, "h": 1}))


def test_the_chat_template_wraps_what_is_asked(tmp_path, folder, data, monkeypatch):
    with pytest.raises(UserError, match=r"has no chat template, .* or leave --chat away"):
        run(tmp_path, folder, "cmmlu_arts", data=data, chat=True)
    own = tmp_path / "chat"
    shutil.copytree(folder, own)
    (own / "chat_template.jinja").write_text("{% for m in messages %}Q{{ m.content }}A{% endfor %}")
    with (own / "SHA256SUMS").open("a") as sums:
        sums.write(f"{file_hash(own / 'chat_template.jinja')}  chat_template.jinja\n")
    texts = []
    monkeypatch.setattr(adapter.Model, "loglikelihood", lambda self, asked, **_: texts.extend(r.args for r in asked)
                        or [(0.0, False)] * len(asked))  # fmt: skip
    run(tmp_path, str(own), "cmmlu_arts", data=data, chat=True, limit=1)
    assert texts[0][0].endswith("D. d\n答案：A") and texts[0][0].count("Q") == 2 and texts[0][1] == "A"


def test_averages_by_hand():
    grades = [alias.grades(8, 10), alias.grades(30, 100)]
    both = results.averages(grades)
    assert (both["micro"]["k"], both["micro"]["n"]) == (38, 110)
    assert both["macro"]["accuracy"] == pytest.approx((0.8 + 0.3) / 2)
    low, high = 0.4902, 0.9433  # Wilson's of 8 of 10
    assert (grades[0]["low"], grades[0]["high"]) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    half = np.hypot((high - low) / 2, (grades[1]["high"] - grades[1]["low"]) / 2) / 2
    assert both["macro"]["high"] - both["macro"]["accuracy"] == pytest.approx(half, abs=1e-4)


def test_the_command_takes_the_folder_that_is_named_not_the_run_of_the_configs_name(monkeypatch, capsys):
    values = SimpleNamespace(tasks="cmmlu", workdir=None)
    monkeypatch.setattr(harness, "flags", SimpleNamespace(FLAGS=values))
    monkeypatch.setattr(harness, "define_flags", lambda: None)
    monkeypatch.setattr(harness.launch, "parse", lambda argv: argv[:1])
    harness.parse(["harness", "--config=configs/demo.py:base", "--config.init_from=models/qwen"])
    assert values.workdir == "runs/qwen"
    values.tasks = None
    with pytest.raises(SystemExit, match="--tasks is missing"):
        harness.parse(["harness"])
    with pytest.raises(SystemExit):
        harness.parse(["harness", "--help"])
    assert capsys.readouterr().out.startswith("usage: python -m mucpt_jax.harness")


@pytest.mark.slow
def test_two_hosts_compute_together_what_one_computes(tmp_path, folder, data):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        sys.executable, "-m", "mucpt_jax.harness", f"--config={write_config(tmp_path, 1)}", f"--workdir={tmp_path}/two",
        f"--config.init_from={folder}", "--tasks=cmmlu_arts", f"--data={data}", "--config.mesh.distributed=True",
        f"--coordinator={address}", "--num_processes=2",
    ]  # fmt: skip
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    hosts = [
        subprocess.Popen([*command, f"--process_id={i}"], cwd=Path(__file__).parents[1], env=environment)
        for i in (0, 1)
    ]
    assert [host.wait(timeout=300) for host in hosts] == [0, 0]
    _, lines = run(tmp_path, folder, "cmmlu_arts", data=data)
    two = [json.loads(line) for line in (tmp_path / "two/harness/harness.jsonl").read_text().splitlines()]
    for ours, line in zip(two, lines, strict=True):
        np.testing.assert_allclose(ours.pop("lls"), line.pop("lls"), rtol=0, atol=1e-5)
        assert ours == line
