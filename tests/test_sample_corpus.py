"""The synthetic world and the sampled real text: what is planted is found where truth.jsonl says."""

import gzip
import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from data_prep import sample_corpus
from data_prep.samples import real_text, world
from mucpt_jax.errors import UserError

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real text in shared/data beside the checkout")
NOISE = {"qr_code", "address", "phone", "chatter", "boilerplate"}
FILES = {*sample_corpus.ROLES, "questions.jsonl", "truth.jsonl", "corpus.json"}
PRIVATE = {"email", "id_card", "ip"}


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def documents(raw: Path, role: str) -> list[dict]:
    return [document for path in sorted((raw / role).glob("*.jsonl")) for document in read(path)]


def truths(raw: Path) -> dict[str, dict]:
    return {truth["id"]: truth for truth in read(raw / "truth.jsonl")}


def normalised(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).casefold().strip()


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    sample_corpus.run([f"--output={folder}"])
    return folder


@pytest.fixture(scope="module")
def tokenizer(raw):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(json.loads((raw / "corpus.json").read_text("utf-8"))["tokenizer"])


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    sample_corpus.run([f"--output={folder}", f"--data={DATA}", "--characters=60000"])
    return folder


def check_roles(raw: Path) -> None:
    ids = [document["id"] for role in sample_corpus.ROLES for document in documents(raw, role)]
    assert len(ids) == len(set(ids))
    assert {document["id"] for document in documents(raw, "domain")} == set(truths(raw))
    for path in raw.glob("*/*.jsonl"):
        assert {document["source"] for document in read(path)} == {path.stem}


def check_spans(raw: Path) -> set[str]:
    """Offsets hold, a noise span is exactly a line; returns the kinds seen."""
    truth, kinds = truths(raw), set()
    for document in documents(raw, "domain"):
        text = document["text"]
        for span in truth[document["id"]]["spans"]:
            assert text[span["start"] : span["end"]] == span["text"]
            kinds.add(span["kind"])
            if span["kind"] in NOISE:
                assert "\n" + span["text"] + "\n" in "\n" + text + "\n"
                assert text[: span["start"]][-1:] in ("", "\n")
    return kinds


def check_duplicates(raw: Path) -> float:
    """A duplicate's normalised text is its original's; returns the share that is identical as it stands."""
    domain, truth = {document["id"]: document for document in documents(raw, "domain")}, truths(raw)
    copies = {name: t["duplicate_of"] for name, t in truth.items() if t["duplicate_of"]}
    assert len(copies) == round(0.03 * (len(domain) - len(copies)))
    for copy, original in copies.items():
        assert normalised(domain[copy]["text"]) == normalised(domain[original]["text"])
        assert truth[original]["duplicate_of"] is None
    return sum(domain[copy]["text"] == domain[original]["text"] for copy, original in copies.items()) / len(copies)


def test_synthetic_ids_and_sources(raw):
    check_roles(raw)
    found = {role: {path.stem for path in (raw / role).glob("*.jsonl")} for role in sample_corpus.ROLES}
    assert found["domain"] == {"music_en", "music_zh"}
    assert found["general"] == {"general_en", "general_zh"}
    assert found["heldout"] == {f"heldout_{kind}_{lang}" for kind in ("music", "general") for lang in ("en", "zh")}


def test_spans_stand_at_their_offsets(raw):
    assert check_spans(raw) == NOISE | PRIVATE


def test_text_of_one_role_is_not_in_another(raw):
    texts = [normalised(d["text"]) for role in sample_corpus.ROLES for d in documents(raw, role)]
    copies = sum(truth["duplicate_of"] is not None for truth in truths(raw).values())
    assert len(texts) - len(set(texts)) == copies


def test_duplicates_are_duplicates_after_normalisation(raw):
    assert 0.3 < check_duplicates(raw) < 0.7


def test_a_fifth_of_the_domain_facts_is_wrong(raw):
    domain, truth = documents(raw, "domain"), truths(raw)
    wrong = 0
    for document in domain:
        for fact in truth[document["id"]]["wrong_facts"]:
            shown = document["text"][fact["start"] : fact["end"]]
            assert normalised(shown) == normalised(fact["stated"]) != normalised(fact["correct"])
            wrong += 1
    facts = 19 * 600 + 2 * 300  # rounds of articles and of threads
    assert 0.17 < wrong / (facts * 1.03) < 0.23  # 3% duplicates repeat theirs


