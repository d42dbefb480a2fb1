"""What stands in audit.html; what a browser makes of it stands in test_audit_page.py."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mucpt_jax import audit, calibration, objective, records, survey
from mucpt_jax.records import UserError

T = 64


def write_tokenizer(folder: Path) -> Path:
    """Every byte is a token: a Chinese character has three."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token=None).save_pretrained(folder)
    return folder


def write_scored(
    folder: Path, tokenizer: Path, sources: dict, rm_hash: str = "rm", scored: bool = True
) -> Path:
    """{source: {document: [(text, r of its tokens), ...]}} -> scored rows, a segment of at most T tokens each."""
    folder.mkdir(parents=True)
    encode = audit.load_tokenizer(str(tokenizer)).backend_tokenizer.encode
    shards, facts, index, stats = [], {}, [], calibration.stats_of(np.array([]), "")
    for source, documents in sources.items():
        rows, name = [], records.shard_name(source, 0, 1)
        for document, spans in documents.items():
            ids = [encode(text).ids for text, _ in spans]
            tokens = np.concatenate(ids)
            r = np.concatenate([np.full(len(run), value) for run, (_, value) in zip(ids, spans, strict=True)])
            for start in range(0, len(tokens), T):
                run = slice(start, start + T)
                rows.append(row_of(tokens[run], r[run]))
                index.append((name, len(rows) - 1, 1, document, start, len(tokens[run])))
        masks = [records.target_mask(row["segment_ids"]) for row in rows]
        for row, mask in zip(rows, masks, strict=True):
            stats = calibration.add(stats, calibration.stats_of(row["rm_nll"][1:][mask], name))
        counts = {"targets": int(sum(mask.sum() for mask in masks))}
        shards.append({"name": name, "source": source} | counts | records.write_shard(folder / name, rows))
        facts[source] = {"records": len(rows)} | counts
    columns = [list(column) for column in zip(*index, strict=True)]
    records.write_index(folder, [pa.table(columns, schema=records.INDEX_SCHEMA)])
    about = {"rm_hash": rm_hash, "compute_dtype": "float32", "encoding": "float16"}
    manifest = {
        "schema": 1, "sequence_length": T, "tokenizer_hash": records.tokenizer_hash(tokenizer), "vocab_size": 256,
        "shards": shards, "sources": facts, "scores": about | calibration.summary(stats) if scored else None,
    }  # fmt: skip
    records.write_json(folder / "manifest.json", manifest)
    return folder


def row_of(tokens: np.ndarray, r: np.ndarray) -> dict:
    row = {name: np.zeros(T + 1, dtype) for name, dtype in records.COLUMNS}
    row["tokens"][: len(tokens)], row["segment_ids"][: len(tokens)] = tokens, 1
    row["rm_nll"][:] = np.nan
    row["rm_nll"][1 : len(tokens)] = r[1:]
    return row


# 40 + 40 targets of r = 0.5 in `known`, 40 + 40 of r = 8 in `noise`; a document's first token has no score.
SOURCES = {
    "music": {"known": [("The album came out in nineteen ninety one", 0.5)], "noise": [("x" * 41, 8.0)]},
    "歌": {"唱": [("?" + "她在唱歌" * 3 + "!!!!", 0.5)], "junk": [(("&lt;<b>" * 6)[:41], 8.0)]},
}


def write_folders(folder: Path) -> dict[str, Path]:
    """SOURCES scored by a reference and a start model, whose r is 2 everywhere, and their tokenizer."""
    tokenizer = write_tokenizer(folder / "tokenizer")
    base = {s: {d: [(t, 2.0) for t, _ in spans] for d, spans in ds.items()} for s, ds in SOURCES.items()}
    return {
        "scored": write_scored(folder / "scored", tokenizer, SOURCES),
        "base": write_scored(folder / "base", tokenizer, base, "start"),
        "tokenizer": tokenizer,
    }


