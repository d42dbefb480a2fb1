"""Addresses of people: e-mail, machines and web pages that name someone, messenger ids, homes (see masking.py)."""

import ipaddress
import re

from data_prep.private.numbers import AMOUNT, COLON, SPACE, Kind, Span, quoted, said

# Addresses of the net

_URL = re.compile(
    r"""(?<![A-Za-z0-9])(?P<v>(?:https?://|ftp://|www\.)[^\s<>"'|{}()（）【】《》，。；：、！？\u4e00-\u9fff]+)"""
)
_LOGIN = re.compile(r"[a-z]{3,5}://[^/?#@]{1,80}@")
_PERSONAL = re.compile(
    r"(?i:[?&;#](?:[a-z0-9]{1,16}[_.-])?(?:[a-z]{0,12}token|user_?id|uid|openid|unionid|uin|qq|wxid|share_?id|user_?name|auth|"
    r"authorization|session|session_?id|phpsessid|jsessionid|api_?key|secret|password|passwd|pwd|e?mail|phone|mobile|"
    r"vd_source|si)=[^&#]{3}|[a-z0-9](?:@|%40)[a-z0-9-]{1,63}\.[a-z]{2})"
)
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])(?P<v>[A-Za-z0-9_%+][A-Za-z0-9._%+-]*+(?:@|[ ]?[(\[{][ ]?[Aa][Tt][ ]?[)\]}][ ]?)"
    r"(?:[A-Za-z0-9-]{1,63}\.){1,5}(?!(?:png|jpe?g|gif|svg|html?|mp3|js|css)(?![A-Za-z0-9]))[A-Za-z]{2,24})(?![A-Za-z0-9])"
)
_IP4 = re.compile(r"(?<![0-9A-Za-z_.-])(?<![A-Za-z0-9]/)(?P<v>(?:[0-9]{1,3}\.){3}[0-9]{1,3})(?![0-9A-Za-z_-]|\.[0-9])")
_VERSION = re.compile(r"(?i:(?<![a-z])(?:v|ver|versions?|release|firmware|build)|版本|版|固件)[ .:：]*$")
_IP_WORDS = re.compile("(?<![A-Za-z])[Ii][Pp](?![A-Za-z])")
_IP6 = re.compile(
    r"(?<![0-9A-Za-z_.])(?<![0-9A-Fa-f:]:)(?P<v>[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![0-9A-Za-z_:])"
)


def _url(line: str, match: re.Match) -> Span | None:
    start, end = match.span("v")
    end -= len(match["v"]) - len(match["v"].rstrip(".,;:!?]*"))
    query = line.find("?", start, end)
    personal = _LOGIN.match(line, start, end) or (query >= 0 and _PERSONAL.search(line, query, end))
    return (start, end) if personal else None


def _ip4(line: str, match: re.Match) -> Span | None:
    """Not 1.2.3.4, a chapter; not a version, nor an address that every machine has."""
    octets = [int(octet) for octet in match["v"].split(".")]
    real = max(octets) <= 255 and octets[0] not in (0, 127, 255) and not said(_VERSION, line, match.start("v"), 10)
    return match.span("v") if real and (max(octets) > 31 or said(_IP_WORDS, line, match.start("v"), 12)) else None


def _ip6(line: str, match: re.Match) -> Span | None:
    value = match["v"]
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return None
    groups = [group for group in value.split(":") if group]
    return match.span("v") if len(groups) >= 3 and re.search("[0-9]", value) else None


# Messengers

