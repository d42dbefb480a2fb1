import random
import re
import unicodedata

import numpy as np
import pytest

from data_prep.duplicates import signatures
from data_prep.duplicates.signatures import describe, digest, folded, similarity

WORDS_ZH = "周杰伦是华语流行乐坛的歌手与音乐人他在二零零零年发行首张专辑并由此成名歌词多由方文山执笔曲风融合节奏蓝调"


def counted(text: str) -> str:
    """The characters of the folded text that count."""
    codes, _ = folded([text])
    return "".join(chr(c) for c in codes if signatures.characters()[0][c])


def hashes(text: str) -> list[int]:
    codes, begins = folded([text])
    made, ends = signatures.shingles(codes, signatures.characters()[0][codes], begins)
    assert ends.tolist() == [0, len(made)]
    return made.tolist()


def edited(units: list[str], rate: float, rng: random.Random) -> list[str]:
    return [rng.choice(units) if rng.random() < rate else unit for unit in units]


def test_a_chinese_character_is_a_word_and_a_run_of_letters_is_one():
    assert len(hashes("周杰伦唱七里香")) == 7 - 4
    assert len(hashes("one two three four five six seven")) == 7 - 4
    assert len(hashes("周杰伦 sang 七里香, in 2004!")) == 9 - 4  # 周 杰 伦 sang 七 里 香 in 2004
    assert len(hashes("ภาษาไทยนั้น")) > 1  # Thai sets no blanks either
    assert len(hashes("한국어 노래 가사 는 다르다 그렇다")) == 6 - 4  # Korean does


def test_a_text_of_fewer_than_five_words_has_one_shingle_and_one_without_words_none():
    assert len(hashes("rain")) == len(hashes("not so short here")) == 1
    assert hashes("rain") != hashes("snow")
    assert hashes("...") == [] and not describe(["... !!!"])[2].any()


@pytest.mark.parametrize(
    "text",
    [
        "Straße ½ № ﬁn ™", "e\u0301te\u0301 É é", "ﾊﾞﾗ ｶﾞ ガ", "ＨＥＬＬＯ　ＷＯＲＬＤ…", "한국 각 \u1100\u1161\u11a8",
        "İstanbul ǅ", "㎡ ㍿ ﷺ", "𠮷 你 丽",
    ],
)  # fmt: skip
def test_the_tables_fold_as_nfkc_and_casefold_do(text):
    plain = unicodedata.normalize("NFKC", text).casefold()
    assert counted(text) == "".join(c for c in plain if signatures.characters()[0][ord(c)])


def test_a_text_is_described_alike_alone_and_among_others():
    texts = ["", "...", "rain", "ß and é", WORDS_ZH, "A song by nobody in particular, of 1999.", WORDS_ZH[5:]]
    together = describe(texts)
    for number, text in enumerate(texts):
        for all_of, alone in zip(together, describe([text]), strict=True):
            assert (all_of[number] == alone[0]).all()


def test_shingles_of_one_text_do_not_reach_into_the_next():
    codes, begins = folded(["one two three four five", "six seven eight nine ten"])
    made, ends = signatures.shingles(codes, signatures.characters()[0][codes], begins)
    assert ends.tolist() == [0, 1, 2]
    assert made.tolist() == hashes("one two three four five") + hashes("six seven eight nine ten")


def test_the_order_of_words_and_the_place_of_a_shingle():
    assert hashes("a b c d e") != hashes("e d c b a")
    assert hashes("x y a b c d e")[2:] == hashes("a b c d e")  # wherever it stands


def test_equal_shingles_are_those_of_plain_python():
    rng = random.Random(1)
    one = [rng.choice(WORDS_ZH) for _ in range(300)]
    other = edited(one, 0.05, rng)
    grams = [{tuple(u[n : n + 5]) for n in range(len(u) - 4)} for u in (one, other)]
    ours = [set(hashes("".join(u))) for u in (one, other)]
    assert [len(s) for s in ours] == [len(s) for s in grams]
    assert len(ours[0] & ours[1]) == len(grams[0] & grams[1])


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.03, 0.1])
def test_similarity_estimates_jaccard(rate):
    rng = random.Random(2)
    true, texts = [], []
    for _ in range(60):
        one = [f"w{rng.randrange(5000)}" for _ in range(300)]
        other = edited(one, rate, rng)
        grams = [{tuple(u[n : n + 5]) for n in range(len(u) - 4)} for u in (one, other)]
        true.append(len(grams[0] & grams[1]) / len(grams[0] | grams[1]))
        texts += [" ".join(one), " ".join(other)]
    found = describe(texts)[2]
    error = similarity(found[::2], found[1::2]) - np.array(true)
    assert abs(error.mean()) < 0.012  # 60 estimates of a standard deviation of at most .031
    assert np.abs(error).max() < 0.13 and (rate or not error.any())


def test_texts_with_nothing_in_common_agree_by_chance_alone():
    rng = random.Random(3)
    texts = [" ".join(f"w{rng.randrange(10**9)}" for _ in range(100)) for _ in range(100)]
    found = describe(texts)[2]
    assert similarity(found[::2], found[1::2]).mean() < 0.01


def test_a_text_longer_than_a_piece_is_near_itself_moved_by_a_line(monkeypatch):
    monkeypatch.setattr(signatures, "PIECE", 1000)
    rng = random.Random(4)
    text = " ".join(f"w{rng.randrange(10**6)}" for _ in range(3000))
    found = describe([text, f"A line before all. {text}"])[2]
    assert similarity(*found) > 0.9
    assert digest(text) == digest(text.upper())


def test_signatures_are_the_same_on_every_machine_and_day():
    """Stored signatures of an earlier run are compared with new ones: whoever changes them changes VERSION."""
    digests, lengths, found = describe(["周杰伦 sang 七里香 in 2004, a song of summer."])
    assert lengths.tolist() == [len(re.sub(r"\W", "", "周杰伦sang七里香in2004asongofsummer"))]
    assert (digests[0, :4].tobytes().hex(), found[0, :4].tobytes().hex()) == GOLDEN, signatures.VERSION


GOLDEN = ("72602d6c", "1b75cdf2")
