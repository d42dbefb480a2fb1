"""Relations: what is asked, as which type of answer, in which words, and what the question must name."""

from typing import NamedTuple

from data_prep.entities.records import Fact
from data_prep.entities.values import key_of

TYPES = ("date", "year", "place", "person", "artist", "work", "organisation", "number")


class Relation(NamedTuple):
    type: str  # of the answer
    family: str  # relations of one family state the same, in more or less detail
    needs: tuple[str, ...]  # fields of the fact that the question names
    en: str  # "" where it is not asked in the language
    zh: str


RELATIONS = {
    "born_on": Relation("date", "born", ("what",), "On what date was the {what} {subject} born?",
                        "{what}{subject}的出生日期是哪一天？"),
    "born_in": Relation("place", "birthplace", ("what",), "In which city or town was the {what} {subject} born?",
                        "{what}{subject}出生于哪个市（县）？"),
    "died_on": Relation("date", "died", ("what",), "On what date did the {what} {subject} die?",
                        "{what}{subject}于哪一天去世？"),
    "birth_name": Relation("person", "birth_name", ("what",),
                           "What is the birth name of the {what} known as {subject}?", "{what}{subject}的本名是什么？"),
    "full_name": Relation("person", "full_name", ("what",),
                          "What is the full name of the {what} known as {subject}?", ""),
    "performer": Relation("artist", "performer", ("kind", "year"),
                          "Which artist or band released the {year} {kind} “{subject}”?",
                          "{year}年发行的{kind}《{subject}》是哪位歌手或哪个组合的作品？"),
    "released_in": Relation("year", "released", ("kind", "owner"),
                            "In what year was {owner}'s {kind} “{subject}” released?",
                            "{owner}的{kind}《{subject}》是在哪一年发行的？"),
    "released_on": Relation("date", "released", ("kind", "owner"),
                            "On what date was {owner}'s {kind} “{subject}” released?",
                            "{owner}的{kind}《{subject}》是在哪一天发行的？"),
    "nth": Relation("work", "nth", ("kind",), "What is the title of {subject}'s {kind}?",
                    "{subject}的{kind}叫什么名字？"),
    "place_in_order": Relation("number", "place", ("kind", "owner"), "", "《{subject}》是{owner}的第几张{kind}？"),
    "tracks": Relation("number", "tracks", ("kind", "owner"), "", "{owner}的专辑《{subject}》共收录多少首曲目？"),
    "label": Relation("organisation", "label", ("kind", "owner"),
                      "Which record label released {owner}'s {kind} “{subject}”?",
                      "{owner}的{kind}《{subject}》由哪家唱片公司发行？"),
    "album_of": Relation("work", "album_of", ("owner",), "From which album is {owner}'s song “{subject}” taken?",
                         "{owner}的歌曲《{subject}》收录于哪张专辑？"),
    "writer": Relation("person", "writer", ("owner",), "Who wrote the song “{subject}” recorded by {owner}?", ""),
    "lyricist": Relation("person", "lyricist", ("owner",), "Who wrote the lyrics of {owner}'s song “{subject}”?",
                         "{owner}的歌曲《{subject}》由谁作词？"),
    "composer": Relation("person", "composer", ("owner",), "Who composed {owner}'s song “{subject}”?",
                         "{owner}的歌曲《{subject}》由谁作曲？"),
    "formed_in": Relation("year", "formed", ("what",), "In what year was the {what} {subject} formed?",
                          "{what}{subject}成立于哪一年？"),
    "formed_at": Relation("place", "formed_at", ("what",),
                          "In which city or town was the {what} {subject} formed?", ""),
}  # fmt: skip


def question_of(fact: Fact) -> str:
    """In the fact's language; "" where it lacks what the question must name."""
    if fact.question:
        return fact.question
    relation = RELATIONS[fact.relation]
    template = relation.en if fact.lang == "en" else relation.zh
    if not template or not all(getattr(fact, field) for field in relation.needs):
        return ""
    text = template.format(**fact._asdict())
    return text.replace("s's ", "s' ") if fact.lang == "en" else text


def type_of(fact: Fact) -> str:
    return fact.answer_type or RELATIONS[fact.relation].type


def family_of(fact: Fact) -> str:
    return RELATIONS[fact.relation].family if fact.relation in RELATIONS else key_of(fact.question)
