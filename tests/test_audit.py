"""What stands in audit.html; what a browser makes of it stands in test_audit_page.py."""

import json
import shutil

import numpy as np
import pytest
from audit_rows import SOURCES, T, payload, row_of, write_page, write_scored
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mucpt_jax import audit
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.rows import write_shard
from mucpt_jax.page import survey


def test_a_chinese_character_is_one_piece_and_keeps_the_score_of_each_of_its_tokens(audited):
    document = next(d for d in payload(audited / "audit.html")["documents"] if d["id"] == "唱")
    assert document["pieces"] == [*"?她在唱歌她在唱歌她在唱歌!!!!"]
    assert document["joined"] == {str(i): 3 for i in range(1, 13)}
    assert document["r"] == [None] + [0.5] * 40 and document["base"] == [None] + [2.0] * 40


def test_a_damaged_character_does_not_swallow_what_follows(audited):
    loaded = audit.load_tokenizer(str(audited / "tokenizer"))
    broken = loaded.backend_tokenizer.encode("歌").ids[:2] + loaded.backend_tokenizer.encode("a" * 20).ids
    found = audit.pieces(broken, loaded.decode)
    assert [text for text, _ in found] == ["\N{REPLACEMENT CHARACTER}a"] + ["a"] * 19
    assert sum(size for _, size in found) == 22


def test_words_that_are_tokens_keep_the_blanks_between_them():
    words = {word: i for i, word in enumerate(["she", "sings", "歌", "."])}
    made = Tokenizer(models.WordLevel(words))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    decode = PreTrainedTokenizerFast(tokenizer_object=made).decode
    assert audit.pieces([0, 1, 2, 3, 0], decode) == [
        ("she", 1), (" sings", 1), (" 歌", 1), (" .", 1), (" she", 1),
    ]  # fmt: skip


def test_a_phrase_has_its_occurrences_and_its_mean_weight_at_every_floor(audited, tmp_path):
    # The raw weight 1 / max(8, floor) of " noise" is that of its tokens at every floor.
    known = [(f" {word}", 0.5) for word in ("bcde", "fghi", "jkl")]
    spans = [("a", 1.0), *(span for one in known for span in ((" noise", 8.0), one))]
    write_scored(tmp_path / "scored", audited / "tokenizer", {"s": {"d": spans}})
    audit.run([str(tmp_path / "scored"), f"--tokenizer={audited / 'tokenizer'}"])
    (phrase,) = payload(tmp_path / "scored/audit.html")["phrases"]
    assert (phrase["text"], phrase["tokens"], phrase["count"]) == (" noise", 6, 3)
    floors = payload(tmp_path / "scored/audit.html")["floors"]
    assert phrase["means"] == [0.125 if floor < 8 else 0.1 for floor in floors]


@pytest.mark.parametrize(
    ("text", "phrases", "others"),
    [
        ("?see spam.com now", ["spam", " spam.com", "com now"], ["pam.com", "spam.c", "see s", "ee spam"]),
        ("?他在广告。唱歌QR5群", ["。唱歌", "唱歌QR5", "QR5群"], ["他在广", "在广告", "歌QR5", "R5群"]),
        ("?a\N{REPLACEMENT CHARACTER}b-c", [], ["b-c"]),  # b may be of the damaged word
    ],
)
def test_a_phrase_begins_and_ends_with_words(text, phrases, others):
    """Every character is a token.  Chinese has no blanks: its words are known to end only where its characters do."""
    kinds = np.array([[survey.letter(character)] * 2 for character in text])
    block = {"tokens": np.arange(len(text))[None], "is_target": np.arange(len(text))[None] > 0}
    texts = {text[start : start + n] for n, starts, _ in survey.ngrams(block, kinds) for start in starts}
    assert texts >= set(phrases) and not texts & set(others)


@pytest.mark.parametrize("blanks", [False, True])
def test_kinds_of_letters_are_those_of_the_text_that_a_token_adds(audited, blanks):
    words = {"she": 0, "歌": 1, ".": 2, "r2": 3}
    made = Tokenizer(models.WordLevel(words))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if not blanks:
        made.decoder = decoders.Fuse()
    kinds = survey.letters(PreTrainedTokenizerFast(tokenizer_object=made)).tolist()
    # Where the tokenizer sets blanks between its tokens each begins behind one.
    assert kinds == [[0 if blanks else kind, kind] for kind in (1, 2, 0, 1)]


