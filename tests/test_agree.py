import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from ablation import scores
from data_prep import agree, shard
from data_prep.agree import Job
from mucpt_jax.errors import UserError
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import INDEX_SCHEMA, read_manifest
from mucpt_jax.formats.rows import LOG_CODES, read_shard, target_mask, write_shard

ROOT = Path(__file__).parents[1]
NAMES = ["kara bel", "neo folk", "post punk", "moon"]
WORDS = ["<|endoftext|>", "kara", "bel", "neo", "folk", "post", "punk", "moon", "plays", "likes", "and"]
OTHERS = 40 * ["plays and likes"]  # so that few documents hold the names
RIGHT, WRONG = "kara bel plays neo folk", "kara bel plays post punk"


@pytest.fixture
def folder(tmp_path):
    """A tokenizer of whole words and a list of names."""
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="and"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}'
    )
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path


def agreed(folder, texts: list[str], length=16, r=7.0, **changes) -> list[tuple[str, float]]:
    """(word, r) of all tokens behind the first of their segment, where the RM gives each of them the score r."""
    job = score(folder, texts, length, r)._replace(**changes)
    agree.agree(job)
    return words_of(job, length)


def score(folder, texts: list[str], length=16, r=7.0, rows_per_shard=100) -> Job:
    lines = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    (folder / "raw.jsonl").write_text("\n".join(lines))
    shard.run([f"--input={folder}/raw.jsonl", f"--output={folder}/rows", f"--tokenizer={folder}",
               f"--sequence_length={length}", f"--rows_per_shard={rows_per_shard}"])  # fmt: skip
    scores.rewrite(folder / "rows", folder / "scored", lambda *row: r, "rm")
    return Job(*(str(folder / name) for name in ("scored", "agreed", "names.txt", ".")))


def words_of(job: Job, length: int) -> list[tuple[str, float]]:
    found = []
    for facts in read_manifest(job.output)["shards"]:
        for row in read_shard(f"{job.output}/{facts['name']}", length):
            target = target_mask(row["segment_ids"])
            tokens, r = row["tokens"][1:][target].tolist(), row["rm_nll"][1:][target].tolist()
            assert np.isnan(row["rm_nll"][1:][~target]).all()
            found += [(WORDS[token], score) for token, score in zip(tokens, r, strict=True)]
    return found


def test_what_three_documents_state_is_lowered_and_what_one_states_is_not(folder):
    found = agreed(folder, [RIGHT, RIGHT, f"{RIGHT} and {RIGHT}", WRONG, *OTHERS])
    assert {r for word, r in found if word in ("neo", "folk")} == {1.5}
    assert {r for word, r in found if word in ("post", "punk", "plays", "and", "<|endoftext|>")} == {7.0}
    # "bel" of the wrong document stands in no agreed claim; in the others it does.
    assert sorted(r for word, r in found if word == "bel") == [1.5, 1.5, 1.5, 1.5, 7.0]
    told = read_manifest(folder / "agreed")["scores"]["agreement"]
    assert (told["targets_in_names"], told["targets_agreed"], told["targets_lowered"]) == (16, 13, 13)


def test_one_document_agrees_with_nobody_however_often_it_says_so(folder):
    found = agreed(folder, [" and ".join([RIGHT] * 9), *OTHERS], length=6)  # cut into segments that state it too
    assert len(read_manifest(folder / "scored")["shards"]) == 1
    assert {r for _, r in found} == {7.0}


def test_one_document_in_several_shards_is_one(folder):
    job = score(folder, [" and ".join([RIGHT] * 9), *OTHERS], length=6, rows_per_shard=1)
    assert len(read_manifest(job.scored)["shards"]) > 9
    agree.agree(job)
    assert {r for _, r in words_of(job, 6)} == {7.0}


def test_a_name_alone_and_half_a_name_make_no_claim(folder):
    assert {r for _, r in agreed(folder, ["moon likes moon", "moon plays kara"] * 4 + OTHERS)} == {7.0}


