import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import VOCAB, one_device_mesh, random_row, small_config, wait_for_lines, write_config, write_rows

from mucpt_jax import config, train
from mucpt_jax.errors import UserError
from mucpt_jax.formats.rows import NO_LOSS
from mucpt_jax.run import checkpoint, data, lineage, metrics
from mucpt_jax.step import model, sharding
from mucpt_jax.weights import hf_write, transfer

ROOT = Path(__file__).parents[1]


def trace(workdir: Path) -> list[tuple[int, float]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def config_of(tmp_path: Path, **sections):
    folder = tmp_path / "rows"
    if not folder.exists():
        write_rows(folder, {"web": 40})
    data = {"general": str(folder), "general_fraction": 1.0} | sections.pop("data", {})
    return small_config(data=data, **sections)


def test_training_lowers_the_loss_and_writes_what_scripts_rely_on(tmp_path):
    cfg = config_of(tmp_path, optimizer={"steps": 30})
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    losses = trace(tmp_path / "run")
    assert [step for step, _ in losses] == list(range(1, 31))
    assert losses[-1][1] < losses[0][1] - 0.3
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["sources"]["web"]["nll"] == pytest.approx(line["loss"], rel=1e-5)
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert checkpoint.manager(tmp_path / "run").latest_step() == 30


def test_a_run_in_two_parts_equals_the_run_in_one_bit_for_bit(tmp_path):
    whole = config_of(tmp_path, optimizer={"steps": 12}, train={"checkpoint_every": 5})
    train.train(whole, one_device_mesh(), tmp_path / "whole")
    # Stopped after step 7 (no checkpoint there): what came after 5 is done again, with the same numbers.
    part = tmp_path / "part"
    stopped = dataclasses.replace(whole, optimizer=dataclasses.replace(whole.optimizer))
    with pytest.MonkeyPatch.context() as patch:
        report = train.report

        def stop_at_7(run, step, values):
            report(run, step, values)
            if step == 7:
                raise KeyboardInterrupt

        patch.setattr(train, "report", stop_at_7)
        with pytest.raises(KeyboardInterrupt):
            train.train(stopped, one_device_mesh(), part)
    assert trace(part)[-1][0] == 7
    train.train(whole, one_device_mesh(), part)
    assert trace(part) == trace(tmp_path / "whole")


def test_a_run_goes_on_with_another_mesh_to_float_tolerance(tmp_path):
    cfg = config_of(tmp_path, optimizer={"steps": 8}, train={"checkpoint_every": 4})
    train.train(cfg, one_device_mesh(), tmp_path / "one")
    half = tmp_path / "two"
    train.train(cfg, one_device_mesh(), half)
    shutil.rmtree(half / "checkpoints" / "8")  # as if killed before it was written
    mesh = sharding.make_mesh(dataclasses.replace(cfg, mesh=dataclasses.replace(cfg.mesh, fsdp=4, tensor=2)))
    with jax.set_mesh(mesh):
        train.train(cfg, mesh, half)
    np.testing.assert_allclose(trace(half), trace(tmp_path / "one"), rtol=1e-5)


def test_kill_9_in_the_middle_then_the_same_command_gives_the_same_trace(tmp_path):
    """The real command, killed by SIGKILL at a step nobody chose."""
    write_rows(tmp_path / "rows", {"web": 40})
    file = write_config(tmp_path, steps=300)
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}

    def command(name):
        return [sys.executable, "launch.py", f"--config={file}", f"--workdir={tmp_path / name}",
                f"--config.data.general={tmp_path / 'rows'}"]  # fmt: skip

    def start(name):
        return subprocess.Popen(command(name), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)

    running = start("killed")
    metrics = tmp_path / "killed" / "metrics.jsonl"
    wait_for_lines(metrics, 50, [running])
    running.send_signal(signal.SIGKILL)
    running.wait()
    reached = len(metrics.read_text().splitlines())
    assert reached < 300
    assert start("killed").wait() == 0
    assert start("whole").wait() == 0
    assert trace(tmp_path / "killed") == trace(tmp_path / "whole")
    assert len(trace(tmp_path / "whole")) == 300


