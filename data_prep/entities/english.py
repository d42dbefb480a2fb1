"""Facts in the first sentences of an English page: definitions as encyclopaedias write them.

A pattern that fits too little is worth more than one that fits too much: what is not sure is not taken.
"""

import re
from collections.abc import Iterator

from data_prep.entities.records import ALBUM, GROUP, PERSON, SONG, Entity, Fact, entities_of
from data_prep.entities.values import DATE_EN as DATE
from data_prep.entities.values import MONTH, ORDINALS, key_of, number_of

FEW = 5  # studio albums, about whose numbers all agree
LEAD = 1500  # characters that may define the subject
ROLES = (
    "singer|songwriter|musician|rapper|composer|guitarist|pianist|violinist|drummer|bassist|conductor|soprano|tenor|"
    "baritone|DJ|vocalist|cellist|trumpeter|saxophonist|organist|flautist|flutist|bandleader|harpist|lyricist|"
    "percussionist|multi-instrumentalist|keyboardist|clarinetist|trombonist|accordionist|fiddler|producer|violist|"
    "contralto|countertenor|harpsichordist|record producer|entertainer"
)
BANDS = "band|group|duo|trio|quartet|quintet|supergroup|collective|ensemble|orchestra|choir|project"
# Behind the last of these stands the artist's name: American rock band Foo Fighters.
BEFORE_NAME = (
    rf"(?:{ROLES}|{BANDS}|artist|artists|performer|act|star|outfit|frontman|bassist|vocalist|member|MC|maestro)"
)
KINDS = {
    "studio album": ALBUM, "live album": ALBUM, "compilation album": ALBUM, "album": ALBUM, "EP": ALBUM,
    "extended play": ALBUM, "mixtape": ALBUM, "song": SONG, "single": SONG,
}  # fmt: skip
KIND = "(?P<kind>studio album|live album|compilation album|album|EP|extended play|mixtape|song|single)"
NTH = rf"(?P<nth>debut|{'|'.join(ORDINALS)})"
NAME = r"[A-Z0-9À-ÞŁŠŽĆČĐ][\w.'’&!*$/+-]*"
SMALL = "of|and|the|at|de|la|le|del|van|von|da|dos|to|&"
NAMES = rf"{NAME}(?: (?:(?:{SMALL}) )*{NAME}){{0,5}}"  # begins and ends with capitals
PLACE = (
    r"[A-ZÀ-Þ][\w.'’-]+(?: (?:[A-ZÀ-Þ][\w.'’-]+|upon|de|la|on|of)){0,3}, [A-ZÀ-Þ][\w.'’-]+(?: [A-ZÀ-Þ][\w.'’-]+){0,2}"
)
NATION = r"[A-Z][a-zé]+(?:ish|ese|ian|ean|can|an|ch|ch-Canadian|i|ic|ek|ss|utch|ino)(?:[-–/][A-Z]\w+)?"
DEMONYM = (
    "(?:African|American|Argentine|Australian|Austrian|Belgian|Brazilian|British|Bulgarian|Canadian|Chilean|Chinese|"
    "Colombian|Croatian|Cuban|Czech|Danish|Dutch|English|Estonian|Filipino|Finnish|French|German|Greek|Hungarian|"
    "Icelandic|Indian|Indonesian|Iranian|Irish|Israeli|Italian|Jamaican|Japanese|Korean|Latvian|Lithuanian|Malaysian|"
    "Mexican|Nigerian|Norwegian|Polish|Portuguese|Romanian|Russian|Scottish|Serbian|Slovak|Slovenian|Spanish|Swedish|"
    "Swiss|Taiwanese|Thai|Turkish|Ukrainian|Welsh)"
)
BRACKETS = r"\((?:[^()]|\([^()]*\))*\)"
COVER = (
    r"\bcover(?:ed|s)?\b|\bremake\b|\boriginally (?:recorded|performed|sung|written)|\bre-?record|"
    r"\b(?:traditional|hymn|carol)\b"
)


