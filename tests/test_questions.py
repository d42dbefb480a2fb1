"""Pages that we wrote: no artist, work or label of these tests exists."""

import json
from collections import Counter

import pytest
from browser import needs_browser, stands_out
from llm_server import serving
from test_shard import byte_tokenizer

from data_prep import decontaminate, questions, shard
from data_prep.entities import filters, pages, sample, values, written
from data_prep.entities.english import artist_of
from data_prep.entities.fields import read_catalogue
from data_prep.entities.records import Fact
from mucpt_jax.errors import UserError
from mucpt_jax.formats.questions import read_questions


def page(name: str, text: str, id: str = "", lang: str = "en", **meta) -> dict:
    meta = json.dumps({"title": name, **meta}, ensure_ascii=False)
    return {"id": id or f"w:{name}", "text": text, "source": "wiki", "lang": lang, "meta": meta}


def settled(*documents: dict, rows=()) -> list[filters.Candidate]:
    """Candidates of the pages, and of records of a catalogue, name by name."""
    by_name: dict[str, list] = {}
    for record in [r for row in documents for r in pages.records(row, "characters")] + list(rows):
        by_name.setdefault(record.key, []).append(record)
    return [candidate for records in by_name.values() for candidate in filters.settle(records)]


def kept(*documents: dict, rows=()) -> dict[str, str]:
    """{relation: answer}"""
    return {c.fact.relation: c.answer for c in settled(*documents, rows=rows) if not c.reason}


def reasons(*documents: dict, rows=()) -> dict[str, str]:
    return {c.fact.relation: c.reason for c in settled(*documents, rows=rows) if c.reason}


SINGER = (
    "Mirela Vossen (born Mirela Adina Kranz; 4 March 1961 – July 9, 2012), known professionally as Tavi, was a "
    "Romanian jazz singer and pianist.\n\n== Life ==\nVossen was born in Cluj, Romania, to two teachers."
)
ALBUM = (
    "Lanterns Over Grey Harbour is the third studio album by Scottish rock band Pale Ferries, released on 7 May 1998 "
    "by Quayside Records. It was recorded in Leith."
)
SONG = (
    '"Paper Kite Sunday" is a song by American singer-songwriter Dora Quill. It was released in 2004 as the second '
    'single from her debut album "Attic Weather". The song was written by Ansel Brook and produced by Quill.'
)


# Facts


def test_a_biography_states_dates_place_and_birth_name():
    assert kept(page("Tavi", SINGER)) == {
        "born_on": "March 4, 1961", "died_on": "July 9, 2012", "birth_name": "Mirela Adina Kranz",
    }  # fmt: skip
    legal = SINGER.replace("Mirela Vossen (born Mirela Adina Kranz; ", "Mirela Adina Vossen (")
    assert kept(page("Tavi", legal))["full_name"] == "Mirela Adina Vossen"  # which need not be that of birth
    assert kept(page("Mirela Vossen", SINGER))["born_in"] == "Cluj, Romania"


def test_questions_name_what_tells_the_entity_apart():
    texts = {c.fact.relation: c.question for c in settled(page("Lanterns Over Grey Harbour", ALBUM)) if not c.reason}
    assert texts == {
        "released_on": "On what date was Pale Ferries' studio album “Lanterns Over Grey Harbour” released?",
        "performer": "Which artist or band released the 1998 studio album “Lanterns Over Grey Harbour”?",
        "nth": "What is the title of Pale Ferries' third studio album?",
        "label": "Which record label released Pale Ferries' studio album “Lanterns Over Grey Harbour”?",
    }
    person = {c.question for c in settled(page("Tavi", SINGER))}
    assert "On what date was the Romanian jazz singer and pianist Tavi born?" in person


def test_an_album_and_a_song_state_artist_place_album_writer_and_year():
    assert kept(page("Lanterns Over Grey Harbour", ALBUM)) == {
        "released_on": "May 7, 1998", "performer": "Pale Ferries", "label": "Quayside Records",
        "nth": "Lanterns Over Grey Harbour",
    }  # fmt: skip
    assert kept(page("Paper Kite Sunday", SONG)) == {
        "album_of": "Attic Weather", "writer": "Ansel Brook", "released_in": "2004",
    }  # fmt: skip


