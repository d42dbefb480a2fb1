"""The curation report: its numbers against sums made by hand, and its page, whatever the corpus holds."""

import html
import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import browse, measured, needs_browser, stands_out
from tokenizers import Tokenizer, models, pre_tokenizers

from data_prep import pipeline, report
from data_prep.reporting import charts
from mucpt_jax.errors import UserError

ATTACK = (
    "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
    "'\"><!-- @PAYLOAD@ \u202egnihton\u202c \x00 " + "word" * 40
)


def rows(*given: tuple) -> list[dict]:
    """(source, lang, documents, characters[, tokens]) -> rows of a composition; two bytes a character."""
    names = ("source", "lang", "documents", "characters", "tokens")
    return [dict(zip(names, row, strict=False)) | {"bytes": 2 * row[3]} for row in given]


def write_stage(folder: Path, read: int, kept: int, dropped: dict, compositions=None, samples=(), **counters) -> dict:
    folder.mkdir(parents=True)
    counts = {"read": read, "kept": kept, "dropped": dropped, **counters}
    (folder / "counts.json").write_text(json.dumps(counts))
    if compositions:
        sides = dict(zip(("read", "kept"), compositions, strict=True))
        (folder / "composition.json").write_text(json.dumps(sides))
    lines = "".join(json.dumps(sample) + "\n" for sample in samples)
    (folder / "samples.jsonl").write_text(lines)
    return counts


def write_parts(folder: Path, *parts: dict) -> None:
    for number, columns in enumerate(parts):
        pq.write_table(pa.table(columns), folder / f"part-{number:05d}-000.parquet")


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """10,012 documents read, of which 12 are no documents; 8,000 are kept by quality, 7,000 in rows."""
    out = tmp_path_factory.mktemp("run") / "out"
    raw = rows(("music", "", 6_000, 600_000), ("news", "", 4_000, 200_000))
    clean = rows(("music", "en", 5_000, 500_000), ("music", "zh-Hans", 900, 90_000), ("news", "en", 4_000, 200_000))
    good = rows(("music", "en", 4_500, 460_000), ("music", "zh-Hans", 500, 60_000), ("news", "en", 3_000, 150_000))
    packed = rows(("music", "en", 4_000, 400_000, 100_000), ("music", "zh-Hans", 500, 60_000, 40_000),
                  ("news", "en", 2_500, 100_000, 20_000))  # fmt: skip
    attack = {"reason": "too_short", "id": ATTACK, "source": "music", "lang": "", "text": ATTACK}
    stages = {
        "clean": write_stage(
            out / "clean", 10_012, 9_900, {"not_json": 12, "too_short": 100}, (raw, clean), [attack],
            changed={"mojibake": 30},
        ),
        "quality": write_stage(
            out / "quality", 9_900, 8_000, {"min_words": 1_900}, (clean, good), lines={"repeated": 77}
        ),
        "dedup": write_stage(out / "dedup", 8_000, 7_001, {"near_duplicate": 999}),
        "mask": write_stage(out / "mask", 7_001, 7_001, {}, masked={"documents": 5, "phone": 6, "email": 3}),
        "rows": write_stage(out / "rows", 7_001, 7_000, {"no_tokens": 1}, (good, packed)),
    }  # fmt: skip
    write_parts(out / "quality", {"quality": [0.0, 0.049, 0.051, 1.0, None]}, {"quality": [0.5, 1.5, float("nan")]})
    write_parts(out / "dedup", {"copies": [1, 1, 2, 3, 4]}, {"copies": [7, 8, 1, 1000]}, {"id": ["no copies here"]})
    line = {"source": "news", "text": ATTACK, "documents": 4321}
    (out / "boilerplate").mkdir()
    (out / "boilerplate/lines.jsonl").write_text(f"{json.dumps(line)}\nnot json\n")
    (out / "config.json").write_text(json.dumps({"input": "raw/", "quality": {"min_words": 50, "odd": ATTACK}}))
    dropped = {reason: n for counts in stages.values() for reason, n in counts["dropped"].items()}
    counts = {"read": 10_012, "kept": 7_000, "dropped": dropped, "stages": stages, "seconds": {"clean": 4.0}}
    counts["left_out"] = {"decontaminate": "needs --config.decontaminate.questions"}
    (out / "counts.json").write_text(json.dumps(counts))
    report.write(out)
    return out


