"""Questions put to a model: prompts, where answers end, what is kept of them through kills."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from conftest import VOCAB, one_device_mesh, small_config, write_rows
from llm_server import serving
from test_evaluate import write_tokenizer

from mucpt_jax import answer, checks, config, evaluate, train
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import answers, generate, prompts
from mucpt_jax.formats import tokenizer as tokenizers
from mucpt_jax.formats.decode import read_json, read_lines
from mucpt_jax.formats.questions import Answer, Answers
from mucpt_jax.run import goodput, lineage
from mucpt_jax.step import model, sharding

ROOT = Path(__file__).parents[1]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)


def questions_file(folder: Path, count: int = 12) -> Path:
    """Questions of several lengths, in no order."""
    lines = [{"id": f"q{i}", "question": f"who {'sang ' * (i * 5 % 7)}{i}?", "answer": "x"} for i in range(count)]
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


# Prompts


def test_shots_stand_in_the_language_of_the_question():
    text = prompts.text_of({"question": "《后来》是谁唱的？"}, "few_shot", "")
    assert text.startswith("问题：《蒙娜丽莎》是哪位画家的作品？\n答案：达·芬奇\n\n问题：")
    assert text.endswith("答案：8\n\n问题：《后来》是谁唱的？\n答案：") and text.count("答案：") == 6
    text = prompts.text_of({"question": "Who sang 后来?", "lang": "en"}, "few_shot", "")
    assert text.startswith("Question: Who painted the Mona Lisa?\nAnswer: Leonardo da Vinci\n\n")
    assert text.endswith("Answer: 8\n\nQuestion: Who sang 后来?\nAnswer:")
    assert prompts.text_of({"question": "who?"}, "prompt", "Q: {question}\nA:") == "Q: who?\nA:"
    with pytest.raises(UserError, match=r"question 7 .* is one of the five shots"):
        prompts.check_shots([{"id": "7", "question": "what is the capital of AUSTRALIA"}], "few_shot")


def test_a_set_of_stop_texts_is_a_json_list_and_all_else_is_one_text():
    assert prompts.stops(None, "few_shot") == ("\n",) and prompts.stops(None, "chat") == prompts.stops("", "chat") == ()
    assert prompts.stops("[END]", "prompt") == ("[END]",)
    assert prompts.stops('["\\n", "Q:"]', "prompt") == ("\n", "Q:")
    assert prompts.cut(" Tarsk Q: next\nno", ("\n", "Q:")) == "Tarsk"
    c = config.default()
    for broken in ("['\\n']", '["\\n"', '["a", 1]'):
        c.evaluate.stop = broken
        with pytest.raises(UserError, match=r"evaluate\.stop .* write one text, or a JSON list of texts"):
            checks.build(c)
    c.evaluate.stop = r'["\n", "Q:"]'  # as a shell hands it on
    assert prompts.stops(checks.build(c).evaluate.stop, "prompt") == ("\n", "Q:")


def test_the_chat_template_is_that_of_the_models_folder(tmp_path):
    folder = write_tokenizer(tmp_path / "instruct")
    asked = small_config(tokenizer=folder, evaluate={"style": "chat"})
    with pytest.raises(UserError, match=r"instruct has no chat template, .* use --config\.evaluate\.style=few_shot"):
        answers.asker(asked, one_device_mesh(), tmp_path, [])
    (tmp_path / "instruct/tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    at = answers.asker(asked, one_device_mesh(), tmp_path, [])
    text = prompts.in_template("who?", at.tokenizer, at.template)
    assert text == "<user>who?<model>"
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]
    (tmp_path / "instruct/tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert prompts.chat_template([folder], "") == TEMPLATE
    (tmp_path / "instruct/chat_template.jinja").write_text("{% for m in %}")
    with pytest.raises(UserError, match=r"the chat template in .*instruct cannot be read"):
        prompts.chat_template([folder], "")
    (tmp_path / "instruct/chat_template.jinja").write_text("{{ raise_exception('no') }}")
    at = answers.asker(asked, one_device_mesh(), tmp_path, [])
    with pytest.raises(UserError, match=r"the chat template of .*instruct cannot be used \(no\)"):
        prompts.in_template("who?", at.tokenizer, at.template)


# Decoding


@pytest.fixture(scope="module")
def nano():
    return model.init(small_config().model, jax.random.key(3))


def test_rows_heads_and_the_cache_are_split_over_the_mesh_and_the_tokens_stay(nano):
    cfg, rows = small_config(mesh={"replica": 2, "fsdp": 2, "tensor": 2}), [[3, 4, 5], [9, 8], [7] * 40]
    mesh = sharding.make_mesh(cfg)
    cache = generate.cache_sharding((2, 4, 64, 2, 8), mesh)
    assert cache.shard_shape((2, 4, 64, 2, 8)) == (2, 1, 64, 1, 8)
    placed = jax.device_put(nano, jax.tree.map(lambda leaf: leaf.sharding, lineage.abstract_params(cfg, mesh)))
    with jax.set_mesh(mesh):
        split = generate.greedy(placed, rows, cfg, mesh, new=20, ends=(VOCAB + 1,))
    assert split == generate.greedy(nano, rows, cfg, one_device_mesh(), new=20, ends=(VOCAB + 1,))
    assert [len(row) for row in split] == [20, 20, 20]


def test_decoding_ends_with_the_chunk_in_which_the_last_row_is_done(nano):
    seen = []

    def stopped(rows):
        seen.append([len(row) for row in rows])
        return [len(row) >= 16 for row in rows]

    tokens = generate.greedy(
        nano, [[3, 4], [9]], small_config(), one_device_mesh(), new=64, ends=(VOCAB + 1,), rows=4, stopped=stopped
    )
    assert seen == [[16, 16]] and [len(row) for row in tokens] == [16, 16]


@pytest.mark.parametrize(("longest", "slots"), [(1, 32), (32, 32), (33, 64), (255, 256), (257, 320), (1000, 1024)])
def test_prompts_come_in_few_lengths_and_at_most_a_quarter_is_padding(longest, slots):
    assert generate.prompt_slots(longest) == slots


# What is kept


@pytest.fixture
def asked(tmp_path, nano, monkeypatch):
    """A config that asks twelve questions of a model that is there, in batches of three."""
    monkeypatch.setattr(lineage, "load_params", lambda *_: nano)
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    settings = {"questions": str(questions_file(tmp_path)), "batch_questions": 3, "max_new_tokens": 4}
    return small_config(tokenizer=tokenizer, evaluate=settings)


def test_a_run_that_is_killed_at_five_points_gives_what_an_undisturbed_one_gives(asked, tmp_path, monkeypatch):
    evaluate.evaluate(asked, one_device_mesh(), tmp_path / "whole")
    whole = (tmp_path / "whole/predictions.jsonl").read_bytes()
    rng, run, append = random.Random(0), tmp_path / "killed", answers.append

    def killed_after(whole_batches):
        left = iter(range(whole_batches))

        def dying(path, text):
            if text == "\n" or next(left, None) is not None:
                return append(path, text)
            append(path, text[: rng.randrange(len(text))])  # amid a batch, amid a line
            raise KeyboardInterrupt

        return dying

    for whole_batches in (0, 1, 0, 1, 1):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(answers, "append", killed_after(whole_batches))
            evaluate.evaluate(asked, one_device_mesh(), run)
    assert not (run / "evaluate.json").exists()
    evaluate.evaluate(asked, one_device_mesh(), run)
    assert (run / "predictions.jsonl").read_bytes() == whole
    known = read_json(run / "answers.json", Answers)
    assert (known["n"], known["asked"]["style"], known["asked"]["prompt"]) == (12, "prompt", "Q: {question}\nA:")
    monkeypatch.setattr(generate, "greedy", None)  # nothing is asked any more
    evaluate.evaluate(asked, one_device_mesh(), run)


def test_answers_to_other_questions_or_of_another_asking_are_moved_and_come_back(asked, tmp_path, monkeypatch):
    run = tmp_path / "run"
    evaluate.evaluate(asked, one_device_mesh(), run)
    first = (run / "answers.jsonl").read_bytes()
    shots = config.changed(asked, {"evaluate.style": "few_shot"})
    evaluate.evaluate(shots, one_device_mesh(), run)
    recorded = read_json(run / "answers.json", Answers)["asked"]
    assert recorded["shots"]["en"][0] == ["Who painted the Mona Lisa?", "Leonardo da Vinci"]
    assert read_json(run / "evaluate.json")["asked"]["style"] == "few_shot"
    moved = [file for file in run.glob("answers-*.jsonl")]
    assert [file.read_bytes() for file in moved] == [first]
    monkeypatch.setattr(generate, "greedy", None)
    evaluate.evaluate(asked, one_device_mesh(), run)
    assert (run / "answers.jsonl").read_bytes() == first and "style" not in read_json(run / "evaluate.json")["asked"]
    (run / "answers.json").unlink()
    with pytest.raises(UserError, match=r"answers\.jsonl has no answers\.json, which says whose answers it holds"):
        evaluate.evaluate(asked, one_device_mesh(), run)
    with answers.one_at_a_time(run), pytest.raises(UserError, match="is being written by another run"):
        evaluate.evaluate(asked, one_device_mesh(), run)


def test_a_question_that_is_longer_than_the_model_reads_is_refused(asked, tmp_path):
    short = config.changed(asked, {"model.max_position_embeddings": 20})
    with pytest.raises(UserError, match=r"question q\d+ has \d+ tokens with its prompt, nano has room for 16 beside"):
        evaluate.evaluate(short, one_device_mesh(), tmp_path / "run")


@pytest.mark.slow
def test_sigkill_at_five_random_moments_changes_no_answer(tmp_path):
    """The real command, on a workdir whose model was trained for one step."""
    tokenizer, file = write_tokenizer(tmp_path / "tokenizer"), questions_file(tmp_path, 200)
    write_rows(tmp_path / "rows", {"web": 8}, tokenizer_hash=tokenizers.tokenizer_hash(tokenizer))
    settings = {"questions": str(file), "batch_questions": 1, "max_new_tokens": 64}
    data = {"general": str(tmp_path / "rows"), "general_fraction": 1.0}
    cfg = small_config(tokenizer=tokenizer, data=data, optimizer={"steps": 1}, evaluate=settings, loss={"kind": "ntp"})
    for name in ("whole", "killed"):
        train.train(cfg, one_device_mesh(), tmp_path / name)
    evaluate.evaluate(cfg, one_device_mesh(), tmp_path / "whole")
    (tmp_path / "mine.py").write_text(
        "from mucpt_jax import config\ndef get_config():\n    c = config.default('nano')\n"
        f"    c.train.compute_dtype, c.data.sequence_length, c.tokenizer = 'float32', 32, {tokenizer!r}\n"
        f"    c.evaluate.questions, c.evaluate.batch_questions, c.evaluate.max_new_tokens = {str(file)!r}, 1, 64\n"
        "    return c\n"
    )
    command = [sys.executable, "launch.py", f"--config={tmp_path}/mine.py", "--job=evaluate",
               f"--workdir={tmp_path}/killed"]  # fmt: skip
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    rng, kept, lines = random.Random(1), tmp_path / "killed/answers.jsonl", 0
    for _ in range(5):
        process, wanted = subprocess.Popen(command, cwd=ROOT, env=env), lines + rng.randrange(1, 25)
        while process.poll() is None and lines < wanted:
            time.sleep(0.005)
            lines = len(kept.read_bytes().splitlines()) if kept.exists() else 0
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, cwd=ROOT, env=env).returncode == 0
    assert (tmp_path / "killed/predictions.jsonl").read_bytes() == (tmp_path / "whole/predictions.jsonl").read_bytes()


# Endpoints


def flags(tmp_path, url, *more):
    return [
        "answer", f"--questions={tmp_path}/questions.jsonl", f"--output={tmp_path}/out", f"--endpoint={url}",
        "--model=m", "--max_retry_after=0.01", *more,
    ]  # fmt: skip


def test_an_endpoint_answers_the_same_prompts_and_what_failed_is_asked_again(tmp_path, monkeypatch):
    questions_file(tmp_path)

    def reply(prompt):
        return f" nobody {prompt.count('sang')}\nQuestion: more"

    with serving(reply, faults=0.5, kinds=("500",)) as server:
        run = flags(tmp_path, server.url, "--style=few_shot", "--api=completions", "--retries=0")
        monkeypatch.setattr(sys, "argv", run)
        with pytest.raises(SystemExit) as ended:
            answer.main()
        assert ended.value.code == 75
        first = read_lines(tmp_path / "out/answers.jsonl", Answer)
        assert 0 < len(first) < 12
        server.faults = 0
        answer.main()
        assert sorted(server.answered.values()) == [1] * 12
        calls = len(server.calls)
        answer.main()
        assert len(server.calls) == calls
        body = server.bodies[-1]
        assert body["prompt"].startswith("Question: Who painted the Mona Lisa?") and body["stop"] == ["\n"]
    lines = read_lines(tmp_path / "out/answers.jsonl", Answer)
    assert {line["id"]: line["prediction"] for line in lines} == {f"q{i}": f"nobody {i * 5 % 7}" for i in range(12)}
    assert all(line["ended"] for line in lines)
    known = read_json(tmp_path / "out/answers.json", Answers)
    assert (known["model"], known["endpoint"], known["asked"]["api"]) == ("m", True, "completions")


def test_a_chat_endpoint_gets_the_request_as_a_message(tmp_path, monkeypatch):
    questions_file(tmp_path, 1)
    with serving(lambda messages: messages[-1]["content"].partition("\n")[2]) as server:
        monkeypatch.setattr(sys, "argv", flags(tmp_path, server.url))
        answer.main()
        assert (
            server.bodies[0]["messages"][0]["content"].endswith("\nQuestion: who 0?") and "stop" not in server.bodies[0]
        )
    assert read_lines(tmp_path / "out/answers.jsonl")[0]["prediction"] == "Question: who 0?"
    monkeypatch.setattr(sys, "argv", flags(tmp_path, "", "--endpoint="))
    with pytest.raises(SystemExit, match="--model=m needs --endpoint=URL"):
        answer.main()


# While training


def test_evaluations_while_training_measure_loss_and_questions_and_leave_training_as_it_is(tmp_path):
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    written = {"tokenizer_hash": tokenizers.tokenizer_hash(tokenizer)}
    write_rows(tmp_path / "rows", {"web": 24}, **written)
    write_rows(tmp_path / "heldout", {"wiki": 4, "songs": 2}, seed=1, **written)
    data = {"general": str(tmp_path / "rows"), "general_fraction": 1.0}
    plain = small_config(loss={"kind": "ntp"}, data=data, tokenizer=tokenizer)
    settings = {"rows": str(tmp_path / "heldout"), "batch_rows": 8, "questions": str(questions_file(tmp_path)),
                "max_new_tokens": 2, "batch_questions": 5}  # fmt: skip
    evaluated = small_config(
        loss={"kind": "ntp"}, data=data, tokenizer=tokenizer, evaluate=settings,
        train={"evaluate_every": 3, "evaluate_questions": 5},
    )  # fmt: skip
    train.train(plain, one_device_mesh(), tmp_path / "plain")
    train.train(evaluated, one_device_mesh(), tmp_path / "evaluated")
    lines = {name: read_lines(tmp_path / name / "metrics.jsonl") for name in ("plain", "evaluated")}
    assert [line["loss"] for line in lines["plain"]] == [line["loss"] for line in lines["evaluated"]]
    measured = {line["step"]: line for line in lines["evaluated"] if "heldout" in line}
    assert list(measured) == [3, 6] and measured[3]["heldout"].keys() == {"wiki", "songs"}
    assert measured[3]["questions"]["n"] == 5 and "questions" not in lines["plain"][2]


def test_the_cost_of_evaluations_is_said_with_the_steps_to_choose(caplog, tmp_path):
    text, too_much = goodput.stall(1.0, 0.5, 10)  # 1 of 6 s; 49 s of steps are 98 steps
    assert too_much and text == (
        "an evaluation takes 1 s, a step 0.5 s: with train.evaluate_every=10 evaluations take 16.67% of the time; from "
        "train.evaluate_every=98 on it is at most 2%"
    )
    assert goodput.stall(1.0, 0.5, 98) == (
        "an evaluation takes 1 s, a step 0.5 s: with train.evaluate_every=98 evaluations take 2.00% of the time", False
    )  # fmt: skip
    assert goodput.stall(1.0, 0.5, 97)[1]
    caplog.set_level("INFO")
    ledger = goodput.Ledger(tmp_path, 0)
    for phase, seconds in (("step", 0.5), ("evaluate", 9.0), ("evaluate", 1.0), ("evaluate", 1.0)):
        ledger.add(phase, seconds, 1)
        ledger.say_stall(150)
    said = [(r.levelname, r.getMessage()[:24]) for r in caplog.records]
    assert said == [
        ("WARNING", "an evaluation takes 9 s,"),
        ("INFO", "an evaluation takes 1 s,"),
    ]  # once without compiling
    ledger.close()
    assert caplog.messages[-1].endswith("medians of an evaluation and a step 1 s and 0.5 s")
    assert math.isclose(goodput.MOST_STALL, 0.02)
