import json
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from conftest import one_device_mesh, small_config, write_rows

from mucpt_jax import checks, compare, evaluate, train
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import answers, paper, run_files, tables
from mucpt_jax.formats.files import write_json

BY_SEED = ["init_from"]


def write_run(folder, right="", *, seed=0, ids=None, heldout=None, fields=None, step=400, prompt="Q", **sections):
    """A workdir by hand.  right: a letter a question, + is right; fields: its metadata, a value a question."""
    folder.mkdir(parents=True)
    values = {"seed": seed, "data": {"batch_rows": 4, "sequence_length": 128}, "optimizer": {"steps": 400}}
    write_json(folder / "config.json", values | sections)
    write_json(folder / "config.evaluate.json", {"evaluate": {"prompt": prompt, "batch_rows": 3}})
    source = {"is_domain": True, "nll": 2.0, "mean_weight": 1.0, "ess": 0.5, "tokens": 10}
    general = source | {"is_domain": False, "nll": 0.75}
    line = {"step": step, "sources": {"music": source, "web": general}}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + '\n{"step": 40')  # cut off by a kill
    predictions = [
        {"id": i, "question": f"q{i}", "answer": "a", "aliases": [], "prediction": "x", "correct": c == "+"}
        | ({"covered": fields[number]} if fields else {})
        for number, (i, c) in enumerate(zip(ids or range(len(right)), right, strict=True))
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(p) + "\n" for p in predictions))
    result = {"params_hash": str(folder), "step": 400, "heldout": heldout or {"music": {"nll": 1.5, "tokens": 9}}}
    if right:
        result["questions"] = answers.grade(predictions)
    write_json(folder / "evaluate.json", result)
    return str(folder)


def rows_of(result, title):
    """{first cell: {column: cell}} of a table."""
    head, *body = dict(tables.of(result))[title]
    return {row[0]: dict(zip(head, row, strict=True)) for row in body}


def test_ess_of_two_sources_is_that_of_their_tokens_together():
    # Weights 1, 3 and 0, 4: sum 8, squares 26, so (8 * 8) / (4 * 26).
    music = {"is_domain": True, "nll": 1.0, "mean_weight": 2.0, "ess": 16 / 20, "tokens": 2}
    blogs = music | {"ess": 16 / 32}
    web = music | {"is_domain": False, "nll": 3.0, "tokens": 1}
    news = web | {"nll": 1.0, "tokens": 3}
    found = compare.last_step([music, blogs, web, news])
    assert found == pytest.approx({"mean_weight": 2.0, "ess": 64 / 104, "general_nll": (3 + 3) / 4})
    bad_step = dict.fromkeys(("nll", "mean_weight", "ess")) | {"is_domain": True, "tokens": 2}
    assert set(compare.last_step([bad_step]).values()) == {None}


def test_a_source_of_which_rho1_chose_nothing_counts_with_weight_0():
    # Weights 0, 3 and 0, 0: sum 3, squares 9, so (3 * 3) / (4 * 9).
    music = {"is_domain": True, "nll": 1.0, "mean_weight": 1.5, "ess": 0.5, "tokens": 2}
    nothing = music | {"mean_weight": 0.0, "ess": 0.0}
    found = compare.last_step([music, nothing])
    assert (found["mean_weight"], found["ess"]) == (0.75, 0.25)
    assert compare.last_step([nothing])["ess"] == 0.0


