import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import sources_of

from data_prep import overlap
from data_prep.packing import pack
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest, write_index
from mucpt_jax.formats.rows import shard_name

T = 32


def write(folder, documents, rows_per_shard=100, **manifest):
    """Unscored rows of T=32 from {(source, id): tokens}."""
    folder.mkdir()
    shards, tables = [], []
    for source in sorted({source for source, _ in documents}):
        own = [(name, tokens) for (of, name), tokens in documents.items() if of == source]
        segments = [pack.Segment(pack.run_of(run), name, at) for name, tokens in own for at, run in pack.cut(tokens, T)]
        packed = [[segments[i] for i in row] for row in pack.pack([len(s.run) for s in segments], T + 1)]
        parts = [packed[i : i + rows_per_shard] for i in range(0, len(packed), rows_per_shard)]
        for number, part in enumerate(parts):
            path = folder / shard_name(source, number, len(parts))
            shards.append({**pack.write_shard(path, part, T), "source": source})
            table = pq.read_table(path.with_suffix(".index"))
            tables.append(table.set_column(0, "shard", [[path.name] * len(table)]))
    write_index(folder, tables)
    values = {"schema": 1, "sequence_length": T, "tokenizer_hash": "t", "vocab_size": 100_000}
    values |= {"shards": shards, "sources": sources_of(shards), "scores": None}
    write_json(folder / "manifest.json", values | manifest)
    return str(folder)


def text(length, seed=0):
    """Tokens of which no two are alike."""
    return np.random.default_rng(seed).permutation(90_000)[:length] + 1


def best(tmp_path, seed, corpus, threshold=0.01, sample=16, rows_per_shard=100):
    """{corpus id: (containment, seed id)} of the near-duplicates."""
    folders = [
        write(tmp_path / name, {("web", i): t for i, t in documents.items()}, rows_per_shard)
        for name, documents in (("seed", seed), ("corpus", corpus))
    ]
    found = overlap.shared(*folders, threshold, sample)["near_duplicates"]
    return {pair["document"]: (pair["containment"], pair["seed"]["document"]) for pair in found}


# Shingles


def test_a_shingle_is_eight_tokens_in_their_order():
    tokens = text(9)[None]
    a, b = overlap.shingles(tokens)[0]
    assert overlap.shingles(np.stack([tokens[0, 1:], tokens[0, :0:-1]])).tolist()[0] == [b]
    backwards = overlap.shingles(tokens[:, 7::-1])[0, 0]
    assert len({int(a), int(b), int(backwards)}) == 3


def test_sampled_is_what_divides_of_long_documents_and_all_of_short_ones(tmp_path):
    """511 tokens in 16 segments: 15 x 25 shingles and 24 of the last 31 tokens; 512 tokens: 16 x 25."""
    documents = {("web", "short"): text(511, 1), ("web", "long"): text(512, 2)}
    folder = overlap.open_folder(write(tmp_path / "rows", documents))
    parts = list(overlap.samples(folder, 0, 4))
    document, hashes = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    long = int(np.argmax(folder.tokens))
    assert (document != long).sum() == 15 * 25 + 24
    assert (hashes[document == long] % 4 == 0).all()
    all_parts = list(overlap.samples(folder, 0, 1))
    everything = np.concatenate([part[1][part[0] == long] for part in all_parts])
    assert len(everything) == 16 * 25
    assert sorted(hashes[document == long]) == sorted(everything[everything % 4 == 0])


# Containment


def test_a_copy_under_another_id_is_found(tmp_path):
    assert best(tmp_path, {"a": text(30, 1), "b": text(30, 2)}, {"x": text(30, 2)}) == {"x": (1.0, "b")}


def test_one_changed_token_breaks_eight_shingles(tmp_path):
    """32 tokens have 25 shingles; 17 of them do not hold token 15."""
    edited = text(32)
    edited[15] = 99_999
    assert best(tmp_path, {"a": text(32)}, {"x": edited}) == {"x": (17 / 25, "a")}


@pytest.mark.parametrize("threshold", [0.5, 0.51])
def test_the_threshold_is_the_least_containment_that_counts(tmp_path, threshold):
    """27 tokens have 20 shingles; the first 17 tokens, which both have, 10."""
    mixed = np.concatenate([text(17), text(10, 1)])
    found = best(tmp_path, {"a": text(27)}, {"x": mixed}, threshold)
    assert found == ({"x": (0.5, "a")} if threshold == 0.5 else {})


def test_an_excerpt_of_the_seed_and_a_document_that_quotes_it_whole(tmp_path):
    seed = {"long": text(32, 1), "short": text(14, 2)}
    corpus = {"excerpt": text(32, 1)[8:22], "quoting": np.concatenate([text(14, 2), text(18, 3)])}
    assert best(tmp_path, seed, corpus) == {"excerpt": (1.0, "long"), "quoting": (1.0, "short")}


