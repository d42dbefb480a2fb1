import json
import random
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep import clean
from data_prep.clean import clean_text
from data_prep.jobs import documents
from mucpt_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("ＡＢＣ１２３　ｶﾗｵｹ ﬁn", "ABC123 カラオケ fin"),
        ("他说：“好听，真的！”（笑）；是吗？《晴天》、……——", "他说：“好听，真的！”（笑）；是吗？《晴天》、……——"),
        ("e\u200b\u0301", "é"),  # the accent meets its letter once the zero-width space is gone
        ("a\u00adb\ufeffc\x00d\u202ee", "abcde"),
        ("  two \t\u00a0 blanks  ", "two blanks"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("one\n \n\n\t\ntwo\n", "one\n\ntwo"),
        ("C♯ – 120 bpm", "C♯ – 120 bpm"),
        ("10² m, 3½ ①，Word™ 100㎡ ´n´ ㅋㅋ น้ำ", "10² m, 3½ ①，Word™ 100㎡ ´n´ ㅋㅋ น้ำ"),  # NFKC: 102, 31⁄2, 1
        ("10～20，℃ № ％ ㈱ 𝐀", "10～20，°C No % (株) A"),
        ("می\u200cخواهم a\u200cb 👩\u200d🎤", "می\u200cخواهم ab 👩\u200d🎤"),
        ("\ufe8d\ufedf\ufeb4\ufefc\ufee1", "السلام"),
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
        "扫码关注",
        "点个在看吧",
        "长按识别二维码关注我们",
        "點擊閱讀原文",
        "👇点击下方名片关注公众号👇",
        "Share on Facebook",
        "Subscribe to our newsletter",
        "Click to share on X (Opens in new window)",
        "© 2020 Example Inc. All rights reserved.",
        "版权所有 侵权必究",
        "京ICP备12345678号-1",
        "责任编辑：张三",
        "本文转载自某某公众号",
        "本文由 [LCTT](https://example.org) 原创编译，[Linux中国](https://example.org) 荣誉推出",
        "[1]: https://example.org/a",
        "[12]",
        "All rights reserved. Used by permission",
        "All rights reserved by Example Inc.",
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
        "扫码关注公众号8a2b3c，回复12345领取贴纸！",
        "他在演唱会上展示了一个二维码，请观众扫码关注乐队。",
        "Posted with the mobile app, post number 12345678. All rights reserved.",
        "Copyright law changed in 1998, and the band lost the rights to its name.",
        "作词：方文山",
        "作曲：周杰伦 编曲：林迈可",
        "编辑部的故事",
        "### 搜索",
        "```",
        "}",
        "4/4",
        "[Am]",
        "[副歌]",
        "我在看",
        "Home, home, home",
        "All Rights Reserved is a 1987 album.",
        "All Rights Reserved (song)",
        '"""',
        "$$",
        "| --- | --- |",
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
        "م",
        "\u200c",
        "क",
        "\u200d",
        "BjÃ¶rk ",
        "ä¸­æ–‡",
        "ÖÐÎÄÒôÀÖ",
        "涓枃闊充箰",
        "Ã",
        "©",
        "²",
        "ㅋ",
        "扫码关注",
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
    assert clean_text("ä¸\xa0" * 100_000 + "é") != ""  # what UTF-8 read as Latin-1 looks like
    assert clean_text("\n".join(["扫码" * 50 + "b"] * 1000)).endswith("b")


def batch(*texts: str, lang: str = "", meta: str = "{}") -> pa.RecordBatch:
    rows = [{"id": str(n), "text": text, "source": "s", "lang": lang, "meta": meta} for n, text in enumerate(texts)]
    return pa.RecordBatch.from_pylist(rows, documents.SCHEMA).replace_schema_metadata({"part": "00000"})


def cleaned_rows(folder: Path, *texts: str, lang: str = "", meta: str = "{}", **options) -> list[dict]:
    return clean.clean_batch(batch(*texts, lang=lang, meta=meta), folder, clean.Options(**options)).to_pylist()


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("Sigur RÃ³s and BjÃ¶rk donâ€™t mind", "Sigur Rós and Björk don’t mind"),
        ("周杰伦是华语流行乐男歌手".encode("gb18030").decode("latin-1"), "周杰伦是华语流行乐男歌手"),
        ("周杰伦是华语流行乐男歌手".encode().decode("gb18030"), "周杰伦是华语流行乐男歌手"),
        ("Привет, мир".encode().decode("latin-1"), "Привет, мир"),
        ("公司的歌".encode().decode("latin-1"), "公司的歌"),  # with U+0085, which ends lines elsewhere
    ],
)
def test_text_read_in_a_wrong_encoding_comes_back(broken, whole):
    assert clean_text(broken) == whole