def test_a_run_is_paired_with_the_baseline_question_by_question(tmp_path):
    #                               both right, run only, base only, none
    ntp = write_run(tmp_path / "ntp", "+-+-----++", loss={"kind": "ntp"})
    mucpt = write_run(tmp_path / "mucpt", "+++++++---", loss={"kind": "mucpt"})
    result = compare.compare([ntp, mucpt], None, None, BY_SEED)
    (pair,) = result["pairs"]
    cells = {name: pair[name] for name in ("both", "only_run", "only_baseline", "neither", "n")}
    assert cells == {"both": 2, "only_run": 5, "only_baseline": 2, "neither": 1, "n": 10}
    assert pair["difference"] == pytest.approx(0.3)
    assert pair["p"] == pair["p_holm"] == 2 * (1 + 7 + 21) / 2**7
    row = rows_of(result, "Against the baseline, on the same questions")[mucpt]
    assert (row["difference"], row["won"], row["lost"], row["p"]) == ("+0.3000", "5", "2", "0.4531")
    assert rows_of(result, "Questions")[ntp]["right"] == "4/10"
    assert rows_of(result, "Runs")[mucpt]["tokens"] == "204,800"  # 400 steps of 4 rows of 128
    assert not result["warnings"]
    assert any("rank objectives by questions" in note for note in result["notes"])
    turned = compare.compare([ntp, mucpt], mucpt, None, BY_SEED)
    assert turned["pairs"][0]["difference"] == pytest.approx(-0.3)


def test_settings_are_columns_where_runs_differ_and_an_unread_knob_is_a_dash(tmp_path):
    data = {"batch_rows": 4, "sequence_length": 128}
    runs = [
        write_run(tmp_path / "ntp", loss={"kind": "ntp", "rm_floor": 0.3}, data=data | {"domain": "d/rows"}),
        write_run(tmp_path / "a", loss={"kind": "mucpt", "mean_raw_weight": 0.4}, data=data | {"domain": "d/s"}),
        write_run(tmp_path / "b", loss={"kind": "mucpt", "rm_floor": 0.1}, data=data | {"domain": "d/s"}),
    ]
    result = compare.compare(runs, None, None, BY_SEED)
    assert result["differ"] == ["loss.rm_floor", "data.domain"]
    rows = rows_of(result, "Runs")
    assert [rows[run]["rm_floor"] for run in runs] == ["-", "1.0", "0.1"]
    assert [rows[run]["data.domain"] for run in runs] == ["d/rows", "d/s", "d/s"]
    assert tables.without_shared(["r/x/a/rows", "r/x/b"]) == ["x/a/rows", "x/b"]
    assert tables.without_shared(["/r/x/a/rows", "/r/x/b/rows"]) == ["a/rows", "b/rows"]
    assert tables.without_shared(["x", "y/z"]) == ["x", "y/z"]
    kept = [write_run(tmp_path / f"{k}", loss={"kind": "rho1", "keep": k, "rm_floor": k}) for k in (0.4, 0.6)]
    assert compare.compare(kept, None, None, BY_SEED)["differ"] == ["loss.keep"]


def test_a_question_with_another_answer_or_alias_is_another_question(tmp_path):
    runs = [write_run(tmp_path / name, "++-") for name in ("a", "b")]
    file = tmp_path / "b" / "predictions.jsonl"
    first, second, third = map(json.loads, file.read_text().splitlines())
    edited = [first | {"aliases": ["A"]}, second | {"answer": "b"}, third]
    file.write_text("".join(json.dumps(p) + "\n" for p in edited))
    with pytest.raises(
        UserError, match=r"different questions of questions: 2 with another text, answer or aliases \(0, 1\)"
    ):
        compare.compare(runs, None, None, BY_SEED)


def test_another_models_sizes_stand_behind_its_name(tmp_path):
    sizes = [{"name": "small", "hidden_size": 8}, {"name": "large", "hidden_size": 16}]
    runs = [write_run(tmp_path / model["name"], model=model) for model in sizes]
    assert compare.compare(runs, None, None, BY_SEED)["differ"] == ["model.name"]