def rates(workdir: Path) -> list[float]:
    return [json.loads(line)["lr"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_more_steps_go_on_at_the_final_rate_and_another_schedule_is_refused(tmp_path):
    cfg, workdir = config_of(tmp_path), tmp_path / "run"
    train.train(cfg, one_device_mesh(), workdir)
    before, longer = rates(workdir), config_of(tmp_path, optimizer={"steps": 9})
    assert before[-1] == pytest.approx(1e-3)  # final_lr
    train.train(longer, one_device_mesh(), workdir)
    assert rates(workdir) == [*before, before[-1], before[-1], before[-1]]
    meant = config_of(tmp_path, optimizer={"steps": 9, "schedule_steps": 6})  # from its start on
    train.train(meant, one_device_mesh(), tmp_path / "meant")
    assert trace(tmp_path / "meant") == trace(workdir)
    saved = lineage.saved_config(workdir)
    assert (saved.optimizer.steps, saved.optimizer.schedule_steps) == (9, 6)
    with pytest.raises(
        UserError, match=r"has a schedule of 6 steps, now optimizer\.schedule_steps=12: .* leave it empty"
    ):
        train.train(config_of(tmp_path, optimizer={"steps": 12, "schedule_steps": 12}), one_device_mesh(), workdir)
    # A checkpoint of 0.2 does not say its schedule; the run's config.json says its steps.
    meta = workdir / "checkpoints" / "9" / "meta" / "metadata"
    values = json.loads(meta.read_text())
    del values["identity"]["optimizer.schedule_steps"]
    meta.write_text(json.dumps(values))
    values = json.loads((workdir / "config.json").read_text())
    del values["optimizer"]["schedule_steps"]
    (workdir / "config.json").write_text(json.dumps(values))
    known = lineage.with_schedule(config_of(tmp_path, optimizer={"steps": 20}), workdir)
    assert known.optimizer.schedule_steps == 9


def test_a_step_without_targets_is_left_out_and_the_run_goes_on(tmp_path, caplog):
    rows = [random_row(np.random.default_rng(i)) for i in range(16)]
    for row in rows[1:]:
        row["segment_ids"] |= np.uint16(NO_LOSS) * (row["segment_ids"] > 0)
    write_rows(tmp_path / "rows", {"web": 16}, rows=rows)
    train.train(config_of(tmp_path, optimizer={"steps": 2}), one_device_mesh(), tmp_path / "run")
    losses = [loss for _, loss in trace(tmp_path / "run")]
    assert losses.count(None) == 1 and all(loss > 0 for loss in losses if loss is not None)
    assert "without a target: each token is a segment's first, masked or padding" in caplog.text
    assert "overflowed" not in caplog.text


def test_the_start_tells_how_often_each_source_will_be_read(tmp_path, caplog):
    write_rows(tmp_path / "more", {"songs": 10})
    caplog.set_level("INFO")
    of = {"domain": str(tmp_path / "more"), "general_fraction": 0.5}
    cfg = config_of(tmp_path, data=of, loss={"kind": "ntp"}, optimizer={"steps": 5})
    metrics.describe_run(cfg, data.open_sources(cfg), {}, 0)
    planned = {m[1]: float(m[2]) for m in re.finditer(r"source (\w+): .* ([\d.]+) epochs in 5 steps", caplog.text)}
    # 40 rows are read, half of them of each kind, whose rows hold nearly as many targets: 20 of 10, 20 of 40.
    assert planned == {"songs": pytest.approx(2, rel=0.05), "web": pytest.approx(0.5, rel=0.05)}


def test_a_finished_run_is_not_trained_again(tmp_path):
    cfg = config_of(tmp_path)
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_of_another_model_or_other_data_is_refused(tmp_path):
    cfg = config_of(tmp_path)
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    wider = dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, hidden_size=64))
    with pytest.raises(UserError, match=r"checkpoints/6 holds a model with hidden_size=32, the config's nano has 64"):
        train.train(wider, one_device_mesh(), tmp_path / "run")
    with pytest.raises(UserError, match=r"hidden_size=32"):
        lineage.load_params(wider, one_device_mesh(), tmp_path / "run")
    for key, value in (("seed", 1), ("data", {"batch_rows": 16})):
        changed = config_of(tmp_path, **{key: value}, optimizer={"steps": 9})
        name = key if key == "seed" else "data.batch_rows"
        with pytest.raises(UserError, match=rf"was trained with {name}=.*cannot go on exactly"):
            train.train(changed, one_device_mesh(), tmp_path / "run")
    write_rows(tmp_path / "other", {"web": 40}, seed=5)
    for changed in (
        config_of(tmp_path, data={"general": str(tmp_path / "other")}, optimizer={"steps": 9}),
        config_of(tmp_path, loss={"kind": "rho1"}, optimizer={"steps": 9}),
        config_of(tmp_path, optimizer={"steps": 9, "peak_lr": 0.5}),
    ):
        with pytest.raises(UserError, match=r"was trained with (rows|loss\.kind|optimizer\.peak_lr)="):
            train.train(changed, one_device_mesh(), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["loss"]["kind"] == "mucpt"


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before_it(tmp_path, caplog):
    cfg = config_of(tmp_path, train={"checkpoint_every": 2, "keep_checkpoints": 2})
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    assert sorted(checkpoint.manager(tmp_path / "run").all_steps()) == [4, 6]  # the newest two are kept
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6" / "opt_state")
    before = trace(tmp_path / "run")
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    assert "CHECKPOINT 6 IS DAMAGED AND TRAINING GOES BACK TO STEP 4: " in caplog.text
    assert trace(tmp_path / "run") == before  # bit for bit
    assert sorted(checkpoint.manager(tmp_path / "run").all_steps()) == [4, 6]


def test_a_second_start_in_a_workdir_is_refused_while_the_first_lives(tmp_path):
    cfg, run = config_of(tmp_path), tmp_path / "run"
    with checkpoint.alone(run, "the first"), pytest.raises(UserError, match=f"--workdir={run} is being written by"):
        train.train(cfg, one_device_mesh(), run)
    assert os.listdir(run) == ["lock"]  # it did not get as far as Orbax, which clears unfinished steps away


def test_a_full_disk_leaves_the_checkpoint_before_it_good(tmp_path):
    """RLIMIT_FSIZE makes writes fail as a full disk does; in a process of its own, which keeps the limit."""
    script = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import conftest, resource, signal
from pathlib import Path
from mucpt_jax import config, train
from mucpt_jax.errors import UserError
from mucpt_jax.run import checkpoint
cfg = conftest.small_config(
    data={{"general": {str(tmp_path / "rows")!r}, "general_fraction": 1.0}}, optimizer={{"steps": 8}},
    train={{"checkpoint_every": 4}})
save = checkpoint.save
def full_after_4(ckpt, step, *rest):
    if step > 4:
        ckpt.wait_until_finished()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    save(ckpt, step, *rest)
checkpoint.save = full_after_4
try:
    train.train(cfg, conftest.one_device_mesh(), Path({str(tmp_path / "run")!r}))
except UserError as error:
    print("REFUSED", error)
"""
    write_rows(tmp_path / "rows", {"web": 20})
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    told = [line for line in done.stdout.splitlines() if line.startswith("REFUSED")]
    assert told, done.stdout[-2000:] + done.stderr[-2000:]
    assert "could not be written" in told[0] and "checkpoint 4 is good" in told[0]
    cfg = small_config(
        data={"general": str(tmp_path / "rows"), "general_fraction": 1.0},
        optimizer={"steps": 8},
        train={"checkpoint_every": 4},
    )
    train.train(cfg, one_device_mesh(), tmp_path / "run")  # the same command goes on from 4
    assert trace(tmp_path / "run")[-1][0] == 8


def poisoned(tmp_path) -> tuple:
    """A config and parameters with which one document of one row (record 11) gives NaN."""
    rng = np.random.default_rng(0)
    rows = [random_row(rng) for _ in range(16)]
    poison = VOCAB - 1
    for row in rows:
        row["tokens"][row["tokens"] == poison] = 1
    rows[11]["tokens"][2] = poison  # its embedding is NaN
    write_rows(tmp_path / "rows", {"web": 16}, rows=rows)
    cfg = config_of(tmp_path, optimizer={"steps": 4}, model=untied(small_config().model))
    params = model.init(cfg.model, jax.random.key(0))
    params["embed_tokens"]["embedding"] = params["embed_tokens"]["embedding"].at[poison].set(np.nan)
    return cfg, params


BAD_ROW = "web-00000-of-00001.array_record"


def test_a_loss_that_is_not_finite_stops_with_step_rows_and_documents(tmp_path, monkeypatch):
    cfg, params = poisoned(tmp_path)
    monkeypatch.setattr(lineage, "initial_params", lambda *_: params)
    with pytest.raises(UserError) as error:
        train.train(cfg, one_device_mesh(), tmp_path / "run")
    told = str(error.value)
    assert told.startswith("step ") and "loss is nan" in told
    assert f"{BAD_ROW} record 11 (documents web-11-1, web-11-2, web-11-3)" in told
    assert checkpoint.manager(tmp_path / "run").latest_step() is None
    (line,) = [json.loads(x) for x in (tmp_path / "run" / "bad_steps.jsonl").read_text().splitlines()]
    assert line["action"] == "stop" and len(line["rows"]) == 8
    (bad,) = [row for row in line["rows"] if row["nll"] is None]  # JSON has no NaN
    assert bad["record"] == 11 and bad["documents"] == ["web-11-1", "web-11-2", "web-11-3"]


def test_a_bad_step_can_be_left_out_and_the_run_goes_on(tmp_path, monkeypatch):
    cfg, params = poisoned(tmp_path)
    cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, on_bad_step="skip", checkpoint_every=2))
    monkeypatch.setattr(lineage, "initial_params", lambda *_: params)
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    lines = [json.loads(x) for x in (tmp_path / "run" / "bad_steps.jsonl").read_text().splitlines()]
    assert {line["action"] for line in lines} == {"skip"}
    left_out = {line["step"] for line in lines}
    assert len(left_out) == 2  # 16 rows, 8 a step: once in each of two epochs
    assert {step for step, loss in trace(tmp_path / "run") if loss is None} == left_out
    found = lineage.load_params(cfg, one_device_mesh(), tmp_path / "run")
    assert np.isfinite(found["layers"]["mlp"]["up_proj"]["kernel"]).all()


def test_a_run_that_only_meets_bad_steps_gives_up(tmp_path, monkeypatch):
    cfg, params = poisoned(tmp_path)
    params["norm"]["scale"] = params["norm"]["scale"] * np.nan
    cfg = dataclasses.replace(
        cfg, train=dataclasses.replace(cfg.train, on_bad_step="skip"),
        optimizer=dataclasses.replace(cfg.optimizer, steps=40),
    )  # fmt: skip
    monkeypatch.setattr(lineage, "initial_params", lambda *_: params)
    with pytest.raises(UserError, match=r"step 16: loss is nan.*stops after 16 in a row"):
        train.train(cfg, one_device_mesh(), tmp_path / "run")


def test_moments_in_host_memory_and_in_bfloat16_train_and_go_on(tmp_path):
    plain = config_of(tmp_path, optimizer={"steps": 6}, train={"checkpoint_every": 3})
    train.train(plain, one_device_mesh(), tmp_path / "plain")
    offloaded = config_of(tmp_path, optimizer={"steps": 6, "offload": True}, train={"checkpoint_every": 3})
    abstract = train.abstract_state(offloaded, train.optimizer.make(offloaded), one_device_mesh())
    assert {x.sharding.memory_kind for x in jax.tree.leaves(abstract[1]) if x.ndim} == {"pinned_host"}
    train.train(offloaded, one_device_mesh(), tmp_path / "offloaded")
    assert trace(tmp_path / "offloaded") == trace(tmp_path / "plain")
    shutil.rmtree(tmp_path / "offloaded" / "checkpoints" / "6")
    train.train(offloaded, one_device_mesh(), tmp_path / "offloaded")  # goes on from 3, moments back into host memory
    assert trace(tmp_path / "offloaded") == trace(tmp_path / "plain")
    half = config_of(tmp_path, optimizer={"steps": 6, "moments_dtype": "bfloat16"}, train={"checkpoint_every": 3})
    train.train(half, one_device_mesh(), tmp_path / "half")
    whole = trace(tmp_path / "half")
    np.testing.assert_allclose([x for _, x in whole], [x for _, x in trace(tmp_path / "plain")], rtol=1e-2)
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "6")
    train.train(half, one_device_mesh(), tmp_path / "half")
    assert trace(tmp_path / "half") == whole


def untied(cfg):
    return dataclasses.replace(cfg, tie_word_embeddings=False)


def test_training_starts_from_another_run_or_from_a_hugging_face_folder(tmp_path):
    cfg = config_of(tmp_path)
    train.train(cfg, one_device_mesh(), tmp_path / "base")
    params = lineage.load_params(cfg, one_device_mesh(), tmp_path / "base")
    transfer.to_hf(params, cfg.model, hf_write.About(str(tmp_path / "hf"), "float32"))
    for start in ("base", "hf"):
        second = dataclasses.replace(cfg, init_from=str(tmp_path / start))
        train.train(second, one_device_mesh(), tmp_path / f"from-{start}")
    assert trace(tmp_path / "from-base") == trace(tmp_path / "from-hf")
    assert trace(tmp_path / "from-base")[0][1] < trace(tmp_path / "base")[0][1]
    with pytest.raises(UserError, match="is no folder"):
        train.train(dataclasses.replace(cfg, init_from="absent"), one_device_mesh(), tmp_path / "x")


def test_the_hash_of_given_numbers_stays():
    """Scores of years ago name their reference model by it."""
    kernel = jnp.asarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7)
    params = {"a": {"kernel": kernel}, "b": kernel[0]}
    mesh = sharding.make_mesh(small_config(mesh={"fsdp": 4, "tensor": 2}))
    split = jax.device_put(kernel, jax.NamedSharding(mesh, jax.P("tensor", None, "fsdp")))
    assert int(checkpoint.checksum(kernel)) == int(checkpoint.checksum(split)) == 3_771_690_011
    assert checkpoint.params_hash(params) == checkpoint.params_hash({"a": {"kernel": split}, "b": kernel[0]})
    assert checkpoint.params_hash(params) == "6861118ca95a94cb"


@pytest.mark.parametrize("axes", [{"fsdp": 8}, {"fsdp": 4, "tensor": 2}], ids=["fsdp", "tensor"])
def test_the_hash_of_32b_needs_no_array_whole(axes):
    cfg = small_config(model=config.MODELS["qwen2.5-32b"], mesh=axes)
    params = lineage.abstract_params(cfg, sharding.make_mesh(cfg))
    kernel = params["layers"]["mlp"]["down_proj"]["kernel"]
    shard = 4 * 64 * 27_648 * 5_120 // 8  # bytes
    jax.config.update("jax_disable_most_optimizations", False)  # as in a run: the tests' compiler keeps all it computes
    try:
        stats = checkpoint.checksum.lower(kernel).compile().memory_analysis()
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
    assert (stats.argument_size_in_bytes, kernel.size) == (shard, 9_059_696_640)  # places beyond 2^32 wrap
    assert stats.temp_size_in_bytes < 1.01 * shard


def test_a_hash_names_parameters_whatever_the_mesh(tmp_path):
    cfg = small_config()
    params = model.init(cfg.model, jax.random.key(0))
    mesh = sharding.make_mesh(dataclasses.replace(cfg, mesh=dataclasses.replace(cfg.mesh, fsdp=4, tensor=2)))
    shardings = jax.tree.map(lambda s: s.sharding, sharding.with_shardings(model.abstract(cfg.model), mesh))
    before = checkpoint.params_hash(params)
    assert before == checkpoint.params_hash(jax.device_put(params, shardings))
    changed = jax.tree.map(lambda x: x, params)
    changed["norm"]["scale"] = changed["norm"]["scale"].at[3].add(1e-6)
    assert checkpoint.params_hash(changed) != before
    swapped = jax.tree.map(lambda x: x, params)
    kernel = swapped["layers"]["mlp"]["up_proj"]["kernel"]
    swapped["layers"]["mlp"]["up_proj"]["kernel"] = kernel[:, ::-1]
    assert checkpoint.params_hash(swapped) != before


def test_a_bad_score_met_while_training_stops_with_its_sentence(tmp_path):
    """The rows are read by threads ahead of the step; what they raise must arrive as it was."""
    rng = np.random.default_rng(0)
    scores = {"scores": {"mean_raw_weight": {"0.1": 1.0, "10.0": 0.1}}}
    folder = write_rows(tmp_path / "domain", {"music": 8}, rows=[random_row(rng) for _ in range(8)], **scores)
    cfg = small_config(data={"domain": str(folder), "general_fraction": 0.0})
    with pytest.raises(UserError, match=r"record \d has an rm_nll that is NaN"):
        train.train(cfg, one_device_mesh(), tmp_path / "run")


def test_a_source_of_the_same_name_in_both_folders_is_told_apart(tmp_path):
    for kind, seed in (("domain", 0), ("general", 1)):
        write_rows(tmp_path / kind, {"web": 8}, seed)
    folders = {kind: str(tmp_path / kind) for kind in ("domain", "general")}
    cfg = small_config(data=folders | {"general_fraction": 0.5}, loss={"kind": "ntp"})
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert {name: s["is_domain"] for name, s in line["sources"].items()} == {"web": True, "web (general)": False}


def test_the_profiler_window_writes_its_steps(tmp_path):
    cfg = config_of(tmp_path, train={"profile_step": 3, "profile_steps": 2})
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    (trace_file,) = (tmp_path / "run" / "profile").rglob("*.xplane.pb")
    assert trace_file.stat().st_size > 0
    assert len(trace(tmp_path / "run")) == 6
    # The window is cut by the end of the run, and one that began before the checkpoint is not opened again.
    late = config_of(tmp_path, train={"profile_step": 6, "profile_steps": 9})
    train.train(late, one_device_mesh(), tmp_path / "late")
    assert list((tmp_path / "late" / "profile").rglob("*.xplane.pb"))
    longer = dataclasses.replace(late, optimizer=dataclasses.replace(late.optimizer, steps=20))
    train.train(longer, one_device_mesh(), tmp_path / "late")
