import json
import random
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHashLSH

from data_prep import dedup, lookup
from data_prep.duplicates import signatures, work_files
from mucpt_jax.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("corpus"), random.Random(1)
    texts = [" ".join(f"word{rng.randrange(10**6)}" for _ in range(200)) for _ in range(40)]
    rows = [json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(texts)]
    (folder / "a.jsonl").write_text("".join(rows))
    dedup.run([f"--input={folder / 'a.jsonl'}", f"--output={folder / 'dedup'}", "--signatures"])
    (folder / "page.txt").write_text(texts[7] + " and a line more")
    (folder / "same.txt").write_text(texts[3].upper())
    (folder / "other.txt").write_text("A page about something else, of which no document speaks.")
    return folder


def look(corpus: Path, *pages: str) -> int:
    with pytest.raises(SystemExit) as end:
        lookup.run([*(str(corpus / page) for page in pages), f"--against={corpus / 'dedup'}"])
    return end.value.code


def test_pages_of_the_corpus_are_named_and_others_are_not_there(corpus, capsys):
    assert look(corpus, "page.txt", "same.txt") == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(Path(page).name, name) for page, name, _ in lines] == [("same.txt", "d3"), ("page.txt", "d7")]
    assert lines[0][2] == "1.00" and 0.9 < float(lines[1][2]) < 1  # 196 of 200 shingles
    assert look(corpus, "other.txt", "a.jsonl") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 41 and lines[-1].endswith("other.txt\tnot there") and lines[5] == "d5\td5\t1.00"


def test_the_python_of_the_documents_finds_the_page(corpus, monkeypatch):
    text = (ROOT / "docs/data_format.md").read_text()
    code = text[text.index("```python") + 9 :].partition("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 8
    monkeypatch.chdir(corpus)
    names = {}
    exec(code, names)
    assert names["near"] == ["d7"]


def test_estimates_are_those_of_datasketch_less_what_agrees_by_chance():
    rng = np.random.default_rng(0)
    one = rng.integers(1, 256, (50, signatures.SIZE), np.uint8)
    other = np.where(
        rng.random(one.shape) < np.linspace(0, 1, 50)[:, None], one, rng.integers(1, 256, one.shape, np.uint8)
    )
    theirs = np.array([lookup.minhash(a).jaccard(lookup.minhash(b)) for a, b in zip(one, other, strict=True)])
    assert (theirs == (one == other).mean(1)).all()
    assert np.allclose(signatures.similarity(one, other), np.maximum(0, (theirs - 1 / 256) / (1 - 1 / 256)), atol=1e-12)


@pytest.mark.parametrize(("similarity", "weight", "bands"), [(0.8, 0.002, (32, 8)), (0.5, 0.01, (64, 4))])
def test_bands_are_datasketchs_optimum_where_a_missed_pair_weighs_most(similarity, weight, bands):
    """Pairs that meet by chance cost us a comparison each, and no document."""
    optimum = MinHashLSH(similarity, signatures.SIZE, weights=(weight, 1 - weight))
    ours = lookup.index_of(np.zeros((0, signatures.SIZE), np.uint8), similarity)
    assert (optimum.b, optimum.r) == (ours.b, ours.r) == bands
    assert work_files.Work(Path(), 0, similarity).band_bytes == bands[1]


def test_damaged_signatures_end_in_a_sentence_or_change_nothing(corpus):
    (part,) = (corpus / "dedup/signatures").glob("part-*")
    sums, whole, rng = part.with_name("_SHA256SUMS"), part.read_bytes(), random.Random(0)
    listed = sums.read_bytes()
    assert list(lookup.near(["x"], str(corpus / "dedup"), 0.8)) == []

    def refused() -> bool:
        try:
            list(lookup.near(["x"], str(corpus / "dedup"), 0.8))
        except UserError as error:
            assert "write that output again with --signatures" in str(error) and "\n" not in str(error)
            return True
        return False

    try:
        for _ in range(40):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            part.write_bytes(data if rng.random() < 0.7 else data[: rng.randrange(len(data))])
            sums.write_bytes(listed)
            assert refused()
            sums.unlink()  # as an output before there were sums: pages have checksums of their own
            refused()
        part.write_bytes(whole)
        for damaged in (b"", b"\xff\n", b"no sum\n", listed.upper(), listed + listed.replace(b"00000", b"00001")):
            sums.write_bytes(damaged)
            assert refused()
    finally:
        part.write_bytes(whole)
        sums.write_bytes(listed)