def test_what_was_not_measured_is_said_so(tmp_path):
    ntp = write_run(tmp_path / "ntp", "+-", loss={"kind": "ntp"})
    base = tmp_path / "base"
    base.mkdir()
    write_json(base / "evaluate.json", {"params_hash": "b"})
    result = compare.compare([ntp, str(base)], None, None, BY_SEED)
    for title in ("Held-out loss, nats a token", "Questions", "Against the baseline, on the same questions"):
        cells = rows_of(result, title)[str(base)]
        names = {"run", "baseline"} | ({"questions"} if title != "Held-out loss, nats a token" else set())
        assert {cell for name, cell in cells.items() if name not in names | {"judge"}} == {"not measured"}
    row = rows_of(result, "Runs")[str(base)]
    assert (row["objective"], row["tokens"], row["ESS"]) == ("not trained", "not measured", "not measured")
    assert all(cell for _, rows in tables.of(result) for row in rows for cell in row)
    # Predictions that evaluate.json does not grade are of an earlier evaluation.
    write_json(tmp_path / "ntp" / "evaluate.json", {"params_hash": "c"})
    assert run_files.read(ntp)["measured"] == []


def seeds(tmp_path):
    right = {"ntp": ("+---------", "++--------", "+---------"), "mucpt": ("+++-------", "+++-------", "+++++-----")}
    return [
        write_run(
            tmp_path / f"{kind}{seed}", right[kind][seed], loss={"kind": kind}, seed=seed,
            init_from=f"base{seed}", heldout={"music": {"nll": 1.0 + seed, "tokens": 9}},
        )
        for kind in right for seed in (2, 0, 1)
    ]  # fmt: skip


def test_runs_of_several_seeds_are_averaged_and_paired_within_the_seed(tmp_path):
    runs = seeds(tmp_path)
    result = compare.compare(runs, None, None, BY_SEED)
    assert {(p["run"][-6:], p["baseline"][-4:]) for p in result["pairs"]} == {
        ("mucpt0", "ntp0"), ("mucpt1", "ntp1"), ("mucpt2", "ntp2"),
    }  # fmt: skip
    ntp, mucpt = result["seeds"]
    assert mucpt["seeds"] == [0, 1, 2]
    assert mucpt["difference"]["values"] == pytest.approx([0.2, 0.1, 0.4])
    assert mucpt["difference"]["sd"] == pytest.approx((0.14 / 6) ** 0.5)  # squares .01 + .04/9 ... over n - 1
    assert ntp["difference"]["mean"] is None
    row = rows_of(result, "Questions over seeds")
    assert row["mucpt"]["difference"] == "+0.233 ± 0.153 (+0.200 +0.100 +0.400)"
    assert row["mucpt"]["accuracy"] == "0.367 ± 0.115 (0.300 0.300 0.500)"
    assert row["ntp"]["difference"] == "baseline"
    assert rows_of(result, "Held-out loss over seeds")["ntp"]["music"] == "2.0000 ± 1.0000"
    assert not result["warnings"]  # each seed has its start model, and both objectives that of their seed


def test_a_seed_that_the_baseline_lacks_is_not_measured(tmp_path):
    runs = [run for run in seeds(tmp_path) if not run.endswith("ntp2")]
    result = compare.compare(runs, str(tmp_path / "ntp0"), None, BY_SEED)
    (mucpt,) = [group for group in result["seeds"] if group["group"] == "mucpt"]
    assert mucpt["difference"]["values"][:2] == pytest.approx([0.2, 0.1]) and mucpt["difference"]["values"][2] is None
    assert rows_of(result, "Questions over seeds")["mucpt"]["difference"].endswith("(+0.200 +0.100 not measured)")


def test_a_pair_of_two_seeds_is_warned_of(tmp_path):
    runs = [run for run in seeds(tmp_path) if run[-4:] not in ("ntp1", "ntp2")]
    result = compare.compare(runs, str(tmp_path / "ntp0"), None, BY_SEED)
    named = [f"{tmp_path}/mucpt{seed} (seed {seed}) with {tmp_path}/ntp0 (seed 0)" for seed in (2, 1)]
    assert result["warnings"] == [f"paired across seeds: {'; '.join(named)}"]


def test_a_run_without_a_config_is_paired_with_the_baseline_that_was_named(tmp_path):
    base = write_run(tmp_path / "base", "+" * 10)
    (tmp_path / "base" / "config.json").unlink()
    result = compare.compare([*seeds(tmp_path), base], str(tmp_path / "ntp1"), None, BY_SEED)
    assert {p["run"]: p["baseline"] for p in result["pairs"]}[base] == str(tmp_path / "ntp1")


