import dataclasses
import json
import sys

import pytest
from conftest import one_device_mesh, small_config, write_rows

from mucpt_jax import config, train
from mucpt_jax.errors import STOPPED, UserError
from mucpt_jax.evaluation import cards
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.run import checkpoint, early_stop, heldout, interrupts, lineage


@pytest.fixture
def cfg(tmp_path):
    write_rows(tmp_path / "seed", {"wiki": 24})
    write_rows(tmp_path / "heldout", {"wiki": 4, "songs": 2}, seed=1)
    return small_config(
        loss={"kind": "ntp"},
        data={"domain": str(tmp_path / "seed"), "general_fraction": 0.0},
        optimizer={"steps": 20},
        train={"keep": "best", "evaluate_every": 2, "patience": 2, "checkpoint_every": 1},
        evaluate={"rows": str(tmp_path / "heldout"), "batch_rows": 8},
    )


@pytest.fixture
def saves_at_once(monkeypatch):
    """For runs that are killed inside this process, where what was being written would be written all the same."""
    save = checkpoint.save

    def saving(ckpt, *rest):
        save(ckpt, *rest)
        ckpt.wait_until_finished()

    monkeypatch.setattr(checkpoint, "save", saving)


def scripted(monkeypatch, losses):
    """Held-out losses in the order they are asked for, the start's first."""
    waiting = iter(losses)

    def evaluator(cfg, mesh):
        return lambda params: {"wiki": {"nll": next(waiting), "tokens": 10}}

    monkeypatch.setattr(heldout, "evaluator", evaluator)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_stops_after_patience_and_the_newest_checkpoint_is_the_best(cfg, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    scripted(monkeypatch, [5.0, 4.0, 3.0, 3.5, 3.2])  # at steps 0, 2, 4, 6, 8
    train.train(cfg, one_device_mesh(), tmp_path / "rm")
    assert checkpoint.manager(tmp_path / "rm").all_steps() == [2, 4]
    assert [x["step"] for x in lines_of(tmp_path / "rm" / "heldout.jsonl")] == [0, 2, 4, 6, 8]
    assert lines_of(tmp_path / "rm" / "metrics.jsonl")[-1]["step"] == 8
    best = read_json(tmp_path / "rm" / "best.json")
    assert (best["step"], best["nll"], best["before"]["nll"]) == (4, 3.0, 5.0)
    params = checkpoint.restore_params(tmp_path / "rm", lineage.abstract_params(cfg, one_device_mesh()), cfg)
    assert best["params_hash"] == checkpoint.params_hash(params)

    scripted(monkeypatch, [])  # nothing is evaluated any more
    train.train(cfg, one_device_mesh(), tmp_path / "rm")
    assert "trained already: no step after 4 was better" in caplog.text
    scripted(monkeypatch, [3.0, 3.5, 3.2, 2.5, 2.6, 2.7, 2.8])  # more patience: from step 4 on
    patient = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, patience=3))
    train.train(patient, one_device_mesh(), tmp_path / "rm")
    assert read_json(tmp_path / "rm" / "best.json")["step"] == 10


def test_a_kill_between_the_best_loss_and_its_checkpoint_leaves_the_two_agreeing(cfg, tmp_path, monkeypatch):
    scripted(monkeypatch, [5.0, 4.0, 3.0])

    def broken(ckpt, step, *rest):
        if step == 4:
            raise RuntimeError("killed")
        saved(ckpt, step, *rest)
        ckpt.wait_until_finished()

    saved = checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", broken)
        with pytest.raises(RuntimeError):
            train.train(cfg, one_device_mesh(), tmp_path / "rm")
    assert read_json(tmp_path / "rm" / "best.json")["step"] == 4
    scripted(monkeypatch, [4.5, 4.6])  # going on from 3, nothing is better this time
    train.train(cfg, one_device_mesh(), tmp_path / "rm")
    best = read_json(tmp_path / "rm" / "best.json")
    assert best["step"] == checkpoint.manager(tmp_path / "rm").latest_step() == 2
    assert best["before"]["nll"] == 5.0


