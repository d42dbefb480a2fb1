"""Lines of pages that are no text: addresses, symbols, menus, calls to share and follow, copyright notices, credits.

A line goes only if all of it has such a form (data_prep.clean).  A sentence that merely mentions a QR code or a
subscription stays, and so does a call that says what for: form cannot judge it.  Patterns see a line in small letters
and without signs at its ends; none can backtrack into a repeat, so that no line takes for ever.
"""

import re
from collections.abc import Sequence

import opencc

LONG = 200  # characters from which on a line goes only for addresses or symbols

_URL = re.compile(r"(https?://|www\.)\S+", re.IGNORECASE)
_SYMBOLS = re.compile(r"""([^\w()\[\]{}`$"']|_)+""")  # lines of brackets, quotes, ``` or $$ are code
_APART = re.compile(r"\s*[|/>»·•,、]+\s*")
_ENDS = " \t#*_|>»·•-–—=~～↓↑→←👇👆.。!！…,，、:：【】"
_NAVIGATION = frozenset(
    word.strip()
    for words in (
        "home, menu, log in, login, sign in, sign up, register, search, share, share this, tweet, follow, follow us",
        "subscribe, print, previous, next, back to top, read more, skip to content, contact us, about us, sitemap",
        "privacy policy, terms of use, terms of service, cookie policy, cookie settings",
        "accept cookies, accept all cookies, we use cookies",
        "首页, 登录, 注册, 搜索, 菜单, 分享, 分享到, 转发, 收藏, 点赞, 关注, 关注我们, 订阅, 打印, 上一页, 下一页",
        "上一篇, 下一篇, 返回顶部, 阅读全文, 查看更多, 展开全文, 联系我们, 关于我们, 网站地图, 隐私政策",
        "接受所有cookie, cookie设置",
    )
    for word in words.split(",")
)

_STARTS = frozenset(word[:2] for word in _NAVIGATION)

# Calls to follow in Chinese are made of these words alone, with one of _CALLS among them.
_WORDS = """
扫一扫 扫码 扫描 识别 长按 点击 轻触 上方 下方 上图 下图 左侧 右侧 文末 上面 下面 图中 图片 底部 左下角 右下角 右上角
这里 此处 以下 此 本 该 的 二维码 小程序码 蓝字 名片 关注 加入 添加 分享 转发 收藏 点赞 在看 点个 点 赞 订阅
我们 我 本站 本号 公众号 公众平台 订阅号 服务号 视频号 微信号 微信 官方 微博 新浪 腾讯 抖音 快手 知乎 头条 豆瓣
qq空间 qq好友 qq群 qq 朋友圈 好友 朋友 交流群 粉丝群 群 小程序 app 客户端 手机 下载 安装 打开 到 至 给 在 用
更多 精彩 内容 文章 资讯 详情 阅读 查看 了解 获取 原文 全文 链接 欢迎 请 记得 别忘了 可 即可 立即 马上 快来 一下
哦 吧 啦 并 和 或 与 及 后
"""
_CALLS = (
    "二维码 扫码 扫一扫 关注 分享到 分享给 转发 点赞 点个在看 点在看 阅读原文 查看原文 "
    "订阅本 订阅我们 订阅公众号 订阅微信"
)
_SLOTS = {
    "PLATFORM": "(?:facebook|twitter|x|instagram|whatsapp|telegram|linkedin|pinterest|reddit|tumblr|youtube|wechat"
    r"|weibo|line|tiktok|rss|e-?mail|google\+?|social\ media)",
    "PLEASE": r"(?:please\ )?(?:click\ (?:here\ )?to\ )?",
    "YEAR": r"(?:19|20)\d\d\b",
    "LINK": r"\[[^\]]{0,60}\](?:\([^)\s]{0,120}\)|\[[^\]]{0,20}\])?",  # of Markdown
    "ROLE": r"(?:编辑|校对|审核|审校|排版|选题|译者|作者|编译)\s?[:：]\s?",
    "REST": "[^。！？]",  # a sentence that ends and goes on is prose
}


def _both(words: str) -> list[str]:
    """With their traditional forms, the longest first."""
    return sorted({*words.split(), *opencc.OpenCC("s2t").convert(words).split()}, key=len, reverse=True)


def _rule(reason: str, hints: str, pattern: str) -> tuple[str, list[str], re.Pattern]:
    slots = _SLOTS | {"WORDS": "|".join(_both(_WORDS)), "CALLS": "|".join(_both(_CALLS))}
    for name, slot in slots.items():
        pattern = pattern.replace(f"<{name}>", slot)
    return reason, _both(hints), re.compile(pattern, re.VERBOSE)


