import json
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import VOCAB, T, one_device_mesh, small_config, write_rows
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mucpt_jax import config, evaluate
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import alias, answers, generate, prompts, run_files
from mucpt_jax.formats import questions
from mucpt_jax.formats import tokenizer as tokenizers
from mucpt_jax.formats.rows import read_shard, target_mask
from mucpt_jax.run import lineage
from mucpt_jax.step import losses, model


def write_tokenizer(folder, entries=97, more=""):
    """A byte-level tokenizer whose ids fit the nano model: single characters only."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = list("abcdefghijklmnopqrstuvwxyzĠĊ?:QA" + more)
    trainer = trainers.BpeTrainer(vocab_size=entries, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


@pytest.fixture
def params(monkeypatch):
    found = model.init(small_config().model, jax.random.key(3))
    monkeypatch.setattr(lineage, "load_params", lambda *_: found)
    return found


def test_held_out_loss_is_the_mean_over_all_targets_of_a_source(tmp_path, params):
    folder = write_rows(tmp_path / "rows", {"music": 11, "web": 3})
    cfg = small_config(evaluate={"rows": str(folder), "batch_rows": 4})
    evaluate.evaluate(cfg, one_device_mesh(), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "evaluate.json").read_text())["heldout"]
    rows = list(read_shard(folder / "music-00000-of-00001.array_record", T))
    batch = {k: np.stack([row[k] for row in rows]) for k in ("tokens", "segment_ids")}
    mask = target_mask(batch["segment_ids"])
    nll = np.asarray(losses.batch_nll(params, batch, cfg))
    assert found["music"]["tokens"] == mask.sum()
    assert found["music"]["nll"] == pytest.approx(nll[mask].mean(), rel=1e-5)


def test_questions_are_answered_graded_and_kept(tmp_path, params):
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    questions = [
        {"id": i, "question": f"who is {c}?", "answer": "nobody knows", "aliases": []} for i, c in enumerate("abc")
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(q) + "\n" for q in questions))
    settings = {"questions": str(file), "batch_questions": 2, "max_new_tokens": 5, "stop": "\n"}
    cfg = small_config(evaluate=settings, tokenizer=tokenizer)
    evaluate.evaluate(cfg, one_device_mesh(), tmp_path / "run")
    given = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [a["id"] for a in given] == ["0", "1", "2"]
    # The same predictions as gold: now all are right.
    for q, a in zip(questions, given, strict=True):
        q["answer"], q["aliases"] = a["prediction"] or "empty", ["x"]
    right = sum(bool(alias.normalise(a["prediction"])) for a in given)
    file.write_text("".join(json.dumps(q) + "\n" for q in questions))
    evaluate.evaluate(cfg, one_device_mesh(), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "evaluate.json").read_text())["questions"]
    assert (found["k"], found["n"]) == (right, 3)


def test_bad_inputs_are_refused(tmp_path, params):
    with pytest.raises(UserError, match=r"needs --config\.evaluate\.rows=FOLDER"):
        evaluate.evaluate(small_config(), one_device_mesh(), tmp_path)
    with pytest.raises(UserError, match=r"absent cannot be read .*another JSONL file by --config.evaluate.questions"):
        questions.read_questions("absent", answers.WAY_OUT)
    (tmp_path / "q.jsonl").write_text('{"id": 1, "question": "a", "answer": "b"}\n{"id": 2, "question": "a"}\n')
    with pytest.raises(UserError, match=r"q\.jsonl line 2 is damaged"):
        questions.read_questions(str(tmp_path / "q.jsonl"))
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no question"):
        questions.read_questions(str(tmp_path / "none.jsonl"))
    (tmp_path / "twice.jsonl").write_text('{"id": 1, "question": "a", "answer": "b\u2028c", "aliases": null}\n' * 2)
    with pytest.raises(UserError, match="the same id twice"):
        questions.read_questions(str(tmp_path / "twice.jsonl"))
    (tmp_path / "text.jsonl").write_text('{"id": 1, "question": "a", "answer": "b", "aliases": "abc"}')
    with pytest.raises(UserError, match=r"text\.jsonl line 1 is damaged .* got `str` - at `\$\.aliases`"):
        questions.read_questions(str(tmp_path / "text.jsonl"))
    big = write_tokenizer(tmp_path / "big")
    cfg = small_config(tokenizer=big, model={"vocab_size": 20})
    with pytest.raises(UserError, match=r"has \d+ ids, nano has vocab_size=20"):
        answers.load_tokenizer(cfg)
    with pytest.raises(UserError, match=r"no tokenizer in"):
        answers.load_tokenizer(small_config())


def test_an_answer_ends_at_the_stop_text():
    assert prompts.cut(" Tarsk\nQ: next", ("\n",)) == "Tarsk"
    assert prompts.cut("Quiet Q\nQ: next", ("\nQ:",)) == "Quiet Q"
    assert prompts.cut("AC/DC", ("Q:",)) == "AC/DC"  # none of its characters alone
    assert prompts.cut("Tarsk\nQ", ()) == "Tarsk\nQ"
    assert prompts.cut("\n\nTarsk", ("\n",)) == "Tarsk"
    assert prompts.cut("", ("\n",)) == ""


@pytest.mark.parametrize(
    ("prediction", "answer", "aliases", "right"),
    [
        ("The Beatles", "the beatles", [], True),
        ("《范特西》", "范特西", [], True),
        ("後來", "后来", [], True),  # traditional script
        ("ＡＢＢＡ", "ABBA", [], True),  # full width
        ("Jay Chou", "周杰伦", ["Jay Chou"], True),
        ("It was Freddie Mercury who sang", "Freddie Mercury", [], True),
        ("in 1998", "1998", [], False),  # numbers must match as a whole
        ("1998", "1998年", ["1998"], True),
        ("C minor", "C# minor", [], False),
        ("C-sharp minor", "C# minor", [], True),
        ("c♯ minor", "C sharp minor", [], True),
        ("升C小调", "C♯小调", [], True),
        ("C小调", "升C小调", [], False),
        ("B major", "B♭ major", [], False),
        ("B-flat major", "Bb major", [], True),
        ("降B大调", "B♭大调", [], True),
        ("B大调", "降B大调", [], False),
        ("the minor", "E minor", [], False),  # the letter ends another word
        ("It is in E minor.", "E minor", [], True),
        ("-1", "1", [], False),
        ("\u22121", "-1", [], True),  # the sign that Unicode calls minus
        ("负1", "-1", [], True),
        ("3.5", "35", [], False),
        ("6/8", "68", [], False),
        ("1:30", "130", [], False),
        ("1,234,567", "1234567", [], True),
        ("1990–1995", "1990-1995", [], True),
        ("1998年5月3日", "1998-5-3", [], True),
        ("4 4", "44", [], False),
        ("50%", "50", [], False),
        ("÷", "÷", [], True),
        ("÷", "×", [], False),
        ("!!!", "!!!", [], True),
        ("?", "!", [], False),
        ("《★》", "★", [], True),
        ("C++", "C", [], False),
        ("Beyonce", "Beyoncé", [], True),
        ("Beyonce\u0301", "Beyoncé", [], True),
        ("Sigur Ros", "Sigur Rós", [], True),
        ("Mo", "MØ", [], True),
        ("かく", "がく", [], False),  # these marks make other letters
        ("किशोर", "कशर", [], False),
        ("*NSYNC", "NSYNC", [], True),
        ("ACDC", "AC/DC", [], True),
        ("Guns N Roses", "Guns N' Roses", [], True),
        ("Simon and Garfunkel", "Simon & Garfunkel", [], True),
        ("Florence and the Machine", "Florence + the Machine", [], True),
        ("Queensland", "Queen", [], False),
        ("two guitars", "guitar", [], True),
        ("《范特西》是周杰倫的專輯", "周杰伦", [], True),
        ("周杰伦和林", "林", [], False),  # too short to be searched for
        ("Queen", "Freddie Mercury", [], False),
        ("", "Queen", [], False),
        ("!!!", "Queen", ["?"], False),  # nothing is left of both: no match
    ],
)  # fmt: skip
def test_answers_match_by_normalised_alias(prediction, answer, aliases, right):
    assert alias.is_correct(prediction, answer, aliases) is right


def test_an_answer_ends_at_every_id_that_the_models_folder_names(tmp_path, monkeypatch):
    folder = tmp_path / "instruct"
    tokenizer = tokenizers.load_tokenizer(write_tokenizer(folder))
    cfg = small_config(tokenizer=str(folder))
    assert answers.end_ids(tokenizer, cfg, tmp_path) == (0,)
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 0]}')
    (folder / "config.json").write_text('{"eos_token_id": 7}')
    assert answers.end_ids(tokenizer, cfg, tmp_path) == (0, 5, 7)
    named = {"eos_token_id": "<|im_end|>"}
    (folder / "generation_config.json").write_text(json.dumps(named))
    with pytest.raises(UserError, match=r"generation_config\.json is damaged or of another kind"):
        answers.end_ids(tokenizer, cfg, tmp_path)


def test_greedy_decoding_stops_before_any_of_the_ends():
    cfg, prompts = small_config(), [[3, 4, 5], [9, 8]]
    params, mesh = model.init(cfg.model, jax.random.key(3)), one_device_mesh()
    free = generate.greedy(params, prompts, cfg, mesh, new=6, ends=(VOCAB + 1,))
    assert [len(row) for row in free] == [6, 6]
    end = free[0][2]
    stopped = generate.greedy(params, prompts, cfg, mesh, new=6, ends=(VOCAB + 1, end))
    assert stopped[0] == free[0][: free[0].index(end)]


def test_a_second_evaluation_keeps_what_the_first_has_measured(tmp_path, params):
    run, tokenizer = tmp_path / "run", write_tokenizer(tmp_path / "tokenizer")
    cfg = small_config(tokenizer=tokenizer, evaluate={"max_new_tokens": 2, "batch_questions": 1, "batch_rows": 4})
    files = {}
    for name, source in (("a", "music"), ("b", "web")):
        write_rows(tmp_path / name, {source: 3}, tokenizer_hash=tokenizers.tokenizer_hash(tokenizer))
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text(json.dumps({"id": name, "question": f"who is {name}?", "answer": "x"}) + "\n")

    def measure(**what):
        evaluate.evaluate(
            config.changed(cfg, {f"evaluate.{k}": v if isinstance(v, int) else str(v) for k, v in what.items()}),
            one_device_mesh(), run,
        )  # fmt: skip
        return json.loads((run / "evaluate.json").read_text())

    def asked_before(result):
        of = [kept["asked"] for kept in result["earlier"].values()]
        return sorted((Path(asked["questions"]).name, asked["max_new_tokens"]) for asked in of)

    def answered():
        return [one.answers.keys() for one in run_files.read(str(run))["measured"]]

    first = measure(rows=tmp_path / "a")
    asked = measure(questions=files["a"])
    assert asked["heldout"] == first["heldout"] and asked["questions"]["n"] == 1
    both = measure(rows=tmp_path / "b")
    assert both["questions"] == asked["questions"] and both["asked"]["questions"] == str(files["a"])
    assert both["rows"] == {"music": str(tmp_path / "a"), "web": str(tmp_path / "b")}
    assert answered() == [{("a", "who is a?", "x", ())}]
    other = measure(questions=files["b"])
    (kept,) = other["earlier"].values()
    assert (kept["asked"], kept["questions"]) == (asked["asked"], asked["questions"])
    assert other["heldout"] == both["heldout"]
    assert json.loads((run / kept["predictions"]).read_text())["id"] == "a"
    assert answered() == [{("b", "who is b?", "x", ())}, {("a", "who is a?", "x", ())}]  # with the earlier ones
    assert asked_before(measure(questions=files["a"])) == [("b.jsonl", 2)]
    # The same questions asked in another way are another measurement.
    longer = measure(questions=files["a"], max_new_tokens=3)
    assert asked_before(longer) == [("a.jsonl", 2), ("b.jsonl", 2)] and longer["asked"]["max_new_tokens"] == 3
    assert len({kept["predictions"] for kept in longer["earlier"].values()}) == 2
    assert all((run / kept["predictions"]).is_file() for kept in longer["earlier"].values())
    params["norm"]["scale"] = params["norm"]["scale"] * 2  # another state: nothing of it was measured
    again = measure(rows=tmp_path / "a")
    assert "questions" not in again and again["heldout"].keys() == {"music"}


GRADES = {"k": 1, "n": 2, "accuracy": 0.5, "low": 0.1, "high": 0.9}


@pytest.mark.parametrize("asked", [None, {}, "absent"])
def test_grades_of_a_version_that_did_not_say_what_was_asked_are_kept_too(tmp_path, asked):
    old = {"params_hash": "p", "questions": GRADES, "asked": asked, "earlier": None}
    old = {key: value for key, value in old.items() if value != "absent"}
    (tmp_path / "predictions.jsonl").write_text("the old ones")
    new = {"params_hash": "p", "questions": GRADES | {"k": 2}, "asked": {"questions": "q", "stop": ""}}
    result = evaluate.merged(old, new, tmp_path / "predictions.jsonl")
    (kept,) = result["earlier"].values()
    assert (kept["questions"], kept["asked"]) == (GRADES, {})
    assert (tmp_path / kept["predictions"]).read_text() == "the old ones"


def test_a_kill_before_the_result_is_written_mixes_no_answers(tmp_path):
    answers, asked = tmp_path / "predictions.jsonl", [{"questions": "a"}, {"questions": "b"}]
    answers.write_text("to a")
    (tmp_path / "evaluate.json").write_text(json.dumps({"params_hash": "p", "questions": GRADES, "asked": asked[0]}))
    new = {"params_hash": "p", "questions": GRADES, "asked": asked[1]}
    for _ in range(2):
        result = evaluate.merged(evaluate.read_before(tmp_path), new, answers)
        answers.write_text("to b")  # and is killed
    (kept,) = result["earlier"].values()
    assert kept["asked"] == asked[0] and (tmp_path / kept["predictions"]).read_text() == "to a"


@pytest.mark.parametrize(
    "damage", [{"asked": "a"}, {"asked": {"questions": 3}}, {"earlier": {"a": {"questions": None}}}, {"rows": 3}]
)
def test_a_damaged_result_is_refused_before_anything_is_measured(tmp_path, params, monkeypatch, damage):
    monkeypatch.setattr(lineage, "load_params", lambda *_: pytest.fail("the model was loaded"))
    (tmp_path / "evaluate.json").write_text(json.dumps({"params_hash": "p", "questions": GRADES} | damage))
    cfg = small_config(evaluate={"rows": str(write_rows(tmp_path / "rows", {"web": 3}))})
    with pytest.raises(UserError, match=r"evaluate\.json is damaged or of another kind .*; move it away and evaluate"):
        evaluate.evaluate(cfg, one_device_mesh(), tmp_path)


def test_wilson_interval_of_the_papers_main_result():
    low, high = alias.wilson(388, 500)  # 0.776
    assert (round(low, 3), round(high, 3)) == (0.737, 0.810)
    assert alias.wilson(0, 0) == (0.0, 1.0)
    assert alias.wilson(0, 10)[0] == 0.0 and alias.wilson(10, 10)[1] == 1.0


@pytest.mark.parametrize("name", ["demo", "demo_real"])
def test_published_intervals_keep_the_digits_that_are_printed(name):
    text = (Path(__file__).parents[1] / f"benchmarks/results/{name}.json").read_text(encoding="utf-8")
    intervals = []
    json.loads(text, object_hook=lambda o: intervals.append(o) if o.keys() >= {"k", "n", "low", "high"} else o)
    assert intervals
    for one in intervals:
        for bound, published in zip(alias.wilson(one["k"], one["n"]), (one["low"], one["high"]), strict=True):
            assert f"{bound:.3f}" == f"{published:.3f}"