def test_a_band_states_its_year_and_town():
    text = "Pale Ferries are a Scottish rock band formed in Leith, Edinburgh, in 1991 by two cousins."
    assert kept(page("Pale Ferries", text)) == {"formed_in": "1991", "formed_at": "Leith, Edinburgh"}


def test_traditional_pages_give_simplified_questions_and_keep_their_quotes():
    text = "《燈塔與海》（英語：Lighthouse）是臺灣女歌手林若澄的第三張錄音室專輯，2009年5月8日由海岸唱片發行。"
    by_relation = {c.fact.relation: c for c in settled(page("燈塔與海", text, lang="zh")) if not c.reason}
    assert {relation: (c.question, c.answer) for relation, c in by_relation.items()} == {
        "nth": ("林若澄的第三张录音室专辑叫什么名字？", "灯塔与海"),
        "place_in_order": ("《灯塔与海》是林若澄的第几张录音室专辑？", "3"),
        "released_on": ("林若澄的专辑《灯塔与海》是在哪一天发行的？", "2009年5月8日"),
        "label": ("林若澄的专辑《灯塔与海》由哪家唱片公司发行？", "海岸唱片"),
    }
    assert by_relation["label"].fact.quote == text
    assert "燈塔與海" in by_relation["nth"].aliases and "Lighthouse" in by_relation["nth"].aliases


def test_a_chinese_song_and_singer():
    song = "《風的信》是香港男歌手周予安的歌曲，收錄於專輯《回聲集》，由陳望作曲、李岸填詞。"
    assert kept(page("風的信 (歌曲)", song, lang="zh")) == {
        "album_of": "回声集",
        "composer": "陈望",
        "lyricist": "李岸",
    }
    singer = "周予安（1980年2月3日－），本名周大文，香港男歌手，出生於廣東省佛山市。"
    assert kept(page("周予安", singer, lang="zh")) == {"born_on": "1980年2月3日", "born_in": "广东省佛山市"}


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("Swiss singer DJ Bolo, released in 2001", "DJ Bolo"), ("Swiss DJ Bolo", ""),
        ("Australian band Moth She, released", "Moth She"), ("American rapper Nia B. It was", "Nia B"),
        ("American artist Al Ro-Hart and musician Nia Mo", ""),
        ("American rock band Ten Hours to Dawn", "Ten Hours to Dawn"),
        ("the Pale Ferries", "The Pale Ferries"), ("American rapper T.J. It was", "T.J."),
        ("American singer Nia Mo and British singer Al Ro", ""), ("Rain, Hail & Snow", ""), ("Quayside Records", ""),
        ("Eric Clapton", "Eric Clapton"), ("Bachman–Turner Overdrive. It was", ""), ("Spanish Harlem Orchestra", ""),
        ("Funk, Inc., released", ""), ("singer and songwriter Dora Quill", "Dora Quill"),
    ],
)  # fmt: skip
def test_an_artist_is_taken_only_where_the_name_is_sure(phrase, name):
    assert artist_of(phrase) == name


def test_infoboxes_and_triples_are_asked_tables_are_not(tmp_path):
    box = {"born": "1971-05-20", "birth_place": "Lund, Sweden"}
    answers = kept(page("Ida Frost", "Ida Frost is a Swedish singer. She sings.", infobox=box))
    assert answers == {"born_on": "May 20, 1971", "born_in": "Lund, Sweden"}
    triples = tmp_path / "triples.json"
    rows = [("浪花集", "专辑歌手", "苏岸"), ("浪花集", "发行时间", "2001年3月4日"), ("浪花集", "唱片公司", "甲、乙")]
    triples.write_text(json.dumps([{"name": n, "attrname": a, "attrvalue": v} for n, a, v in rows]), encoding="utf-8")
    assert kept(rows=read_catalogue(str(triples), "characters")) == {"released_on": "2001年3月4日"}
    table = tmp_path / "works.tsv"
    table.write_text("title\ttype\tartist\treleased\nBlue Kettle\talbum\tIda Frost\tMay 1, 1999\n", encoding="utf-8")
    assert settled(rows=read_catalogue(str(table), "characters")) == []