def test_a_run_begun_without_evaluations_goes_on_with_them(cfg, tmp_path, monkeypatch):
    plain = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, keep="newest", evaluate_every=0, patience=0))
    plain = dataclasses.replace(plain, optimizer=dataclasses.replace(cfg.optimizer, steps=4))
    train.train(plain, one_device_mesh(), tmp_path / "rm")
    scripted(monkeypatch, [3.0, 2.0, 2.5, 2.6])
    train.train(cfg, one_device_mesh(), tmp_path / "rm")
    best = read_json(tmp_path / "rm" / "best.json")
    assert (best["step"], best["before"]["step"]) == (6, 4)


def test_rows_to_judge_by_are_needed_and_must_not_be_the_training_rows(cfg, tmp_path):
    for rows, sentence in ((None, "needs --config.evaluate.rows"), (cfg.data.domain, "is trained on")):
        wrong = dataclasses.replace(cfg, evaluate=dataclasses.replace(cfg.evaluate, rows=rows))
        with pytest.raises(UserError, match=sentence):
            train.train(wrong, one_device_mesh(), tmp_path / "rm")


def test_a_run_cut_off_goes_on_with_the_same_end(cfg, tmp_path, saves_at_once):
    """Real held-out losses: a run to step 6 and on to 12 keeps what a run to 12 keeps."""
    mesh = one_device_mesh()
    whole = dataclasses.replace(cfg, optimizer=dataclasses.replace(cfg.optimizer, steps=12))
    whole = dataclasses.replace(whole, train=dataclasses.replace(whole.train, patience=99))
    train.train(whole, mesh, tmp_path / "whole")

    class KilledError(Exception):
        pass

    evaluator = early_stop.evaluator

    def killing(*arguments):
        at = evaluator(*arguments)

        def killed(step, params):
            if step == 8:
                raise KilledError
            return at(step, params)

        return killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(early_stop, "evaluator", killing)
        with pytest.raises(KilledError):
            train.train(whole, mesh, tmp_path / "cut")
    train.train(whole, mesh, tmp_path / "cut")
    found = [lines_of(tmp_path / name / "heldout.jsonl") for name in ("whole", "cut")]
    assert found[0] == found[1] and [x["step"] for x in found[0]] == [0, 2, 4, 6, 8, 10, 12]
    assert found[0][0]["nll"] != found[0][-1]["nll"]
    assert read_json(tmp_path / "whole" / "best.json") == read_json(tmp_path / "cut" / "best.json")


SCRIPT = {0: 5.0, 2: 4.0, 4: 4.4, 6: 3.9, 8: 4.1, 10: 4.2, 12: 4.3, 14: 1.0}  # with patience=3 over at 12


def by_step(monkeypatch, asked):
    """Held-out losses of SCRIPT; the step is that of the parameters, which `asked` collects."""
    evaluator = early_stop.evaluator

    def noting(cfg, mesh, workdir, start, params):
        at = evaluator(cfg, mesh, workdir, start, params)

        def noted(step, params):
            asked.append(step)
            return at(step, params)

        return noted

    monkeypatch.setattr(heldout, "evaluator", lambda cfg, mesh: lambda params: {
        "wiki": {"nll": SCRIPT[asked[-1] if asked else 0], "tokens": 10}
    })  # fmt: skip
    monkeypatch.setattr(early_stop, "evaluator", noting)


def run_until_it_ends(cfg, workdir):
    """Starts the same command again whenever it was stopped; how often it was."""
    for starts in range(1, 20):
        try:
            train.train(cfg, one_device_mesh(), workdir)
            return starts
        except SystemExit as stopped:
            assert stopped.code == STOPPED
    raise AssertionError("the run never ends")


