"""Addresses of people in the net: e-mail, machines and web pages that name someone, messenger ids (see masking.py)."""

import ipaddress
import re

from data_prep.private.numbers import AMOUNT, COLON, Kind, Span, said

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
    """Not 1.2.3.4, a chapter; not a version, nor an address that not all machines can reach."""
    octets = [int(octet) for octet in match["v"].split(".")]
    real = max(octets) <= 255 and octets[0] not in (0, 127, 255) and not said(_VERSION, line, match.start("v"), 10)
    if not real or not _is_someones(ipaddress.IPv4Address(bytes(octets))):
        return None
    return match.span("v") if (max(octets) > 31 or said(_IP_WORDS, line, match.start("v"), 12)) else None


def _is_someones(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """One that all machines can reach; private, shared and reserved ranges name nobody, in prose as in code."""
    return address.is_global and not address.is_multicast


def _ip6(line: str, match: re.Match) -> Span | None:
    value = match["v"]
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return None
    if not _is_someones(address):
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


# All of them

_WEB = re.compile("[:w](?://|ww)")
_IM = re.compile(
    "[QqVvWw微薇威扣企群粉歌交官后加](?:[QqXx群:：号信扣鹅丝迷流方援]| [群:：]|[Ee] ?[Cc][Hh]|[Ee][Ii][Xx])"
)
NET = (
    Kind("url", _WEB, _URL, _url),
    Kind("email", re.compile("@"), _EMAIL),
    Kind("email", re.compile(r"[(\[{] ?[Aa][Tt] ?[)\]}]"), _EMAIL),
    Kind("ip", re.compile(r"\.[0-9]{1,3}\.[0-9]"), _IP4, _ip4),
    Kind("ip", re.compile(":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]"), _IP6, _ip6),
    Kind("", _WEB, _URL),  # whatever else stands in an address of the net is part of it
)
MESSENGERS = (Kind("wechat", _IM, _WECHAT, _wechat), Kind("wechat", re.compile("wxid_"), _WXID), Kind("qq", _IM, _QQ))