# Values


def test_dates_are_read_and_compared_as_far_as_they_are_known():
    dates = ["July 9, 2012", "9 July 2012", "2012年7月9日", "2012-07-09", "July 2012", "2012年7月", "in 2012", "soon"]
    assert [values.parse_date(text) for text in dates] == [
        *4 * [(2012, 7, 9)], (2012, 7, 0), (2012, 7, 0), (2012, 0, 0), None,
    ]  # fmt: skip
    assert values.agree("9 July 2012", "July 2012", "date") and not values.agree("9 July 2012", "8 July 2012", "date")
    assert values.agree("Boston", "Boston, Massachusetts", "place") and not values.agree("The Nest", "Nests", "work")


def test_answers_come_in_the_other_ways_to_write_them():
    assert values.forms("2012年7月9日", "date", "zh") == ["2012年7月9日", "July 9, 2012", "9 July 2012", "2012-07-09"]
    assert values.forms("第二十一张", "number", "zh") == ["21", "第21", "二十一", "第二十一"]
    assert values.forms("Lund, Sweden", "place", "en") == ["Lund, Sweden", "Lund"]
    assert values.forms("日本长野县中野市", "place", "zh") == ["日本长野县中野市", "长野县中野市", "中野市", "中野"]
    assert values.forms("The Nests", "artist", "en") == ["The Nests", "Nests"]
    assert values.forms("Sir Alf Moe", "person", "en")[1:] == ["Alf Moe"]
    assert values.forms("韩国韩国江原道春川市", "place", "zh")[:2] == ["韩国江原道春川市", "江原道春川市"]
    assert values.forms("周杰伦", "person", "zh") == ["周杰伦", "周杰倫"]
    assert values.forms("spring 2012", "date", "en") == []
    assert [values.number_of(text) for text in ("十", "首张", "debut", "third", "第12张")] == [10, 1, 1, 3, 12]


# Filters


@pytest.mark.parametrize(
    ("place", "town"),
    [("冲绳县", False), ("广东省佛山市", True), ("日本长野县中野市", True), ("安大略省", False), ("首尔特别市", True),
     ("湖南省宁乡县", True), ("伊利诺伊州芝加哥", True)],
)  # fmt: skip
def test_a_prefecture_is_no_town(place, town):
    assert filters.is_town(place, "zh") == town


def test_two_people_of_a_name_are_not_asked_about():
    other = "Tavi (born 1 May 1980) is a German rapper."
    assert set(reasons(page("Tavi", SINGER, "w:1"), page("Tavi", other, "w:2")).values()) == {"namesake"}
    assert reasons(page("Tavi (singer)", SINGER))["born_on"] == "namesake"


def test_a_namesake_may_stand_in_a_table_alone(tmp_path):
    table = tmp_path / "people.tsv"
    table.write_text("name\taliases\tborn\twiki_id\nO. Kranz\tTavi\tMarch 1961\tw:2\n", encoding="utf-8")
    rows = list(read_catalogue(str(table), "characters"))
    assert reasons(page("Tavi", SINGER, "w:1"), rows=rows)["born_on"] == "namesake"
    assert "born_on" in kept(page("Tavi", SINGER, "w:2"), rows=rows)  # the same one, under its other name


def test_a_date_that_a_table_contradicts_is_a_conflict(tmp_path):
    table = tmp_path / "people.tsv"
    table.write_text("name\tborn\twiki_id\nTavi\tMarch 5, 1961\tw:1\n", encoding="utf-8")
    rows = list(read_catalogue(str(table), "characters"))
    assert reasons(page("Tavi", SINGER, "w:1"), rows=rows) == {"born_on": "conflict"}
    table.write_text("name\tborn\twiki_id\nTavi\tMarch 1961\tw:1\n", encoding="utf-8")
    assert "born_on" in kept(page("Tavi", SINGER, "w:1"), rows=list(read_catalogue(str(table), "characters")))