@pytest.fixture(scope="module")
def found(out) -> dict:
    return json.loads((out / "report.json").read_text())


def test_documents_add_up_from_stage_to_stage(found):
    assert (found["read"], found["kept"], found["adds_up"]) == (10_012, 7_000, True)
    assert found["dropped"] == {
        "not_json": 12, "too_short": 100, "min_words": 1_900, "near_duplicate": 999, "no_tokens": 1,
    }  # fmt: skip
    names = [(point["stage"], point["documents"]) for point in found["funnel"]]
    assert names == [("input", 10_012), ("clean", 9_900), ("quality", 8_000), ("dedup", 7_001), ("mask", 7_001),
                     ("rows", 7_000)]  # fmt: skip
    assert found["stages"][0] == {
        "stage": "clean", "does": "Unicode, language and script", "read": 10_012, "kept": 9_900,
        "dropped": {"not_json": 12, "too_short": 100},
        "masked": {}, "lines": {}, "changed": {"mojibake": 30}, "seconds": 4.0,
    }  # fmt: skip


def test_characters_and_bytes_are_summed_by_source_and_language(found):
    points = {point["stage"]: point for point in found["funnel"]}
    assert [points[s]["characters"] for s in ("input", "clean", "quality", "rows")] == [
        800_000,
        790_000,
        670_000,
        560_000,
    ]
    assert points["input"]["bytes"] == 1_600_000 and points["dedup"]["characters"] is None
    assert points["clean"]["by_language"]["en"]["documents"] == 9_000
    assert points["rows"]["by_source"]["music"]["characters"] == 460_000


def test_tokens_are_exact_in_rows_and_estimated_before_by_one_ratio_of_each_source(found):
    points = {point["stage"]: point for point in found["funnel"]}
    assert found["tokens"] == "rows" and points["rows"]["exact"] and not points["quality"]["exact"]
    assert points["rows"]["tokens"] == 160_000
    # music has 140,000 tokens of 460,000 characters, news 1/5; English 120,000 of 500,000, Chinese 2/3.
    assert points["input"]["tokens"] == round(600_000 * 14 / 46) + 200_000 // 5
    assert points["quality"]["tokens"] == round(460_000 * 14 / 46) + round(60_000 * 14 / 46) + 150_000 // 5
    assert points["quality"]["by_language"]["en"]["tokens"] == round(460_000 * 0.24) + round(150_000 * 0.24)
    assert points["rows"]["by_language"]["en"]["tokens"] == 120_000
    assert [(r["source"], r["lang"], r["tokens"]) for r in found["composition"]] == [
        ("music", "en", 100_000), ("music", "zh-Hans", 40_000), ("news", "en", 20_000),
    ]  # fmt: skip


def test_tokens_never_rise_where_documents_go(found):
    known = [point for point in found["funnel"] if point["tokens"]]
    for before, after in itertools.pairwise(known):
        assert after["tokens"] <= before["tokens"]
        for name, group in after["by_source"].items():
            assert group["tokens"] <= before["by_source"][name]["tokens"]


def test_stages_that_did_not_run_are_shown_with_the_reason(out, found):
    assert [(s["stage"], s["why"]) for s in found["left_out"]] == [
        ("boilerplate", "no output here"), ("decontaminate", "needs --config.decontaminate.questions"),
    ]  # fmt: skip
    page = (out / "report.html").read_text(encoding="utf-8")
    assert re.search(
        "decontaminate<small>evaluation questions; did not run: <bdi>needs --config.decontaminate.questions", page
    )


def test_duplicate_groups_are_counted_by_size(found):
    groups = {
        group["size"]: (group["groups"], group["documents"]) for group in found["copies"]["groups"] if group["groups"]
    }
    assert groups == {"1": (3, 3), "2": (1, 2), "3": (1, 3), "4-7": (2, 11), "8-15": (1, 8), "512-1023": (1, 1000)}
    assert found["copies"]["largest"] == 1000