def test_half_of_the_domain_tokens_is_noise(raw, tokenizer):
    def tokens(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    noise = sum(tokens(span["text"]) for t in truths(raw).values() for span in t["spans"] if span["kind"] in NOISE)
    assert 0.44 < noise / sum(tokens(document["text"]) for document in documents(raw, "domain")) < 0.52


def test_token_budgets(raw, tokenizer):
    for role, low, high in (("seed", 150, 200), ("domain", 200, 260), ("general", 250, 300)):
        ids = tokenizer([document["text"] for document in documents(raw, role)])["input_ids"]
        assert low < sum(map(len, ids)) / 1000 < high, role


def test_no_question_is_asked_in_the_text_but_its_fact_is_told(raw):
    questions = read(raw / "questions.jsonl")
    assert len({question["question"] for question in questions}) == 300
    assert [question["lang"] for question in questions].count("zh") == 150
    text = {role: "\n".join(normalised(d["text"]) for d in documents(raw, role)) for role in sample_corpus.ROLES}
    assert all("q: " in text[role] for role in ("seed", "domain", "general"))  # the form is known
    for question in questions:
        asked = normalised(question["question"])
        assert not any(asked in part for part in text.values()), asked


def test_every_asked_fact_is_told_often(raw):
    lines = {
        role: [line for document in documents(raw, role) for line in document["text"].split("\n")]
        for role in ("seed", "domain")
    }
    for question in read(raw / "questions.jsonl"):
        form = {"en": r"What is the (.+) of (.+)\?", "zh": r"(.+)的(.+)是什么？"}[question["lang"]]
        one, two = re.fullmatch(form, question["question"]).groups()
        name = two if question["lang"] == "en" else one
        told = {role: sum(name in line and question["answer"] in line for line in lines[role]) for role in lines}
        assert told["seed"] >= 26 and told["domain"] >= 8, (question, told)
        assert question["answer"] not in question["aliases"]


def test_tokenizer_returns_the_very_text(raw, tokenizer):
    assert len(tokenizer) <= 2048
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer("<|endoftext|>")["input_ids"] == [tokenizer.eos_token_id]
    ours = [documents(raw, role)[-1]["text"] for role in sample_corpus.ROLES]
    for text in [*ours, "  two  spaces ,\r\n\ttab 2024", "琵琶与钢琴：１２３ｋｍ\u3000「龘」🎹 é é"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_same_seed_same_bytes_whatever_the_hash_seed(raw, tmp_path):
    command = [sys.executable, "-m", "data_prep.sample_corpus", f"--output={tmp_path}"]
    root = Path(__file__).parents[1]
    subprocess.run(command, check=True, cwd=root, env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True)
    files = sorted(path.relative_to(raw) for path in raw.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for file in files:
        if file.name != "corpus.json":  # holds the tokenizer's path
            assert (raw / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_another_seed_is_another_world():
    first, second = (world.synthetic(seed)[2] for seed in (0, 1))
    assert not {item["question"] for item in first} & {item["question"] for item in second}


def real_folder(folder: Path) -> Path:
    """The least that --data needs: 20 documents of 100 characters in each file."""
    for name in real_text.NEEDED:
        path, lang = folder / name, "zh" if "zh" in name else "en"
        path.parent.mkdir(parents=True, exist_ok=True)
        made = [{"id": f"{path.name}{i}", "lang": lang, "text": chr(97 + i) * 100} for i in range(20)]
        lines = b"".join(json.dumps(d | {"question": "?", "answer": "!"}).encode() + b"\n" for d in made)
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return folder


def test_the_least_real_folder_will_do(tmp_path, monkeypatch):
    real_folder(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    sample_corpus.run(["--output=raw", "--data=data", "--characters=2000"])
    assert json.loads(Path("raw/corpus.json").read_text("utf-8"))["data"] == str(tmp_path / "data")
    assert {path.name for path in Path("raw").iterdir()} == FILES


@pytest.mark.parametrize(
    ("file", "damage", "told"),
    [
        (real_text.MUSIC[0], lambda data: data[:-20], r"line \d+ cannot be used \(EOFError"),
        (real_text.MUSIC[1], lambda data: b"not gzip", r"line 1 cannot be used \(BadGzipFile"),
        (real_text.WIKIS[0], lambda data: data + gzip.compress(b"{half"), "line 21 cannot be used"),
        (real_text.WIKIS[1], lambda data: data + gzip.compress(b'{"id": "x", "lang": "zh"}'), "line 21.*text"),
        (real_text.QUESTIONS, lambda data: b'{"id": "x"}\n' + data, "line 1 .*lang"),
    ],
)
def test_damaged_real_text_is_named_with_its_line(tmp_path, file, damage, told):
    path = real_folder(tmp_path / "data") / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"{re.escape(path.name)} {told}"):
        sample_corpus.run([f"--output={tmp_path / 'raw'}", f"--data={tmp_path / 'data'}", "--characters=2000"])
    assert not (tmp_path / "raw").exists()


def test_too_little_real_text_is_named(tmp_path):
    flags = [f"--output={tmp_path / 'raw'}", f"--data={real_folder(tmp_path / 'data')}", "--characters=9000"]
    with pytest.raises(UserError, match=r"seed gets [\d,]+ of 6,000 characters.*music_en_bios.*lower --characters"):
        sample_corpus.run(flags)


def test_corpus_json_marks_the_end(tmp_path, raw, monkeypatch):
    assert json.loads((raw / "corpus.json").read_text("utf-8"))["data"] == ""
    flags = [f"--output={tmp_path / 'raw'}", f"--data={real_folder(tmp_path / 'data')}", "--characters=2000"]
    sample_corpus.run(flags)
    monkeypatch.setattr(sample_corpus, "write_jsonl", lambda *_: (tmp_path / "raw/domain/x").read_text())
    with pytest.raises(FileNotFoundError):
        sample_corpus.run(flags)
    assert not (tmp_path / "raw/corpus.json").exists()


def test_id_cards_have_the_check_digit_of_the_standard(raw):
    """GB 11643 (ISO 7064 MOD 11-2): the digits times 2^17 .. 2^0, X for 10, add up to 1 modulo 11."""
    check = lambda card: sum((10 if c == "X" else int(c)) << 17 - i for i, c in enumerate(card)) % 11  # noqa: E731
    assert check("11010519491231002X") == 1  # the example in the standard
    cards = {s["text"] for t in truths(raw).values() for s in t["spans"] if s["kind"] == "id_card"}
    plain = [unicodedata.normalize("NFKC", card).upper() for card in cards]
    assert len(plain) > 5 and {check(card) for card in plain} == {1}


def test_cut_ends_with_a_sentence():
    assert real_text.cut("短。" * 2000) == "短。" * 2000
    assert real_text.cut("a" * 5000 + ". " + "b" * 5000) == "a" * 5000 + "."
    assert real_text.cut("x" * 7000) == "x" * 6000


def test_bad_arguments_are_answered_in_a_sentence(tmp_path, raw):
    with pytest.raises(UserError, match="nowhere is no folder"):
        sample_corpus.run([f"--output={tmp_path}", "--data=nowhere"])
    with pytest.raises(UserError, match=r"music_en_bios\.jsonl\.gz is missing"):
        sample_corpus.run([f"--output={tmp_path}", f"--data={tmp_path}"])
    with pytest.raises(UserError, match="--characters"):
        sample_corpus.run([f"--output={tmp_path}", "--characters=5"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        sample_corpus.run([f"--output={tmp_path / 'file' / 'raw'}"])
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed" / "old.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="of another corpus"):
        sample_corpus.run([f"--output={tmp_path}"])
    assert not list(tmp_path.glob("domain/*"))


@needs_data
def test_real_text_has_disjoint_roles_and_right_spans(real):
    check_roles(real)
    assert check_spans(real) == {"qr_code", "address", "phone"}
    check_duplicates(real)
    pages = lambda role: {d["id"].removesuffix("-copy") for d in documents(real, role)}  # noqa: E731
    assert not pages("domain") & (pages("seed") | pages("heldout") | pages("general"))


@needs_data
def test_real_text_keeps_its_budgets(real):
    for role, budget in (("seed", 40_000), ("domain", 60_000), ("general", 60_000), ("heldout", 16_000)):
        texts = {lang: [d["text"] for d in documents(real, role) if d["lang"] == lang] for lang in ("en", "zh")}
        total, zh = (sum(map(len, group)) for group in ([*texts["en"], *texts["zh"]], texts["zh"]))
        assert budget <= total < budget * 1.25 + 4 * 6_000
        assert role == "heldout" or 0.25 < zh / total < 0.45
    facts = json.loads((real / "corpus.json").read_text("utf-8"))
    assert (Path(facts["tokenizer"]) / "tokenizer.json").is_file() and not (real / "tokenizer").exists()
    assert len(read(real / "questions.jsonl")) == facts["questions"] == 429


@needs_data
def test_every_second_real_document_has_noise(real):
    originals = [truth for truth in truths(real).values() if not truth["duplicate_of"]]
    assert 0.3 < sum(bool(truth["spans"]) for truth in originals) / len(originals) < 0.7
    assert all(len(truth["spans"]) <= 4 for truth in originals)