def test_the_artist_of_a_title_that_two_artists_have_is_not_asked():
    other = ALBUM.replace("Scottish rock band Pale Ferries", "Danish singer Ib Holm").replace("1998", "2011")
    pair = page("Lanterns Over Grey Harbour", ALBUM, "w:1"), page("Lanterns Over Grey Harbour", other, "w:2")
    answers = settled(*pair)
    assert {c.reason for c in answers if c.fact.relation == "performer"} == {"namesake"}
    dates = {c.answer for c in answers if c.fact.relation == "released_on" and not c.reason}
    assert dates == {"May 7, 1998", "May 7, 2011"}  # these questions name the artist
    assert reasons(page("Lanterns", ALBUM.replace(" Over Grey Harbour", "")))["performer"] == "short_title"


def test_a_song_with_covers_is_a_remake():
    text = f"{SONG} It was covered by Ib Holm in 2011."
    assert {"album_of", "writer"} <= {
        r for r, why in reasons(page("Paper Kite Sunday", text)).items() if why == "remake"
    }


def test_two_first_albums_are_several_debuts():
    first = page("Salt Road", "Salt Road is the first studio album by Scottish rock band Pale Ferries.")
    debut = page("Tin Moon", "Tin Moon is the debut album by Scottish rock band Pale Ferries.")
    assert kept(first)["nth"] == "Salt Road"
    assert reasons(first, debut)["nth"] in ("several_debuts", "not_plain")
    assert {c.reason for c in settled(first, debut) if c.fact.relation == "nth"} == {"several_debuts", "not_plain"}


def test_pages_that_name_several_years_or_labels_are_not_asked_for_one():
    assert reasons(page("Lanterns Over Grey Harbour", f"{ALBUM} It was reissued in 2010 by Tidal Records.")) == {
        "released_in": "several_dates", "released_on": "several_dates", "label": "several_labels",
    }  # fmt: skip


def test_what_was_to_be_released_was_not():
    planned = ALBUM.replace("released on 7 May 1998 by", "set to be released on vinyl in 1998 by")
    assert reasons(page("Lanterns Over Grey Harbour", planned))["released_in"] == "several_dates"


def model_says(question: str, answer: str, kind: str, quote: str = SINGER[:133]) -> str:
    """The reason for which a model's question on Tavi goes."""
    own = {"id": "w:Tavi", "name": "Tavi", "lang": "en", "text": SINGER, "size": 1.0}
    item = {"question": question, "answer": answer, "answer_type": kind, "relation": "other", "quote": quote}
    (fact,) = written.facts_of(own, [item], "m")
    return next(c.reason for c in settled(page("Tavi", SINGER), rows=[fact]) if c.fact.route == "m")


def test_a_model_s_questions_pass_the_same_filters():
    asked = "In what year did the Romanian singer Tavi die?"
    assert model_says(asked, "2012", "year") == ""
    assert model_says(asked, "2013", "year") == "no_evidence"
    assert model_says(asked, "2012", "year", "Tavi died in 2012.") == "no_evidence"  # the page has no such sentence
    assert model_says("Was the singer Tavi Romanian?", "yes", "yes/no") == "answer_type"
    assert model_says("Is the singer Tavi a Romanian jazz singer?", "Romanian", "person") == "answer_in_question"
    assert model_says("What is the latest name of Tavi the singer?", "Mirela Vossen", "person") == "time_dependent"
    assert model_says("How old was the singer Tavi in 1961?", "July", "number") == "answer_type"
    assert model_says("Tavi?", "2012", "year") == "schema"
    assert model_says("", "2012", "year") == "schema"


def test_the_same_fact_of_two_pages_is_asked_once():
    twice = settled(
        page("Tavi", SINGER, "w:1"), page("Tavi", SINGER, "w:1"), page("Tavi", SINGER + " She sang.", "w:1")
    )
    assert Counter(c.reason for c in twice if c.fact.relation == "born_on") == {
        "": 1,
        "same_fact": 1,
    }  # equal ones merge


def test_nearly_the_same_question_goes():
    spelled = [
        page(name, SINGER.replace("Tavi", name), f"w:{name}") for name in ("Tavi Nazarene", "Tavi Nazarena", "Ola")
    ]
    found = [c for c in settled(*spelled) if c.fact.relation == "born_on"]
    near = Counter(c.reason for c in filters.near_duplicates(found))
    assert near == {"": 2, "near_duplicate": 1}


