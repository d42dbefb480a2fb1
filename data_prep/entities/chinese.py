"""Facts in the first sentences of a Chinese page, as english.py reads them in an English one.

Patterns are written in simplified characters and read a simplified copy, in which every character stands where it
stood; quotes are cut out of the page itself.
"""

import re
from collections.abc import Iterator

from data_prep.entities.records import ALBUM, GROUP, PERSON, SONG, Entity, Fact, entities_of
from data_prep.entities.values import COUNTRIES_ZH, key_of, number_of, simplified
from data_prep.entities.values import DATE_ZH as DATE

LEAD = 600  # characters that may define the subject
MORE_PLACES = [
    "大陆", "内地", "南韩", "瑞典", "挪威", "荷兰", "俄罗斯", "乌克兰", "爱尔兰", "苏格兰",
    "西班牙", "巴西", "芬兰", "丹麦", "菲律宾", "泰国", "越南", "古巴", "哥伦比亚", "墨西哥",
    "冰岛", "奥地利", "波兰", "马来西亚华裔", "华语", "国语", "粤语", "韩裔", "华裔", "裔",
]  # fmt: skip
PLACES = "|".join((*COUNTRIES_ZH, *MORE_PLACES))
ROLES = (
    "创作男歌手|创作女歌手|创作歌手|唱作歌手|男歌手|女歌手|歌手|唱作人|音乐人|音乐家|作曲家|钢琴家|小提琴家|大提琴家|指挥家|吉他手|"
    "鼓手|贝斯手|饶舌歌手|饶舌者|说唱歌手|词曲作家|作词家|作词人|作曲人|音乐制作人|女高音歌唱家|男高音歌唱家|歌唱家|演歌歌手|DJ"
)
BANDS = (
    "男子音乐组合|女子音乐组合|女子音乐团体|男子音乐团体|音乐团体|歌唱团体|演唱团体|女子偶像组合|男子偶像组合|偶像女子组合|男子组合|女子组合|偶像组合|偶像团体|女子团体|男子团体|男子偶像团体|"
    "女子偶像团体|演唱组合|音乐组合|二人组合|三人组合|摇滚乐团|摇滚乐队|重金属乐队|乐团(?!体)|乐队|组合|团体|合唱团|二人组(?!合)"
)
BEFORE_NAME = rf"(?:{ROLES}|{BANDS}|成员|艺人|演员|演歌手|主唱|天后|天王|偶像|歌星|声优|巨星)"
SINGLE = "数位限定单曲|数位单曲|单曲专辑|单曲|细碟"
KINDS = {"歌曲": SONG, "流行歌曲": SONG, "歌": SONG, "乐曲": SONG} | dict.fromkeys(SINGLE.split("|"), SONG)
ALBUMS = (
    "原创专辑|录音室专辑|音乐专辑|个人专辑|国语专辑|粤语专辑|正规专辑|迷你专辑|精选专辑|现场专辑|精选辑|大碟|EP|专辑"
)
KIND = rf"(?P<kind>{ALBUMS}|{SINGLE}|流行歌曲|歌曲)"
NTH = r"(?P<nth>第\s?[一二三四五六七八九十\d]+\s?[张首支部]|首张|首支)"
PLAIN = [
    "单曲", "专辑", "录音室专辑", "个人专辑", "迷你专辑", "国语专辑", "正规专辑", "音乐专辑",
    "粤语专辑", "原创专辑", "个人国语专辑", "原创录音室专辑", "日语单曲", "韩语迷你专辑", "实体单曲",
]  # fmt: skip  # what is numbered alike by all
FOREIGN = r"[\"“]?([A-Za-z][\w .,'’&!?/-]*[\w.!?])[\"”]?(?=[）)，；])"  # a name in Latin letters, in brackets
NO_NAME = (  # stands in no artist's name
    "成员|同名|兼任|总计|收录|罗列|根据|改编|翻自|代初|作词|作曲|抗击|流行|一首|主题|共同|号召|睽违|暌违|时隔|相隔"
)
BRACKETS = r"(?:（[^（）]*）|\([^()]*\))"
NAME = r"[^，。、；：《》（）()的和与及「」\s/]{2,14}|[A-Za-z][\w.'’&!* -]{1,28}"
COVER = "翻唱|原唱|改编自|重唱|重新演绎|旧曲|翻奏"
OUT = "发行|推出|发售|上市|发布|派台|面世|出版"