def write_page(folders: dict[str, Path], output: Path) -> Path:
    named = [f"--{name}={folders[name]}" for name in ("base", "tokenizer")]
    return audit.run([str(folders["scored"]), *named, f"--output={output}"])


def payload(page: Path) -> dict:
    return json.loads(page.read_text(encoding="utf-8").split('id="payload">')[1].split("</script>")[0])


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return write_folders(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def tokenizer(folders) -> Path:
    return folders["tokenizer"]


@pytest.fixture(scope="module")
def page(folders, tmp_path_factory) -> Path:
    return write_page(folders, tmp_path_factory.mktemp("page") / "audit.html")


def test_a_chinese_character_is_one_piece_and_keeps_the_score_of_each_of_its_tokens(page):
    document = next(d for d in payload(page)["documents"] if d["id"] == "唱")
    assert document["pieces"] == [*"?她在唱歌她在唱歌她在唱歌!!!!"]
    assert document["joined"] == {str(i): 3 for i in range(1, 13)}
    assert document["r"] == [None] + [0.5] * 40 and document["base"] == [None] + [2.0] * 40


def test_a_damaged_character_does_not_swallow_what_follows(tokenizer):
    loaded = audit.load_tokenizer(str(tokenizer))
    broken = loaded.backend_tokenizer.encode("歌").ids[:2] + loaded.backend_tokenizer.encode("a" * 20).ids
    found = audit.pieces(broken, loaded, {})
    assert [text for text, _ in found] == ["\N{REPLACEMENT CHARACTER}a"] + ["a"] * 19
    assert sum(size for _, size in found) == 22


def test_a_phrase_has_its_occurrences_and_its_mean_weight_at_every_floor(tmp_path, tokenizer):
    # The raw weight 1 / max(8, floor) of " noise" is that of its tokens at every floor.
    spans = [
        ("a", 1.0),
        (" noise", 8.0),
        ("bcde", 0.5),
        (" noise", 8.0),
        ("fghi", 0.5),
        (" noise", 8.0),
        ("jkl", 0.5),
    ]
    write_scored(tmp_path / "scored", tokenizer, {"s": {"d": spans}})
    audit.run([str(tmp_path / "scored"), f"--tokenizer={tokenizer}"])
    (phrase,) = payload(tmp_path / "scored/audit.html")["phrases"]
    assert (phrase["text"], phrase["tokens"], phrase["count"]) == (" noise", 6, 3)
    floors = payload(tmp_path / "scored/audit.html")["floors"]
    assert phrase["means"] == [0.125 if floor < 8 else 0.1 for floor in floors]


def test_an_ngram_lies_within_one_segment_of_one_row():
    tokens = np.array([[7, 1, 2, 3, 7, 1, 2, 3, 4], [1, 2, 3, 1, 2, 3, 0, 0, 0]])
    is_target = np.array([[0, 1, 1, 1, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 0, 0, 0]], bool)
    found = {
        n: (starts, hashes) for n, starts, hashes in survey.ngrams({"tokens": tokens, "is_target": is_target})
    }
    assert {n: starts.tolist() for n, (starts, _) in found.items()} == {
        3: [1, 5, 6, 10, 11, 12], 4: [5, 10, 11], 5: [10], 6: [],
    }  # fmt: skip
    first, second, other, turned, _, last = found[3][1].tolist()
    assert first == second == last and len({first, other, turned}) == 3  # 1 2 3; 2 3 4; 2 3 1


def test_histograms_count_every_target_of_a_source(page):
    facts = payload(page)
    for source in facts["sources"]:
        r = {edge: n for edge, n in zip(facts["edges"], source["r"], strict=False) if n}
        assert list(r.values()) == [40, 40]
        assert [high > r for high, r in zip(r, (0.4, 7.0), strict=True)] == [True, True] and sum(r) < 8.5
        excess = [facts["excess_edges"][i] for i, n in enumerate(source["excess"]) if n]
        assert excess == [-6.0, 1.5]  # 2 - 8 and 2 - 0.5


def test_smoothing_is_that_of_the_objective():
    rng = np.random.default_rng(0)
    row = {"segment_ids": np.array([[1] * 7 + [2] * 2 + [3] * 1 + [4] * 5 + [0] * 3], np.uint16)}
    is_target = np.zeros((1, 18), bool)
    is_target[:, 1:] = records.target_mask(row["segment_ids"])
    r = np.where(is_target, rng.gamma(1, 3, (1, 18)), np.nan).astype(np.float32)
    found = survey.smoothed({"r": r, "is_target": is_target, **row})
    domain = is_target[:, 1:]
    for kind in ("mean", "median"):
        wanted = objective.smoothed(np.where(domain, r[:, 1:], 0), row, domain, kind, 3)
        np.testing.assert_allclose(found[kind], np.asarray(wanted)[domain], rtol=1e-6)


def test_documents_are_spread_evenly_and_hold_the_worst_and_the_best():
    sizes = {"a": 2, "b": 10, "c": 100}
    documents = {(s, f"{i:03d}"): [float(i) * 20, 20] for s, n in sizes.items() for i in range(n)}
    chosen = audit.choose(documents, 30)
    count = {s: sum(source == s for source, _ in chosen) for s in sizes}
    assert count == {"a": 2, "b": 10, "c": 18}  # what a and b cannot give goes to c
    of_c = {
        pick: sorted(n for (s, n), p in chosen.items() if (s, p) == ("c", pick)) for pick in ("worst", "best")
    }
    assert of_c == {"worst": ["000", "001", "002", "003"], "best": ["096", "097", "098", "099"]}
    assert audit.choose(documents, 30) == chosen and list(audit.choose(documents, 30)) == list(chosen)
    assert len(audit.choose(documents, 1000)) == 112 and len(audit.choose(documents, 1)) == 1


def test_a_document_of_few_tokens_is_neither_worst_nor_best():
    documents = {("s", f"{i}"): [float(i) * 20, 20] for i in range(1, 9)} | {("s", "short"): [0.0, 15]}
    assert audit.choose(documents, 9)["s", "short"] == "random"


def test_rows_that_are_read_are_evenly_spaced_over_all_shards(monkeypatch):
    monkeypatch.setattr(survey, "ROWS_READ", 5)
    shards = [{"name": "a", "records": 4}, {"name": "b", "records": 1}, {"name": "c", "records": 5}]
    found = survey.spread_rows({"shards": shards, "sequence_length": T})
    # rows 0, 2, 4, 6, 8 of ten
    assert [(s["name"], n.tolist()) for s, n in found] == [("a", [0, 2]), ("b", [0]), ("c", [1, 3])]


def test_a_document_of_many_segments_is_read_in_order(tmp_path, tokenizer):
    text = "".join(f"{i:03d} " for i in range(50))
    write_scored(tmp_path / "scored", tokenizer, {"s": {"d": [(text, 1.0)]}})
    audit.run([str(tmp_path / "scored"), f"--tokenizer={tokenizer}", "--documents=1"])
    (document,) = payload(tmp_path / "scored/audit.html")["documents"]
    assert "".join(document["pieces"]) == text and document["tokens"] == 200
    assert [i for i, r in enumerate(document["r"]) if r is None] == [0, 64, 128, 192]


def test_two_hundred_long_documents_stay_below_5_mb_and_the_page_says_what_is_left_out():
    r = survey.short(np.random.default_rng(0).gamma(1.0, 3.0, 4000))
    long = {"id": "d", "source": "s", "pick": "random", "tokens": 9000, "pieces": [("<歌", 1)] * 4000}
    made = audit.page({"floors": [1.0]}, [long | {"r": r, "base": r}] * 200)
    assert 4_000_000 < len(made.encode()) < 5_000_000
    document = json.loads(made.split('id="payload">')[1].split("</script>")[0])["documents"][0]
    assert (
        500 < len(document["pieces"]) == len(document["r"]) == len(document["base"])
        and document["tokens"] == 9000
    )


def test_a_document_is_cut_between_characters():
    document = {"pieces": [("a", 1), ("歌", 3), ("b", 1)], "r": [None, 1.0, 2.0, 3.0, 4.0]}
    assert audit.cut(document, 3) == {"pieces": ["a"], "joined": {}, "r": [None]}
    assert audit.cut(document, 4) == {"pieces": ["a", "歌"], "joined": {1: 3}, "r": [None, 1.0, 2.0, 3.0]}


def test_the_same_rows_make_the_same_page(folders, page, tmp_path):
    write_page(folders, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


# What is refused


def test_what_does_not_fit_together_is_refused_in_one_sentence(folders, tmp_path, tokenizer):
    scored = str(folders["scored"])
    named = f"--tokenizer={tokenizer}"
    plain = write_scored(tmp_path / "plain", tokenizer, SOURCES, scored=False)
    fewer = write_scored(tmp_path / "fewer", tokenizer, {"music": SOURCES["music"]}, "start")
    swapped = {s: {d: [(t.swapcase(), r) for t, r in x] for d, x in ds.items()} for s, ds in SOURCES.items()}
    swapped = write_scored(tmp_path / "swapped", tokenizer, swapped, "start")
    foreign = tmp_path / "foreign"
    shutil.copytree(tokenizer, foreign)
    (foreign / "tokenizer.json").write_text((foreign / "tokenizer.json").read_text() + "\n")
    for arguments, told in [
        ([str(plain), named], "plain holds no scores .*; run launch.py --job=score"),
        ([scored, f"--tokenizer={foreign}"], "written with another tokenizer than .*foreign"),
        ([scored, f"--tokenizer={tmp_path}"], "holds no tokenizer.json"),
        ([scored, named, f"--base={fewer}"], "--base=.*fewer holds other rows than"),
        ([scored, named, f"--base={swapped}"], "swapped.* holds other rows than"),
        ([scored, named, f"--base={scored}"], "was scored by the same model as"),
        ([scored, named, f"--base={plain}"], "plain holds no scores"),
        ([scored, named, "--documents=0"], "--documents=0 shows nothing"),
        ([scored, named, "--floor=20"], "--floor=20.0 is off the scored grid 0.001..10.0 nats"),
        ([scored, named, "--objective=rho1"], "--objective=rho1 needs the start model's scores"),
        ([str(tmp_path), named], "manifest.json is missing"),
    ]:
        with pytest.raises(UserError, match=told):
            audit.run([*arguments, f"--output={tmp_path / 'audit.html'}"])
    assert not (tmp_path / "audit.html").exists()


def test_scores_that_are_nan_are_refused(tmp_path, tokenizer):
    write_scored(tmp_path / "scored", tokenizer, {"s": {"d": [("abcdef", 1.0)]}})
    manifest = records.read_json(tmp_path / "scored/manifest.json")
    row = row_of(np.arange(6), np.full(6, np.nan))
    shard = manifest["shards"][0]
    shard |= records.write_shard(tmp_path / "scored" / shard["name"], [row])
    records.write_json(tmp_path / "scored/manifest.json", manifest)
    with pytest.raises(UserError, match="has an rm_nll that is NaN, infinite or negative"):
        audit.run([str(tmp_path / "scored"), f"--tokenizer={tokenizer}"])


def test_the_command_ends_in_one_sentence(monkeypatch, tmp_path, tokenizer):
    monkeypatch.setattr("sys.argv", ["audit", str(tmp_path), f"--tokenizer={tokenizer}"])
    with pytest.raises(SystemExit, match=r"^error: .*manifest\.json is missing"):
        audit.main()