def test_an_answer_gets_the_aliases_of_the_one_entity_of_its_name():
    (candidate,) = [c for c in settled(page("Lanterns Over Grey Harbour", ALBUM)) if c.fact.relation == "performer"]
    text = "Pale Ferries is a Scottish rock band."
    band = list(pages.records(page("Pale Ferries", text, aliases=["The Ferries"]), "characters"))
    assert filters.with_aliases(candidate, band).aliases == ("The Ferries", "Ferries")
    namesake = list(pages.records(page("Pale Ferries", text, "w:2", aliases=["PF"]), "characters"))
    assert filters.with_aliases(candidate, band + namesake).aliases == candidate.aliases


def test_popularity_is_the_page_s_length_or_a_column(tmp_path):
    sizes = {c.fact.relation: c.popularity for c in settled(page("Lanterns Over Grey Harbour", ALBUM))}
    assert sizes["label"] == len(ALBUM)
    chart = tmp_path / "chart.tsv"
    rows = ["Lanterns Over Grey Harbour\tPale Ferries\t12", "Other\tPale Ferries\t40", "Other\tTavi\t7"]
    chart.write_text("\n".join(["title\tperformer\tweeks", *rows]) + "\n", encoding="utf-8")
    documents = [page("Lanterns Over Grey Harbour", ALBUM), page("Tavi", SINGER)]
    by_name: dict[str, list] = {}
    for record in [r for row in documents for r in pages.records(row, "weeks")] + list(
        read_catalogue(str(chart), "weeks")
    ):
        by_name.setdefault(record.key, []).append(record)
    weeks = {c.fact.relation: c.popularity for records in by_name.values() for c in filters.settle(records)}
    assert (weeks["label"], weeks["nth"], weeks["born_on"]) == (12, 40, 7)  # of the album, of the artists' best known


# Sampling


def places(lang: str, count: int) -> list[sample.Place]:
    return [sample.Place(f"{lang}{n}", lang, ("born_on", "nth")[n % 2], f"e{n}", float(n)) for n in range(count)]


def test_strata_have_the_numbers_that_were_asked_for_and_popular_ones_are_popular():
    strata = sample.draw(places("en", 200) + places("zh", 100), popular=20, even=40, seed=0)
    counts = Counter((stratum.partition("-")[0], id[:2]) for id, stratum in strata.items())
    assert counts == {("popular", "en"): 10, ("popular", "zh"): 10, ("even", "en"): 20, ("even", "zh"): 20}
    assert all(int(id[2:]) >= (160 if id[:2] == "en" else 80) for id, stratum in strata.items() if stratum == "popular")
    tenths = Counter(int(id[2:]) // 20 for id, stratum in strata.items() if stratum != "popular" and id[:2] == "en")
    assert tenths == {part: 2 for part in range(10)}
    assert strata == sample.draw(places("zh", 100)[::-1] + places("en", 200), popular=20, even=40, seed=0)
    assert strata != sample.draw(places("en", 200) + places("zh", 100), popular=20, even=40, seed=1)


def test_a_language_that_has_too_few_leaves_its_share_to_the_others():
    strata = sample.draw(places("en", 200) + places("zh", 10), popular=20, even=0, seed=0)
    assert Counter(id[:2] for id in strata) == {"en": 18, "zh": 2}  # a fifth of ten


def test_an_entity_is_asked_about_at_most_so_often():
    same = [sample.Place(f"q{n}", "en", "nth", "one", 1.0) for n in range(5)]
    assert len(sample.draw(same, popular=5, even=0, seed=0, per_entity=2)) == 2


# The job


def documents(folder, rows: list[dict]) -> str:
    folder.mkdir(exist_ok=True)
    lines = [{**row, "meta": json.loads(row["meta"])} for row in rows]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "pages.jsonl").write_text(text, encoding="utf-8")
    return str(folder)


PAGES = [
    page("Tavi", SINGER), page("Lanterns Over Grey Harbour", ALBUM), page("Paper Kite Sunday", SONG),
    page("燈塔與海", "《燈塔與海》是臺灣女歌手林若澄的第三張錄音室專輯，2009年5月8日由海岸唱片發行。", lang="zh"),
]  # fmt: skip