def test_an_ngram_lies_within_one_segment_of_one_row():
    tokens = np.array([[7, 1, 2, 3, 7, 1, 2, 3, 4], [1, 2, 3, 1, 2, 3, 0, 0, 0]])
    is_target = np.array([[0, 1, 1, 1, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 0, 0, 0]], bool)
    block = {"tokens": tokens, "is_target": is_target}
    found = {n: (starts, hashes) for n, starts, hashes in survey.ngrams(block, np.zeros((9, 2), np.int8))}
    assert {n: starts.tolist() for n, (starts, _) in found.items() if len(starts)} == {
        3: [1, 5, 6, 10, 11, 12], 4: [5, 10, 11], 5: [10],
    }  # fmt: skip
    first, second, other, turned, _, last = found[3][1].tolist()
    assert first == second == last and len({first, other, turned}) == 3  # 1 2 3; 2 3 4; 2 3 1


def test_histograms_count_every_target_of_a_source(audited):
    facts = payload(audited / "audit.html")
    for source in facts["sources"]:
        r = {edge: n for edge, n in zip(facts["edges"], source["r"], strict=False) if n}
        assert list(r.values()) == [40, 40]
        assert [high > r for high, r in zip(r, (0.4, 7.0), strict=True)] == [True, True] and sum(r) < 8.5
        excess = [facts["excess_edges"][i] for i, n in enumerate(source["excess"]) if n]
        assert excess == [-6.0, 1.5]  # 2 - 8 and 2 - 0.5


def test_documents_are_spread_evenly_and_hold_the_worst_and_the_best():
    sizes = {"a": 2, "b": 10, "c": 100}
    documents = {(s, f"{i:03d}"): [float(i) * 20, 20] for s, n in sizes.items() for i in range(n)}
    chosen = audit.choose(documents, 30)
    count = {s: sum(source == s for source, _ in chosen) for s in sizes}
    assert count == {"a": 2, "b": 10, "c": 18}  # what a and b cannot give goes to c
    of_c = {pick: sorted(n for (s, n), p in chosen.items() if (s, p) == ("c", pick)) for pick in ("worst", "best")}
    assert of_c == {"worst": ["000", "001", "002", "003"], "best": ["096", "097", "098", "099"]}
    assert audit.choose(documents, 30) == chosen and list(audit.choose(documents, 30)) == list(chosen)
    assert len(audit.choose(documents, 1000)) == 112 and len(audit.choose(documents, 1)) == 1


def test_a_document_of_few_tokens_is_neither_worst_nor_best():
    documents = {("s", f"{i}"): [float(i) * 20, 20] for i in range(1, 9)} | {("s", "short"): [0.0, 15]}
    assert audit.choose(documents, 9)["s", "short"] == "random"


def test_rows_that_are_read_are_evenly_spaced_over_all_shards(monkeypatch):
    monkeypatch.setattr(survey, "ROWS_READ", 5)
    shards = [{"name": name, "source": "s", "records": count} for name, count in (("a", 4), ("b", 1), ("c", 5))]
    found = survey.spread_rows({"shards": shards, "sequence_length": T})
    # rows 0, 2, 4, 6, 8 of ten
    assert [(s["name"], n.tolist()) for s, n in found] == [("a", [0, 2]), ("b", [0]), ("c", [1, 3])]


def test_a_source_of_a_ten_thousandth_of_the_corpus_is_read_too(monkeypatch):
    monkeypatch.setattr(survey, "ROWS_READ", 100)
    shards = [
        {"name": "web", "source": "web", "records": 99_990},
        {"name": "empty", "source": "empty", "records": 0},
        {"name": "songs", "source": "songs", "records": 10},
    ]
    found = {s["name"]: n.tolist() for s, n in survey.spread_rows({"shards": shards, "sequence_length": T})}
    assert found["songs"] == list(range(10)) and len(found["web"]) == 99 and len(found) == 2
    # A thousand such sources do not make it read the whole corpus.
    many = [{"name": f"{i}", "source": f"{i}", "records": 1000} for i in range(1000)]
    assert sum(len(n) for _, n in survey.spread_rows({"shards": many, "sequence_length": T})) == 1000


def test_a_document_of_many_segments_is_read_in_order(audited, tmp_path):
    text = "".join(f"{i:03d} " for i in range(50))
    write_scored(tmp_path / "scored", audited / "tokenizer", {"s": {"d": [(text, 1.0)]}})
    audit.run([str(tmp_path / "scored"), f"--tokenizer={audited / 'tokenizer'}", "--documents=1"])
    (document,) = payload(tmp_path / "scored/audit.html")["documents"]
    assert "".join(document["pieces"]) == text and document["tokens"] == 200
    assert [i for i, r in enumerate(document["r"]) if r is None] == [0, 64, 128, 192]


