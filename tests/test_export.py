import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from conftest import VOCAB, one_device_mesh, small_config, write_rows

from mucpt_jax import config, export, train
from mucpt_jax.errors import UserError
from mucpt_jax.formats import checksums
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import text_hash, write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.tokenizer import tokenizer_hash
from mucpt_jax.run import checkpoint, lineage
from mucpt_jax.step import model, sharding
from mucpt_jax.weights import hf_write, transfer


def tokenizer(folder):
    folder.mkdir()
    (folder / "tokenizer.json").write_text('{"added_tokens": [{"content": "<|endoftext|>", "id": 5}]}')
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(config, workdir) of four steps of ntp on two sources, saved after 2 and 4."""
    folder = tmp_path_factory.mktemp("export")
    hash_of = tokenizer_hash(tokenizer(folder / "tokenizer"))
    for role, sources in (("domain", {"songs": 6}), ("general", {"web": 6})):
        write_rows(folder / role, sources, tokenizer_hash=hash_of)
    cfg = small_config(
        data={"domain": str(folder / "domain"), "general": str(folder / "general"), "general_fraction": 0.5},
        loss={"kind": "ntp"}, optimizer={"steps": 4}, train={"checkpoint_every": 2}, model=small_config().model,
        tokenizer=str(folder / "tokenizer"), export={"dtype": "float32"},
    )  # fmt: skip
    train.train(cfg, one_device_mesh(), folder / "run")
    return cfg, folder / "run"


def test_an_export_holds_the_newest_checkpoint_on_any_mesh(trained, tmp_path):
    cfg, workdir = trained
    params = lineage.load_params(cfg, one_device_mesh(), workdir)
    split = dataclasses.replace(cfg, mesh=dataclasses.replace(cfg.mesh, fsdp=4, tensor=2))
    for name, run in (("one", cfg), ("split", split)):
        run = dataclasses.replace(run, export=dataclasses.replace(run.export, path=str(tmp_path / name)))
        export.export(run, sharding.make_mesh(run) if name == "split" else one_device_mesh(), workdir)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "split")]
    assert weights[0] == weights[1]
    back = transfer.from_hf(
        str(tmp_path / "one"), cfg.model, sharding.with_shardings(model.abstract(cfg.model), one_device_mesh())
    )
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_model_card_tells_the_recipe(trained):
    cfg, workdir = trained
    export.export(cfg, one_device_mesh(), workdir)
    text = (workdir / "hf" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\n")
    manifest = read_manifest(cfg.data.domain)
    shards = text_hash("".join(shard["sha256"] for shard in manifest["shards"]))[:16]
    tokens = 4 * cfg.data.batch_rows * cfg.data.sequence_length
    for told in (
        "4 steps of ntp", f"4 of 4, {tokens:,} tokens", "random parameters", "50.00% of the target tokens", shards,
        "| domain | songs |", "| general | web |", '"kind": "ntp"',
        checkpoint.params_hash(lineage.load_params(cfg, one_device_mesh(), workdir)),
    ):  # fmt: skip
        assert told in text
    assert str(workdir.parent) not in text  # nobody's folders
    assert read_json(workdir / "hf" / "config.json")["eos_token_id"] == 5


def test_the_card_holds_no_folders_and_no_markup_of_others(trained, tmp_path):
    cfg, workdir = trained
    shutil.copytree(workdir, tmp_path / "run")
    run = read_json(workdir / "config.json")
    shutil.copytree(cfg.data.domain, tmp_path / "domain")
    manifest = read_json(tmp_path / "domain" / "manifest.json")
    manifest["sources"] = {"a|b<i>": manifest["sources"]["songs"]}
    manifest["shards"] = [shard | {"source": "a|b<i>"} for shard in manifest["shards"]]
    write_json(tmp_path / "domain" / "manifest.json", manifest)
    run["data"]["domain"], run["init_from"] = str(tmp_path / "domain"), str(tmp_path / "run: x")
    run["loss"]["reference"], run["optimizer"]["trainable"] = str(tmp_path / "rm"), "self_attn|norm"
    write_json(tmp_path / "run" / "config.json", run)
    text = export.card(cfg, tmp_path / "run", "0" * 16)
    assert str(tmp_path) not in text
    for told in ("| a\\|b&lt;i> |", '"reference": "rm"', 'base_model: "run: x"', "| trained | self_attn\\|norm |"):
        assert told in text, told
    start = dataclasses.replace(cfg, init_from=str(tmp_path / "domain"))
    assert str(tmp_path) not in export.card(start, tmp_path / "none", "0" * 16)


def written(path, **about):
    """A small export, of nothing but a norm."""
    shapes = {"model.norm.weight": (4,)}
    hf_write.write(shapes, lambda _: np.ones(4), small_config().model, hf_write.About(str(path), **about))


def test_folders_beside_an_export_are_not_its_own(tmp_path):
    written(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "out.old")  # somebody's backup
    written(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.old"]


def test_an_export_goes_where_a_link_a_dot_or_an_empty_folder_stands(tmp_path, monkeypatch):
    written(tmp_path / "disk" / "real")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    written(tmp_path / "link", dtype="float32")
    assert (tmp_path / "link").is_symlink()
    assert read_json(tmp_path / "disk" / "real" / hf_write.MARK)["dtype"] == "float32"
    monkeypatch.chdir(tmp_path / "disk" / "real")
    written(".")
    assert read_json(tmp_path / "disk" / "real" / hf_write.MARK)["dtype"] == "bfloat16"
    (tmp_path / "empty").mkdir()
    written(f"{tmp_path}/empty/")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "empty", "link"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x cannot be made or written \(.*Not a directory.*\); name a folder"):
        written(tmp_path / "file" / "x")


def test_what_a_killed_export_left_is_cleared_and_a_whole_one_stays_until_the_next_is_there(tmp_path):
    written(tmp_path / "out")
    writing = tmp_path / ".out.writing"
    (writing / "run-0123abcd").mkdir(parents=True)
    (writing / "run-0123abcd/model-00009-of-00010.safetensors").write_text("half")
    (writing / "lock").write_text("lock of mucpt_jax\n0123abcd\n")
    (tmp_path / "out").rename(writing / "old-0123abcd")  # killed between the two renames

    def fails(_):
        assert (tmp_path / "out" / hf_write.SUMS).is_file() and not (writing / "run-0123abcd").exists()
        raise KeyboardInterrupt

    about = hf_write.About(str(tmp_path / "out"))
    with pytest.raises(KeyboardInterrupt):
        hf_write.write({"model.norm.weight": (4,)}, fails, small_config().model, about)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").glob("model-*"))
    written(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_exports_to_one_folder_the_second_is_refused(tmp_path):
    def read(_):
        with pytest.raises(UserError, match=r"out is being written by another run; wait for its end"):
            written(tmp_path / "out")
        return np.ones(4)

    about = hf_write.About(str(tmp_path / "out"))
    hf_write.write({"model.norm.weight": (4,)}, read, small_config().model, about)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_replaces_only_an_export(trained, tmp_path):
    cfg, workdir = trained
    other = dataclasses.replace(cfg, export=dataclasses.replace(cfg.export, path=str(tmp_path / "out")))
    for _ in range(2):  # the second takes the first one's place
        export.export(other, one_device_mesh(), workdir)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "out" / hf_write.MARK).unlink()  # a downloaded model, a run, any folder
    with pytest.raises(UserError, match="exists and is no export of ours"):
        export.export(other, one_device_mesh(), workdir)
    assert (tmp_path / "out" / "config.json").is_file()


def test_the_fields_of_the_model_it_comes_from_are_kept(trained, tmp_path):
    cfg, workdir = trained
    export.export(cfg, one_device_mesh(), workdir)
    start = tmp_path / "start"
    shutil.copytree(workdir / "hf", start)
    values = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps(values | {"bos_token_id": 3, "eos_token_id": 4}))
    (start / "generation_config.json").write_text('{"temperature": 0.5}')
    for name in (hf_write.SUMS, hf_write.MARK):  # whose sums the changed config.json has no longer
        (start / name).unlink()
    again = dataclasses.replace(
        cfg, tokenizer=None, init_from=str(start), optimizer=dataclasses.replace(cfg.optimizer, steps=1)
    )
    train.train(again, one_device_mesh(), tmp_path / "run")
    export.export(again, one_device_mesh(), tmp_path / "run")
    found = read_json(tmp_path / "run" / "hf" / "config.json")
    assert (found["bos_token_id"], found["eos_token_id"], found["vocab_size"]) == (3, 4, VOCAB)
    assert (tmp_path / "run" / "hf" / "generation_config.json").read_text() == '{"temperature": 0.5}'
    assert 'base_model: "start"' in (tmp_path / "run" / "hf" / "README.md").read_text()


def changed(folder, name: str, values: dict) -> None:
    """As a folder of somebody else's: no checksums of ours."""
    write_json(folder / name, read_json(folder / name) | values)
    (folder / checksums.MARK).unlink()
    (folder / checksums.SUMS).unlink()


