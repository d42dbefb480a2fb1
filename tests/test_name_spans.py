import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from data_prep.text import names
from mucpt_jax.errors import UserError


def test_a_word_goes_on_where_letters_meet_and_every_han_token_is_one():
    texts = ["The", " song", "writer", "'s", " 1", "9", "周", "杰伦", ".", "\N{REPLACEMENT CHARACTER}"]
    begins = np.array([names.in_word(t[0]) for t in texts])
    ends = np.array([names.in_word(t[-1]) for t in texts])
    inside = names.goes_on(np.arange(10), begins, ends)
    np.testing.assert_array_equal(inside, [0, 0, 1, 0, 0, 1, 0, 0, 0, 0])
    inside = names.goes_on(np.array([9, 9, 0]), begins, ends)  # the bytes of one character stay together
    np.testing.assert_array_equal(inside[:2], [0, 1])


def test_tokens_without_blanks_are_whole_words(tmp_path):
    made = Tokenizer(models.WordLevel({"song": 0, "of": 1, "a": 2, "<unk>": 3}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert not names.goes_on(np.array([0, 1, 2, 0]), *names.letters(str(tmp_path))).any()


def test_names_stand_from_left_to_right_and_the_longest_one_wins():
    tokens, no = np.array([5, 1, 2, 3, 4, 1, 2, 9]), np.zeros(8, bool)
    spans = names.spans(tokens, no, names.index([((1, 2, 3), 0), ((1, 2), 1)]))
    assert spans == [(1, 4, 0), (5, 7, 1)]


def test_a_name_is_whole_words():
    tokens, letters = (np.array([7, 1, 2, 7, 1, 2, 3]), np.arange(10) == 3)  # 3 goes on the word that 2 ends inside of
    found = names.spans(tokens, names.goes_on(tokens, letters, np.arange(10) == 2), names.index([((1, 2), 5)]))
    assert found == [(1, 3, 5)]  # "Jay Chou" is not in "Jay Chouette"


def test_names_are_known_with_and_without_a_blank_before_them(tmp_path):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # every letter a token
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (tmp_path / "names.txt").write_text("Jay\n\nAl\n")
    found = names.read(str(tmp_path), str(tmp_path / "names.txt"))
    tokenizer = names.load_tokenizer(str(tmp_path))
    runs = [np.frombuffer(run, np.int32).tolist() for run in found.number_of]
    spelled = {"".join(tokenizer.convert_ids_to_tokens(run)) for run in runs}
    assert spelled == {"Jay", "ĠJay", "Al", "ĠAl"}
    assert set(found.number_of.values()) == {0, 1}  # one a line, with the blank or without
    with pytest.raises(UserError, match=r"names in .*missing.txt cannot be read"):
        names.read(str(tmp_path), str(tmp_path / "missing.txt"))


def test_ids_beyond_the_tokenizer_are_no_letters_and_no_names():
    letters = np.array([False, True, True])
    tokens = np.array([1, 2, 700, 2, 1])
    inside = names.goes_on(tokens, letters, letters)
    np.testing.assert_array_equal(inside, [0, 1, 0, 0, 1])
    assert names.spans(tokens, inside, names.index([((1, 2), 0), ((2, 1), 1)])) == [(0, 2, 0), (3, 5, 1)]


def test_a_list_of_names_may_begin_with_a_byte_order_mark_and_hold_names_of_no_token(tmp_path):
    made = Tokenizer(models.WordLevel({"song": 0, "<unk>": 1}, unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = normalizers.Replace("!", ""), pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (tmp_path / "names.txt").write_text("song\n!\n", encoding="utf-8-sig")
    listed = names.read(str(tmp_path), str(tmp_path / "names.txt"))
    tokens = np.array([0, 1, 0])
    found = names.spans(tokens, np.zeros(3, bool), listed)
    assert [span[:2] for span in found] == [(0, 1), (2, 3)]
    (tmp_path / "marks.txt").write_text("!\n")
    with pytest.raises(UserError, match="holds no names"):
        names.read(str(tmp_path), str(tmp_path / "marks.txt"))


def test_a_name_that_the_row_cuts_is_not_taken_for_a_shorter_one():
    no = np.zeros(3, bool)
    known = names.index([((1, 2, 3), 0), ((1, 2), 1)])
    assert names.spans(np.array([9, 1, 2]), no, known) == [(1, 3, 1)]
    assert names.spans(np.array([9, 9, 1]), no, known) == []
