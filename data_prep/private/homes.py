"""Postal addresses, zh and en, and whose they are.

An address is someone's where a person or a contact phrase owns it: 家住, 收货地址, 寄到, "lives at", "mail to";
in English also by its form, since an apartment or a postal code is written for the mail.  One that a hall, shop or
office is said to stand at (位于, 座落于, "located at", "headquartered in") is public.

A Chinese address has no blank before it.  It begins behind the phrase that owns it; without one, behind punctuation or
a word that leads to a place, or at the name of a province.
"""

import re

from data_prep.private.numbers import BLANK, SPACE, Kind, Span, quoted, said

# Chinese

_HAN = "\u4e00-\u9fff"
_DIGITS, _NUMERALS = "[0-9]{1,5}[A-Za-z]?", "[一二三四五六七八九十百零〇]{1,6}"
_DOOR = (
    rf"(?:(?:{_DIGITS}|{_NUMERALS}){SPACE}?(?:号楼|號樓|号院|栋|棟|幢|座|单元|單元|门|門|楼|樓|层|層|室|房|号|號|弄)(?:之[0-9]{{1,3}})?|"
    rf"[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{1,2}}|[A-Z]座?[0-9]{{1,4}}室?|(?<=[元座栋棟幢楼樓])[0-9]{{1,4}})"
)
_ESTATE = rf"[{_HAN}]{{1,8}}?(?:花园|花園|家园|苑|小区|小區|社区|公寓|新村|大厦|大廈|广场|中心|园|城)"
_STREET_HINT = re.compile("[路街道巷弄里村段园園苑寓厦廈城庄坊条條同区區][ \u00a0\u3000]?[0-9一二三四五六七八九十百]")
_ZH = re.compile(
    rf"(?:[路街巷弄里村段园園苑寓厦廈城庄坊条條]|(?<![国國省县縣市乡鄉府都])道|胡同|[小社][区區]){SPACE}?"
    rf"(?P<first>{_DIGITS}(?:[-之][0-9]{{1,4}}){{0,3}}{SPACE}?(?:号楼|號樓|号院|号|號|弄|栋|棟|幢|座|单元|單元|楼|樓|室)"
    rf"|{_NUMERALS}{SPACE}?(?:号|號|弄)|[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{2}})(?![线線])"
    rf"(?P<door>(?:(?:{_ESTATE})?{SPACE}?{_DOOR}){{0,6}})"
)
_BEFORE = re.compile(rf"[{_HAN}0-9·• ]{{1,40}}\Z")
_PERSON = r"(?:[我你您他她咱俺]们?|[我你您他她]們|本人|自己)"
_OWNER = re.compile(
    rf"{_PERSON}家(?:[里裡])?[在于於]?|家住?[在于於]|老家|(?<!入)住(?![宅院户戶房民客持宿路的过過])|居住|定居|寓居"
    rf"|(?:{_PERSON}|(?<!国)家|家庭|居住|联系|聯繫|联络|聯絡|通[讯信訊]|收[货貨件]|[邮郵]寄|寄送|快[递遞]|配送|送[货貨]|投[递遞]|退[货貨]|回[邮郵]"
    rf"|[户戶][籍口]|身份[证證]|[现現]|目前|新)的?(?:地址|住址)|住址|[户戶]籍(?:所在地)?"
    rf"|(?:寄|送|快[递遞]|[邮郵]寄|配送|投[递遞]|[发發][货貨]?)[到至往给給回]"
    rf"|(?:{_PERSON}|全家|一家人?|举家|舉家|[{_HAN}]家)[^从從，。]{{0,6}}?[搬迁遷]家?[到至进進入往去]"
)
_LABEL = re.compile(r"(?<!注册)(?<![网網校厂廠])[地住]址[\"']?[ ]?[:：][ ]?[(（\[\"']?\Z")
_LED = re.compile("[址]?[在于於到至是为為了：: ]{0,3}")
_ASIDE = re.compile(r".*(?:[的旁]|附近|对面|對面|隔壁)")
_LEADING = re.compile(
    r".*(?:[在到是为為了给給往至从從由今即址入]|以及|而|[购購][入得]|[搬迁遷][进進]|于(?![洪都田])|於)"
)
_TOWN = re.compile("[省市区區县縣州镇鎮乡鄉旗盟]")
_PROVINCE = re.compile(
    "北京|上海|天津|重庆|重慶|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南"
    "|陕西|甘肃|青海|台湾|臺灣|内蒙古|广西|西藏|宁夏|新疆|香港|澳门"
)


def _zh_owned(line: str, match: re.Match) -> Span | None:
    """What someone lives at, or gets mail at; beside another private value, what leads to a door."""
    before = _BEFORE.search(line, max(0, match.start() - 40), match.start("first"))
    if not before or quoted(line, before.start()):
        return None
    owners = list(_OWNER.finditer(line, before.start(), match.start()))
    if owners:
        return _without_aside(line, owners[-1].end(), match)
    label = said(_LABEL, line, before.start(), 12) or said(_ENDS_OWNED, line, before.start(), 12)
    beside = BLANK in line[max(0, before.start() - 8) : before.start()] + line[match.end() : match.end() + 8]
    return _without_aside(line, before.start(), match) if label or (match["door"] and beside) else None