def records(name: str, text: str, id: str, size: float, aliases: tuple[str, ...]) -> Iterator[Entity | Fact]:
    """Of a page about `name`, which is simplified."""
    plain = simplified(text)
    if len(plain) != len(text):  # a phrase grew or shrank: places would not agree
        text = plain
    end = re.search(r"\n[^。\n]{1,20}[.。]\n|\n\n", plain)
    lead = plain[: min(end.start() if end else LEAD, LEAD)]
    foreign = re.match(rf"[《〈]?{re.escape(name)}[》〉]?\s?[（(](?:[^（），；：:]{{1,3}}[：:])?{FOREIGN}", lead)
    aliases = (*aliases, foreign[1].strip()) if foreign else aliases
    for read in (work, group, person):
        if records := list(read(name, lead, plain, text, id, size, aliases)):
            yield from records
            return
    yield from entities_of(name, "", id, aliases=aliases, size=size, page=True)


def quote_of(text: str, start: int, end: int) -> str:
    """The sentence that holds a place, at most 200 characters."""
    begin = max(text.rfind("。", 0, start), text.rfind("\n", 0, start), end - 200) + 1
    stop = re.search("。|\n", text[end:])
    return text[begin : min(end + (stop.end() if stop else 200), begin + 200)].strip()


# Works


def work(name: str, lead: str, plain: str, text: str, id: str, size: float, aliases: tuple) -> Iterator[Entity | Fact]:
    quoted = rf"《{re.escape(name)}[^》]*》|〈{re.escape(name)}〉|{re.escape(name)}"
    first = re.match(
        rf"(?:{quoted})\s?{BRACKETS}*，?\s?(?:是|为|乃|系)?(?:一[张首支])?(?P<rest>[^。\n]{{4,120}})", lead
    )
    match = re.match(
        rf"(?:于?\d{{4}}年[\d月日]*)?(?:由|是)?(?P<who>[^，。《》]{{2,40}}?)(?:[于在]\d{{4}}年[\d月日份]*)?"
        rf"(?:所?(?:演唱|推出|发行|发售|派台|录制))?"
        rf"(?:的一?[张首]?(?:{NTH})?|(?=第|首){NTH.replace('<nth>', '<next>')})"
        rf"(?P<more>[^，。《》的第首]{{0,12}}?){KIND}(?=[，。、；]|于|在|$|收录|并|也|（)", first["rest"]
    ) if first else None  # fmt: skip
    artist = artist_of(match["who"]) if match else ""
    if not artist or re.search(
        "电影|电视剧|动画|游戏|演唱会|巡回|主题曲集|原声|合辑|群星|合唱|合作|对唱", first["rest"][: match.end()]
    ):
        return
    kind = match["kind"]
    is_song = kind in KINDS
    cover = bool(re.search(COVER, plain))
    yield from entities_of(
        name, SONG if is_song else ALBUM, id, owner=artist, aliases=aliases, size=size, page=True, cover=cover
    )
    base = first.start("rest")
    dates = re.findall(rf"({DATE})[^，。]{{0,15}}?(?:{OUT})|(?:{OUT})[^，。]{{0,6}}?({DATE})", plain)
    dates = {key_of(a or b) for a, b in dates}
    year = next(iter(re.findall(rf"(\d{{4}})年[^，。]{{0,22}}?(?:{OUT})", lead)), "")
    years = {*re.findall(rf"(\d{{4}})年[^，。]{{0,22}}?(?:{OUT})", plain)}
    again = re.search("再版|重新发行|再次发行|复刻|重制|预购|预售|改版|先行", plain)

    def fact(relation: str, value: str, start: int, end: int, subject: str = name, **more) -> Fact:
        quote = quote_of(text, start, end)
        filled = {"owner": artist, "kind": short_kind(kind), "year": year} | more
        if filled["kind"] == "歌曲" and relation in (
            "released_on",
            "released_in",
        ):  # out with an album, and as a single
            filled |= {
                "kind": "单曲",
                "doubt": more.get("doubt") or ("" if re.search("单曲|單曲", quote) else "several_dates"),
            }
        return Fact(key_of(subject), relation, subject, value, "zh", id, quote, "text", **filled)

    at = base + match.start("who") + match["who"].rfind(artist)
    first_year = year if not is_song or year in quote_of(text, at, at) else ""  # else it may be another's
    yield fact("performer", artist, at, at + len(artist), year=first_year)
    whole = re.search(rf"({DATE})[^，。]{{0,15}}?(?:{OUT})|(?:{OUT})日期?[^，。]{{0,4}}?({DATE})", lead)
    if (out := whole) and short_kind(kind) != "歌曲":  # a song's day differs from country to country
        span = out.span(1) if out[1] else out.span(2)
        yield fact("released_on", lead[slice(*span)], *span, doubt="several_dates" if len(dates) > 1 or again else "")
    elif out := re.search(rf"(\d{{4}})年[^，。]{{0,10}}?(?:{OUT})", lead):
        # A single of the turn of the year came out in one country before, in another behind it.
        turn = is_song and re.match("年(?:1|12)月", lead[out.end(1) :])
        doubt = "several_dates" if len(years) > 1 or again or turn else ""
        yield fact("released_in", out[1], *out.span(1), doubt=doubt)
    yield from nth_of(name, artist, match, base, fact)
    yield from makers_of(lead, short_kind(kind) == "歌曲", fact)


