import random
from pathlib import Path

import pytest

from data_prep import clean
from data_prep.clean import clean_text
from mucpt_jax.records import UserError


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("ＡＢＣ１２３　ｶﾗｵｹ ﬁn", "ABC123 カラオケ fin"),
        (
            "他说：“好听，真的！”（笑）；是吗？《晴天》、……——",
            "他说：“好听，真的！”（笑）；是吗？《晴天》、……——",
        ),
        ("e\u200b\u0301", "é"),  # the accent meets its letter once the zero-width space is gone
        ("a\u00adb\ufeffc\x00d\u202ee", "abcde"),
        ("  two \t\u00a0 blanks  ", "two blanks"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("one\n \n\n\t\ntwo\n", "one\n\ntwo"),
        ("C♯ – 120 bpm", "C♯ – 120 bpm"),
    ],
)
def test_characters_and_blanks(text, cleaned):
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(
    "line",
    [
        "https://example.org/a?b=c",
        "www.example.org  http://example.org",
        "=======",
        "* * *",
        "_____",
        "！！！～～～",
        "Accept all cookies",
        "Home | Log in | Sign up",
        "首页 > 登录 > 注册",
        "分享到：",
        "关注我们",
    ],
)
def test_boilerplate_lines_go(line):
    assert clean_text(f"before\n{line}\nafter") == "before\nafter"


@pytest.mark.parametrize(
    "line",
    [
        "扫描二维码关注公众号,获取更多歌词。",  # noise in form of a sentence is left to the loss
        "Share this song with your friends and follow us.",
        "see https://example.org for the score",
        "首页上有一首歌",
        "```",
        "}",
        "4/4",
    ],
)
def test_sentences_and_code_stay(line):
    assert clean_text(f"before\n{line}\nafter") == f"before\n{line}\nafter"


PIECES = [
    *[
        "晴天",
        "love ",
        "ｌｏｖｅ",
        "\u0301",
        "\u200b",
        "\u3000",
        "\u00a0",
        " ",
        "，",
        ",",
        "。",
        "……",
        "…",
        "——",
        "（",
        ")",
    ],
    *[
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\u2028",
        "\x85",
        "\x0c",
        "\t",
        "\x07",
        "首页",
        "登录",
        "|",
        "https://e.org/x",
        "---",
    ],
    *[
        "¨",
        "ﷺ",
        "㈱",
        "ｶﾞ",
        "가",
        "é",
        "\ufeff",
        "🎵",
        "👩\u200d🎤",
        "①",
        "½",
        "_",
        "{",
        "cookie policy",
    ],
]


def random_texts(number: int) -> list[str]:
    chance = random.Random(0)
    return ["".join(chance.choices(PIECES, k=chance.randint(1, 30))) for _ in range(number)]


def test_cleaning_twice_is_cleaning_once():
    for text in random_texts(3000):
        assert clean_text(clean_text(text)) == clean_text(text), repr(text)


def test_a_line_reads_the_same_alone_and_within_its_document():
    survivors = 0
    for text in random_texts(3000):
        cleaned = clean_text(text)
        for line in text.splitlines():
            assert clean_text(line) in cleaned.split("\n") or not clean_text(line), repr((line, text))
            survivors += bool(clean_text(line))
    assert survivors > 3000  # the check above had something to check


def test_long_texts_take_linear_time():
    assert len(clean_text("a，b" * 300_000)) == 900_000
    assert clean_text("-" * 300_000 + "a").endswith("a")
    assert clean_text("_" * 300_000 + "[") != ""
    assert clean_text("http://a" * 100_000 + " b").endswith(" b")
    assert clean_text("| " * 100_000 + "b").endswith("b")


def test_empty_and_short_documents_have_their_reasons(tmp_path: Path):
    texts = ["", "\u200b \\n---", "x" * 19, "x" * 20]
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    counts = clean.run([f"--input={tmp_path / 'a.jsonl'}", f"--output={tmp_path / 'out'}"])
    assert counts == {"read": 4, "kept": 1, "dropped": {"empty": 2, "too_short": 1}}


def test_a_negative_threshold_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="min_chars=-1"):
        clean.run([f"--input={tmp_path}", f"--output={tmp_path / 'out'}", "--min_chars=-1"])