def test_the_nearest_seed_document_is_told(tmp_path):
    """Of 25 shingles `a` has 13 (its first 20 tokens), `b` 17 (the first 24)."""
    seed = {n: np.concatenate([text(k), text(32 - k, k)]) for n, k in (("a", 20), ("b", 24))}
    assert best(tmp_path, seed, {"x": text(32)}) == {"x": (17 / 25, "b")}


@pytest.mark.parametrize("rows_per_shard", [1, 100])
def test_a_document_is_one_whatever_rows_its_segments_lie_in(tmp_path, rows_per_shard):
    """100 tokens, cut at 32, 64 and 96, have 75 shingles in segments.  With 5 tokens before them every cut moves: of
    75 + 2 shingles, those from 32k to 32k + 19 (k = 0, 1, 2) lie whole in a segment of both: 60 / 75 = 0.8."""
    seed = {"a": text(100), "b": text(80, 4)}
    corpus = {"same": text(100), "moved": np.concatenate([text(5, 5), text(100)]), "other": text(90, 6)}
    found = best(tmp_path, seed, corpus, rows_per_shard=rows_per_shard)
    assert found == {"same": (1.0, "a"), "moved": (0.8, "a")}


def test_a_repeated_passage_counts_once_for_the_seed_document(tmp_path):
    """The corpus has 5 of the seed's 25 shingles (12 tokens), three times over, each time in a segment of its own."""
    chorus = text(12)
    song = np.concatenate([np.concatenate([chorus, text(20, k)]) for k in (1, 2, 3)])
    assert best(tmp_path, {"a": text(32)}, {"x": song}, 0.19) == {"x": (15 / 75, "a")}
    (tmp_path / "again").mkdir()
    assert best(tmp_path / "again", {"a": text(32)}, {"x": song}, 0.21, rows_per_shard=1) == {}


def test_a_short_document_and_a_long_one_meet_in_the_divided_sample(tmp_path):
    """T cuts both alike: 320 of 640 tokens; sampled whole is only the short one, and all of its half is there."""
    found = best(tmp_path, {"long": text(640)}, {"short": text(320)}, 0.9, sample=4)
    assert found == {"short": (1.0, "long")}


@pytest.mark.parametrize("short", [512, 0])
def test_shingles_of_more_than_fifty_seed_documents_count_on_neither_side(tmp_path, monkeypatch, short):
    """A seed document has 16 tokens of its own and a footer of 16: of its 25 shingles 9 are the footer's alone, 16
    count.  Of the excerpt's 17, from token 8 on, 8 count and stand in s3.  The other shares nothing that does."""
    monkeypatch.setattr(overlap, "SHORT", short)  # 0: all count as long
    footer = text(16, 99)
    seed = {f"s{i}": np.concatenate([text(16, i), footer]) for i in range(51)}
    corpus = {"other": np.concatenate([text(16, 77), footer]), "excerpt": seed["s3"][8:]}
    assert best(tmp_path, seed, corpus, sample=1) == {"excerpt": (1.0, "s3")}
    (tmp_path / "fewer").mkdir()
    fewer = {name: seed[name] for name in list(seed)[:50]}
    found = best(tmp_path / "fewer", fewer, corpus, sample=1)
    assert found == {"other": (9 / 25, "s0"), "excerpt": (1.0, "s3")}


def test_three_shingles_are_too_few_to_tell(tmp_path):
    assert best(tmp_path, {"a": text(10), "b": text(11, 1)}, {"x": text(10), "y": text(11, 1)}) == {"y": (1.0, "b")}


# The report


def test_the_report_counts_documents_and_targets_by_source(tmp_path):
    """Targets: tokens less one for each segment.  Shared are 19 + 29 of music's 19 + 29 + 38, nothing of web's 24."""
    seed = {("wiki", "1"): text(20, 1), ("wiki", "2"): text(30, 2)}
    corpus = {
        ("music", "1"): text(20, 1),  # same id, same text
        ("music", "9"): text(30, 2),  # same text
        ("music", "8"): text(40, 3),  # 38 targets: two segments
        ("web", "2"): text(25, 4),  # same id, other text
        ("news", "7"): text(9, 5),
    }
    folders = write(tmp_path / "seed", seed), write(tmp_path / "corpus", corpus)
    report = overlap.shared(*folders)
    music, web = report["sources"]["music"], report["sources"]["web"]
    assert music["read"] == {"documents": 3, "targets": 86}
    assert music["by_id"] == music["both"] == {"documents": 1, "targets": 19}
    assert music["by_text"] == music["shared"] == {"documents": 2, "targets": 48}
    assert music["share_of_targets"] == 48 / 86
    assert (web["by_id"], web["by_text"]["documents"]) == ({"documents": 1, "targets": 24}, 0)
    assert report["sources"]["news"]["too_short_for_text"] == {"documents": 1, "targets": 8}
    assert report["sources"]["all"]["shared"] == {"documents": 3, "targets": 72}
    found = sorted(report["near_duplicates"], key=lambda pair: pair["document"])
    assert [(pair["document"], pair["seed"], pair["same_id"]) for pair in found] == [
        ("1", {"source": "wiki", "document": "1"}, True),
        ("9", {"source": "wiki", "document": "2"}, False),
    ]
    assert report["same_id_other_text"] == [{"source": "web", "document": "2"}]


