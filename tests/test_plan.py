"""The plan job: bytes, products and collectives worked out by hand; advice and search; the real 32B command."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from conftest import small_config

from mucpt_jax import config, plan
from mucpt_jax.errors import UserError
from mucpt_jax.planning import accelerators, advice, hlo, search
from mucpt_jax.run import metrics, runtime
from mucpt_jax.step import sharding

ROOT = Path(__file__).parents[1]
MATRICES = 97 * 32 + 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64)  # embedding; q, k and v, o, MLP of 2 layers
VECTORS = 2 * (32 + 16 + 16 + 2 * 32) + 32  # biases and norms
PLANNED = ("params", "mesh", "bytes_per_device", "fits", "collectives", "flops_per_token", "steps", "days", "warnings")


@functools.cache
def measured(remat: str) -> dict:
    cfg = small_config(loss={"vocab_parts": 1}, train={"remat": remat, "attention": "xla"})
    return plan.measure(cfg, sharding.make_mesh(cfg))


def qwen32b(mesh: dict, **sections) -> config.Config:
    """The paper's batch on a mesh of 256 devices."""
    cfg = small_config(model=config.MODELS["qwen2.5-32b"], mesh=mesh, train={"remat": "full"} | sections)
    batch = {"data.batch_rows": 1024, "data.sequence_length": 4096, "train.compute_dtype": "bfloat16"}
    return config.changed(cfg, batch | {"score.batch_rows": 256, "evaluate.batch_rows": 256})