def records(name: str, text: str, id: str, size: float, aliases: tuple[str, ...]) -> Iterator[Entity | Fact]:
    """Of a page about `name`."""
    lead = lead_of(text)
    scripts = re.findall(
        r"(?:Chinese|Japanese|Hangul|Korean|Russian|kanji): ([^\x00-\x7f][^;,()\n]*?)(?=[;,)])", lead[:300]
    )
    aliases = (*aliases, *(name.strip() for name in scripts))
    for read in (person, group, work):
        if records := list(read(name, lead, text, id, size, aliases)):
            yield from records
            return
    yield from entities_of(name, "", id, aliases=aliases, size=size, page=True)


def lead_of(text: str) -> str:
    """Its first paragraphs, up to a heading."""
    head = re.search(r"\n\s*\n*==|\n[A-Z][^.\n]{2,40}\.\n", text)
    return text[: min(head.start() if head else LEAD, LEAD)]


def quote_of(text: str, start: int, end: int) -> str:
    """The sentence that holds a place, at most 300 characters."""
    begins = [m.end() for m in re.finditer(r"(?<![A-Z])[.!?][\"']?\s+(?=[\"'A-Z0-9])|\n", text[:start])]
    begin = max(begins[-1] if begins else 0, end - 300)
    stop = re.search(r"(?<![A-Z])[.!?](?=\s|[A-Z]|$)|\n", text[end:])
    return text[begin : min(end + (stop.end() if stop else 300), begin + 300)].strip()


# People


def person(name: str, lead: str, text: str, id: str, size: float, aliases: tuple) -> Iterator[Entity | Fact]:
    first = re.match(
        rf"(?P<full>[^(\n]{{2,80}}?),?\s?(?P<brackets>{BRACKETS})?,?[^.\n]{{0,60}}? (?:is|was) (?:an?|the) ", lead
    )
    if not first:
        return
    what = description(lead[first.end() :], ROLES)
    if not what:
        return
    brackets, base = first["brackets"] or "", first.start("brackets")
    brackets = (
        ""
        if re.search(r"\b(?:possibly|circa|c\.|ca\.|or|baptised|probably|disputed|sources)(?=\W)", brackets)
        else brackets
    )
    born = re.search(rf"\b(?:born|né|née|b\.)[^()]*?({DATE})", brackets) or re.search(
        rf"^\([^()–]*?({DATE})\s?[–-]", brackets
    )
    date = born[1] if born else ""
    yield from entities_of(name, PERSON, id, born=date, aliases=aliases, size=size, page=True, what=what)

    def fact(relation: str, value: str, source: str, start: int, end: int, **more) -> Fact:
        return Fact(
            key_of(name), relation, name, value, "en", id, quote_of(source, start, end), "text", what=what, **more
        )

    if born:
        yield fact("born_on", born[1], lead, base + born.start(1), base + born.end(1))
    if died := re.search(rf"[–-]\s?({DATE})", brackets):
        yield fact("died_on", died[1], lead, base + died.start(1), base + died.end(1))
    yield from birth_name(name, lead, first, fact)
    yield from birth_place(name, text, fact)


def description(text: str, roles: str) -> str:
    """The words before the first comma or "who", down to the last role: American singer."""
    phrase = re.match(rf"(?:[\w'’/&-]+ ){{0,5}}?(?:{roles})\b(?![-'])(?: and (?:{roles})\b)?", text)
    words = phrase[0] if phrase else ""
    return (
        words if words[:1].isupper() and not re.search(r"\b(?:former|best|known|who|for|of|by|from)\b", words) else ""
    )


def birth_name(name: str, lead: str, first: re.Match, fact) -> Iterator[Fact]:
    """A name at birth that shares no word with the name."""
    inside = re.search(rf"\(\s?born (?P<name>{NAMES})(?=[,;]? (?:on )?(?:{DATE}|in \d{{4}}|\d{{4}})|[,;)])", first[0])
    outside = re.match(
        rf"(?P<name>{NAMES}),? (?:{BRACKETS},? )?(?:better |also )?known (?:professionally |mononymously )?"
        "(?:as|by (?:his|her|their) stage name) ",
        lead,
    )
    for match in filter(None, (inside, outside)):
        words, own = ({key_of(word) for word in one.split()} for one in (match["name"], name))
        stands = outside is None or match is inside or key_of(name) in key_of(lead[match.end() : match.end() + 60])
        if (
            not words & own
            and len(words) > 1
            and stands
            and not re.search(rf"\b(?:of|the|{MONTH})\b|\d", match["name"])
        ):
            relation = "birth_name" if match is inside else "full_name"  # names change with marriages and by law
            yield fact(relation, match["name"], lead, match.start("name"), match.end("name"))
            return