def test_a_run_that_is_preempted_every_few_steps_ends_as_one_that_is_not(cfg, tmp_path, monkeypatch):
    cfg = config.changed(cfg, {"train.patience": 3, "train.checkpoint_every": 100})
    asked = []
    by_step(monkeypatch, asked)
    assert run_until_it_ends(cfg, tmp_path / "whole") == 1
    asked.clear()
    monkeypatch.setattr(interrupts.SigtermFlag, "asked", lambda flag, step: step % 3 == 0)
    assert run_until_it_ends(cfg, tmp_path / "stopped") == 4  # stopped at 3, 6, 9; over at 12
    assert asked == [2, 4, 6, 8, 10, 12]  # no step was done twice
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for name in ("best.json", "heldout.jsonl"):
        assert (whole / name).read_text() == (stopped / name).read_text()
    assert [lines_of(d / "metrics.jsonl")[-1]["step"] for d in (whole, stopped)] == [12, 12]
    losses = [[line["loss"] for line in lines_of(d / "metrics.jsonl")] for d in (whole, stopped)]
    assert losses[0] == losses[1] and len(losses[0]) == 12
    assert checkpoint.manager(stopped).all_steps() == [2, 6] and not list((stopped / "resume").iterdir())
    train.train(cfg, one_device_mesh(), stopped)
    assert asked[-1] == 12  # it is over


def test_killed_again_and_again_a_run_goes_on_from_its_newest_state(cfg, tmp_path, monkeypatch, saves_at_once):
    """No better state at all: the counter alone ends the run, and it is counted over all starts."""
    cfg = config.changed(cfg, {"train.patience": 4, "train.checkpoint_every": 1})
    asked = []
    by_step(monkeypatch, asked)
    monkeypatch.setattr(sys.modules[__name__], "SCRIPT", {step: 5.0 + step for step in range(0, 21, 2)})
    report, kills = train.report, iter([3, 5, 6, 7])

    def killing(run, step, values):
        if step == waiting[0]:
            waiting[0] = next(kills, None)
            raise KeyboardInterrupt
        report(run, step, values)

    waiting = [next(kills)]
    monkeypatch.setattr(train, "report", killing)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            train.train(cfg, one_device_mesh(), tmp_path / "rm")
    train.train(cfg, one_device_mesh(), tmp_path / "rm")
    assert [line["step"] for line in lines_of(tmp_path / "rm" / "heldout.jsonl")] == [0, 2, 4, 6, 8]
    best = read_json(tmp_path / "rm" / "best.json")
    assert best["step"] == 0 and best["ended"] and checkpoint.newest_step(tmp_path / "rm") is None


def test_what_a_run_goes_on_from_was_judged_by_the_same_rows(cfg, tmp_path, monkeypatch):
    by_step(monkeypatch, asked := [])
    monkeypatch.setattr(interrupts.SigtermFlag, "asked", lambda flag, step: step == 3)
    with pytest.raises(SystemExit):
        train.train(cfg, one_device_mesh(), tmp_path / "rm")
    other = write_rows(tmp_path / "other", {"wiki": 4}, seed=2)
    with pytest.raises(UserError, match=r"resume/3 was trained with heldout_rows="):
        train.train(config.changed(cfg, {"evaluate.rows": str(other)}), one_device_mesh(), tmp_path / "rm")
    newest = config.changed(cfg, {"train.keep": "newest", "train.patience": 0})
    with pytest.raises(UserError, match=r"keeps its best state"):
        train.train(newest, one_device_mesh(), tmp_path / "rm")
    (tmp_path / "rm" / "heldout.jsonl").unlink()
    with pytest.raises(UserError, match=r"does not say which state is the best"):
        train.train(cfg, one_device_mesh(), tmp_path / "rm")
    assert asked == [2]