def test_names_that_stand_everywhere_agree_with_nobody(folder):
    """They meet each other as often as chance lets them."""
    often = ["moon and kara bel", "moon", "kara bel", "moon and kara bel", "moon and kara bel and moon"]
    assert {r for _, r in agreed(folder, often * 4)} == {7.0}


@pytest.mark.parametrize(
    ("mentions", "claims", "agreed"),
    [
        (10_000, 300, True),  # chance lets them meet in 10 of 10 million documents
        (25_000, 300, False),  # 62
        (25_000, 400, True),
        (1_000_000, 65535, False),  # 100,000, and a count that is full says no more
    ],
)
def test_chance_is_the_bound_in_large_corpora_too(mentions, claims, agreed):
    spans = np.array([[0, 1, 4], [2, 3, 5]])
    row = {"tokens": np.zeros(4, np.int32), "segment_ids": np.ones(4, np.uint16)}
    counts = agree.Counts(*zero_counts())
    counts.claims[agree.claims(spans)[2]] = claims
    counts.names[:], counts.documents[:] = mentions, 10**7
    assert agree.marks(row, spans, counts, 3)[1].tolist() == [agreed, False, agreed, False]


def zero_counts() -> list[np.ndarray]:
    shapes = {"claims": (1 << agree.SLOT_BITS, np.uint16), "names": (6, np.int64), "documents": (1, np.int64)}
    return [np.zeros(*shapes[name]) for name in agree.Counts._fields]


def test_claims_of_many_shards_are_counted_beyond_a_byte_and_then_stay_full(folder, monkeypatch):
    one = np.array([1])
    for claims, total in ((200, 600), (40_000, 65535)):
        found = [(one, np.array([claims]), one, one, 1)] * 3
        monkeypatch.setattr(agree, "in_workers", lambda *_, found=found: iter(found))
        counts = agree.count(Job("", "", f"{folder}/names.txt", str(folder)), [{}] * 3, 1)
        assert (counts.claims[1], counts.names[1], counts.documents[0]) == (total, 3, 3)


def test_r_below_the_cap_stays(folder):
    assert {r for _, r in agreed(folder, [RIGHT] * 3 + OTHERS, r=1.25)} == {1.25}


def test_claims_span_at_most_sixteen_names():
    spans = np.stack([np.arange(40), np.arange(40) + 1, np.arange(40)], axis=1)
    first, second, slots = agree.claims(spans)
    assert (second - first).min() == 1 and (second - first).max() == agree.NEAR
    assert len(np.unique(slots)) == len(slots) == sum(40 - gap for gap in range(1, agree.NEAR + 1))
    other_way = agree.claims(spans[::-1])[2]
    np.testing.assert_array_equal(np.sort(slots), np.sort(other_way))  # a claim has no direction


def test_workers_and_encodings_change_nothing_else(folder):
    job = score(folder, [RIGHT, WRONG] * 3 + [RIGHT] + OTHERS)
    agree.agree(job)
    two = job._replace(output=str(folder / "two"))
    agree.agree(two, workers=2)
    shards = [read_manifest(j.output)["shards"] for j in (job, two)]
    assert shards[0] == shards[1]
    manifest = read_manifest(job.output)
    r = np.array([r for _, r in words_of(job, 16)])
    expected = score_sums.of_shards([shards[0][0]["source"]], [score_sums.stats_of(r, "here")])
    for grid in ("mean_raw_weight", "ess"):
        assert manifest["scores"][grid] == pytest.approx(expected[grid], rel=1e-12)
    assert manifest["scores"]["histogram"] == expected["histogram"]
    post = {r for word, r in words_of(job, 16) if word == "post"}
    assert post == {1.5}  # a wrong claim that three documents copy is agreed too