def test_two_hundred_long_documents_stay_below_5_mb_and_the_page_says_what_is_left_out():
    r = survey.short(np.random.default_rng(0).gamma(1.0, 3.0, 4000))
    long = {"id": "d", "source": "s", "pick": "random", "tokens": 9000, "pieces": [("<歌", 1)] * 4000}
    made = audit.page({"floors": [1.0]}, [long | {"r": r, "base": r}] * 200)
    assert 4_000_000 < len(made.encode()) < 5_000_000
    document = json.loads(made.split('id="payload">')[1].split("</script>")[0])["documents"][0]
    assert 500 < len(document["pieces"]) == len(document["r"]) == len(document["base"]) and document["tokens"] == 9000


def test_a_document_is_cut_between_characters():
    document = {"pieces": [("a", 1), ("歌", 3), ("b", 1)], "r": [None, 1.0, 2.0, 3.0, 4.0]}
    assert audit.cut(document, 3) == {"pieces": ["a"], "joined": {}, "r": [None]}
    assert audit.cut(document, 4) == {"pieces": ["a", "歌"], "joined": {1: 3}, "r": [None, 1.0, 2.0, 3.0]}


def test_the_same_rows_make_the_same_page(audited, tmp_path):
    write_page(audited, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (audited / "audit.html").read_bytes()


# What is refused


def test_what_does_not_fit_together_is_refused_in_one_sentence(audited, tmp_path):
    tokenizer, scored = audited / "tokenizer", str(audited / "scored")
    named = f"--tokenizer={tokenizer}"
    plain = write_scored(tmp_path / "plain", tokenizer, SOURCES, scored=False)
    fewer = write_scored(tmp_path / "fewer", tokenizer, {"music": SOURCES["music"]}, "start")
    swapped = {s: {d: [(t.swapcase(), r) for t, r in x] for d, x in ds.items()} for s, ds in SOURCES.items()}
    swapped = write_scored(tmp_path / "swapped", tokenizer, swapped, "start")
    foreign = tmp_path / "foreign"
    shutil.copytree(tokenizer, foreign)
    (foreign / "tokenizer.json").write_text((foreign / "tokenizer.json").read_text() + "\n")
    damaged = shutil.copytree(audited / "scored", tmp_path / "damaged")
    (damaged / "index.parquet").write_bytes(b"PAR1")
    for arguments, told in [
        ([str(damaged), named], r"index\.parquet is missing or damaged"),
        ([scored, named, f"--base={tmp_path}"], r"manifest\.json is missing"),
        ([str(plain), named], "plain holds no scores; run launch.py --job=score"),
        ([scored, f"--tokenizer={foreign}"], "written with another tokenizer than .*foreign"),
        ([scored, f"--tokenizer={tmp_path}"], "holds no tokenizer.json"),
        ([scored, named, f"--base={fewer}"], "fewer holds other rows than"),
        ([scored, named, f"--base={swapped}"], "record 0 differs between .* and .*swapped"),
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


def test_scores_that_are_nan_are_refused(audited, tmp_path):
    write_scored(tmp_path / "scored", audited / "tokenizer", {"s": {"d": [("abcdef", 1.0)]}})
    manifest = read_json(tmp_path / "scored/manifest.json")
    row = row_of(np.arange(6), np.full(6, np.nan))
    shard = manifest["shards"][0]
    shard |= write_shard(tmp_path / "scored" / shard["name"], [row])
    write_json(tmp_path / "scored/manifest.json", manifest)
    with pytest.raises(UserError, match="has an rm_nll that is NaN, infinite or negative"):
        audit.run([str(tmp_path / "scored"), f"--tokenizer={audited / 'tokenizer'}"])


def test_the_command_ends_in_one_sentence(audited, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["audit", str(tmp_path), f"--tokenizer={audited / 'tokenizer'}"])
    with pytest.raises(SystemExit, match=r"^error: .*manifest\.json is missing"):
        audit.main()


def test_a_page_that_could_not_be_written_is_refused_before_anything_is_read(audited, tmp_path):
    for output in (tmp_path, tmp_path / "none" / "audit.html"):
        with pytest.raises(UserError, match="is no file in a folder that exists"):
            audit.run(["scored", f"--tokenizer={audited / 'tokenizer'}", f"--output={output}"])