def test_seeds_are_averaged_for_each_value_of_a_field(tmp_path):
    runs = [
        write_run(tmp_path / f"{kind}{seed}", right, fields=[1, 1, 2, 2], loss={"kind": kind}, seed=seed)
        for kind, right in (("ntp", "--+-"), ("mucpt", "++--")) for seed in (0, 1)
    ]  # fmt: skip
    found = compare.compare(runs, None, "covered", BY_SEED)["seeds"]
    difference = {g["where"]: g["difference"]["values"] for g in found if g["group"] == "mucpt"}
    assert difference == {"all": [0.25, 0.25], "covered=1": [1.0, 1.0], "covered=2": [-0.5, -0.5]}


def test_a_tiny_p_is_no_zero():
    assert [tables.p_cell(p) for p in (0.00012, 2**-20, None)] == ["0.0001", "<0.0001", "not measured"]


def test_a_seed_twice_or_another_setting_makes_no_group(tmp_path):
    runs = [write_run(tmp_path / f"{i}", seed=0, init_from=f"base{i}") for i in range(2)]
    runs += [write_run(tmp_path / "lr", seed=1, optimizer={"steps": 400, "peak_lr": 1e-3})]
    found = {run: run_files.read(run) for run in runs}
    assert run_files.seed_groups(found, BY_SEED) == [[run] for run in runs]
    data = {"batch_rows": 4, "sequence_length": 128}
    worlds = [write_run(tmp_path / f"w{i}", seed=i, data=data | {"domain": f"w{i}"}) for i in range(2)]
    found = {run: run_files.read(run) for run in worlds}
    assert run_files.seed_groups(found, BY_SEED) == [[run] for run in worlds]
    assert run_files.seed_groups(found, [*BY_SEED, "data.domain"]) == [worlds]


def test_split_gives_the_same_for_every_value_of_a_field_and_holm_counts_the_tests_of_each_field(tmp_path):
    covered = [True, True, True, True, False, False]
    ntp = write_run(tmp_path / "ntp", "----++", fields=covered, loss={"kind": "ntp"})
    mucpt = write_run(tmp_path / "mucpt", "++++--", fields=covered, loss={"kind": "mucpt"})
    result = compare.compare([ntp, mucpt], None, "covered", BY_SEED)
    graded = {(q["run"], q["where"]): (q["k"], q["n"]) for q in result["questions"]}
    assert graded[mucpt, "covered=true"] == (4, 4) and graded[mucpt, "covered=false"] == (0, 2)
    assert graded[mucpt, "all"] == (4, 6)
    p = {pair["where"]: (pair["p"], pair["p_holm"]) for pair in result["pairs"]}
    assert p["covered=true"] == (0.125, 0.25)  # 2 / 2^4, the smaller of two
    assert p["covered=false"] == (0.5, 0.5)
    assert p["all"][0] == p["all"][1]  # the one test on all questions
    with pytest.raises(UserError, match=r"no question has the field 'cover' to split by; did you mean covered\?"):
        compare.compare([ntp, mucpt], None, "cover", BY_SEED)
    many = write_run(tmp_path / "many", "+" * 21, fields=list(range(21)))
    with pytest.raises(UserError, match="covered has 21 values; split by a field with at most 20"):
        compare.compare([many], None, "covered", BY_SEED)