def _without_aside(line: str, start: int, match: re.Match) -> Span:
    """From the place's name on, without what leads there: 在, 了, 学校旁的."""
    start = _LED.match(line, start).end()
    aside = _ASIDE.match(line, start, match.start())
    return (aside.end() if aside else start), match.end()


_ENDS_OWNED = re.compile(f"(?:{_OWNER.pattern})(?:是|为|為|在)?[\"']?[ ]?[:：,，]?[ ]?[(（\\[\"']?\\Z")


def _zh_any(line: str, match: re.Match) -> Span | None:
    """Also a whole address of town and street that nobody owns, where it is clear where it begins."""
    if owned := _zh_owned(line, match):
        return owned
    before = _BEFORE.search(line, max(0, match.start() - 40), match.start("first"))
    if not before or quoted(line, before.start()):
        return None
    leading = _LEADING.match(line, before.start(), match.start())
    start = leading.end() if leading else before.start()
    province = _PROVINCE.search(line, start, match.start())
    start = (
        province.start()
        if province
        else start + len(line[start : match.start()]) - len(line[start : match.start()].lstrip())
    )
    town = _TOWN.search(line, start + 1, match.start())
    return (start, match.end()) if (town or match["door"]) and (leading or province or town) else None


# English

_STREET_NAME = r"(?:(?:[NSEW]\.?|St\.|[A-Z][a-z'’]+|[0-9]{1,3}(?:st|nd|rd|th))[ ]){1,4}?"
_STREET_KIND = (
    r"(?:Street|Avenue|Road|Boulevard|Lane|Drive|Court|Terrace|Way|Place|Square|Close|Crescent|Parkway|Highway"
    r"|(?:St|Ave|Rd|Blvd|Ln|Dr|Ct|Pl|Sq)(?![a-z])\.?)"
)
_STREET = rf"[0-9]{{1,5}}(?:-[0-9]{{1,4}}|[A-Za-z])?[ ]{_STREET_NAME}{_STREET_KIND}(?![a-z])"
_UNIT = (
    r",?[ ](?:(?:Apt|Apartment|Suite|Ste|Unit|Flat|Room|Rm)\.?[ ]?#?|#)"
    r"[ ]?(?=[0-9A-Z])[A-Z]?[0-9]{0,4}[A-Z]?(?![0-9A-Za-z])"
)
_TOWN_CODE = (
    r",[ ][A-Z][A-Za-z .,'-]{1,40}?[ ]"
    r"(?:[0-9]{5}(?:-[0-9]{4})?|[A-Z]{1,2}[0-9][0-9A-Z]?[ ][0-9][A-Z]{2})(?![0-9A-Za-z])"
)
_EN_HINT = re.compile(f"[0-9][A-Za-z]?[ ]{_STREET_NAME}{_STREET_KIND}(?![a-z])")
_EN = re.compile(rf"(?P<v>(?<![0-9A-Za-z$.,-]){_STREET}(?P<unit>{_UNIT})?(?P<code>{_TOWN_CODE})?)")
_LIVES_AT = re.compile(
    r"(?i:(?<![a-z])(?:(?<!were )(?<!was )live|lives|living|resid(?:es?|ed|ing)|ship|mail|send|deliver)(?![a-z])"
    r"[^0-9\n.]*$"
    r"|(?<![a-z])(?:my|his|her|your|our|home|mailing|postal|shipping|delivery|billing|current|residential|return)[ ]"
    r"(?:[a-z]{1,12}[ ])?address(?:[ ](?:is|was))?[ ]?[:：]?[ ]?$"
    r"|(?:^|[,;.|(\"'][ ]?)address[\"']?[ ]?[:：][ ]?[\"']?$)"
)
_STANDS_AT = re.compile(
    r"(?i:(?<![a-z])(?:(?:located|situated|headquartered|based|housed)(?:[ ][a-z]{1,12})?[ ](?:at|in|on)"
    r"|(?:offices?|headquarters|building|studios?|venue)(?:[ ](?:is|are|was|were))?[ ]at)[ ](?:the[ ])?$)"
)
_ADDRESS_IS = re.compile(r"(?i:(?<![a-z])address(?:[ ]is)?[ ]?[:：]?[ ]?$)")


def _en_owned(line: str, match: re.Match) -> Span | None:
    start = match.start("v")
    whole = (match["unit"] or match["code"]) and not said(_STANDS_AT, line, start, 40)
    return match.span("v") if whole or said(_LIVES_AT, line, start, 30) else None


def _en_any(line: str, match: re.Match) -> Span | None:
    start = match.start("v")
    public = match["unit"] or match["code"] or said(_STANDS_AT, line, start, 40) or said(_ADDRESS_IS, line, start, 20)
    return match.span("v") if public else _en_owned(line, match)


HOMES = {
    "owned": (Kind("address", _STREET_HINT, _ZH, _zh_owned), Kind("address", _EN_HINT, _EN, _en_owned)),
    "all": (Kind("address", _STREET_HINT, _ZH, _zh_any), Kind("address", _EN_HINT, _EN, _en_any)),
    "none": (),
}
