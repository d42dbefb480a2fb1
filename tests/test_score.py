import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from conftest import VOCAB, T, one_device_mesh, random_row, small_config, write_rows

from mucpt_jax import calibration, config, evaluate, export, score, train
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import file_hash, write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import NO_LOSS, decode_row, encode_row, read_shard, target_mask, write_shard
from mucpt_jax.run import checkpoint, data, heldout, lineage, tokenizers
from mucpt_jax.step import losses, model, objective, sharding


@pytest.fixture
def rm(monkeypatch):
    """A reference model that stands in no checkpoint: load_params gives it."""
    params = model.init(small_config().model, jax.random.key(7))
    monkeypatch.setattr(lineage, "load_params", lambda *_: params)
    return params


def config_of(tmp_path, rows=13, **sections):
    if not (tmp_path / "rows").exists():
        write_rows(tmp_path / "rows", {"music": rows, "songs": 5})
    paths = {"input": str(tmp_path / "rows"), "output": str(tmp_path / "scored"), "batch_rows": 8}
    return small_config(score=paths | sections.pop("score", {}), **sections)


def all_rows(folder):
    manifest = read_manifest(folder)
    return [row for s in manifest["shards"] for row in read_shard(folder / s["name"], T)]


def test_scores_are_the_models_loss_of_every_target_and_nan_elsewhere(tmp_path, rm):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    before, after = all_rows(tmp_path / "rows"), all_rows(tmp_path / "scored")
    assert len(after) == 18
    inputs = {k: np.stack([raw[k] for raw in before]) for k in ("tokens", "segment_ids")}
    nlls = jax.jit(lambda params, batch: losses.batch_nll(params, batch, cfg))(rm, inputs)
    for raw, row, nll in zip(before, after, np.asarray(nlls), strict=True):
        np.testing.assert_array_equal(row["tokens"], raw["tokens"])
        np.testing.assert_array_equal(row["segment_ids"], raw["segment_ids"])
        mask = target_mask(row["segment_ids"])
        np.testing.assert_allclose(row["rm_nll"][1:][mask], nll[mask], rtol=1e-3)  # float16
        assert np.isnan(row["rm_nll"][1:][~mask]).all() and np.isnan(row["rm_nll"][0])


def test_a_segments_scores_do_not_depend_on_its_row(tmp_path, rm):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    row = all_rows(tmp_path / "scored")[0]
    step = jax.jit(lambda params, batch: score.score_step(params, batch, cfg))
    for segment in (1, 2, 3):
        chosen = row["segment_ids"] == segment
        alone = random_row(np.random.default_rng(0))
        alone["tokens"][:], alone["segment_ids"][:] = 0, 0
        alone["tokens"][: chosen.sum()] = row["tokens"][chosen]
        alone["segment_ids"][: chosen.sum()] = 1
        nll = step(rm, {k: alone[k][None] for k in ("tokens", "segment_ids")})[0]
        wanted = np.asarray(nll)[: chosen.sum() - 1].astype(np.float16)
        np.testing.assert_allclose(row["rm_nll"][chosen][1:], wanted, rtol=1e-3)


def test_the_manifest_holds_hash_histogram_and_the_corpus_mean_on_the_grid(tmp_path, rm):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    scores = read_manifest(tmp_path / "scored")["scores"]
    r = np.concatenate(
        [row["rm_nll"][1:][target_mask(row["segment_ids"])] for row in all_rows(tmp_path / "scored")]
    ).astype(np.float64)
    assert scores["rm_hash"] == checkpoint.params_hash(rm)
    assert (scores["encoding"], scores["head_dtype"]) == ("float16", "float32")
    assert scores["tokens"] == r.size == sum(scores["histogram"]["counts"])
    for floor in ("0.001", "1.0", "5.0"):
        wanted = (1 / np.maximum(r, float(floor))).mean()
        assert scores["mean_raw_weight"][floor] == pytest.approx(wanted)