_NAME = r"[A-Za-z][A-Za-z0-9_-]{5,19}|1[3-9][0-9]{9}|[1-9][0-9]{5,10}"
_WECHAT = re.compile(
    r"(?P<add>加我?的?|添加)?[ ]?"
    r"(?P<word>微信|薇信|威信|(?<![A-Za-z0-9])(?<![a-z][+-])(?i:we ?chat|weixin|vx|wx|v信|v(?=[ ]?[:：])))"
    rf"(?P<id>[ ]?(?:号码?|號碼?|(?i:id)(?![a-z])|账号|帐号|帳號))?(?:[ ]?(?:是|为|為|is(?![a-z])))?(?P<colon>{COLON})"
    rf"(?P<v>{_NAME})(?![A-Za-z0-9_@-])(?!\.[A-Za-z]){AMOUNT}"
)
_WXID = re.compile(r"(?<![A-Za-z0-9_])(?P<v>wxid_[A-Za-z0-9]{6,20})")
_QQ = re.compile(
    r"(?:(?<![A-Za-z])(?i:qq|q(?=[ ]?群|[ ]?[:：]))|加[qQ]|扣扣|企鹅|"
    r"(?:粉丝|歌迷|交流|官方|后援)(?=群)|加(?=群)|(?=群号))"
    r"(?:粉丝|歌迷|交流|联系|官方|后援)?[ ]?(?:群号码?|群|号码?|號碼?|(?i:number|no\.?|id|group))?"
    r"(?:[ ]?(?:是|为|為|is(?![a-z])))?"
    rf"{COLON}(?P<v>[1-9][0-9]{{4,10}}|[1-9][0-9]{{2}}[ -][0-9]{{3}}[ -][0-9]{{3,4}})(?![0-9A-Za-z]){AMOUNT}"
)


def _wechat(line: str, match: re.Match) -> Span | None:
    """A word of letters alone counts only with "id" before it, or added or set off by a colon, and not in prose."""
    name = match["v"]
    plain = name.isalpha()
    called = match["add"] or match["colon"].strip() or match["word"].lower() == "vx"  # which begins no word
    prose = not name.islower() or re.match(" [A-Za-z]", line[match.end("v") :][:2])
    if match["id"] or not plain or (called and not prose):
        return match.span("v")
    return None


# Postal addresses

_HAN = "\u4e00-\u9fff"
_COUNT = r"(?:[0-9]{1,5}[A-Za-z]?|[一二三四五六七八九十百零〇]{1,6})"
_DOOR = (
    rf"(?:{_COUNT}{SPACE}?(?:号楼|號樓|号院|栋|棟|幢|座|单元|單元|楼|樓|层|層|室|房|号|號|弄)|"
    rf"[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{1,2}}|[A-Z]座?[0-9]{{1,4}}室?|(?<=[元座栋棟幢楼樓])[0-9]{{1,4}})"
)
_ESTATE = rf"[{_HAN}]{{1,8}}?(?:花园|花園|家园|苑|小区|小區|社区|公寓|新村|大厦|大廈|广场|中心|园|城)"
_ZH_ADDRESS = re.compile(
    rf"(?:[路街巷弄里村段园園苑寓厦廈城庄坊条條]|(?<![国國省县縣市乡鄉府都])道|胡同|[小社][区區]){SPACE}?(?P<first>{_COUNT}(?:[-之][0-9]{{1,4}}){{0,3}}"
    rf"{SPACE}?(?:号楼|號樓|号院|号|號|弄|栋|棟|幢|座|单元|單元|楼|樓|室)|[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{2}})"
    rf"(?P<door>(?:(?:{_ESTATE})?{SPACE}?{_DOOR}){{0,6}})"
)
_BEFORE = re.compile(rf"[{_HAN}0-9 ]{{1,40}}\Z")
_TOWN = re.compile("[省市区區县縣州镇鎮乡鄉旗盟]")
_PLACE = re.compile(
    "北京|上海|天津|重庆|重慶|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南"
    "|陕西|甘肃|青海|台湾|臺灣|内蒙古|广西|西藏|宁夏|新疆|香港|澳门"
)
_LEADING = re.compile(r".*(?:[在到是为為了给給往至寄住址]|于(?![洪都田])|於)")
_LIVES = re.compile("住|[地住]址|寄|收货|收件|快递|快遞|送到|送至|搬到|搬至|邮寄|户籍|戶籍")
_PUBLIC = re.compile(
    r"(?:(?:[位坐设設]落?址?|地处|總部|总部)[于於在]|[设設遷迁]址|[@＠])[ ]?(?:中国|中国的|中华人民共和国)?\Z"
)  # before addresses of halls and schools
_STREET_NAME = r"(?:(?:[NSEW]\.?|St\.|[A-Z][a-z'’]+|[0-9]{1,3}(?:st|nd|rd|th))[ ]){1,4}?"
_STREET_KIND = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|"
    r"Drive|Dr|Court|Ct|Terrace|Way|Place|Pl|Square|Sq|Close|Crescent|Parkway|Highway)"
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
_EN_ADDRESS = re.compile(rf"(?P<v>(?<![0-9A-Za-z$.,-]){_STREET}\.?(?P<unit>{_UNIT})?(?P<code>{_TOWN_CODE})?)")
_LIVES_AT = re.compile(
    r"(?i:(?<!were )(?<!was )(?<![a-z])(?:lives?|living|residing|resides|ship|mail|send|deliver)(?![a-z])[^0-9\n.]*$"
    r"|(?<![a-z])address(?: is)?[ ]?[:：]?[ ]?$)"
)