def birth_place(name: str, text: str, fact) -> Iterator[Fact]:
    """Where it says so of the subject: by name, or as he or she."""
    words = "|".join(re.escape(word) for word in {name, name.split()[-1], name.split()[0]} if len(word) > 2)
    who = rf"(?:^|[.\n\"”]\s*)(?:(?:{words})|(?:[A-Z][\w.'’-]+ ){{0,3}}(?:{words})|He|She)"
    for pattern in (
        rf"{who} was born (?:{NAMES} )?(?:on {DATE},? )?in (?P<place>{PLACE})(?=[,.;]|\s(?:on|to|and|where|in|as)\b|$)",
        rf"(?:^|[.\n]\s*)Born (?:on {DATE},? )?in (?P<place>{PLACE}),? (?:(?:in|on) [\w ,]*?\d{{4}},? )?"
        rf"(?:{words}|he|she)\b",
    ):
        for match in re.finditer(pattern, text[:4000]):
            place = re.sub(rf",? (?:{MONTH}|He|She|His|Her|In|On|The)\b.*", "", match["place"]).strip(" .")
            if place.count(",") == 1 and not {*place.replace(",", "").split()} & {*name.split()}:
                yield fact("born_in", place, text, match.start("place"), match.start("place") + len(place))


# Groups


def group(name: str, lead: str, text: str, id: str, size: float, aliases: tuple) -> Iterator[Entity | Fact]:
    first = re.match(
        rf"\"?(?:The )?{re.escape(name.removeprefix('The '))}\"?,?\s?(?:{BRACKETS},?\s?)?"
        "(?:is|are|was|were) (?:an?|the) ",
        lead,
    )
    what = description(lead[first.end() :], BANDS) if first else ""
    if not what:
        return
    yield from entities_of(name, GROUP, id, aliases=aliases, size=size, page=True, what=what)
    years = {y for y in re.findall(r"\b(?:formed|founded|established)\b[^.]{0,40}?\bin (?:[A-Z]\w+ )?(\d{4})", text)}
    doubt = "several_dates" if len(years) > 1 or re.search(r"re-?formed|reunited", lead) else ""

    def fact(relation: str, match: re.Match, part: str) -> Fact:
        quote = quote_of(lead, match.start(part), match.end(part))
        return Fact(key_of(name), relation, name, match[part], "en", id, quote, "text", what=what, doubt=doubt)

    rest = lead[first.end() : first.end() + 400]
    shift = lead[: first.end()]
    begins = re.search(
        rf"^{re.escape(shift)}[^.]*?\b(?:formed|founded|established) (?:in|at) (?P<place>{PLACE}),? "
        rf"in (?:{MONTH} )?(?P<year>\d{{4}})",
        lead,
    )
    simple = re.search(
        r"(?:^|[.] )(?:[^.]{0,60}? (?:was|were) |[^.]*?)\b(?:formed|founded|established) in (?:early |late )?"
        r"(?:[A-Z][a-z]+ )?(?P<year>\d{4})",
        rest,
    )
    if begins:
        yield fact("formed_in", begins, "year")
        yield fact("formed_at", begins, "place")
    elif simple and (match := re.compile(r"(?P<year>\d{4})").search(lead, first.end() + simple.start("year"))):
        yield fact("formed_in", match, "year")


# Works