def test_ids_of_one_source_are_not_those_of_another(tmp_path):
    """Two documents called 1: only the one in web is a copy."""
    corpus = {("music", "1"): text(20, 1), ("web", "1"): text(20, 2)}
    folders = write(tmp_path / "seed", {("wiki", "a"): text(20, 2)}), write(tmp_path / "corpus", corpus)
    found = overlap.shared(*folders)
    assert [pair["source"] for pair in found["near_duplicates"]] == ["web"]
    assert found["sources"]["all"]["read"]["documents"] == 2


def test_nothing_shared_is_a_report_too(tmp_path, capsys):
    folders = [write(tmp_path / name, {("web", name): text(40, n)}) for n, name in enumerate(("seed", "corpus"))]
    output = tmp_path / "new" / "overlap.json"
    report = overlap.run([f"--seed={folders[0]}", f"--corpus={folders[1]}", f"--output={output}"])
    assert json.loads(output.read_text()) == report
    assert report["sources"]["all"]["shared"] == {"documents": 0, "targets": 0}
    assert (report["threshold"], report["sample"]) == (0.5, 16)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["web", "1", "0", "0", "0", "0", "0.00%"]


# Bad input


def test_rows_of_two_tokenizers_cannot_be_compared(tmp_path):
    folders = (
        write(tmp_path / "seed", {("web", "a"): text(20)}),
        write(tmp_path / "corpus", {("web", "b"): text(20)}, tokenizer_hash="u"),
    )
    with pytest.raises(UserError, match=r"corpus was written with another tokenizer than .*seed"):
        overlap.shared(*folders)


@pytest.mark.parametrize(
    ("flag", "told"),
    [("--threshold=0", "is no share"), ("--threshold=80", "is no share"), ("--threshold=nan", "is no share"),
     ("--sample=0", "takes no shingle")],
)  # fmt: skip
def test_shares_and_samples_have_bounds(tmp_path, flag, told):
    with pytest.raises(UserError, match=told):
        overlap.run(["--seed=a", "--corpus=b", f"--output={tmp_path}/overlap.json", flag])


def test_a_seed_without_eight_tokens_in_a_row_is_refused(tmp_path):
    folders = (write(tmp_path / "seed", {("web", "a"): text(7)}), write(tmp_path / "corpus", {("web", "b"): text(20)}))
    with pytest.raises(UserError, match="has no run of 8 tokens"):
        overlap.shared(*folders)


def test_a_missing_or_foreign_index_is_refused(tmp_path):
    folder = tmp_path / "rows"
    write(folder, {("web", "a"): text(40), ("web", "b"): text(20, 1)})
    table = pq.read_table(folder / "index.parquet")
    write_index(folder, [table.slice(1)])
    with pytest.raises(UserError, match=r"index\.parquet has 2 segments of web-.*, the manifest 3"):
        overlap.shared(str(folder), str(folder))
    (folder / "index.parquet").unlink()
    with pytest.raises(UserError, match=r"index\.parquet cannot be read"):
        overlap.shared(str(folder), str(folder))


def test_shards_of_more_segments_than_the_index_are_refused(tmp_path):
    folders = [
        write(tmp_path / name, {("web", str(i)): text(16, i) for i in range(n)})
        for name, n in (("rows", 2), ("more", 9))
    ]
    name = "web-00000-of-00001.array_record"
    manifest = read_manifest(folders[0])
    (tmp_path / "rows" / name).write_bytes((tmp_path / "more" / name).read_bytes())
    manifest["shards"][0]["bytes"] = (tmp_path / "rows" / name).stat().st_size
    write_json(tmp_path / "rows" / "manifest.json", manifest)
    with pytest.raises(UserError, match=r"web-.* has other segments than index\.parquet"):
        overlap.shared(folders[0], folders[0])


def test_where_the_report_goes_is_named_and_checked_before_anything_is_read(tmp_path, capsys):
    rows_folder = write(tmp_path / "rows", {("web", "a"): text(40)})
    flags = [f"--seed={rows_folder}", "--corpus=absent"]
    with pytest.raises(UserError, match="is a folder, or lies among rows; name a file elsewhere"):
        overlap.run([*flags, f"--output={tmp_path}"])
    with pytest.raises(UserError, match="lies among rows"):
        overlap.run([*flags, f"--output={rows_folder}/manifest.json"])
    with pytest.raises(SystemExit):
        overlap.run(flags)
    assert "the following arguments are required: --output" in capsys.readouterr().err