@pytest.mark.parametrize(
    "name",
    [
        "Ã", "Beyoncé", "Björk", "Sigur Rós", "naïve", "Þórður Þorvaldsson", "Tiếng Việt rất đẹp", "«Café»…",
        "MANHÃ”", "“Ã©”", "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏ", "ÏÐÈÂÅÒÌÈÐ", "涓涓细流，浠水县", "鐘錶和鋼琴",
    ],
)  # fmt: skip
def test_names_with_accents_and_rare_characters_stay(name):
    assert clean_text(name) == name


def test_documents_that_are_mostly_lost_go(tmp_path):
    texts = ["锟斤拷锟斤拷" * 5 + "好的音乐", "The band ���� played � well", "A line of many words " * 9 + "\ufffd"]
    assert [row["id"] for row in cleaned_rows(tmp_path, *texts)] == ["2"]


def test_lang_is_what_was_found_and_the_given_one_stays_in_meta(tmp_path):
    text = "这首歌曲发行于2003年，收录在专辑《叶惠美》里。"
    (row,) = cleaned_rows(tmp_path, text, lang="zh", meta='{"year": 2003}')
    assert row["lang"] == "zh-Hans" and json.loads(row["meta"]) == {"year": 2003, "lang_given": "zh"}
    (again,) = cleaned_rows(tmp_path, row["text"], lang=row["lang"], meta=row["meta"])
    assert again["meta"] == row["meta"]


def test_other_languages_go_and_their_paragraphs_in_mixed_documents(tmp_path):
    english = "The album was released in 2003, and it was the best of the year."
    chinese = "这张专辑发行于2003年，是这一年里最受欢迎的一张唱片，销量超过一百万张。"
    french = "La chanson est sortie en 1998 et elle a connu un grand succès dans toute l'Europe."
    texts = [english, french, f"{chinese}\n{english}"]
    rows = cleaned_rows(tmp_path, *texts, languages=("zh-Hans",))
    assert [(row["text"], row["meta"]) for row in rows] == [(chinese, "{}")]
    (mixed,) = cleaned_rows(tmp_path, texts[2])
    assert set(json.loads(mixed["meta"])["lang_shares"]) == {"zh-Hans", "en"} and mixed["text"] == texts[2]


def test_shares_of_a_text_that_is_mixed_no_more_go_from_meta(tmp_path):
    english = "The album was released in 2003, and it was the best of the year."
    chinese = "这张专辑发行于2003年，是这一年里最受欢迎的一张唱片，销量超过一百万张。"
    (mixed,) = cleaned_rows(tmp_path, f"{chinese}\n{english}", meta='{"year": 2003}')
    (again,) = cleaned_rows(tmp_path, mixed["text"], meta=mixed["meta"], lang="zh-Hans", languages=("zh-Hans",))
    assert again["text"] == chinese and json.loads(again["meta"]) == {"year": 2003}


def test_a_foreign_title_in_a_document_of_one_language_stays(tmp_path):
    text = "The singer recorded the song in Paris with the band.\n" * 9 + "Non, je ne regrette rien de tout cela"
    assert cleaned_rows(tmp_path, text, languages=("en",))[0]["text"] == text


def test_traditional_becomes_simplified_where_asked(tmp_path):
    text = "這首歌曲發行於2003年，收錄在專輯《葉惠美》裡。\nThe song is by 周杰倫 and it was the hit of that year."
    (row,) = cleaned_rows(tmp_path, text, simplify=True)
    assert row["lang"] == "zh-Hans"
    assert row["text"] == "这首歌曲发行于2003年，收录在专辑《叶惠美》里。\n" + text.split("\n")[1]
    assert cleaned_rows(tmp_path, text)[0]["lang"] == "zh-Hant"


def test_empty_and_short_documents_have_their_reasons(tmp_path: Path):
    texts = ["", "\u200b \\n---", "x" * 19, "x" * 20]
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    counts = clean.run([f"--input={tmp_path / 'a.jsonl'}", f"--output={tmp_path / 'out'}"])
    assert counts == {"read": 4, "kept": 1, "dropped": {"empty": 2, "too_short": 1}, "lines": {"symbols": 1}}


def test_what_was_changed_is_counted(tmp_path: Path):
    texts = ["BjÃ¶rk is a singer from Iceland.\n扫码关注\n© 2020 Example", "這首歌曲發行於2003年，收錄在專輯裡。"]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(lines)
    counts = clean.run(
        [f"--input={tmp_path / 'a.jsonl'}", f"--output={tmp_path / 'out'}", "--min_chars=0", "--simplify"]
    )
    assert counts["lines"] == {"notice": 1, "share": 1}
    assert counts["changed"] == {"mojibake": 1, "simplified": 1}


def test_an_unknown_language_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="names fr; name some of en, zh-Hans"):
        clean.run([f"--input={tmp_path}", f"--output={tmp_path / 'out'}", "--languages=en,fr"])


def test_a_negative_threshold_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="min_chars=-1"):
        clean.run([f"--input={tmp_path}", f"--output={tmp_path / 'out'}", "--min_chars=-1"])