def test_an_export_takes_as_long_rows_as_it_was_trained_on(trained, tmp_path):
    """The start model says 16, the run said more and trained on rows of T=32."""
    cfg, workdir = trained
    start = tmp_path / "start"
    export.export(dataclasses.replace(cfg, export=config.Export(str(start))), one_device_mesh(), workdir)
    changed(start, "config.json", {"max_position_embeddings": 16})
    run = dataclasses.replace(cfg, init_from=str(start), optimizer=dataclasses.replace(cfg.optimizer, steps=1))
    train.train(run, one_device_mesh(), tmp_path / "run")
    # The job's own config names neither start model nor tokenizer.
    job = lineage.of_run(config.Config(), tmp_path / "run", named=set())
    export.export(job, one_device_mesh(), tmp_path / "run")
    assert read_json(tmp_path / "run" / "hf" / "config.json")["max_position_embeddings"] == 32
    assert export.longest_rows([str(start)]) == 0  # an untrained model keeps its own


def test_what_an_export_keeps_is_of_the_runs_own_start_model(trained, tmp_path):
    """Where the command line names another model, as a config file's default may."""
    cfg, workdir = trained
    for name, eos in (("own", 7), ("other", 8)):
        there = dataclasses.replace(cfg, export=config.Export(str(tmp_path / name)))
        export.export(there, one_device_mesh(), workdir)
        changed(tmp_path / name, "config.json", {"eos_token_id": eos})
        write_json(tmp_path / name / "generation_config.json", {"eos_token_id": eos})
    run = dataclasses.replace(
        cfg, init_from=str(tmp_path / "own"), optimizer=dataclasses.replace(cfg.optimizer, steps=1)
    )
    train.train(run, one_device_mesh(), tmp_path / "run")
    export.export(dataclasses.replace(cfg, init_from=str(tmp_path / "other")), one_device_mesh(), tmp_path / "run")
    for file in ("config.json", "generation_config.json"):
        assert read_json(tmp_path / "run" / "hf" / file)["eos_token_id"] == 7