def test_runs_that_are_not_comparable_are_named(tmp_path):
    a = write_run(tmp_path / "a", "++-", init_from="x")
    heldout = {"music": {"nll": 1.0, "tokens": 8}}
    b = write_run(tmp_path / "b", "+--", init_from="y", heldout=heldout, step=300, prompt="F: ")
    result = compare.compare([a, b], None, None, BY_SEED)
    assert [sentence.replace(f"{tmp_path}/", "") for sentence in result["warnings"]] == [
        "start models differ (seed 0): x: a; y: b",
        "token budgets differ: 204,800: a; 153,600: b",
        "b stopped at step 300 of 400",
        "b was evaluated at step 400, its last metrics are of step 300",
        "held-out rows differ, their losses do not compare: music 9 tokens: a; music 8 tokens: b",
        "questions of questions were put differently: {'prompt': 'Q'}: a; {'prompt': 'F: '}: b",
    ]
    same = json.loads((tmp_path / "a" / "evaluate.json").read_text())
    write_json(tmp_path / "b" / "evaluate.json", same | {"questions": None})
    assert "were evaluated with the same parameters" in compare.compare([a, b], None, None, BY_SEED)["warnings"][-1]


def test_the_order_of_held_out_sources_is_no_difference_and_no_tokens_are_no_loss(tmp_path):
    heldout = {"music": {"nll": 1.0, "tokens": 9}, "web": {"nll": 0.0, "tokens": 0}}
    runs = [
        write_run(tmp_path / name, heldout=dict(order))
        for name, order in (("a", heldout.items()), ("b", reversed(heldout.items())))
    ]
    result = compare.compare(runs, None, None, BY_SEED)
    assert not result["warnings"] and result["runs"][0]["heldout"] == {"music": 1.0}


def test_bad_input_is_refused_in_one_sentence(tmp_path, capsys):
    a = write_run(tmp_path / "a", "+-")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    other = write_run(tmp_path / "other", "+-", ids=[8, 9])
    for arguments, sentence in (
        ([f"{tmp_path}/empty"], "is no run: it has no config.json"),
        ([a, f"{tmp_path}/link"], "are the same run; name each run once"),
        ([a, "--baseline=b"], "--baseline=b is none of the runs"),
        ([a, "--by_seed=data.domane"], "did you mean data.domain?"),
        ([a, other], "different questions of questions: 2 only in"),
        ([a, f"--output={tmp_path}/absent/x.json"], "No such file or directory"),
    ):
        with pytest.raises(SystemExit) as stopped:
            compare.main(arguments)
        assert stopped.value.code.startswith("error: ") and sentence in stopped.value.code
        assert "\n" not in stopped.value.code
    assert capsys.readouterr().out == ""


def test_the_command_prints_tables_and_writes_json_and_a_picture(tmp_path, capsys):
    a = write_run(tmp_path / "周|a", "+-+-", loss={"kind": "ntp"})
    b = write_run(tmp_path / "b", "+++-", loss={"kind": "rho1"})
    files = [f"--output={tmp_path}/t.json", f"--plot={tmp_path}/p.svg"]
    compare.main([a, b, "--markdown", *files])
    printed = capsys.readouterr().out
    escaped = a.replace("|", "\\|")
    assert f"| {escaped} | all | alias | 2/4 | 0.5000 | 0.150 .. 0.850 |" in printed
    assert json.loads((tmp_path / "t.json").read_text())["pairs"][0]["p"] == 1.0
    compare.main([a, b, "--by_seed="])  # nothing goes with a seed
    lines = capsys.readouterr().out.splitlines()
    assert f"{a}  all        alias  2/4" in "\n".join(lines)
    picture = (tmp_path / "p.svg").read_text(encoding="utf-8")
    words = [e.text for e in ElementTree.fromstring(picture).iter() if e.tag.endswith("text")]
    assert {a, b, "2/4", "3/4"} <= set(words)
    compare.main([a, b, f"--plot={tmp_path}/again.svg"])
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == picture
    with pytest.raises(UserError, match="nothing to plot"):
        tables.plot({"questions": []}, "x.svg")