def test_arguments_are_twelve_bytes_a_parameter_over_the_devices_and_the_batch():
    facts = measured("none")
    assert facts["params"] == MATRICES + VECTORS == 21824
    row = 33 * (4 + 2 + 2) + 4 + 1  # id, segment and score of T + 1 tokens; source and is_domain
    counters = facts["bytes_per_device"]["arguments"] - 12 * (MATRICES // 8 + VECTORS) - row
    assert 0 < counters < 64  # steps of the schedule, of Adam, ...
    held = facts["bytes_per_device"]
    assert held["total"] == held["arguments"] + held["results"] + held["temporaries"]
    assert held["results"] < held["arguments"] / 2  # the old state's memory is used again


def test_offloaded_moments_leave_the_devices_memory():
    here = measured("none")["bytes_per_device"]
    cfg = small_config(
        loss={"vocab_parts": 1}, train={"remat": "none", "attention": "xla"}, optimizer={"offload": True}
    )
    held = plan.measure(cfg, sharding.make_mesh(cfg))["bytes_per_device"]
    assert held["host"] == 8 * (MATRICES // 8 + VECTORS)
    assert here["arguments"] - held["arguments"] == pytest.approx(held["host"], abs=8)  # a flag that is not read


def test_compiled_products_are_those_of_the_formula():
    work = measured("none")["flops_per_token"]
    matmul, attention = 6 * MATRICES, 12 * 2 * 32 * 32  # 12 N q T: scores of all pairs of tokens
    assert work["full"] == matmul + attention
    assert work["causal"] == matmul + attention / 2
    # With one part of the vocabulary the compiler sees that the backward pass asks for the same logits again.
    assert work["compiled"] == matmul + attention


def test_full_remat_multiplies_the_layers_once_more_but_for_the_last_product():
    plain, again = (measured(remat)["flops_per_token"]["compiled"] for remat in ("none", "full"))
    layers = 2 * (MATRICES - 97 * 32) + 4 * 2 * 32 * 32
    assert again - plain == layers - 2 * 2 * 32 * 64  # nobody needs down_proj's output a second time


@pytest.mark.parametrize(("layers", "micro"), [(3, 2), (5, 4)])
def test_gathers_of_the_layers_run_layers_times_micro_batches(layers, micro):
    model = dataclasses.replace(small_config().model, num_hidden_layers=layers)
    cfg = small_config(model=model, data={"batch_rows": 32}, train={"micro_batches": micro, "attention": "xla"})
    compiled, _, _ = plan.compile_step(cfg, sharding.make_mesh(cfg))
    runs = [c.executed for c in hlo.count(compiled.as_text()).collectives if c.kind == "all-gather"]
    assert max(runs) == layers * micro
    # q, k, v, o, gate, up, down of a layer, each at least once in either direction.
    assert runs.count(layers * micro) >= 7


def test_days_are_those_of_the_paper_run():
    # 80e9 tokens * 199.96e9 FLOPs / (256 * 148e12 * 0.45) = 10.86 days.
    cfg = dataclasses.replace(qwen32b({"fsdp": 256}), plan=config.Plan(mfu=0.45))
    cfg = dataclasses.replace(cfg, optimizer=dataclasses.replace(cfg.optimizer, steps=19_073))
    found = plan.expected(cfg, 256)
    assert found["tokens"] == pytest.approx(80e9, rel=1e-4)
    assert found["days"] == pytest.approx(10.86, abs=0.01)


def test_what_only_the_head_and_attention_of_32b_multiply():
    model = config.MODELS["qwen2.5-32b"]
    assert metrics.flops_per_token(model, 4096) == pytest.approx(199.96e9, rel=1e-4)


def facts_of(arguments: float, temporaries: float) -> dict:
    held = {"arguments": arguments, "temporaries": temporaries, "results": 0, "total": arguments + temporaries}
    return {"params": 32_763_876_352, "bytes_per_device": held}


def test_advice_for_activations_begins_with_remat_and_micro_batches():
    cfg = qwen32b({"fsdp": 256}, remat="dots")
    told = [one["flags"] for one in advice.advice(cfg, facts_of(2e9, 100e9))]
    assert told[:2] == ["--config.train.remat=full", "--config.train.micro_batches=2"]
    assert "--config.mesh.fsdp=128 --config.train.micro_batches=2 --config.mesh.tensor=2" in told
    assert told.index("--config.optimizer.offload=True") > 3


def test_advice_for_a_state_that_is_too_large_begins_with_its_copies():
    cfg = qwen32b({"replica": 4, "fsdp": 64})
    told = advice.advice(cfg, facts_of(50e9, 10e9))
    assert told[0]["flags"] == "--config.mesh.replica=1 --config.mesh.fsdp=256"
    assert told[1]["flags"] == "--config.optimizer.moments_dtype=bfloat16"
    assert "2.05 GB" in told[1]["why"]  # 4 bytes * 32.764e9 / 64


def test_advice_never_names_what_the_checks_refuse():
    model = dataclasses.replace(config.MODELS["qwen2.5-0.5b"])
    cfg = dataclasses.replace(qwen32b({"fsdp": 128, "tensor": 1}), model=model)  # 896 = 128 * 7
    for one in advice.advice(cfg, facts_of(50e9, 50e9)):
        assert "mesh.fsdp=256" not in one["flags"]


def test_seconds_on_the_links_are_those_of_a_ring():
    gather = {"kind": "all-gather", "group": 256, "near": 8, "bytes": 256e9}
    total = {"kind": "all-reduce", "group": 8, "near": 8, "bytes": 450e9}
    assert accelerators.link_seconds([gather], "H20") == pytest.approx(255e9 / 400e9)  # through 8 cards a host
    lonely = gather | {"near": 1}  # one device of each host: one card
    assert accelerators.link_seconds([lonely], "H20") == pytest.approx(255e9 / 50e9)
    assert accelerators.link_seconds([total], "H20") == pytest.approx(2 * 7 / 8)  # NVLink


def imitation(cfg: config.Config) -> dict:
    """A plan without a compiler: memory by remat and micro-batches, more products with remat, traffic with fsdp."""
    rows = cfg.data.batch_rows // (cfg.mesh.replica * cfg.mesh.fsdp * cfg.train.micro_batches)
    total = rows / cfg.mesh.tensor * {"full": 10e9, "attention": 25e9, "dots": 60e9, "none": 200e9}[cfg.train.remat]
    flops = {"full": 4, "attention": 3.7, "dots": 3.2, "none": 3}[cfg.train.remat] * 65e9
    sent = {"kind": "all-gather", "group": 256, "near": 8, "bytes": 1e9 * cfg.mesh.fsdp * cfg.train.micro_batches}
    return {
        "flops_per_token": {"compiled": flops},
        "tokens_per_step": 1024 * 4096,
        "devices": 256,
        "collectives": [sent],
        "fits": total < 91e9,
        "bytes_per_device": {"total": total},
        "compiled_for": "cpu",
        "warnings": [],
        "compile_seconds": 0.0,
    }


def test_search_puts_the_fastest_that_fits_first_and_says_what_it_left_out(capsys):
    cfg = qwen32b({"fsdp": 256}, micro_batches=4)
    tried = []
    found = search.search(cfg, lambda c: tried.append(c) or imitation(c), imitation(cfg))
    rows, fits = found["rows"], [r["fits"] for r in found["rows"]]
    assert fits == sorted(fits, reverse=True) and not all(fits)
    times = [search.seconds(r) for r in rows if r["fits"]]
    assert times == sorted(times)
    assert len(rows) == len(tried) + 1 <= search.MAX_COMPILES
    assert all(advice.passes(c) for c in tried) and len(set(tried)) == len(tried)
    assert {c.mesh.replica * c.mesh.fsdp * c.mesh.context * c.mesh.tensor for c in tried} == {256}
    assert any("meshes pass the checks" in note for note in found["notes"])
    printed = capsys.readouterr().out
    assert "settings, best first" in printed and "left out" in printed
    assert advice.flags(rows[0]["change"]).split()[0] in printed


def test_search_does_not_go_on_to_what_needs_more_memory():
    cfg = qwen32b({"fsdp": 256}, micro_batches=4)
    rows = search.search(cfg, imitation, imitation(cfg))["rows"]
    best = {"mesh.replica": 2, "mesh.fsdp": 128, "mesh.context": 1, "mesh.tensor": 1}  # of imitation()'s figures
    changes = [r["change"] for r in rows if search.mesh_of(r) == best]
    settings = {(change["train.remat"], change["train.micro_batches"]) for change in changes}
    # dots fits with one row at once (60 GB), not with two (120); then four are not tried.
    assert ("dots", 4) in settings and ("dots", 2) in settings and ("dots", 1) not in settings
    assert ("none", 4) in settings and ("none", 2) not in settings  # 200 GB with one row


def test_a_setting_that_does_not_compile_is_the_last_row():
    def refuses(cfg):
        if cfg.mesh.tensor > 1:
            raise UserError("no such attention")
        return imitation(cfg)

    cfg = qwen32b({"fsdp": 256}, micro_batches=4)
    rows = search.search(cfg, refuses, imitation(cfg))["rows"]
    assert rows[-1]["error"] == "no such attention" and not rows[-1]["fits"]


def test_the_job_writes_what_it_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(search, "MAX_MESHES", 1)
    monkeypatch.setattr(search, "MAX_COMPILES", 2)
    cfg = small_config(plan={"search": True, "devices": 8}, train={"remat": "none"})
    plan.plan(cfg, sharding.make_mesh(cfg), tmp_path)
    told, saved = capsys.readouterr().out, json.loads((tmp_path / "plan.json").read_text())
    assert saved.keys() >= {
        *PLANNED,
        "search",
        "versions",
        "compile_seconds",
        "accelerator",
        "devices",
        "tokens",
        "mfu",
    }
    assert saved["attention"] == "chunked" and "attention=chunked" in told
    assert saved["fits"] and saved["advice"] == [] and "fits" in told
    assert len(saved["search"]["rows"]) == 2


def test_the_other_jobs_hold_the_parameters_and_what_they_compute():
    cfg = small_config(train={"attention": "xla"})
    jobs = plan.other_jobs(cfg, sharding.make_mesh(cfg))
    held, largest = 4 * (MATRICES // 8 + VECTORS), 4 * 2 * 32 * 64 // 8  # a matrix of the MLP, its layers stacked
    assert jobs["hash"]["total"] == pytest.approx(held + largest, abs=64)
    assert jobs["export, on one host"]["total"] == held + largest
    logits = 50 * 97 * 4  # of 50 questions, which do not split over 8 devices
    assert jobs["evaluate on questions"]["total"] > held + logits
    assert all(job["fits"] for job in jobs.values())
    small = plan.other_jobs(dataclasses.replace(cfg, score=config.Score(batch_rows=512)), sharding.make_mesh(cfg))
    assert small["score, evaluate on rows"]["total"] > 4 * jobs["score, evaluate on rows"]["total"]


def test_what_does_not_fit_is_told_with_flags_to_type(tmp_path, capsys, monkeypatch):
    small = dataclasses.replace(accelerators.ACCELERATORS["H20"], memory=20_000)
    monkeypatch.setitem(accelerators.ACCELERATORS, "H20", small)
    cfg = small_config()
    plan.plan(cfg, sharding.make_mesh(cfg), tmp_path)
    told = capsys.readouterr().out
    assert "TOO LARGE" in told and "--config.train.remat=full" in told
    assert told.count("GB a device, TOO LARGE for 1.84e-05") == 2  # rows and questions
    assert not json.loads((tmp_path / "plan.json").read_text())["fits"]


def test_every_accelerator_of_the_config_has_its_figures():
    assert set(config.choices()["plan.accelerator"]) == set(accelerators.ACCELERATORS)
    assert all(a.kind in metrics.PEAK_FLOPS for a in accelerators.ACCELERATORS.values())


def test_compiler_output_is_kept_apart(capfd):
    line = b"W0 [SPMD] Involuntary full rematerialization. HLO operation %x = f32[2]{0} gather(%y)\n"
    with plan.stderr_of_compiler() as log:
        os.write(2, line + b"another message\n")
    assert "Involuntary" in "".join(log)
    assert capfd.readouterr().err == "another message\n"


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"mesh": {"fsdp": -1}}, "plan.devices=N"),
        ({"mesh": {"fsdp": 8}, "plan": {"devices": 16}}, "plan.devices=16, but the mesh"),
    ],
)
def test_devices_that_are_missing_or_contradict_the_mesh(sections, sentence):
    with pytest.raises(UserError, match=sentence):
        runtime.simulate_devices(small_config(**sections))