def test_a_job_knows_model_and_tokenizer_of_its_run_and_of_the_runs_before_it(trained, tmp_path):
    """Hugging Face folder -> run -> run, and then a job whose config names none of them."""
    cfg, workdir = trained
    start = tmp_path / "start"
    export.export(dataclasses.replace(cfg, export=config.Export(str(start))), one_device_mesh(), workdir)
    (start / "generation_config.json").write_text("{}")
    for name in (hf_write.SUMS, hf_write.MARK):  # whose sums do not know this file
        (start / name).unlink()
    once = dataclasses.replace(cfg, optimizer=dataclasses.replace(cfg.optimizer, steps=1), tokenizer=None)
    train.train(dataclasses.replace(once, init_from=str(start)), one_device_mesh(), tmp_path / "one")
    second = dataclasses.replace(once, init_from=str(tmp_path / "one"))
    train.train(second, one_device_mesh(), tmp_path / "two")
    bare = config.Config()
    assert lineage.folders(bare, tmp_path / "two") == [str(tmp_path / "two"), str(tmp_path / "one"), str(start)]
    known = lineage.of_run(bare, tmp_path / "two", named=set())
    assert (known.model, known.tokenizer, known.init_from) == (cfg.model, str(start), None)
    export.export(known, one_device_mesh(), tmp_path / "two")
    assert (tmp_path / "two" / "hf" / "generation_config.json").is_file()
    assert read_json(tmp_path / "two" / "hf" / "config.json")["eos_token_id"] == 5
    base = dataclasses.replace(bare, init_from=str(tmp_path / "one"))  # a workdir without a checkpoint
    assert lineage.of_run(base, tmp_path / "none", named=set()).model == cfg.model
    named = dataclasses.replace(bare, tokenizer="mine")
    assert lineage.of_run(named, tmp_path / "two", {"tokenizer", "model.vocab_size"}) == named
    with pytest.raises(UserError, match="none holds no checkpoint and init_from is empty"):
        lineage.of_run(named, tmp_path / "none", set())


