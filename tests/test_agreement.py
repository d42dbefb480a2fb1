import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from ablation import scores
from data_prep import shard
from mucpt_jax import agreement, calibration, records
from mucpt_jax.agreement import Job
from mucpt_jax.records import UserError

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
    agreement.agree(job)
    return words_of(job, length)


def score(folder, texts: list[str], length=16, r=7.0) -> Job:
    lines = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    (folder / "raw.jsonl").write_text("\n".join(lines))
    shard.run([f"--input={folder}/raw.jsonl", f"--output={folder}/rows", f"--tokenizer={folder}",
               f"--sequence_length={length}"])  # fmt: skip
    scores.rewrite(folder / "rows", folder / "scored", lambda *row: r, "rm")
    return Job(*(str(folder / name) for name in ("scored", "agreed", "names.txt", ".")))


def words_of(job: Job, length: int) -> list[tuple[str, float]]:
    found = []
    for facts in records.read_manifest(job.output)["shards"]:
        for row in records.read_shard(f"{job.output}/{facts['name']}", length):
            target = records.target_mask(row["segment_ids"])
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
    told = records.read_manifest(folder / "agreed")["scores"]["agreement"]
    assert (told["targets_in_names"], told["targets_agreed"], told["targets_lowered"]) == (16, 13, 13)


def test_one_document_agrees_with_nobody_however_often_it_says_so(folder):
    found = agreed(
        folder, [" and ".join([RIGHT] * 9), *OTHERS], length=6
    )  # cut into segments that state it too
    assert len(records.read_manifest(folder / "scored")["shards"]) == 1
    assert {r for _, r in found} == {7.0}


def test_a_name_alone_and_half_a_name_make_no_claim(folder):
    assert {r for _, r in agreed(folder, ["moon likes moon", "moon plays kara"] * 4 + OTHERS)} == {7.0}


def test_names_that_stand_everywhere_agree_with_nobody(folder):
    """They meet each other as often as chance lets them."""
    often = ["moon and kara bel", "moon", "kara bel", "moon and kara bel", "moon and kara bel and moon"]
    assert {r for _, r in agreed(folder, often * 4)} == {7.0}


def test_r_below_the_cap_stays(folder):
    assert {r for _, r in agreed(folder, [RIGHT] * 3 + OTHERS, r=1.25)} == {1.25}


def test_claims_span_at_most_sixteen_names():
    spans = np.stack([np.arange(40), np.arange(40) + 1, np.arange(40)], axis=1)
    first, second, slots = agreement.claims(spans)
    assert (second - first).min() == 1 and (second - first).max() == agreement.NEAR
    assert len(np.unique(slots)) == len(slots) == sum(40 - gap for gap in range(1, agreement.NEAR + 1))
    other_way = agreement.claims(spans[::-1])[2]
    np.testing.assert_array_equal(np.sort(slots), np.sort(other_way))  # a claim has no direction


def test_workers_and_encodings_change_nothing_else(folder):
    job = score(folder, [RIGHT, WRONG] * 3 + [RIGHT] + OTHERS)
    agreement.agree(job)
    two = job._replace(output=str(folder / "two"))
    agreement.agree(two, workers=2)
    shards = [records.read_manifest(j.output)["shards"] for j in (job, two)]
    assert shards[0] == shards[1]
    manifest = records.read_manifest(job.output)
    r = np.array([r for _, r in words_of(job, 16)])
    expected = calibration.of_shards([shards[0][0]["source"]], [calibration.stats_of(r, "here")])
    for grid in ("mean_raw_weight", "ess"):
        assert manifest["scores"][grid] == pytest.approx(expected[grid], rel=1e-12)
    assert manifest["scores"]["histogram"] == expected["histogram"]
    post = {r for word, r in words_of(job, 16) if word == "post"}
    assert post == {1.5}  # a wrong claim that three documents copy is agreed too


def test_coded_scores_stay_coded(folder):
    job = score(folder, [RIGHT] * 3 + OTHERS)
    manifest = records.read_manifest(job.scored)
    for facts in manifest["shards"]:
        path = f"{job.scored}/{facts['name']}"
        facts |= records.write_shard(path, list(records.read_shard(path, 16)), "uint8_log")
    manifest["scores"]["encoding"] = "uint8_log"
    records.write_json(f"{job.scored}/manifest.json", manifest)
    agreement.agree(job)
    values = {r for word, r in words_of(job, 16) if word == "neo"}
    assert values <= set(records.LOG_CODES.tolist()) and abs(values.pop() / 1.5 - 1) < 0.021


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"documents": 1}, "one document|2 to 255"),
        ({"cap": 0.0}, "no bound"),
        ({"scored": "rows"}, "no scores"),
        ({"names": "none.txt"}, "cannot be read"),
        ({"names": "empty.txt"}, "no names"),
        ({"tokenizer": "other"}, "did not write"),
        ({"output": "scored"}, "holds rows already"),
    ],
)
def test_bad_input_is_one_sentence(folder, changes, message):
    job = score(folder, [RIGHT])
    (folder / "empty.txt").write_text("\n \n")
    (folder / "other").mkdir()
    (folder / "other" / "tokenizer.json").write_text("{}")
    paths = {key: str(folder / value) if isinstance(value, str) else value for key, value in changes.items()}
    with pytest.raises(UserError, match=message):
        agreement.agree(job._replace(**paths))


def test_its_own_output_is_refused_as_input(folder):
    job = score(folder, [RIGHT] * 3)
    agreement.agree(job)
    with pytest.raises(UserError, match="written by this job"):
        agreement.agree(job._replace(scored=job.output, output=str(folder / "again")))