def test_it_reads_what_the_jobs_write(tmp_path):
    scored = {"tokens": 1, "mean_raw_weight": {"0.5": 0.5, "2.0": 0.5}}
    general = write_rows(tmp_path / "general", {"web": 8})
    sections = {"evaluate": {"rows": str(general), "batch_rows": 4}}
    cfg = small_config(
        loss={"kind": "ntp"}, data={"domain": str(write_rows(tmp_path / "rows", {"music": 16}, scores=scored)),
        "general": str(general)}, optimizer={"steps": 2}, **sections,
    )  # fmt: skip
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    evaluate.evaluate(cfg, one_device_mesh(), tmp_path / "run")
    result = compare.compare([str(tmp_path / "run")], None, None, BY_SEED)
    (run,) = result["runs"]
    assert (run["objective"], run["step"], run["steps"], run["tokens"]) == ("ntp", 2, 2, 2 * 8 * 32)
    assert (run["mean_weight"], run["ess"]) == (1.0, 1.0) and run["general_nll"] > 0
    assert run["heldout"].keys() == {"web"} and not result["warnings"]


def test_a_recipe_names_the_domain_folder_and_leaves_the_tokens_alone():
    file = Path(__file__).parents[1] / "configs" / "qwen1_5b.py"
    get_config = runpy.run_path(str(file))["get_config"]
    plain, recipe = (checks.build(get_config(argument)) for argument in ("ntp", "ntp,wechat"))
    assert recipe.data.domain == "recipes/wechat" and plain.data.domain is None
    budget = {c.optimizer.steps * c.data.batch_rows * c.data.sequence_length for c in (plain, recipe)}
    assert len(budget) == 1 and abs(budget.pop() / 7e9 - 1) < 1e-4
    assert recipe.loss.kind == "ntp"


def write_verdicts(folder, verdicts, *, model=None, questions="music.jsonl", **fields):
    """A judge's folder by hand: a letter a question, + right, - wrong, . not attempted, ! no verdict."""
    folder.mkdir(parents=True)
    words = {"+": "CORRECT", "-": "INCORRECT", ".": "NOT_ATTEMPTED", "!": "ERROR"}
    lines = [
        {"id": f"q{i}", "question": f"Who wrote song {i}?", "answer": "A", "aliases": [], "prediction": f"x{i}"}
        | {"verdict": words[c]} | {name: values[i] for name, values in fields.items()}
        for i, c in enumerate(verdicts)
    ]  # fmt: skip
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    judge = {"kind": "llm", "model": model, "hash": "ab12cd34"} if model else {"kind": "alias"}
    write_json(folder / "judge.json", {"judge": judge, "questions": f"/sets/{questions}", "n": len(lines)})
    return str(folder)