ALL = ("--popular=10", "--even=300", "--per_entity=10")  # all questions


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    leak = page("Quiz", "Quiz night. What is the title of Pale Ferries' third studio album? We had no idea.")
    source, training = documents(folder / "in", PAGES), documents(folder / "training", [leak, PAGES[2]])
    flags = [f"--input={source}", f"--output={folder / 'out'}", *ALL, f"--against={training}"]
    return folder, questions.run(flags)


def test_every_candidate_is_kept_or_counted_under_its_reason(built):
    folder, report = built
    lines = read_questions(str(folder / "out" / "questions.jsonl"))
    assert report["read"] == report["kept"] + sum(report["dropped"].values()) and report["kept"] == len(lines)
    assert report["read"] == sum(row["candidates"] for row in report["candidates"])
    assert Counter(q["lang"] for q in lines) == report["langs"] == {"en": 10, "zh": 4}
    assert sum(row["questions"] for row in report["strata"]) == len(lines)
    assert {q["evidence"]["document"] for q in lines} <= {row["id"] for row in PAGES}
    texts = {row["id"]: row["text"] for row in PAGES}
    assert all(q["evidence"]["quote"] in texts[q["evidence"]["document"]] for q in lines)
    assert all(q["margin"] == 0 for q in lines if q["answer_type"] in ("year", "number"))


def test_the_same_input_gives_the_same_questions_whatever_the_order(built, tmp_path):
    folder, _ = built
    source = documents(tmp_path / "in", PAGES[::-1])
    flags = [f"--input={source}", f"--output={tmp_path / 'out'}", *ALL]
    questions.run([*flags, "--direct_runner_bundle_repeat=1"])
    assert (tmp_path / "out" / "questions.jsonl").read_bytes() == (folder / "out" / "questions.jsonl").read_bytes()


def test_the_report_names_questions_that_stand_in_training_documents(built, tmp_path):
    folder, report = built
    asked = {q["id"]: q["question"] for q in read_questions(str(folder / "out" / "questions.jsonl"))}
    hits = [(asked[line["question"]], line["kind"], line["document"]) for line in report["overlaps"]]
    assert hits == [("What is the title of Pale Ferries' third studio album?", "whole", "w:Quiz")]
    assert "What is the title of Pale Ferries" in (folder / "out" / "report.html").read_text().partition("overlaps")[2]
    flags = [f"--input={folder / 'training'}", f"--output={tmp_path / 'clean'}"]
    counts = decontaminate.run([*flags, f"--questions={folder / 'out' / 'questions.jsonl'}"])
    assert counts["dropped"] == {"contaminated": 1} and counts["kept"] == 1


def test_and_in_training_rows(built, tmp_path):
    folder, _ = built
    (tmp_path / "tokenizer").mkdir()
    tokenizer = byte_tokenizer(tmp_path / "tokenizer", "<|endoftext|>")
    rows = f"--output={tmp_path / 'rows'}"
    shard.run([f"--input={folder / 'training'}", rows, f"--tokenizer={tokenizer}", "--sequence_length=512"])
    flags = [f"--input={folder / 'in'}", f"--output={tmp_path / 'out'}", *ALL, f"--against={tmp_path / 'rows'}"]
    report = questions.run([*flags, f"--tokenizer={tokenizer}"])
    assert [(line["kind"], line["document"]) for line in report["overlaps"]] == [("whole", "w:Quiz")]
    with pytest.raises(UserError, match="name it"):
        questions.run(flags)


@needs_browser
def test_the_page_fits_a_phone(built, tmp_path):
    assert stands_out(built[0] / "out" / "report.html", tmp_path) == []


def test_what_cannot_work_is_said_in_a_sentence(tmp_path):
    source = documents(tmp_path / "in", [{**PAGES[0], "meta": "{}"}])
    flags = [f"--input={source}", f"--output={tmp_path / 'out'}"]
    with pytest.raises(UserError, match="have `name` or `title`"):
        questions.run(flags)
    with pytest.raises(UserError, match="ask for no question"):
        questions.run([*flags, "--popular=0", "--even=0"])
    with pytest.raises(UserError, match=r"--catalogue=.* names no file"):
        questions.run([*flags, f"--catalogue={tmp_path}/*.tsv"])
    table = tmp_path / "t.tsv"
    table.write_text("a\tb\n1\t2\n")
    with pytest.raises(UserError, match="has no column `name` or `title`"):
        questions.run([*flags, f"--catalogue={table}"])
    assert not (tmp_path / "out").exists()