def short_kind(kind: str) -> str:
    return "歌曲" if "歌" in kind else "单曲" if KINDS.get(kind) else "EP" if kind == "EP" else "专辑"


def artist_of(phrase: str) -> str:
    """日本偶像团体SKE48 -> SKE48; "" where the name's begin or end is not sure."""
    phrase = re.sub(rf"{BRACKETS}", "", phrase).strip()
    phrase = re.sub(r"[于在](?:\d{4}年|日本|韩国|台湾|香港|中国|美国).*$|个人$|出道以来$", "", phrase)
    if re.search(f"[与和及、]|{NO_NAME}", phrase):
        return ""
    *before, name = re.split(BEFORE_NAME, phrase)
    if not before or not name:  # no role, or one that is part of the name: 英国摇滚乐队酷玩乐团
        name = re.sub(rf"^(?:{PLACES}|{BEFORE_NAME}|女性|男性)+(?=..)", "", phrase)
    name = name.strip(' 「」“”"')
    if re.fullmatch(rf"(?:女性|男性)?{BEFORE_NAME}|{PLACES}|.*[语文]", name) or re.match(
        r"\d{4}年|个人|她|他|一|其|该|非常", name
    ):
        return ""
    return name if re.fullmatch(r"[\w.'’&!*・·\-=+ ♡]{2,30}", name) and not re.search("[的是由第于在]", name) else ""


def nth_of(name: str, artist: str, match: re.Match, base: int, fact) -> Iterator[Fact]:
    """The work by its place among the artist's, and the place by the work."""
    nth = "nth" if match["nth"] else "next"
    number = number_of(match[nth]) if match[nth] else None
    if number is None or re.match("[^。]{0,20}(?:总计|不计|不包括)", match.string[match.end() :]):
        return
    what = f"{match['more']}{match['kind']}".strip()
    span = base + match.start(nth), base + match.end("kind")
    doubt = "" if what in PLAIN else "not_plain"
    yield fact("nth", name, *span, subject=artist, kind=f"{match[nth].replace(' ', '')}{what}", year="", doubt=doubt)
    if number > 1:
        yield fact("place_in_order", match[nth], *span, kind=what, doubt=doubt)


def makers_of(lead: str, is_song: bool, fact) -> Iterator[Fact]:
    """Label of a record, album of a song, lyricist and composer."""
    label = re.search(
        r"由(?P<who>[^，。《》、和与及由（）]{2,24}?)(?:于[\d年月日]+)?(?:负责)?(?:发行|出版)(?!的)", lead
    )
    who = re.sub("^唱片公司(?=.)", "", label["who"]) if label else ""
    if who and not is_song and not re.search("公司|旗下|自己|年|歌手|首次|正式|同时|独家|在|全球|[^A-Za-z]/", who):
        yield fact("label", who, label.end("who") - len(who), label.end("who"))
    album = re.search(r"(?:收录|收錄|出自)(?:于|在|至)?[^《。，]{0,24}?专辑[^《。，]{0,6}《(?P<album>[^》]+)》", lead)
    if album and is_song and "原声" not in album[0]:
        yield fact("album_of", album["album"], *album.span("album"))
    for relation, verb in (("lyricist", "(?:填词|作词)"), ("composer", "(?:作曲|谱曲)")):
        both = r"(?:作曲|谱曲|填词|作词|编曲)[、和与及兼]?" if relation == "lyricist" else r"(?:填词|作词)[、和与及兼]?"
        match = re.search(
            rf"(?:[，。]?由|[，。]|[作编]曲[、，])(?P<who>{NAME})(?:一手|负责|包办|创作)?(?:{both})*{verb}", lead
        )
        if (
            match
            and not re.search("词|曲|其|是|由|并|自|年|为|首|与|及|和|共同|组合|制作|根据|、", match["who"])
            and "标题曲" not in lead
        ):
            yield fact(relation, match["who"], *match.span("who"))