# (reason, hints: a text without any of these words has no such line, pattern of a whole line)
RULES = (
    _rule("share", _CALLS, r"(?=.*(?:<CALLS>)) (?:<WORDS>|[\s:：,，、!！。|/>+()（）“”「」]){2,60}+"),
    _rule(
        "share",
        "share tweet follow like find join subscribe sign scan comment published",
        r"""
        <PLEASE>(?:share|tweet|pin|post|send|like|follow|find|join)(?:\ (?:this|it|us|me|page|post|article|story))*+
            \ (?:on|to|via|by|in|with)\ <PLATFORM>(?:(?:,\ and\ |,\ |\ and\ |\ )<PLATFORM>)*+(?:\ \(opens.{1,20}\))?
        | <PLEASE>(?:subscribe|sign\ up)\ (?:to|for|via)(?:\ (?:our|the|my|free|weekly|daily|monthly|<PLATFORM>)\b)*+
            (?:\ (?:newsletters?|mailing\ list|feed|blog|channel|updates))?(?:\ (?:by|via)\ e-?mail|\ today|\ now)*+
        | scan\ (?:the|this|our)\ qr\ code(?:\ below|\ above)?(?:\ (?:to|and)\ (?:follow|join|download|subscribe))?
            (?:\ us|\ our\ (?:channel|page|account)|\ the\ app|\ on\ wechat)*+
        | (?:leave|post|add|write)\ a\ (?:comment|reply)(?:\ cancel\ reply)?
        | your\ e-?mail\ address\ will\ not\ be\ published[\w\ .*]{0,50}
        """,
    ),
    _rule(
        "notice",
        "© copyright rights 版权 未经 icp 公网安备",
        r"""
        (?:版权(?:所有)?\s?)?(?:©\s?(?:copyright\s)?|copyright\s(?:©\s?|\(c\)\s?)?)(?:by\s)?<YEAR><REST>{0,100}
        | (?:(?:©|copyright)<REST>{0,100})?all\ rights\ reserved(?:\s?(?:[.|©]|by\ |<YEAR>)<REST>{0,40})?
        | (?:[^\s，。]{1,20}\s)?版权所有
            (?:[\s，,:：]{0,2}(?:侵权必究|翻印必究|违者必究|©|<YEAR>|[^\s，。]{2,20}(?:公司|网)))*+
        | (?:版权所有[\s，,]{0,2})?未经(?:本站|本网|本刊|作者|书面|正式|明确|授权|许可|允许|同意){1,5}+[，,\s]?
            (?:不得|禁止|请勿|严禁|谢绝)(?:以任何形式|进行|转载|复制|使用|摘编|镜像|及|或|和|、|，|违者必究){1,8}+
        | <REST>{0,80}(?:icp\s?[备证]\s?\d{6,10}\s?号|公网安备\s?\d{10,16}\s?号?)<REST>{0,80}
        """,
    ),
    _rule(
        "credit",
        "编辑 责编 校对 译者 作者 审核 审校 排版 选题 编译 转载 转自 首发 原载 摘自 选自 本文 原文 via",
        r"""
        (?:责任编辑|责编|(?:本文|值班|图文|文字|网络|微信)编辑)\s?[:：丨|]\s?<REST>{1,40}
        | <ROLE><LINK>(?:\s?[、，,]\s?<LINK>|\s<ROLE><LINK>)*+ | (?:编辑|校对|审核|排版)[:：]\s?[^\s，。]{1,8}
        | (?:本文|文章|此文|以上内容)(?:授权)?(?:转载自|转自|转载于|首发于|首发自|原载于|摘自|选自)[^。，；！？]{1,40}
        | 本文由\s?(?:<LINK>|[^\s。，；！？]{1,20}?)\s?
            (?:原创|编译|翻译|整理|首发|授权转载|授权发布|荣誉推出|投稿|供稿|采编)[^。；！？]{0,120}
        | (?:(?:阅读|查看)?原文|本文(?:永久)?|via)\s?(?:链接|地址|网址|出处)?\s?[:：]\s?https?://\S+
        | (?:原文|本文(?:永久)?)(?:链接|地址|网址|出处)
        | (?:本文[^\s，。]{0,12}[，,]\s?)?转载请(?:注明|标明|保留|联系)
            (?:出处|来源|作者|原文|链接|本文|后台|授权|及|和|、|并){1,6}+(?:[:：]\s?\S{1,80})?
        """,
    ),
    _rule(
        "addresses",
        "]",
        r"""
        \[[^\]]{1,60}\]:\s?<?(?:https?:/|www\.|/)\S*(?:\s["'(][^"]{0,80}["')])?  # what Markdown links point to
        | \[\d{1,3}\] | !\[\]\(\S{1,300}
        """,
    ),
)


def rules_for(lines: Sequence[str]) -> list[tuple[str, list[str], re.Pattern]]:
    """The RULES that could fit one of the lines."""
    folded = "\n".join(line for line in lines if len(line) < LONG).casefold()
    return [rule for rule in RULES if any(hint in folded for hint in rule[1])]


def reason(line: str, rules: list[tuple[str, list[str], re.Pattern]]) -> str | None:
    """Why a cleaned, non-empty line goes: symbols, addresses, navigation, share, notice, credit; None if it stays."""
    if _SYMBOLS.fullmatch(line):
        return None if "|" in line and "--" in line else "symbols"  # below the head of a table
    if _URL.match(line) and all(_URL.fullmatch(word) for word in line.split()):
        return "addresses"
    if len(line) >= LONG:
        return None
    core = line.casefold().strip(_ENDS)
    if core[:2] in _STARTS and line[0] not in "#=" and _is_menu(core):
        return "navigation"
    return next((why for why, _, pattern in rules if pattern.fullmatch(core)), None)


def _is_menu(core: str) -> bool:
    words = [word.strip(_ENDS) for word in _APART.split(core)]
    return _NAVIGATION.issuperset(words) and len({*words}) == len(words)  # "Home, home" is a song