def work(name: str, lead: str, text: str, id: str, size: float, aliases: tuple) -> Iterator[Entity | Fact]:
    first = re.match(
        rf"\"?{re.escape(name)}\"?,?\s?(?:{BRACKETS},?\s?)?(?:is|was) (?P<rest>[^\n]{{5,300}})", lead, re.IGNORECASE
    )
    if not first:
        return
    rest, base = first["rest"], first.start("rest")
    by = re.match(
        rf"(?:an?|the) (?P<about>[^.,(\"]{{0,60}}?)\b{KIND}(?P<more> (?:written|composed)[^.,]{{2,60}}?(?:and|,))? "
        rf"(?:(?:performed|recorded|released|sung|issued) )?(?:by|from|of) (?P<by>[^(\";]{{2,90}})", rest
    )  # fmt: skip
    owned = re.match(
        rf"(?P<by>[A-Z][^.,(\"]{{1,60}}?)(?:['’]s|(?<=s)['’]) (?P<about>[^.,(\"]{{0,40}}?)\b{KIND}\b", rest
    )
    match = by or owned
    artist = artist_of(match["by"]) if match else ""
    kind = match["kind"] if match else ""
    if not artist or re.search(
        r"\b(?:tribute|soundtrack|split|box set|video|various|cast|musical|film|opera|unreleased)\b", rest[:160]
    ):
        return
    cover = bool(re.search(COVER, text, re.IGNORECASE))
    yield from entities_of(name, KINDS[kind], id, owner=artist, aliases=aliases, size=size, page=True, cover=cover)
    about = match["about"]
    year, doubt = release_year(lead, text, about)

    def fact(relation: str, value: str, start: int, end: int, subject: str = name, **more) -> Fact:
        quote = quote_of(lead, start, end)
        filled = {"owner": artist, "kind": kind, "year": year} | more
        if relation in ("released_in", "released_on"):
            filled |= as_single(kind, quote) | {
                "doubt": filled.get("doubt") or doubt or as_single(kind, quote)["doubt"]
            }
        return Fact(key_of(subject), relation, subject, value, "en", id, quote, "text", **filled)

    at = base + match.start("by") + match["by"].find(artist)
    first_year = year if KINDS[kind] == ALBUM or year in quote_of(lead, at, at) else ""  # else it may be another's
    yield fact("performer", artist, at, at + len(artist), year=first_year)
    if place := re.search(rf"\b{year}\b", lead) if year else None:
        yield fact("released_in", year, *place.span())
    if whole := re.search(rf"\breleased (?:worldwide )?on ({DATE})", lead):
        dates = re.findall(rf"\breleas[^.;]{{0,80}}?(?:{DATE})", text)
        somewhere = len(dates) > 1 or re.search(
            r"\breleased in (?:the )?[A-Z]|\bin (?:the )?(?:U[KS]\b|United|Japan|North|Europe)", lead
        )
        yield fact("released_on", whole[1], *whole.span(1), doubt=doubt or ("several_dates" if somewhere else ""))
    yield from nth_of(name, artist, kind, about, base, match, fact)
    yield from maker_of(name, kind, lead, text, fact)


def artist_of(phrase: str) -> str:
    """ "Swiss singer DJ BoBo, released" -> DJ BoBo; "" where the name's begin or end is not sure."""
    cut = re.search(
        r",|(?<!\b[A-Z])\.(?=\s|$)|\sto (?![A-Z])|"
        r"\s(?:released|from|featuring|feat\.|that|which|for|on|in|taken|recorded|with|written|who|first|as|is|was|"
        r"originally|and released|and recorded|issued)\b", phrase
    )  # fmt: skip
    rest = phrase[cut.start() :] if cut else ""
    *before, name = re.split(rf"\b{BEFORE_NAME}\s", phrase[: cut.start()] if cut else phrase)
    ahead = phrase[: phrase.rfind(name)]
    if re.search(rf" and (?!(?:{ROLES}))|\b{BEFORE_NAME} [A-Z].* (?:and|&|with) ", ahead) or re.match(
        r", (?:[A-Z][^,.]*?(?:,| &| and )|Inc|Jr|Sr)", rest
    ):
        return ""  # several artists, or a name with commas
    if re.search(r"\b(?:DJ|MC)\s$", ahead):  # American DJ Nia Mo; Swiss singer DJ Bolo
        role = re.search(rf"\b{BEFORE_NAME} (DJ|MC) $", ahead)
        name = f"{role[1]} {name}" if role else ""
    if not before and re.match(rf"(?:the )?{DEMONYM}\b", name):
        return ""  # American Lil Baby is not named so, Spanish Harlem Orchestra is
    name = re.sub(r"(?<=\.)\s(?:It|This|The|In|He|She|They|On|Its)$", "", name.strip())  # T.J. It was
    name = name if re.search(r"\b[A-Z]\.[A-Z]\.$|[JS]r\.$", name) else name.rstrip(".")
    name = re.sub(r"^the (?=[A-Z])", "The ", name.rstrip("'’"))
    plain = re.fullmatch(rf"(?:The )?{NAMES}", name) and not re.fullmatch(f"(?:{NATION}|{BEFORE_NAME})s?", name)
    return name if plain and len(name) > 1 and not re.search(r"\b(?:Records|Recordings|Various)\b|['’]s$", name) else ""