def _zh_address(line: str, match: re.Match) -> Span | None:
    """The whole address, from the town on.  A town's name has no mark where it begins, but for a word like 在."""
    before = _BEFORE.search(line, max(0, match.start() - 40), match.start("first"))
    if not before:
        return None
    name, start = before[0], before.start()
    leading = _LEADING.match(name[:-1])
    start, name = (start + leading.end(), name[leading.end() :]) if leading else (start, name)
    place, town = _PLACE.search(name), _TOWN.search(name[:-1])
    cut = place.start() if place else max(0, town.start() - 4) if town else max(0, len(name) - 6)
    start += cut + len(name[cut:]) - len(name[cut:].lstrip())
    if quoted(line, start) or (_PUBLIC.search(line, max(0, start - 12), start) and not match["door"]):
        return None
    return (start, match.end()) if town or match["door"] or said(_LIVES, line, start, 12) else None


def _en_address(line: str, match: re.Match) -> Span | None:
    if match["unit"] or match["code"] or said(_LIVES_AT, line, match.start("v"), 30):
        return match.span("v")
    return None


# All of them

_WEB = re.compile("[:w](?://|ww)")
_IM = re.compile(
    "[QqVvWw微薇威扣企群粉歌交官后加](?:[QqXx群:：号信扣鹅丝迷流方援]| [群:：]|[Ee] ?[Cc][Hh]|[Ee][Ii][Xx])"
)
_ZH_STREET = re.compile("[路街道巷弄里村段园園苑寓厦廈城庄坊条條同区區][ \u00a0\u3000]?[0-9一二三四五六七八九十百]")

NET = (
    Kind("url", _WEB, _URL, _url),
    Kind("email", re.compile("@"), _EMAIL),
    Kind("email", re.compile(r"[(\[{] ?[Aa][Tt] ?[)\]}]"), _EMAIL),
    Kind("ip", re.compile(r"\.[0-9]{1,3}\.[0-9]"), _IP4, _ip4),
    Kind("ip", re.compile(":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]"), _IP6, _ip6),
    Kind("", _WEB, _URL),  # whatever else stands in an address of the net is part of it
)
MESSENGERS = (Kind("wechat", _IM, _WECHAT, _wechat), Kind("wechat", re.compile("wxid_"), _WXID), Kind("qq", _IM, _QQ))
HOMES = (
    Kind("address", _ZH_STREET, _ZH_ADDRESS, _zh_address),
    Kind("address", re.compile(f"[0-9][A-Za-z]?[ ]{_STREET_NAME}{_STREET_KIND}(?![a-z])"), _EN_ADDRESS, _en_address),
)