def test_simulated_devices_and_no_hosts(monkeypatch):
    environment = {"XLA_FLAGS": "--xla_dump_to=x"}
    monkeypatch.setattr(runtime.os, "environ", environment)
    cfg = runtime.simulate_devices(small_config(mesh={"fsdp": 4, "tensor": 2, "distributed": True}))
    assert not cfg.mesh.distributed
    assert environment["JAX_PLATFORMS"] == "cpu"
    assert environment["XLA_FLAGS"] == "--xla_dump_to=x --xla_force_host_platform_device_count=8"


def test_without_libtpu_a_topology_is_one_sentence(monkeypatch):
    def missing(*_, **__):
        raise RuntimeError("JAX TPU support not installed")

    monkeypatch.setattr(plan.topologies, "get_topology_desc", missing)
    with pytest.raises(UserError, match="pip install libtpu"):
        plan.devices(small_config(plan={"accelerator": "v5p", "topology": "v5p:4x8x8"}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"accelerator": "H20", "topology": "v5p:4x8x8"}, "not of plan.accelerator=H20"),
        ({"accelerator": "v5p", "topology": "v5p:4x8x8", "search": True}, "leave plan.topology empty"),
    ],
)
def test_topologies_that_contradict_the_rest(settings, sentence, tmp_path):
    cfg = small_config(plan=settings)
    with pytest.raises(UserError, match=sentence):
        plan.plan(
            cfg, sharding.make_mesh(cfg, plan.devices(cfg) if settings["accelerator"] == "H20" else None), tmp_path
        )