# Where parameters come from


def trace(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def test_a_branch_takes_up_step_and_moments_of_another_run(trained, tmp_path):
    cfg, workdir = trained
    shutil.copytree(workdir, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "4")
    branch = dataclasses.replace(cfg, init_from=str(tmp_path / "cut"), init_state="all")
    train.train(branch, one_device_mesh(), tmp_path / "branch")
    whole = trace(workdir)
    assert trace(tmp_path / "branch") == {3: whole[3], 4: whole[4]}  # bit for bit
    bare = dataclasses.replace(branch, init_state="params")
    train.train(bare, one_device_mesh(), tmp_path / "bare")
    assert set(trace(tmp_path / "bare")) == {1, 2, 3, 4}  # from its own step 1, with the other's parameters
    shorter = dataclasses.replace(branch, optimizer=dataclasses.replace(cfg.optimizer, steps=2))
    with pytest.raises(UserError, match=r"has 2 steps already; .*--config\.optimizer\.steps"):
        train.train(shorter, one_device_mesh(), tmp_path / "shorter")
    part = dataclasses.replace(branch, optimizer=dataclasses.replace(cfg.optimizer, trainable="norm"))
    with pytest.raises(UserError, match=r"optimizer\.trainable=None, now it is norm: .*init_state=params"):
        train.train(part, one_device_mesh(), tmp_path / "part")
    folder = tmp_path / "model"
    transfer.to_hf(model.init(cfg.model, jax.random.key(0)), cfg.model, hf_write.About(str(folder)))
    with pytest.raises(UserError, match="has no checkpoint; use init_state=params"):
        train.train(dataclasses.replace(branch, init_from=str(folder)), one_device_mesh(), tmp_path / "x")


def test_the_sources_of_parameters_are_told_in_their_order(trained, tmp_path):
    cfg, workdir = trained
    folder = dataclasses.replace(cfg, init_from=str(tmp_path))
    run = dataclasses.replace(cfg, init_from=str(workdir))
    for given, at, taken in (
        (cfg, workdir, "1. the newest checkpoint in"),
        (run, tmp_path, "2. init_from, another run: "),
        (folder, tmp_path, "3. init_from, a Hugging Face folder: "),
        (cfg, tmp_path, "4. random: seed 0  <-"),
    ):
        told = lineage.describe_sources(given, at).splitlines()
        assert [line.strip()[0] for line in told] == ["1", "2", "3", "4"]
        assert [taken in line for line in told if "<-" in line] == [True]


# Training a part


def test_frozen_parameters_stay_and_have_no_moments(trained, tmp_path):
    cfg, workdir = trained
    optimizer = dataclasses.replace(cfg.optimizer, trainable=r"self_attn|norm")
    part = dataclasses.replace(cfg, init_from=str(workdir), optimizer=optimizer)
    before = lineage.load_params(cfg, one_device_mesh(), workdir)
    train.train(part, one_device_mesh(), tmp_path / "run")
    after = lineage.load_params(part, one_device_mesh(), tmp_path / "run")
    changed = jax.tree_util.tree_map_with_path(
        lambda path, a, b: (sharding.path_name(path), bool((a != b).any())), before, after
    )
    for name, differs in jax.tree.leaves(changed, is_leaf=lambda x: isinstance(x, tuple)):
        assert differs == ("self_attn" in name or "norm" in name), name
    _, state = train.abstract_state(part, train.optimizer.make(part), one_device_mesh())
    sizes = [leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim]
    trained_size = sum(
        leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(before)
        if "self_attn" in sharding.path_name(path) or "norm" in sharding.path_name(path)
    )  # fmt: skip
    assert sum(sizes) == 2 * trained_size
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    wanted = trace(tmp_path / "run")
    train.train(part, one_device_mesh(), tmp_path / "run")  # goes on from step 2
    assert trace(tmp_path / "run") == wanted


def test_a_pattern_that_matches_nothing_is_refused_with_what_there_is(trained, tmp_path):
    cfg, _ = trained
    wrong = dataclasses.replace(cfg, optimizer=dataclasses.replace(cfg.optimizer, trainable="lora"))
    with pytest.raises(UserError, match=r"'lora' matches no parameter; there are embed_tokens/embedding, layers/"):
        train.train(wrong, one_device_mesh(), tmp_path / "run")


def test_an_export_replaces_no_file_that_is_not_of_the_export(tmp_path):
    written(tmp_path / "out")
    (tmp_path / "out" / "adapter.safetensors").write_text("dear")
    with pytest.raises(UserError, match=r"out holds adapter\.safetensors, which is not of the export there"):
        written(tmp_path / "out")
    assert (tmp_path / "out" / "adapter.safetensors").read_text() == "dear"


def test_a_run_does_not_write_its_config_over_that_of_a_hugging_face_folder(trained, tmp_path):
    cfg, _ = trained
    written(tmp_path / "hf")
    before = (tmp_path / "hf" / "config.json").read_bytes()
    with pytest.raises(UserError, match=r"hf holds a config\.json that no run wrote"):
        train.train(cfg, one_device_mesh(), tmp_path / "hf")
    assert (tmp_path / "hf" / "config.json").read_bytes() == before


def test_an_export_with_a_flipped_bit_is_not_loaded(trained, tmp_path):
    cfg, workdir = trained
    export.export(cfg, one_device_mesh(), workdir)
    shutil.copytree(workdir / "hf", tmp_path / "hf")
    mesh, start = one_device_mesh(), dataclasses.replace(cfg, init_from=str(tmp_path / "hf"))
    lineage.initial_params(start, mesh)
    for name in ("model.safetensors", "config.json"):
        whole = (tmp_path / "hf" / name).read_bytes()
        (tmp_path / "hf" / name).write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(UserError, match=r"is not what SHA256SUMS beside it says|cannot be read|no int"):
            lineage.initial_params(start, mesh)
        (tmp_path / "hf" / name).write_bytes(whole)
    text = (tmp_path / "hf" / hf_write.SUMS).read_text()
    (tmp_path / "hf" / hf_write.SUMS).write_text(text.replace("model.safetensors", "mode1.safetensors"))
    with pytest.raises(UserError, match=r"SHA256SUMS has no line for model\.safetensors"):
        lineage.initial_params(start, mesh)