def test_the_mean_of_mucpt_weights_over_the_corpus_is_one(tmp_path, rm):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    cfg = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, domain=str(tmp_path / "scored")))
    rows = all_rows(tmp_path / "scored")
    batch = {k: np.stack([row[k] for row in rows]) for k in rows[0]} | {"is_domain": np.ones(18, bool)}
    weight = objective.token_weights(np.zeros((18, T), np.float32), batch, data.resolved_loss(cfg))
    assert float(weight.sum() / losses.target_mask(batch).sum()) == pytest.approx(1.0, rel=1e-5)


def test_documents_that_the_reference_model_was_trained_on_are_told(tmp_path, rm, caplog):
    write_rows(tmp_path / "seed", {"songs": 2})  # songs-0-1 ... songs-1-3 stand in the corpus too
    cfg = config_of(tmp_path)
    (tmp_path / "rm").mkdir()
    write_json(
        tmp_path / "rm" / "config.json", {"data": {"domain": str(tmp_path / "seed"), "general": None}, "optimizer": {}}
    )
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    assert "6 documents of" in caplog.text and "songs-0-1 first" in caplog.text


def files_of(folder):
    return {f.name: f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_a_kill_between_a_shard_and_its_note_costs_that_shard_only(tmp_path, rm):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    whole = files_of(tmp_path / "scored")
    (tmp_path / "scored" / "manifest.json").unlink()
    (tmp_path / "scored" / "parts" / "songs-00000-of-00001.array_record.json").unlink()
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    assert files_of(tmp_path / "scored") == whole


def test_workers_share_the_shards_and_the_last_one_writes_the_manifest(tmp_path, rm, caplog):
    caplog.set_level("INFO")
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    half = [
        dataclasses.replace(
            cfg, score=dataclasses.replace(cfg.score, output=str(tmp_path / "two"), worker=i, workers=2)
        )
        for i in (0, 1)
    ]
    score.score(half[1], one_device_mesh(), tmp_path / "rm")
    assert not (tmp_path / "two" / "manifest.json").exists()
    assert "1 shards are still with other workers, music-00000" in caplog.text
    score.score(half[0], one_device_mesh(), tmp_path / "rm")
    assert files_of(tmp_path / "two") == files_of(tmp_path / "scored")


def test_byte_scores_are_half_the_size_and_within_two_percent(tmp_path, rm):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    coded = config_of(tmp_path, score={"encoding": "uint8_log", "output": str(tmp_path / "coded")})
    score.score(coded, one_device_mesh(), tmp_path / "rm")
    for a, b in zip(all_rows(tmp_path / "scored"), all_rows(tmp_path / "coded"), strict=True):
        np.testing.assert_allclose(a["rm_nll"], b["rm_nll"], rtol=0.021)
    scores = [read_manifest(tmp_path / name)["scores"] for name in ("scored", "coded")]
    assert scores[1]["encoding"] == "uint8_log"
    one = read_manifest(tmp_path / "coded")["shards"][0]
    reader = ArrayRecordReader(str(tmp_path / "coded" / one["name"]))
    assert len(reader.read([0])[0]) == (T + 1) * 7  # 4 + 2 + 1 bytes a token
    assert scores[0]["mean_raw_weight"]["1.0"] == pytest.approx(scores[1]["mean_raw_weight"]["1.0"], rel=0.021)


def test_the_start_models_scores_give_the_mean_for_loss_match(tmp_path, rm, monkeypatch):
    start = model.init(small_config().model, jax.random.key(8))
    base = config_of(tmp_path, score={"output": str(tmp_path / "base")})
    with monkeypatch.context() as patch:
        patch.setattr(lineage, "load_params", lambda *_: start)
        score.score(base, one_device_mesh(), tmp_path / "start")
    score.score(config_of(tmp_path), one_device_mesh(), tmp_path / "rm")
    calibration.add_base(str(tmp_path / "scored"), str(tmp_path / "base"))
    r, c = (
        np.concatenate(
            [row["rm_nll"][1:][target_mask(row["segment_ids"])] for row in all_rows(tmp_path / name)]
        ).astype(np.float64)
        for name in ("scored", "base")
    )
    scores = read_manifest(tmp_path / "scored")["scores"]
    found = scores["mean_raw_weight_by_base_nll"]
    assert found["2.0"] == pytest.approx((c / np.maximum(r, 2.0)).sum() / c.sum())
    assert scores["base_hash"] == checkpoint.params_hash(start)
    write_rows(tmp_path / "others", {"music": 12, "songs": 5})
    with pytest.raises(UserError, match="others holds no scores"):
        calibration.add_base(str(tmp_path / "scored"), str(tmp_path / "others"))


def test_an_empty_shard_and_rows_without_a_target_are_scored(tmp_path, rm):
    rows = [random_row(np.random.default_rng(i)) for i in range(3)]
    write_rows(tmp_path / "rows", {"music": 3}, rows=rows)
    manifest = read_manifest(tmp_path / "rows")
    bare = random_row(np.random.default_rng(9))
    bare["segment_ids"] |= np.uint16(NO_LOSS) * (bare["segment_ids"] > 0)
    for source, held in (("none", []), ("bare", [bare] * 2)):
        name = f"{source}-00000-of-00001.array_record"
        counts = {"name": name, "source": source, "segments": 3 * len(held), "tokens": 0, "targets": 0}
        manifest["shards"].insert(0, counts | write_shard(tmp_path / "rows" / name, held))
        manifest["sources"][source] = {"documents": 0, "records": len(held), "segments": 0, "tokens": 0, "targets": 0}
    write_json(tmp_path / "rows" / "manifest.json", manifest)
    score.score(config_of(tmp_path), one_device_mesh(), tmp_path / "rm")
    scores = read_manifest(tmp_path / "scored")["scores"]
    assert scores["tokens"] == sum(int(target_mask(row["segment_ids"]).sum()) for row in rows)
    assert scores["sources"]["none"] == scores["sources"]["bare"]
    assert scores["sources"]["none"]["tokens"] == 0 and scores["mean_nll"] == scores["sources"]["music"]["mean_nll"]
    cfg = small_config(data={"domain": str(tmp_path / "scored"), "general_fraction": 0.0})
    (source,) = data.open_sources(cfg)
    assert source.name == "music" and data.resolved_loss(cfg).mean_raw_weight > 0


def test_a_token_id_beyond_the_manifests_vocabulary_is_refused_by_every_job(tmp_path, rm):
    rows = [random_row(np.random.default_rng(i)) for i in range(8)]
    rows[5]["tokens"][4] = VOCAB + 3
    write_rows(tmp_path / "rows", {"music": 8}, rows=rows)
    sentence = rf"record 5 holds token id {VOCAB + 3}, its manifest says vocab_size={VOCAB}"
    with pytest.raises(UserError, match=sentence):
        score.score(config_of(tmp_path), one_device_mesh(), tmp_path / "rm")
    cfg = small_config(evaluate={"rows": str(tmp_path / "rows"), "batch_rows": 8})
    with pytest.raises(UserError, match=sentence):
        heldout.evaluator(cfg, one_device_mesh())(rm)
    cfg = small_config(data={"general": str(tmp_path / "rows"), "general_fraction": 1.0})
    sources = data.open_sources(cfg)
    with pytest.raises(UserError, match=sentence):
        list(data.batches(data.mixture(sources, cfg), cfg, list(range(8)), 0))
    row = random_row(np.random.default_rng(0))
    row["tokens"][2] = -1
    with pytest.raises(UserError, match="record holds token id -1"):
        decode_row(encode_row(row), T)


# The tokenizer is the model's


@pytest.fixture
def run(tmp_path):
    """A workdir whose model was trained on rows of a tokenizer that is neither mine nor yours; the rows are gone."""
    write_rows(tmp_path / "seed", {"songs": 8}, tokenizer_hash="another")
    cfg = small_config(
        data={"general": str(tmp_path / "seed"), "general_fraction": 1.0}, optimizer={"steps": 1}, loss={"kind": "ntp"}
    )
    train.train(cfg, one_device_mesh(), tmp_path / "run")
    shutil.rmtree(tmp_path / "seed")
    return str(tmp_path / "run")


def test_every_job_asks_whether_the_tokens_are_those_that_the_model_was_trained_on(tmp_path, run):
    mesh, sentence = one_device_mesh(), r"rows was written with another tokenizer than the rows that the model in .*run"
    jobs = config_of(tmp_path, evaluate={"rows": str(tmp_path / "rows"), "batch_rows": 8})
    general = {"general": str(tmp_path / "rows"), "general_fraction": 1.0}
    started = dataclasses.replace(jobs, init_from=run)
    for cfg, workdir in ((jobs, tmp_path / "run"), (started, tmp_path / "new")):
        for job in (score.score, evaluate.evaluate):
            with pytest.raises(UserError, match=sentence):
                job(cfg, mesh, workdir)
    with pytest.raises(UserError, match=sentence):
        train.train(small_config(data=general, loss={"kind": "ntp"}, init_from=run), mesh, tmp_path / "new")
    with pytest.raises(UserError, match=sentence):
        loss = {"reference": run, "weight_norm": "batch_mean_one"}
        domain = {"domain": str(tmp_path / "rows"), "general_fraction": 0.0}
        train.train(small_config(data=domain, loss=loss), mesh, tmp_path / "new")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    other = dataclasses.replace(started, tokenizer=str(tmp_path / "tokenizer"))
    with pytest.raises(UserError, match=r"tokenizer is another tokenizer than the rows that the model in .*run was"):
        export.export(other, mesh, tmp_path / "new")
    (tmp_path / "q.jsonl").write_text('{"id": 1, "question": "a", "answer": "b"}')
    asked = dataclasses.replace(other, evaluate=config.Evaluate(questions=str(tmp_path / "q.jsonl")))
    with pytest.raises(UserError, match=r"tokenizer is another tokenizer than"):
        evaluate.evaluate(asked, mesh, tmp_path / "new")
    assert not (tmp_path / "scored").exists()


def test_a_run_that_does_not_say_its_tokenizer_is_known_by_its_rows(tmp_path):
    write_rows(tmp_path / "seed", {"songs": 2}, tokenizer_hash="another")
    write_rows(tmp_path / "rows", {"songs": 2})
    (tmp_path / "rm").mkdir()
    seed = {"domain": str(tmp_path / "seed"), "general": None}
    write_json(tmp_path / "rm" / "config.json", {"data": seed, "optimizer": {}})
    with pytest.raises(UserError, match=r"rows was written with another tokenizer than .*seed, which the model in"):
        tokenizers.check(tmp_path / "rows", [str(tmp_path / "rm")])


def test_a_workdir_without_a_checkpoint_does_not_silently_mean_the_untrained_model(tmp_path, run, caplog):
    cfg = config_of(tmp_path, init_from=run)
    lineage.load_params(cfg, one_device_mesh(), tmp_path / "rum")  # misspelt
    assert f"rum HOLDS NO CHECKPOINT: THIS JOB TAKES THE MODEL OF init_from={run} AS IT IS; did you" in caplog.text
    assert f"did you mean --workdir={run}?" in caplog.text
    shutil.copytree(run, tmp_path / "died")
    shutil.rmtree(tmp_path / "died" / "checkpoints")
    with pytest.raises(UserError, match=r"died is a run without a checkpoint, so .* the untrained model of init_from="):
        lineage.load_params(cfg, one_device_mesh(), tmp_path / "died")


def test_a_shard_that_is_gone_is_scored_again_before_the_manifest_names_it(tmp_path, rm):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    whole = files_of(tmp_path / "scored")
    (tmp_path / "scored" / "songs-00000-of-00001.array_record").unlink()
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    assert files_of(tmp_path / "scored") == whole


def test_a_folder_without_rows_and_a_manifest_that_miscounts_are_refused(tmp_path, rm):
    write_rows(tmp_path / "none", {})
    empty = config_of(tmp_path, score={"input": str(tmp_path / "none")})
    with pytest.raises(UserError, match="none holds no rows"):
        score.score(empty, one_device_mesh(), tmp_path / "rm")
    manifest = read_json(tmp_path / "rows" / "manifest.json")
    manifest["shards"][0]["records"] += 1
    write_json(tmp_path / "rows" / "manifest.json", manifest)
    with pytest.raises(UserError, match="has 13 records, its manifest says 14"):
        score.score(config_of(tmp_path), one_device_mesh(), tmp_path / "rm")


def test_a_second_job_of_one_worker_number_is_refused_while_the_first_lives(tmp_path, rm):
    cfg = config_of(tmp_path)
    shared = [dataclasses.replace(cfg, score=dataclasses.replace(cfg.score, worker=i, workers=2)) for i in (0, 1)]
    with checkpoint.alone(tmp_path / "scored/parts/worker-1", "the first"):
        score.score(shared[0], one_device_mesh(), tmp_path / "rm")
        with pytest.raises(UserError, match=r"scored, shards of score.worker=1, is being written by another run"):
            score.score(shared[1], one_device_mesh(), tmp_path / "rm")
    score.score(shared[1], one_device_mesh(), tmp_path / "rm")
    assert len(all_rows(tmp_path / "scored")) == 18


def test_two_workers_on_one_shard_at_once_leave_it_whole(tmp_path):
    rows = [random_row(np.random.default_rng(i), scored=True) for i in range(4)]
    path = tmp_path / "a.array_record"

    def slowly():
        yield rows[0]
        write_shard(path, rows)  # the other one begins later and ends sooner
        yield from rows[1:]

    facts = write_shard(path, slowly())
    assert facts["records"] == 4 and facts["sha256"] == file_hash(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.array_record"]


def test_a_shard_that_is_done_is_not_scored_again_and_the_end_is_the_same(tmp_path, rm):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    whole = files_of(tmp_path / "scored")
    # As after a kill in the second shard: the first is there, the second half written, no manifest.
    (tmp_path / "scored" / "manifest.json").unlink()
    second = tmp_path / "scored" / "songs-00000-of-00001.array_record"
    second.rename(second.with_name(f"{second.name}.0123abcd.writing"))
    (tmp_path / "scored" / "parts" / f"{second.name}.json").unlink()
    first = tmp_path / "scored" / "music-00000-of-00001.array_record"
    untouched = first.stat().st_mtime_ns
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    assert first.stat().st_mtime_ns == untouched
    assert files_of(tmp_path / "scored") == whole


def test_scores_of_two_models_never_meet_in_one_folder(tmp_path, rm, monkeypatch):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    other = model.init(cfg.model, jax.random.key(8))
    monkeypatch.setattr(lineage, "load_params", lambda *_: other)
    with pytest.raises(UserError, match=r"scored holds scores with rm_hash=.*; choose another"):
        score.score(cfg, one_device_mesh(), tmp_path / "rm")


def test_shards_that_no_score_job_wrote_are_not_taken_for_scores(tmp_path, rm):
    cfg = config_of(tmp_path)
    shutil.copytree(tmp_path / "rows", tmp_path / "scored")
    with pytest.raises(UserError, match="which no score job wrote"):
        score.score(cfg, one_device_mesh(), tmp_path / "rm")


def test_the_head_is_float32_where_the_layers_are_bfloat16(tmp_path, rm):
    cfg = config_of(tmp_path, train={"compute_dtype": "bfloat16"})
    batch = {k: all_rows(tmp_path / "rows")[0][k][None] for k in ("tokens", "segment_ids")}
    inputs = (batch["tokens"][:, :-1], batch["segment_ids"][:, :-1], cfg.model, cfg.train)
    hidden = model.hidden(rm, *inputs).astype(np.float32)
    logits = jax.numpy.einsum("BTD,DV->BTV", hidden, model.unembed(rm))
    wanted = -np.take_along_axis(jax.nn.log_softmax(logits), batch["tokens"][:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(score.score_step(rm, batch, cfg), wanted, atol=1e-5)


def test_a_model_that_gives_nan_stops_the_job(tmp_path, rm):
    rm["norm"]["scale"] = rm["norm"]["scale"] * np.nan
    with pytest.raises(UserError, match="gave a NaN or infinite score"):
        score.score(config_of(tmp_path), one_device_mesh(), tmp_path / "rm")
    assert not (tmp_path / "scored" / "manifest.json").exists()


def test_eight_devices_score_as_one_does(tmp_path, rm):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    mesh = sharding.make_mesh(cfg)
    eight = dataclasses.replace(cfg, score=dataclasses.replace(cfg.score, output=str(tmp_path / "eight")))
    with jax.set_mesh(mesh):
        score.score(eight, mesh, tmp_path / "rm")
    for a, b in zip(all_rows(tmp_path / "scored"), all_rows(tmp_path / "eight"), strict=True):
        np.testing.assert_allclose(a["rm_nll"], b["rm_nll"], rtol=1e-3)


def test_missing_folders_and_the_wrong_length_are_refused(tmp_path, rm):
    with pytest.raises(UserError, match=r"needs --config\.score\.input"):
        score.score(small_config(), one_device_mesh(), tmp_path)
    cfg = config_of(tmp_path, data={"sequence_length": 64})
    with pytest.raises(UserError, match="holds rows of T=32"):
        score.score(cfg, one_device_mesh(), tmp_path)
    assert json.loads((tmp_path / "rows" / "manifest.json").read_text())["scores"] is None


@pytest.mark.parametrize("note", ["", "{", "[]", '{"facts": 3}', '{"facts": {"bytes": 1}, "stats": {}}'])
def test_a_damaged_note_or_a_shard_that_changed_since_costs_that_shard_only(tmp_path, rm, note, caplog):
    cfg = config_of(tmp_path)
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    whole = files_of(tmp_path / "scored")
    name = "music-00000-of-00001.array_record"
    (tmp_path / "scored" / "parts" / f"{name}.json").write_text(note)
    other = tmp_path / "scored" / "parts" / "songs-00000-of-00001.array_record.json"
    noted = read_json(other)
    write_json(other, noted | {"facts": noted["facts"] | {"sha256": "0" * 64}})  # of another state of the shard
    score.score(cfg, one_device_mesh(), tmp_path / "rm")
    assert files_of(tmp_path / "scored") == whole
    assert re.search(rf"{name}\.json (is damaged|cannot be read).*its shard is scored again", caplog.text)
    assert "songs-00000-of-00001.array_record was damaged since it was scored" in caplog.text


def test_a_shard_that_is_not_what_was_written_is_not_scored(tmp_path, rm):
    """As many bytes, of other rows."""
    cfg, shard = config_of(tmp_path), tmp_path / "rows" / "music-00000-of-00001.array_record"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"music-00000-of-00001\.array_record is damaged or of another folder"):
        score.score(cfg, one_device_mesh(), tmp_path / "rm")


@pytest.mark.parametrize("name", ["../../evil.array_record", "/tmp/evil.array_record", "..", "a/b.array_record"])
def test_a_manifest_leads_nowhere_else(tmp_path, rm, name):
    cfg = config_of(tmp_path)
    manifest = json.loads((tmp_path / "rows" / "manifest.json").read_text())
    manifest["shards"][0]["name"] = name
    (tmp_path / "rows" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json names the file .*, which is no name in its own folder"):
        score.score(cfg, one_device_mesh(), tmp_path / "rm")
    assert not (tmp_path / "scored").exists()


def test_files_of_others_in_the_output_are_not_overwritten(tmp_path, rm):
    (tmp_path / "scored").mkdir()
    (tmp_path / "scored" / "manifest.json").write_text("dear")
    with pytest.raises(UserError, match=r"scored holds manifest\.json, which no score job wrote"):
        score.score(config_of(tmp_path), one_device_mesh(), tmp_path / "rm")
    assert (tmp_path / "scored" / "manifest.json").read_text() == "dear"
    assert [path.name for path in (tmp_path / "scored").iterdir()] == ["manifest.json"]  # no lock either