def test_a_mesh_takes_the_devices_that_it_is_given():
    cfg = small_config(mesh={"fsdp": 2, "tensor": 2})
    assert sharding.make_mesh(cfg, jax.devices()[4:]).devices.ravel().tolist() == jax.devices()[4:]


@pytest.mark.slow  # 32B is compiled; the tests above take its sizes without that
def test_the_papers_run_fits_256_gpus_of_96_gb(tmp_path):
    command = [sys.executable, "launch.py", "--config=configs/qwen32b_mucpt.py", "--job=plan", f"--workdir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "plan.json").read_text())
    held = found["bytes_per_device"]
    assert found["devices"] == 256 and found["params"] == 32_763_876_352
    assert found["fits"] and held["total"] < 96e9
    assert held["arguments"] == pytest.approx(32.764e9 * 12 / 256, rel=0.02)
    assert found["warnings"] == []
    jobs = {job: of["total"] / 1e9 for job, of in found["other_jobs"].items()}
    assert all(of["fits"] for of in found["other_jobs"].values())
    assert 32.764 * 4 / 256 < jobs["hash"] < 0.7 and 32.764 * 4 / 8 < jobs["export, on one host"] < 21
    assert (
        found["flops_per_token"]["full"] < found["flops_per_token"]["compiled"] < 1.4 * found["flops_per_token"]["full"]
    )
    assert found["days"] == pytest.approx(12.2, abs=0.1)  # at 40% MFU