def as_single(kind: str, quote: str) -> dict[str, str]:
    """A song is out with its album and as a single: only of the single is there one date."""
    if re.search(r"\b(?:to|would|will|not) be (?:re)?(?:released|issued)|\bvinyl\b|\bplanned\b", quote):
        return {"kind": kind, "doubt": "several_dates"}
    if kind != "song":
        return {"kind": kind, "doubt": ""}
    return {"kind": "single", "doubt": "" if re.search(r"\bsingle\b", quote) else "several_dates"}


def release_year(lead: str, text: str, about: str) -> tuple[str, str]:
    """(the year of release, several_dates where the page names other years too)"""
    years = re.findall(r"\breleas(?:ed?|ing)\b[^.;]{0,50}?\b((?:19|20)\d\d)\b", lead) + re.findall(
        r"\b((?:19|20)\d\d)\b", about
    )
    everywhere = re.findall(r"\b(?:re-?)?(?:releas|issu)(?:ed?|ing)\b[^.;\n]{0,50}?\b((?:19|20)\d\d)\b", text)
    again = re.search(r"re-?(?:released|issued|mastered|recorded)", text, re.IGNORECASE)
    return (years[0] if years else ""), ("several_dates" if len({*years, *everywhere}) > 1 or again else "")


def nth_of(name: str, artist: str, kind: str, about: str, base: int, match: re.Match, fact) -> Iterator[Fact]:
    """The work by its place among the artist's: third studio album."""
    place = re.search(rf"\b{NTH}\b ?(?P<more>[\w-]*) ?$", about)
    if place and KINDS[kind] == ALBUM:
        more = place["more"]
        start = base + match.start("about")
        # Later ones are counted differently, with or without live albums and reissues.
        sure = kind == "studio album" and more in ("", "full-length") and number_of(place["nth"]) <= FEW
        yield fact("nth", name, start, start + len(about), subject=artist, owner=artist, year="",
                   kind=f"{place['nth']} {more} {kind}".replace("  ", " "),
                   doubt="" if sure else "not_plain")  # fmt: skip


def maker_of(name: str, kind: str, lead: str, text: str, fact) -> Iterator[Fact]:
    """Label of an album, album and writer of a song."""
    if KINDS[kind] == ALBUM:
        labels = {
            m[1] for m in re.finditer(rf"((?:{NAME} ){{0,3}}(?:Records|Recordings|Music Group|Entertainment))\b", text)
        }
        match = re.search(
            r"\b(?:released|issued)\b[^.;\n]{0,60}?\b(?:by|on|through|via) "
            rf"(?P<label>{NAMES} (?:Records|Recordings))\b",
            lead,
        )
        if match:
            value = re.sub("^the ", "", match["label"])
            more = re.match(r"\s?(?:and|/|&|in |\(|, [A-Z])", lead[match.end() :])
            more = more or re.search(r"\bin the\b|\band\b|/|&", match[0])
            doubt = "several_labels" if len(labels) > 1 or more else ""
            yield fact("label", value, match.end("label") - len(value), match.end("label"), doubt=doubt)
        return
    album = re.search(
        r"\b(?:single|track|song)s?\b[^.\"]{0,30}? (?:from|off|of) "
        r"(?:his|her|their|its|[A-Z][^\".]{0,40}?['’]s?) [^\".]{0,50}?\balbum,? "
        r"(?:titled |entitled |called )?\"(?P<album>[^\"]{2,60})\"", lead
    )  # fmt: skip
    if album and not re.search(r"B-side|originally|intended|soundtrack|demo", quote_of(lead, *album.span())):
        yield fact("album_of", album["album"], *album.span("album"))
    writer = re.search(
        r"(?:(?:is|was) an? [^.\"]{0,30}song|(?:It|The (?:song|single|track)) was) written (?:solely |entirely )?"
        rf"by (?P<who>{NAME}(?: {NAME}){{1,2}})"
        r"(?=\.|,? (?:and )?(?:recorded|performed|released|sung|produced|first)\b)", lead
    )  # fmt: skip
    if writer and not re.search("['’]s |co-", quote_of(lead, *writer.span())):
        yield fact("writer", writer["who"], *writer.span("who"))