# People and groups


def person(
    name: str, lead: str, plain: str, text: str, id: str, size: float, aliases: tuple
) -> Iterator[Entity | Fact]:
    what = description(name, lead, ROLES)
    if not what:
        return
    head = plain[:500]
    born = (
        re.match(rf"[^。]{{0,60}}?[（(][^（）]*?({DATE})\s?(?:[-－—–~～]|出?生)", head)
        or re.search(
            rf"(?:^|[。，\n]|{re.escape(name)}[^。，]{{0,4}})(?:于|在|生于)?({DATE})(?:在|于)?"
            r"(?:出?生于|出生|[^，。；\n]{2,14}出生)", head
        )
    )  # fmt: skip
    date = born[1] if born else ""
    yield from entities_of(name, PERSON, id, born=date, aliases=aliases, size=size, page=True, what=what)

    def fact(relation: str, match: re.Match, part: int | str) -> Fact:
        quote = quote_of(text, *match.span(part))
        return Fact(key_of(name), relation, name, match[part], "zh", id, quote, "text", what=what)

    if born:
        yield fact("born_on", born, 1)
    place = re.search(
        rf"(?:^|[。，；\n]|{re.escape(name)})(?:{DATE}|他|她)?(?:出生|生|诞生)(?:于|在)"
        r"(?P<place>(?![\d一])[^，。；、（）\n年]{2,16})(?=[，。；（\n]|$)", head
    ) or re.search(rf"{DATE}(?:在|于)(?P<place>[^，。；、（）\n年]{{2,16}})出生", head)  # fmt: skip
    if place and not re.search("家庭|世家|一个|的|时", place["place"]):
        yield fact("born_in", place, "place")
    own = re.search(r"[，（](?:原名|本名)(?:为|是|：)?(?P<who>[\w·]{2,12})(?=[，。（）、；])", lead[:120])
    if own and not set(own["who"]) & set(name):
        yield fact("birth_name", own, "who")


def description(name: str, lead: str, roles: str) -> str:
    """韩国女歌手"""
    nation = rf"(?:{PLACES})"
    match = re.match(
        rf"{re.escape(name)}[^，。（(]{{0,6}}{BRACKETS}?[^。]{{0,60}}?(?:，|是|为|[）)])(?:是|为)?(?:一[名位个支])?"
        rf"(?P<what>(?:{nation}){{1,2}}(?:籍|的)?(?:{roles}))", lead
    )  # fmt: skip
    return match["what"].replace("的", "") if match else ""


def group(name: str, lead: str, plain: str, text: str, id: str, size: float, aliases: tuple) -> Iterator[Entity | Fact]:
    what = description(name, lead, BANDS)
    if not what or re.search("主唱|成员|歌手", lead[: lead.find("。")].split("包括")[0].split("由")[0]):
        return
    yield from entities_of(name, GROUP, id, aliases=aliases, size=size, page=True, what=what)
    match = re.search(r"(?P<year>\d{4})年[^，。年]{0,14}?(?:成立(?!.{0,3}周年)|组成|组建|成军|结成|组团)", lead)
    if match:
        years = {*re.findall(r"(\d{4})年[^，。年]{0,14}?(?:成立|组成|组建|成军|结成|组团|出道)", plain)}
        doubt = "several_dates" if len(years) > 1 or "重组" in lead else ""
        quote = quote_of(text, *match.span("year"))
        yield Fact(key_of(name), "formed_in", name, match["year"], "zh", id, quote, "text", what=what, doubt=doubt)