def test_coded_scores_stay_coded(folder):
    job = score(folder, [RIGHT] * 3 + OTHERS)
    manifest = read_manifest(job.scored)
    for facts in manifest["shards"]:
        path = f"{job.scored}/{facts['name']}"
        facts |= write_shard(path, list(read_shard(path, 16)), "uint8_log")
    manifest["scores"]["encoding"] = "uint8_log"
    write_json(f"{job.scored}/manifest.json", manifest)
    agree.agree(job)
    values = {r for word, r in words_of(job, 16) if word == "neo"}
    assert values <= set(LOG_CODES.tolist()) and abs(values.pop() / 1.5 - 1) < 0.021


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"documents": 1}, "2 to 65535"),
        ({"cap": 0.0}, "no bound"),
        ({"scored": "rows"}, "no scores"),
        ({"names": "none.txt"}, "cannot be read"),
        ({"names": "empty.txt"}, "no names"),
        ({"tokenizer": "other"}, "written with another tokenizer"),
        ({"output": "scored"}, "is no empty folder"),
        ({"output": "scoring"}, "is no empty folder"),
        ({"scored": "no_index"}, "index.parquet is missing"),
        ({"scored": "other_index"}, "index.parquet is damaged or of another folder"),
    ],
)
def test_bad_input_is_one_sentence(folder, changes, message):
    job = score(folder, [RIGHT])
    (folder / "empty.txt").write_text("\n \n")
    (folder / "other").mkdir()
    (folder / "other" / "tokenizer.json").write_text("{}")
    (folder / "scoring").mkdir()
    (folder / "scoring" / "scoring.json").write_text("{}")
    shutil.copytree(job.scored, folder / "no_index", ignore=shutil.ignore_patterns("index.parquet"))
    shutil.copytree(folder / "no_index", folder / "other_index")
    pq.write_table(INDEX_SCHEMA.empty_table(), folder / "other_index" / "index.parquet")
    paths = {key: str(folder / value) if isinstance(value, str) else value for key, value in changes.items()}
    with pytest.raises(UserError, match=message):
        agree.agree(job._replace(**paths))


def test_its_own_output_is_refused_as_input(folder):
    job = score(folder, [RIGHT] * 3)
    agree.agree(job)
    with pytest.raises(UserError, match="written by this job"):
        agree.agree(job._replace(scored=job.output, output=str(folder / "again")))


def test_a_folder_that_holds_files_is_refused_and_an_empty_one_is_filled(folder):
    job = score(folder, [RIGHT] * 3 + OTHERS)
    out = folder / "agreed"
    out.mkdir()
    shard = read_manifest(job.scored)["shards"][0]["name"]
    for name in (shard, "claims.npy", "a.1234.writing"):
        (out / name).write_bytes(b"dear")
        with pytest.raises(UserError, match="is no empty folder"):
            agree.agree(job)
        (out / name).unlink()
    agree.agree(job)
    assert {r for word, r in words_of(job, 16) if word == "neo"} == {1.5}
    assert {path.name for path in out.iterdir()} == {shard, "index.parquet", "manifest.json"}


def test_no_workers_is_one_sentence(folder):
    with pytest.raises(UserError, match="--workers=0"):
        agree.agree(score(folder, [RIGHT]), workers=0)


def test_a_worker_that_is_killed_is_one_sentence():
    with pytest.raises(UserError, match="a smaller --workers"):
        list(agree.in_workers("die", os._exit, [1, 1], workers=2))


def test_workers_end_with_a_run_that_is_killed():
    code = (
        "import os, signal, concurrent.futures as f\n"
        "from data_prep import agree\n"
        "pool = f.ProcessPoolExecutor(1, agree.multiprocessing.get_context('spawn'), agree.end_with_parent)\n"
        "print(pool.submit(os.getpid).result(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # The worker holds stdout too: this returns when both have ended.
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60)
    assert run.returncode == -signal.SIGKILL and int(run.stdout) > 0


def test_the_old_name_says_where_it_went():
    run = subprocess.run([sys.executable, "-m", "mucpt_jax.agreement"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr.startswith("error: ") and "python -m data_prep.agree" in run.stderr