def test_scores_fall_into_bins_and_those_outside_are_told(found):
    counts = found["quality"]["counts"]
    assert (counts[0], counts[1], counts[10], counts[-1], sum(counts)) == (2, 1, 1, 1, 5)
    assert found["quality"]["outside"] == 1 and found["quality"]["mean"] == pytest.approx(0.32)


def test_two_reports_of_one_run_are_the_same(out, found):
    before = (out / "report.html").read_bytes()
    report.write(out)
    assert (out / "report.html").read_bytes() == before
    assert json.loads((out / "report.json").read_text()) == found


# What is missing or wrong


def test_without_rows_a_tokenizer_estimates_from_a_sample(tmp_path):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["<|endoftext|>"])
    (tmp_path / "tokenizer").mkdir()
    made.save(str(tmp_path / "tokenizer/tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer/tokenizer_config.json").write_text(json.dumps(config))
    kept = rows(("a", "en", 2, 1_000), ("b", "zh-Hans", 1, 1_000))
    write_stage(tmp_path / "out/clean", 3, 3, {}, (kept, kept))
    write_parts(tmp_path / "out/clean", {"text": ["x" * 9, "歌" * 9], "source": ["a", "b"], "lang": ["en", "zh-Hans"]})
    report.write(tmp_path / "out")
    assert json.loads((tmp_path / "out/report.json").read_text())["tokens"] is None
    assert "not measured" in (tmp_path / "out/report.html").read_text()
    report.main([str(tmp_path / "out"), f"--tokenizer={tmp_path / 'tokenizer'}"])
    found = json.loads((tmp_path / "out/report.json").read_text())
    # A token a byte and one for the end: 10 tokens of 9 letters, 28 of 9 Chinese characters.
    assert found["tokens"] == "sample" and found["funnel"][1]["tokens"] == round(10_000 / 9) + round(28_000 / 9)
    assert not found["funnel"][1]["exact"]


def test_a_folder_without_stages_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no stage's output"):
        report.write(tmp_path)
    with pytest.raises(SystemExit, match="holds no stage's output"):
        report.main([str(tmp_path / "nowhere")])


FOLDERS = [stage.output for stage in pipeline.STAGES]


@pytest.mark.parametrize("stage", FOLDERS)
def test_any_stage_alone_makes_a_page(tmp_path, stage):
    write_stage(tmp_path / stage, 0, 0, {})
    (tmp_path / stage / "samples.jsonl").unlink()
    report.write(tmp_path)
    assert "0 read = 0 kept + 0 dropped" in (tmp_path / "report.html").read_text()


def test_folders_of_an_earlier_run_are_not_of_this_one(tmp_path):
    counts = write_stage(tmp_path / "clean", 5, 4, {"empty": 1})
    write_stage(tmp_path / "dedup", 9, 9, {})
    write_parts(tmp_path / "dedup", {"copies": [1]})
    (tmp_path / "counts.json").write_text(json.dumps({"stages": {"clean": counts}}))
    found = report.facts(tmp_path)
    assert [stage["stage"] for stage in found["stages"]] == ["clean"] and found["copies"] is None


def test_stages_that_do_not_follow_each_other_are_told(tmp_path):
    write_stage(tmp_path / "clean", 5, 4, {"empty": 1})
    write_stage(tmp_path / "mask", 9, 9, {})
    report.write(tmp_path)
    assert not report.facts(tmp_path)["adds_up"]
    assert "did not all run one after the other" in (tmp_path / "report.html").read_text()


def test_damaged_files_are_named(tmp_path):
    write_stage(tmp_path / "dedup", 1, 1, {})
    (tmp_path / "dedup/part-00000-000.parquet").write_text("no table")
    with pytest.raises(UserError, match=r"part-00000-000\.parquet is damaged"):
        report.write(tmp_path)
    (tmp_path / "dedup/counts.json").write_text("[]")
    with pytest.raises(
        UserError, match=r"counts\.json is damaged or of another kind \(Expected `object`, got `array`\)"
    ):
        report.write(tmp_path)


def test_numbers_of_many_sources_and_languages_are_those_of_all_and_the_page_stays_small(tmp_path):
    many = rows(*((f"source-{i}", f"l{i % 50}", 1 + i, 1_000 * (i + 1)) for i in range(1_000)))
    samples = [
        {"reason": f"rule_{i % 60}", "id": str(i), "source": "<" * 90, "lang": "en", "text": "\U0001f600\u202e<" * 100}
        for i in range(600)
    ]
    for stage in FOLDERS:
        dropped = {f"rule_{i}": 1 for i in range(60)}
        write_stage(tmp_path / stage, 500_560, 500_500, dropped, (many, many), samples)
    report.write(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 2e6
    assert (tmp_path / "report.json").stat().st_size < 2e6
    found = report.facts(tmp_path)
    for by in ("by_source", "by_language"):
        assert sum(group["documents"] for group in found["funnel"][3][by].values()) == 500_500
    assert len(found["funnel"][3]["by_source"]) == 201 and "(other)" in found["funnel"][3]["by_source"]
    assert sum(row["characters"] for row in found["composition"]) == 500_500_000


# Text of others


def test_what_cannot_be_seen_is_named_and_what_could_run_is_text():
    shown = charts.visible("<b>&'\"\x00\u202e\ud83d\n歌", 100)
    assert shown == ("<bdi>&lt;b&gt;&amp;&#x27;&quot;<i class=hidden>U+0000</i><i class=hidden>U+202E</i>?\n歌</bdi>")
    assert charts.visible("abc", 2) == "<bdi>ab…</bdi>" and charts.visible("", 9) == ""


class Tags(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_asks_for_nothing_and_holds_no_tag_of_the_corpus(out):
    tags = Tags((out / "report.html").read_text(encoding="utf-8")).found
    names = [tag for tag, _ in tags]
    assert names.count("script") == 2 and not {"img", "link", "iframe", "a"} & set(names)
    assert not any(key in ("src", "href", "action") or key.startswith("on") for _, attrs in tags for key in attrs)
    policy = next(attrs["content"] for tag, attrs in tags if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")


@pytest.mark.parametrize(
    "rows_", [[("a", "en", 1, 10)], [("a", "en", 1, 0)], [(f"s{i}", "en", 1, 9) for i in range(300)]]
)
def test_a_chart_of_one_source_of_none_and_of_many(rows_):
    given = [{**row, "tokens": None} for row in rows(*rows_)]
    groups = charts.groups(given, "characters", {})
    assert sum(part["size"] for part in groups[0]["parts"]) == groups[0]["size"] == sum(row[3] for row in rows_)
    drawn = charts.sunburst(groups, "characters")
    assert drawn.count("<path") <= 2 + charts.SOURCES_SHOWN and "nan" not in drawn


def test_every_language_has_a_colour_of_its_own_or_is_grey():
    langs = ("en", "zh-Hans", "zh-Hant", "other", "de", "fr", "ja", "ko", "ru")
    given = rows(*((lang, lang, 1, 100 - size) for size, lang in enumerate(langs)))
    colors = [group["color"] for group in charts.groups(given, "characters", {})]
    assert colors[3] == colors[-1] == 6 and len(colors) == charts.LANGS_SHOWN + 1
    assert len(set(colors)) == len(colors) - 1


# In a browser


def funnel_cells(shown: str) -> list[list[str]]:
    body = re.search(r'<table class="funnel">.*?<tbody>(.*?)</tbody>', shown, re.DOTALL).group(1)
    return [
        [html.unescape(re.sub("<.*?>", "", cell)).strip() for cell in re.findall("<td.*?</td>", row, re.DOTALL)]
        for row in re.findall("<tr>.*?</tr>", body, re.DOTALL)
    ]


@needs_browser
def test_the_page_shows_the_numbers_and_runs_nothing_of_the_corpus(out, tmp_path):
    # Without the page's policy: escaping alone must do.
    free = tmp_path / "free.html"
    page = (out / "report.html").read_text(encoding="utf-8")
    free.write_text(re.sub("<meta http-equiv[^>]*>", "", page), encoding="utf-8")
    shown, console = browse(free)
    assert not console and "<title>Curation report</title>" in shown and "<img" not in shown
    assert "10,012 read = 7,000 kept + 3,012 dropped" in html.unescape(shown)
    assert funnel_cells(shown)[0] == ["10,012", "800,000", "222,609", ""]
    assert funnel_cells(shown)[5] == ["7,000", "560,000", "160,000", "1 <0.1%"]
    sample = html.unescape(re.sub("<[^>]*>", "", re.search('class="text" dir="auto">(.*?)</div>', shown).group(1)))
    assert sample.startswith("</script><script>document.title='hacked'</script><img src=x onerror=")
    assert "U+202EgnihtonU+202C U+0000" in sample


@needs_browser
def test_the_page_and_its_policy_get_on_and_a_source_or_language_can_be_chosen(out):
    shown, console = browse(out / "report.html", "#show=source%3Anews")
    assert not console
    assert [row[0] for row in funnel_cells(shown)] == ["4,000", "4,000", "3,000", "–", "–", "2,500"]
    assert funnel_cells(shown)[2] == ["3,000", "150,000", "30,000", "1,000 25.0%"]
    shown, console = browse(out / "report.html", "#show=language%3Azh-Hans")
    assert not console and [row[0] for row in funnel_cells(shown)][:3] == ["–", "900", "500"]
    assert "Languages are told by clean" in shown
    shown, console = browse(out / "report.html", "#show=%E0%nonsense")
    assert not console and funnel_cells(shown)[0][0] == "10,012"


@needs_browser
def test_a_script_that_got_into_the_page_would_be_refused(out, tmp_path):
    forged = (out / "report.html").read_text(encoding="utf-8")
    forged = forged.replace("</body>", "<script>document.title='hacked'</script></body>")
    (tmp_path / "forged.html").write_text(forged, encoding="utf-8")
    assert "<title>Curation report</title>" in browse(tmp_path / "forged.html")[0]


@needs_browser
@pytest.mark.parametrize("width", [375, 1200])
def test_nothing_stands_out_of_the_page(out, tmp_path, width):
    assert stands_out(out / "report.html", tmp_path, width) == []


@needs_browser
@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ({"en": 133_150, "zh-Hans": 104_553}, ["en", "zh-Hans", "237,703", "characters"]),
        ({"zh-Hant": 999_999}, ["zh-Hant", "999,999", "characters"]),
        ({"en": 95 * 10**10, "zh-Hans": 5 * 10**10, "zh-Hant": 10**10}, ["en", "1.01", "trillion", "characters"]),
        ({"en": 6, "a-language": 3}, ["en", "a-langua…", "9", "characters"]),
    ],
)
def test_letters_of_the_chart_stay_in_the_hole_and_in_their_arcs(out, tmp_path, sizes, shown):
    given = rows(*((lang, lang, 1, size) for lang, size in sizes.items()))
    drawn = charts.sunburst(charts.groups(given, "characters", {}), "characters")
    style = re.search("<style>.*?</style>", (out / "report.html").read_text(encoding="utf-8"), re.DOTALL)[0]
    (tmp_path / "chart.html").write_text(f"{style}<figure>{drawn}</figure>", encoding="utf-8")
    script = """return [...document.querySelectorAll("svg text")].map((text) => {
      const { x, y, width, height } = text.getBBox(), high = 0.25 * height; // the box has room above and below letters
      return [text.textContent, ...[x, x + width].flatMap((a) => [y + high, y + height - high].map((b) => [a, b]))];
    })"""
    boxes = measured(tmp_path / "chart.html", tmp_path, script)
    assert [text for text, *_ in boxes] == shown
    for text, *corners in boxes:
        distances = [math.hypot(*corner) for corner in corners]
        if text in [*sizes, "a-langua…"]:
            assert min(distances) > charts.INNER and max(distances) < charts.MIDDLE, text
        else:
            assert max(distances) < charts.INNER - 4, text