# A language model


RECORDED = "Where was the album Lanterns Over Grey Harbour recorded?"
WRITTEN = {  # by a word of the page: question, answer, type, quote
    "Lanterns": [
        (RECORDED, "Leith", "organisation", "It was recorded in Leith."),
        (RECORDED.replace("Where", "Where, then,"), "Leith", "organisation", "It was recorded in Leith."),
    ],
    "Mirela": [
        ("What were the parents of Tavi?", "teachers", "person", "Vossen was born in Cluj, Romania, to two teachers.")
    ],
}


def model(messages: list[dict]) -> str:
    """Writes questions on two pages; asked again it knows where the album was recorded, and nothing else."""
    text = messages[0]["content"]
    if "Question:" in text:
        return "Leith" if RECORDED in text else "farmers"
    own = [item for word, items in WRITTEN.items() if word in text for item in items]
    items = [dict(zip(("question", "answer", "answer_type", "quote"), item, strict=True)) for item in own]
    return json.dumps([*({**item, "relation": "other"} for item in items), *[{"question": "?"}] * len(own[:1])])


def test_a_model_writes_questions_and_is_asked_again_from_all_evidence(tmp_path):
    source = documents(tmp_path / "in", PAGES)
    flags = [f"--input={source}", f"--cache={tmp_path / 'cache.sqlite'}", "--model=m", *ALL]
    with serving(model, faults=0.3, kinds=("500", "html", "null_content")) as server:
        flags += [f"--endpoint={server.url}", "--max_retry_after=0.1"]
        report = questions.run([*flags, f"--output={tmp_path / 'out'}"])
        calls = len(server.calls)
        again = questions.run([*flags, f"--output={tmp_path / 'again'}"])
        assert len(server.calls) == calls  # all from the cache
    lines = [q for q in read_questions(str(tmp_path / "out" / "questions.jsonl")) if q["route"].startswith("m:")]
    assert [(q["question"], q["answer"]) for q in lines] == [(RECORDED, "Leith")]
    assert report["asked"]["writing"]["prompts"] == 4 and report["asked"]["checking"]["prompts"] == 2
    own = {row["outcome"]: row["candidates"] for row in report["candidates"] if row["route"] == "m:other"}
    assert own == {"kept": 1, "near_duplicate": 1, "not_rederived": 1, "schema": 2}
    assert (again["kept"], again["dropped"]) == (report["kept"], report["dropped"])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [("Leith", ""), ("leith.", ""), ("Edinburgh", "not_rederived"), ("UNKNOWN", "not_rederived"),
     ("SEVERAL", "not_unique"), (None, "not_checked")],
)  # fmt: skip
def test_another_answer_at_the_second_look_ends_a_question(reply, reason):
    line = {"answer": "Leith", "aliases": ["Leith, Edinburgh"], "answer_type": "place", "lang": "en"}
    assert written.reason_of(reply, line) == reason
    date = {"answer": "May 7, 1998", "aliases": [], "answer_type": "date", "lang": "en"}
    assert written.reason_of("7 May 1998", date) == ""


@pytest.mark.parametrize("reply", ["Here you are: []", "[1]", "{}", "[", "", '```\n[{"a": NaN}]\n```'])
def test_a_reply_that_is_no_list_of_objects_is_refused(reply):
    with pytest.raises(ValueError):
        written.items_of(reply)


def test_a_fenced_list_is_read():
    assert written.items_of('```json\n[{"question": "a"}]\n```') == [{"question": "a"}]
    assert all(isinstance(fact, Fact) for fact in written.facts_of(
        {"id": "1", "name": "A", "lang": "zh", "text": "甲", "size": 1.0}, [{"answer": 3}, {}], "m"
    ))  # fmt: skip
