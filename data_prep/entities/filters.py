"""From facts of one name to questions: each is kept, or goes for the first reason that holds.

incomplete, schema       what the question must name is not known, or it is too long
several_dates, ...       a doubt that shows on the page (records.Fact.doubt)
short_title              whose work it is is asked only of titles that few works can have
answer_type              the answer is not of the type, or the type is none of relations.TYPES (such as yes/no)
no_evidence              the answer does not stand in the quote
answer_in_question       it, or all its words, stand in the question
time_dependent           it may be another one next year
namesake                 another entity of the catalogue has this name, or fits the question
remake                   a song that others recorded too
several_debuts           two works are called the first
conflict                 a page or table says otherwise
same_fact                another document says the same: one question is enough
near_duplicate           the same answer for entities whose names are nearly the same

and of those that a language model wrote (written.py), which is asked again from all evidence: not_rederived (it gave
another answer), not_unique (several), not_checked (no reply).
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rapidfuzz import fuzz

from data_prep.entities import values
from data_prep.entities.records import GROUP, PERSON, WORKS, Entity, Fact, same_owner
from data_prep.entities.relations import TYPES, family_of, question_of, type_of
from data_prep.entities.values import key_of, number_of

LONGEST_QUESTION, LONGEST_ANSWER, SHORTEST_QUESTION = 220, 80, 6  # characters
UNSTATED = ("schema", "no_evidence")  # doubts of what no page says
# Types whose answers may have aliases, and the kinds of entities that these are of.
NAMES = {"person": (PERSON,), "artist": (PERSON, GROUP), "work": WORKS, "organisation": (GROUP, "")}
EVIDENCE = 30  # quotes that a model sees again
NEAR = 85  # of 100: similarity of two entities' names
TIME = re.compile(
    r"\b(?:latest|newest|most recent|currently|current|upcoming|forthcoming|to date|as of|so far|will be|is set to|"
    r"scheduled|years? old|aged?|now|today|recently|followers|subscribers|views|streams|net worth)\b|"
    r"最新|目前|现任|现时|即将|将于|预计|迄今|至今|截至|今年|岁|粉丝|播放量|点击|销量|身价|近日|最近|"
    r"現時|即將|將於|預計|歲|銷量", re.IGNORECASE
)  # fmt: skip
YES_NO = re.compile(r"(?:yes|no|true|false|是|否|对|错|有|没有|是的|不是)\W*", re.IGNORECASE)
REMADE = {"performer", "released", "album_of", "label", "writer", "lyricist", "composer"}  # families


class Candidate(NamedTuple):
    fact: Fact
    question: str
    answer: str
    aliases: tuple[str, ...]
    popularity: float
    reason: str  # "" of a question that stays
    evidence: tuple[str, ...] = ()  # quotes of all documents and rows on the name; of a model's question alone


def settle(records: Iterable[Entity | Fact]) -> Iterator[Candidate]:
    """Of all records of one name: a candidate for each fact that may be asked, in an order of its own."""
    entities = sorted({r for r in records if isinstance(r, Entity)})
    facts = sorted({r for r in records if isinstance(r, Fact)})
    kept: dict[tuple, Candidate] = {}
    for fact in sorted(
        (f for f in facts if f.route != "table"), key=lambda f: (f.relation != "released_on", f.route != "text", f)
    ):
        question, forms = question_of(fact), values.forms(fact.value.strip(), type_of(fact), fact.lang) or [""]
        reason = reason_of(fact, question, forms) or reason_of_others(fact, entities, facts)
        same = (
            fact.lang,
            family_of(fact),
            key_of(fact.owner) if fact.owner else "",
            class_of(fact),
            key_of(fact.question),
        )
        if fact.relation == "nth":
            same = (*same, number_of(fact.kind))
        if not reason and same in kept:
            reason = "same_fact"
        forms += values.beside(fact.value, fact.quote) if type_of(fact) in NAMES and fact.lang == "zh" else []
        aliases = tuple(form for form in dict.fromkeys([*forms[1:], fact.value.strip()]) if form != forms[0])
        evidence = tuple(dict.fromkeys(f.quote for f in facts))[:EVIDENCE] if fact.question else ()
        candidate = Candidate(fact, question, forms[0], aliases, popularity(fact, entities), reason, evidence)
        if not reason:
            kept[same] = candidate
        yield candidate


# A fact by itself


def reason_of(fact: Fact, question: str, forms: list[str]) -> str:
    if not question:
        return "incomplete"
    if not SHORTEST_QUESTION <= len(question) <= LONGEST_QUESTION or len(forms[0]) > LONGEST_ANSWER or "\n" in question:
        return "schema"
    if fact.doubt:
        return fact.doubt
    if fact.relation == "performer" and not is_telling(fact.subject):
        return "short_title"
    if type_of(fact) not in TYPES or not forms[0] or YES_NO.fullmatch(forms[0]):
        return "answer_type"
    if type_of(fact) == "place" and not is_town(fact.value, fact.lang):
        return "answer_type"
    if key_of(fact.value) not in key_of(fact.quote):
        return "no_evidence"
    if stands_in(forms[0], question) or stands_in(fact.value, question):
        return "answer_in_question"
    return "time_dependent" if TIME.search(question) or TIME.search(fact.quote) else ""


def is_telling(title: str) -> bool:
    """Whether few works can have this title: three words, or five Chinese characters."""
    han = len(re.findall("[\u4e00-\u9fff]", title))
    return han >= 5 or len(re.findall(r"[^\W\d_]{2,}", re.sub("[\u4e00-\u9fff]", "", title))) + han // 2 >= 3


def is_town(place: str, lang: str) -> bool:
    """Whether it names a town, and not a country or a region alone."""
    if lang == "en":  # who was born in Queens was born in New York City too
        return place.count(",") >= 1 and not re.search(r"\b(?:Queens|Brooklyn|Manhattan|Bronx|Staten Island)\b", place)
    rest = re.sub(rf"^(?:{'|'.join(values.COUNTRIES_ZH)})+", "", place)
    if re.search("[省州道府郡]$", rest) or re.fullmatch("[^省州市]*县", rest):  # 冲绳县 is all of Okinawa
        return False
    return bool(re.search("..[市镇村町]$|[省州市].+县$|[省州县道府].*[市区郡]$|[省州县府].{2,5}$", rest))


def stands_in(answer: str, question: str) -> bool:
    """The answer as a whole; or each of its words, where it has some of three letters and more."""
    if key_of(answer) in key_of(question) and not re.fullmatch(r"\d{1,2}", answer):
        return True
    words = {key_of(word) for word in re.findall(r"[^\W\d_]{3,}", answer) if not re.search("[\u4e00-\u9fff]", word)}
    return bool(words) and words <= {key_of(word) for word in re.findall(r"[^\W\d_]{3,}", question)}


# A fact among all evidence


def reason_of_others(fact: Fact, entities: list[Entity], facts: list[Fact]) -> str:
    family = family_of(fact)
    if is_namesake(fact, entities):
        return "namesake"
    if family in REMADE and class_of(fact) == "song" and any(e.cover and e.id == fact.document for e in entities):
        return "remake"
    if fact.owner and any(e.id == fact.document and e.owner and not same_owner(e.owner, fact.owner) for e in entities):
        return "conflict"
    if family == "performer" and any(
        e.owner and not same_owner(e.owner, fact.owner) for e in entities if e.kind in WORKS
    ):
        return "namesake"
    claims = [f for f in facts if family_of(f) == family and is_of_same(fact, f) and f.doubt not in UNSTATED]
    if fact.relation == "nth":
        claims = [
            other for other in claims if number_of(other.kind) == number_of(fact.kind) and other.lang == fact.lang
        ]
        if any(key_of(other.value) != key_of(fact.value) for other in claims):
            return "several_debuts" if number_of(fact.kind) == 1 else "conflict"
    kind = type_of(fact)
    if any(not values.agree(fact.value, other.value, kind) for other in claims):
        return "conflict"
    born = [e.born for e in entities if e.id == fact.document and e.born] if family == "born" else []
    return "conflict" if any(not values.agree(fact.value, date, "date") for date in born) else ""


def is_namesake(fact: Fact, entities: list[Entity]) -> bool:
    """Whether there are two people or groups of the name.

    An encyclopaedia gives an entity one id; ids of two encyclopaedias (enwiki:1, zhwiki:2) may be of one entity.
    """
    if fact.owner and fact.relation != "nth":
        return False
    people = [e for e in entities if e.kind in (PERSON, GROUP) and e.id]
    spaces: dict[str, set[str]] = {}
    for entity in people:
        spaces.setdefault(entity.id.partition(":")[0], set()).add(entity.id)
    return any(len(ids) > 1 for ids in spaces.values())


def is_of_same(fact: Fact, other: Fact) -> bool:
    """Whether both are about one work, or one person."""
    if fact.document == other.document and fact.relation != "nth":
        return True
    owners = not fact.owner or not other.owner or same_owner(fact.owner, other.owner)
    return owners and (not fact.kind or not other.kind or class_of(fact) == class_of(other))


def class_of(fact: Fact) -> str:
    """song, ep, other (live, best of), album, or "" of people."""
    kind = fact.kind.lower()
    for name, words in (
        ("song", ("song", "single", "歌曲", "单曲")), ("ep", ("ep", "extended", "mini", "迷你", "细碟")),
        ("other", ("live", "compilation", "精选", "现场", "mixtape")),
    ):  # fmt: skip
        if any(word in kind.split() or (word in kind and not word.isascii()) for word in words):
            return name
    return "album" if kind else ""


def popularity(fact: Fact, entities: list[Entity]) -> float:
    """Of the entity that the question is about; of an artist without a page, that of the work's page."""
    if fact.owner and fact.relation != "nth":
        own = [e.size for e in entities if e.id == fact.document or (e.owner and same_owner(e.owner, fact.owner))]
    else:
        own = [e.size for e in entities if e.kind in (PERSON, GROUP, "")]
    return max(own, default=0.0) or fact.size