def test_the_card_tells_seed_loss_and_probes(cfg, tmp_path, monkeypatch):
    scripted(monkeypatch, [5.0, 4.0, 6.0, 7.0])
    train.train(cfg, one_device_mesh(), tmp_path / "rm")
    card = (tmp_path / "rm" / "card.md").read_text()
    best = read_json(tmp_path / "rm" / "best.json")
    assert card.startswith(f"# Reference model {best['params_hash']}")
    assert "step 2 (held-out loss 5.0000 -> 4.0000 nats a token)" in card
    assert "| wiki | 10 | 5.0000 | 4.0000 |" in card and "| wiki | 72 |" in card
    assert "Not asked yet" in card
    write_json(
        tmp_path / "rm" / "evaluate.json",
        {"params_hash": best["params_hash"], "questions": {"k": 1, "n": 2, "accuracy": 0.5, "low": 0.1, "high": 0.9}},
    )
    probe = {"id": 1, "correct": False, "question": "Who <b>sang</b> a|b?", "answer": "x", "prediction": "y"}
    (tmp_path / "rm" / "predictions.jsonl").write_text(json.dumps(probe) + "\n")
    cards.write_card(tmp_path / "rm")
    card = (tmp_path / "rm" / "card.md").read_text()
    shown = "1 of 2 answered right: 0.5000" in card
    assert shown and "| Who &lt;b>sang&lt;/b> a\\|b? | x | y |" in card


def test_answers_of_another_state_are_not_shown_as_the_models(tmp_path):
    write_json(
        tmp_path / "evaluate.json",
        {"params_hash": "old", "questions": {"k": 1, "n": 2, "accuracy": 0.5, "low": 0.1, "high": 0.9}},
    )
    assert cards.probes(tmp_path, "new").startswith("Not asked yet")


def test_a_model_that_only_gets_worse_leaves_no_checkpoint(cfg, tmp_path, monkeypatch):
    scripted(monkeypatch, [1.0, 2.0, 3.0])
    train.train(cfg, one_device_mesh(), tmp_path / "rm")
    assert checkpoint.manager(tmp_path / "rm").all_steps() == []
    assert read_json(tmp_path / "rm" / "best.json")["step"] == 0


def test_an_empty_seed_set_is_refused(cfg, tmp_path):
    write_rows(tmp_path / "empty", {})
    empty = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, domain=str(tmp_path / "empty")))
    with pytest.raises(UserError, match=r"data\.domain names no rows but data\.general_fraction=0\.0 wants 100%"):
        train.train(empty, one_device_mesh(), tmp_path / "rm")


def test_a_run_that_saves_its_newest_states_measures_held_out_loss_beside(cfg, tmp_path, monkeypatch):
    plain = dataclasses.replace(
        cfg,
        train=dataclasses.replace(cfg.train, keep="newest", patience=0, checkpoint_every=4, log_every=100),
        optimizer=dataclasses.replace(cfg.optimizer, steps=7),
    )
    scripted(monkeypatch, [5.0, 6.0, 4.0, 7.0, 8.0])  # at steps 0, 2, 4, 6, 7
    train.train(plain, one_device_mesh(), tmp_path / "run")
    lines = {line["step"]: line.get("heldout") for line in lines_of(tmp_path / "run" / "metrics.jsonl")}
    wiki = {step: {"wiki": {"nll": nll, "tokens": 10}} for step, nll in ((2, 6.0), (4, 4.0), (6, 7.0), (7, 8.0))}
    assert lines == {1: None} | wiki
    assert [x["step"] for x in lines_of(tmp_path / "run" / "heldout.jsonl")] == [0, 2, 4, 6, 7]
    assert checkpoint.manager(tmp_path / "run").all_steps() == [4, 7]
    assert not (tmp_path / "run" / "best.json").exists() and not (tmp_path / "run" / "card.md").exists()


def test_measuring_changes_no_loss(cfg, tmp_path):
    short = dataclasses.replace(cfg, optimizer=dataclasses.replace(cfg.optimizer, steps=4))
    for name, every in (("bare", 0), ("measured", 1)):
        knobs = dataclasses.replace(cfg.train, keep="newest", patience=0, evaluate_every=every)
        train.train(dataclasses.replace(short, train=knobs), one_device_mesh(), tmp_path / name)
    bare, measured = ([x["loss"] for x in lines_of(tmp_path / n / "metrics.jsonl")] for n in ("bare", "measured"))
    assert bare == measured and len(bare) == 4