def write_harness(folder, right):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"id": f"cmmlu_arts/{i}", "task": "cmmlu_arts", "correct": c == "+"} for i, c in enumerate(right)]
    (folder / "harness.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tasks = {"cmmlu_arts": {"k": right.count("+"), "n": len(right), "group": "cmmlu"}}
    write_json(folder / "harness.json", {"tasks": tasks, "settings": {"num_fewshot": 5}})


def test_verdicts_and_harness_results_below_a_run_are_sets_of_their_own(tmp_path):
    for name, right in (("a", "++-.!"), ("b", "+----")):
        write_verdicts(tmp_path / name / "judged", right)
        write_harness(tmp_path / name / "harness", right.replace(".", "-").replace("!", "+"))
    result = compare.compare([str(tmp_path / "a"), str(tmp_path / "b")], None, None, BY_SEED)
    counts = {
        (q["run"][-1], q["label"]): (q["k"], q["n"], q["not_attempted"], q["errors"]) for q in result["questions"]
    }
    assert counts["a", "music"] == (2, 5, 1, 1) and counts["a", "cmmlu"] == (3, 5, 0, 0)
    (f,) = [q["f"] for q in result["questions"] if q["run"][-1] == "a" and q["set"] == "music"]
    assert f == pytest.approx(2 / (1 / (2 / 5) + 1 / (2 / 3)))  # 2 of 5 asked, 2 of 3 attempted
    assert [pair["label"] for pair in result["pairs"]] == ["music", "cmmlu"]
    row = dict(tables.of(result))["Questions"]
    assert row[0][-3:] == ["not attempted", "errors", "F"] and row[1][-3:-1] == ["1", "1"]


def test_runs_are_compared_by_a_judge_that_judged_them_all(tmp_path):
    write_verdicts(tmp_path / "a" / "alias", "++--")
    write_verdicts(tmp_path / "a" / "llm", "+++-", model="judge-7b")
    write_verdicts(tmp_path / "b" / "alias", "+---")
    runs = [str(tmp_path / "a"), str(tmp_path / "b")]
    result = compare.compare(runs, None, None, BY_SEED)
    assert {q["judge"] for q in result["questions"]} == {"alias"}
    (judged,) = result["judges"]
    assert judged["judges"] == ["alias", "judge-7b@ab12cd"] and judged["differ"] == ["q2"]
    assert (judged["agree"], judged["kappa"]) == (0.75, pytest.approx(0.5))  # by chance 2/4 3/4 + 2/4 1/4 = 1/2
    write_verdicts(tmp_path / "b" / "llm", "++--", model="judge-7b")
    both = compare.compare(runs, None, None, BY_SEED)
    assert {(q["run"][-1], q["judge"], q["k"]) for q in both["questions"]} == {
        ("a", "judge-7b@ab12cd", 3), ("b", "judge-7b@ab12cd", 2),
    }  # fmt: skip
    write_verdicts(tmp_path / "c" / "other", "++--", model="judge-72b")
    with pytest.raises(UserError, match="no judge judged all answers to music"):
        compare.compare([*runs, str(tmp_path / "c")], None, None, BY_SEED)


def test_a_judge_is_named_as_tables_name_it_and_one_that_is_not_there_is_refused(tmp_path):
    for name in "ab":
        write_verdicts(tmp_path / name / "alias", "++--")
        write_verdicts(tmp_path / name / "llm", "+++-", model="judge-7b")
    runs = {name: run_files.read(str(tmp_path / name)) for name in "ab"}
    for judge, k in (("alias", 2), ("judge-7b", 3), ("judge-7b@ab12cd", 3)):
        result = compare.compared(runs, "a", None, BY_SEED, judge)
        assert {q["k"] for q in result["questions"]} == {k}, judge
    with pytest.raises(UserError, match=r"--judge=gpt-9 judged no run here; there is alias, judge-7b@ab12cd"):
        compare.compared(runs, "a", None, BY_SEED, "gpt-9")


def test_sets_and_parameters_that_do_not_belong_together_are_said(tmp_path):
    write_verdicts(tmp_path / "a", "++--")
    write_verdicts(tmp_path / "b", "+---", questions="copy.jsonl")
    write_verdicts(tmp_path / "b" / "other", "++---", questions="copy.jsonl")
    for place, word in (("b", "aaaa"), ("b/other", "bbbb")):
        file = tmp_path / place / "judge.json"
        write_json(file, json.loads(file.read_text()) | {"answers": {"params_hash": word}})
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert compare.compare([a, b], None, None, BY_SEED)["warnings"] == [
        f"{b} has results of different parameters (judge.json aaaa, other/judge.json bbbb); measure or judge it again",
        f"{b} has several sets named copy by alias: the first counts",
        "music and copy have 4 questions in common, but a set is known by the name of its file or task: runs are "
        "paired within one",
    ]


def test_judges_of_other_answers_do_not_agree_or_differ(tmp_path):
    write_verdicts(tmp_path / "a" / "alias", "++--")
    file = Path(write_verdicts(tmp_path / "a" / "llm", "+-+-", model="judge-7b")) / "verdicts.jsonl"
    file.write_text(file.read_text().replace('"x1"', '"an earlier answer"'))
    result = compare.compare([str(tmp_path / "a")], None, None, BY_SEED)
    (judged,) = result["judges"]
    assert (judged["n"], judged["differ"]) == (3, ["q2"])
    assert result["warnings"] == [
        f"{tmp_path}/a: alias and judge-7b@ab12cd judged different answers to 1 questions of music; judge the last "
        "ones again"
    ]


def test_the_papers_fourth_table_finds_a_comparison_of_one_set(tmp_path):
    for name in "ab":
        write_harness(tmp_path / name, "++--")
    runs = {str(tmp_path / name): run_files.read(str(tmp_path / name)) for name in "ab"}
    result = compare.compared(runs, str(tmp_path / "a"), None, BY_SEED, None)
    rows = dict(paper.tables(result, [f"32b/mucpt={tmp_path}/b/../b/"]))[paper.GENERAL]
    assert rows[2] == ["32b/mucpt", "see the paper", "not measured", "see the paper", "0.5000"]


def test_parts_are_shown_by_the_fields_that_tell_questions_apart(tmp_path):
    for name, right in (("a", "++--"), ("b", "+---")):
        fields = {"lang": ["zh", "zh", "en", "en"], "stratum": ["even"] * 4, "entity": ["A", "A", "B", "B"]}
        write_verdicts(tmp_path / name, right, **fields)
    result = compare.compare([str(tmp_path / "b"), str(tmp_path / "a")], None, None, BY_SEED)
    assert [q["label"] for q in result["questions"] if q["run"].endswith("a")] == ["all", "lang=en", "lang=zh"]
    (whole,) = [pair for pair in result["pairs"] if pair["where"] == "all"]
    # Two artists: A's questions differ by 1 of 2, B's by none, so a resample gives 0, 1/4 or 1/2.
    assert (whole["clusters"], whole["cluster_low"], whole["cluster_high"]) == (2, 0.0, 0.5)


def test_the_page_holds_every_question_and_nothing_that_an_answer_could_run(tmp_path, capsys):
    evil = "</script><img src=x onerror=alert(1)>"
    evidence = {"document": evil, "quote": evil}
    for name, right in (("a", "++-!"), ("b", "+---")):
        write_verdicts(tmp_path / name, right, reply=[evil] * 4, evidence=[evidence] * 4)
    runs = [str(tmp_path / name) for name in "ab"]
    compare.main([*runs, f"--page={tmp_path}/page", "--paper", f"--row=1.5b/ntp={runs[0]}"])
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert evil not in text and "<img" not in text and text.count("</script>") == 2
    payload = text.split('id="payload">')[1].split("</script>")[0]
    (asked,) = json.loads(payload)["sets"]
    assert [(q["id"], q["differ"]) for q in asked["questions"]] == [("q1", 1), ("q3", 1), ("q0", 0), ("q2", 0)]
    assert asked["questions"][0]["answers"][0] == {"text": "x1", "verdicts": ["CORRECT"], "reply": evil}
    assert json.loads((tmp_path / "page" / "compare.json").read_text())["pairs"][0]["n"] == 4
    markdown = (tmp_path / "page" / "compare.md").read_text()
    assert "| 1.5b/ntp | 0.4439 | 0.5000 | 0.150 .. 0.850 | 2/4 | music, alias |" in markdown
    assert "| deepseek-v3 | 0.7539 | not measured |" in markdown and "Paper, table 4" in capsys.readouterr().out
    for row, sentence in (("x=a", "is no row of the paper's tables"), ("1.5b/ntp=c", "c is none of the runs")):
        with pytest.raises(SystemExit, match=sentence):
            compare.main([*runs, "--paper", f"--row={row}"])


def test_a_verdict_file_of_another_judgement_is_refused(tmp_path):
    folder = write_verdicts(tmp_path / "a", "+-")
    (tmp_path / "a" / "verdicts.jsonl").write_text("")
    with pytest.raises(UserError, match=r"verdicts\.jsonl has 0 verdicts, judge\.json beside it says 2"):
        run_files.read(folder)
    write_harness(tmp_path / "h", "+-")
    write_json(tmp_path / "h" / "harness.json", {"tasks": {}})
    with pytest.raises(UserError, match=r"names the task cmmlu_arts, which harness\.json beside it does not"):
        run_files.read(str(tmp_path / "h"))