# Among all questions of one answer


def with_aliases(candidate: Candidate, entities: list[Entity]) -> Candidate:
    """With the aliases of the entity that is the answer, if one alone has its name."""
    kinds = NAMES.get(type_of(candidate.fact), ())
    named = {e.id: e for e in entities if e.aliases and e.kind in kinds}
    if len(named) != 1:
        return candidate
    entity = next(iter(named.values()))
    more = [form for name in (entity.name, *entity.aliases) for form in values.name_forms(name)]
    more = [form for form in more if len(form) > 1 and not stands_in(form, candidate.question)]
    names = dict.fromkeys([*candidate.aliases, *more])
    return candidate._replace(aliases=tuple(name for name in names if name != candidate.answer))


def near_duplicates(candidates: list[Candidate]) -> Iterator[Candidate]:
    """Those of one answer and language, with near_duplicate for all but the first of each kind."""
    kept: list[tuple[str, Candidate]] = []
    for candidate in sorted(candidates, key=lambda c: (c.fact.question != "", c.fact)):
        name = key_of(candidate.fact.subject)
        near = any(is_near(candidate, name, other, theirs) for theirs, other in kept)
        if not near:
            kept.append((name, candidate))
        yield candidate._replace(reason="near_duplicate") if near else candidate


def is_near(candidate: Candidate, name: str, other: Candidate, theirs: str) -> bool:
    if key_of(candidate.question) == key_of(other.question):
        return True
    same = family_of(candidate.fact) == family_of(other.fact) or candidate.fact.question or other.fact.question
    return bool(same) and fuzz.ratio(name, theirs) >= NEAR
