"""A tokenizer is what its tokenizer.json says, and rows belong to one tokenizer."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import write_rows
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from data_prep.packing import tokens
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.tokenizer import (
    check_same_tokenizer,
    end_of_document,
    load_tokenizer,
    tokenizer_hash,
    vocab_size,
)

QWEN2 = Path(__file__).parents[2] / "shared" / "data" / "tokenizer" / "qwen2"
TEXTS = ("Song 1999: don't\n\n你好 <|endoftext|>", "e\u0301 Ａ\t12345  x")


def byte_tokenizer(folder: Path) -> Path:
    """One token a byte; digits and letters of a run stay together, which Qwen2's own pre-tokenizer would split."""
    folder.mkdir()
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("1", "9"), ("19", "9"), ("199", "9")]
    vocab |= {a + b: 256 + i for i, (a, b) in enumerate(merges)}
    written = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    written.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    written.decoder = decoders.ByteLevel()
    written.add_special_tokens(["<|endoftext|>"])
    written.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>"})
    write_json(folder / "config.json", {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]})
    return folder


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer([text], add_special_tokens=False)["input_ids"][0]


def test_the_ids_are_those_of_tokenizer_json_also_where_config_json_says_qwen2(tmp_path):
    folder = byte_tokenizer(tmp_path / "tokenizer")
    loaded, file = load_tokenizer(str(folder)), Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        assert ids(loaded, text) == file.encode(text, add_special_tokens=False).ids
    assert ids(loaded, "1999") == [258]
    assert loaded.eos_token == "<|endoftext|>" and len(loaded) == 260
    assert loaded.decode(ids(loaded, TEXTS[1])) == TEXTS[1]


def test_a_truncation_or_padding_stored_in_tokenizer_json_is_switched_off(tmp_path):
    """A public report: 20 documents gave 500 tokens instead of 2,970, or were filled with padding ids."""
    folder = byte_tokenizer(tmp_path / "tokenizer")
    texts = ["x" * (100 + 5 * i) for i in range(20)]  # 2,950 bytes
    for store in (lambda t: t.enable_truncation(25), lambda t: t.enable_padding(length=200, pad_id=7)):
        written = Tokenizer.from_file(str(folder / "tokenizer.json"))
        store(written)
        written.save(str(folder / "tokenizer.json"))
        loaded = load_tokenizer(str(folder))
        assert [len(run) for run in loaded(texts, add_special_tokens=False)["input_ids"]] == list(map(len, texts))
        runs = tokens.tokenize(texts, tokens.load_tokenizer.__wrapped__(str(folder)), 259)
        assert sum(map(len, runs)) == 2_970  # with <|endoftext|> behind each


def test_files_beside_tokenizer_json_add_no_token(tmp_path):
    """The hash is of tokenizer.json, so nothing else may change the ids."""
    folder = byte_tokenizer(tmp_path / "tokenizer")
    before = load_tokenizer(str(folder)).get_vocab()
    added = {"300": {"content": "<|new|>", "special": True}}
    settings = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|new|>", "added_tokens_decoder": added}
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "added_tokens.json", {"<|new|>": 300})
    write_json(folder / "special_tokens_map.json", {"eos_token": "<|new|>"})
    loaded = load_tokenizer(str(folder))
    assert loaded.get_vocab() == before and loaded.eos_token is None and vocab_size(loaded) == 260
    assert end_of_document(loaded) == 259


def test_ids_lie_below_the_vocabularys_size_also_where_it_has_holes(tmp_path):
    written = Tokenizer(models.WordLevel({"song": 0, "of": 1, "x": 9}, unk_token="x"))
    written.save(str(tmp_path / "tokenizer.json"))
    assert vocab_size(load_tokenizer(str(tmp_path))) == 10


@pytest.mark.skipif(not QWEN2.is_dir(), reason="needs the Qwen2 tokenizer: shared/data beside the repository")
def test_the_real_tokenizer_of_qwen2_keeps_its_ids(tmp_path):
    from transformers import AutoTokenizer

    loaded, library = load_tokenizer(str(QWEN2)), AutoTokenizer.from_pretrained(QWEN2)
    for text in TEXTS:
        assert ids(loaded, text) == ids(library, text)
    assert ids(loaded, "<|endoftext|>") == [151643] and loaded.eos_token == "<|im_end|>"
    vocab = json.loads((QWEN2 / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    write_json(tmp_path / "vocab.json", vocab["vocab"])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in vocab["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    shutil.copy(QWEN2 / "tokenizer_config.json", tmp_path)
    assert ids(load_tokenizer(str(tmp_path)), TEXTS[0]) == ids(library, TEXTS[0])  # without tokenizer.json


def test_a_damaged_or_missing_tokenizer_is_one_sentence(tmp_path):
    folder = byte_tokenizer(tmp_path / "tokenizer")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"the tokenizer in .*tokenizer cannot be loaded \(.*\); copy") as error:
        load_tokenizer(str(folder))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"nowhere is not a folder, so it holds no tokenizer\.json"):
        load_tokenizer(str(tmp_path / "nowhere"))


def test_rows_belong_to_one_tokenizer(tmp_path):
    tokenizer = byte_tokenizer(tmp_path / "tokenizer")
    for name, of in (("a", tokenizer_hash(tokenizer)), ("b", "f" * 64)):
        write_rows(tmp_path / name, {}, tokenizer_hash=of)
    check_same_tokenizer(tmp_path / "a", tokenizer, tmp_path / "a", None)
    with pytest.raises(UserError, match=r"a was written with another tokenizer than .*b, which X uses \(hashes"):
        check_same_tokenizer(tmp_path / "a", tokenizer, tmp_path / "b", used=", which X uses")
    with pytest.raises(UserError, match=r"b was written with another tokenizer than .*tokenizer "):
        check_same_tokenizer(tmp_path / "b", tokenizer)
    check_same_tokenizer(tokenizer, tmp_path / "a")
    with pytest.raises(UserError, match=r"tokenizer is another tokenizer than .*b \(hashes"):
        check_same_tokenizer(tokenizer, tmp_path / "b")
