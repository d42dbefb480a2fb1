"""Forms: what a text is where it is no prose: a list, a table, verse, notation, or a definition of one sentence.

Rules for prose count function words, ends of lines and repeats; music is also written as track listings, personnel,
charts, lyrics and tunes, which have few of the first and many of the last.  A form needs signs that menus, link lists,
keywords and logs lack:

    notation     ABC with its head or without, LilyPond, tablature, lines of chords, numbered notation between bars
    table        lines of equally many cells, one of them words, one a number
    list         lines that each state something.  A strong sign is a title in quotes, a length, a year, a role; a weak
                 one a label and its value, a name and what it is, a number in front.  Where most signs are weak, the
                 lines must not all say the same, as keywords do.  Or names of people, or titles in capitals
    verse        short lines without full stops in the words of speech, of which some stand once; blues (A A B); or
                 Chinese lines of five or seven characters in pairs
    definition   `Yesterday is a song by the Beatles.`, `《晴天》是周杰伦的歌曲。`
    junk         half of the lines or more have a sign of pages without content (JUNK): prices, paths, shares, logs,
                 settings, chats, torrents, telephones, timetables.  Its thresholds are stricter than those for prose

The first of these that fits is the form; all else is prose.  Plain Python over lines, some 3 MB/s: for texts that the
rules for prose would drop, which are few or short.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence

FORMS = ("notation", "table", "list", "verse", "definition", "junk")
READ = 1 << 14  # characters of a text that are looked at
LEAST = 3  # lines that state something, or are cells or notation

HAN = "\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{HAN}\u3040-\u30ff]|[^\W_{HAN}\u3040-\u30ff]+")
LETTERS = re.compile(rf"[^\W\d_{HAN}]{{2}}|[{HAN}]")
ENDED = re.compile(r"""[.!?:;。！？：；…]["'”’」』)）]*$""")
BREAK = re.compile(r"\n|<br ?/?>", re.I)
MARK = re.compile(r"^(?:[-*+•‣–—·▪■◆★☆※#]+\s*)+")  # of an entry
# Entries of a list in one line.
ENTRY = re.compile(r"""[;；、]|(?<=[)）"”》〉])[,，]|[,，](?=\s?["“《〈])|\s(?=\d{1,2}\. )""")
NUMBERED = re.compile(r"^(?:\(?\d{1,3}[.)．、]|第?[一二三四五六七八九十百]{1,4}[、.．首])\s*(?=\S)")
WRITERS = re.compile(rf"\s*[(（][A-ZÀ-Þ{HAN}][^()（）]*[)）]$")  # behind a numbered title

# Lines of pages that are no content, whatever else they look like, by the kind of page.
JUNK = {
    "site": r"https?:|www\.|\.(?:html?|php|aspx?|jpe?g|png|gif|css|js)\b|(?:^|\s)/\w+/\w|\w/\w+/\w+/\w|^©"
    r"|[\w.]@[\w-]+\.\w|…$|\.\.\.$"
    r"|\b(?:ago|views?|clicks?|comments?|repl(?:y|ies)|subscribers?|read more|click|log ?in|sign (?:in|up)|copyright"
    r"|all rights reserved|download|posted|tagged|joined|posts|last post)\b|^topic:|^(?:re|fs|wtb): "
    r"|下载|下載|点击|點擊|阅读|閱讀|回复|回覆|评论\d|浏览|瀏覽|登录|登錄|注册|註冊|版权|版權"
    r"|^[\[【](?:求助|求购|出售|分享|交易|灌水|水帖|公告|原创|转载|置顶|讨论|悬赏|已解决)[\]】]",
    "path": r"^(?:home|main page|首页|首頁)\s*[>›»→/|·-]|(?:[^«\"]\s[›»→]\s.*){2}|^(?:[^/\"“(（]+ / ){3}",
    "shop": r"[$€£¥￥]\s?\d|\d\s?(?:[$€£¥￥元円]|(?-i:EUR|USD|GBP|CNY|RMB|JPY)\b)"
    r"|\b(?:add to cart|(?:in|out of) stock|price|sale|cheap|sku|free shipping|pack of|warranty|wholesale|discount)\b"
    r"|^(?:brand|model|colou?r|size|weight|dimensions|stock|material|qty|display|battery|storage|camera|memory)\s?[:：]"
    r"|^(?:品牌|型号|颜色|重量|库存|产地|保修|规格|材质|尺寸|尺码|屏幕|电池|内存|存储|摄像头|处理器|货号|数量)\s?[:：]"
    r"|\d\s?(?:mAh|kg|lbs?|dpi|px|GHz|MHz|watts?)\b|\d(?:毫安|万像素|千克|公斤|英寸)"
    r"|价格|價格|报价|包邮|现货|热卖|促销|批发|厂家|优惠|加微|微信|热线|[（(](?:免费|高清|全集)[）)]",
    "quote": r"[-+±]?\d[\d.,]*\s?%|[▲▼↑↓]|/(?:USDT?|EUR|GBP|JPY|CNY|BTC)\b|(?<![\w.])[-+]\d+\.\d",
    "log": r"(?-i:\b(?:INFO|WARN(?:ING)?|ERROR|DEBUG|FATAL|GET|POST|HTTP)\b)|[\[【](?:信息|警告|错误|调试)[\]】]"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b|\d{4}-\d\d-\d\d[ T]?\d\d|\d\d:\d\d:\d\d\b|[{}\\=<>]|\b\w+_\w+\s?[:：=]|\(\s*\d+\): ",
    "setting": r"^(?-i:[a-z][\w.-]*:(?:\s+(?:true|false|null|[-\d.]+|[a-z][\w./-]*))?)$",
    "chat": r"^\[\d{1,2}:\d\d|^\d{1,2}:\d\d(?: [ap]m)? - [^:]+:|\d\d:\d\d[)\]）]?\s?[:：]\s?\D|[:：]\s*\+1$",
    "torrent": r"\d\s?(?:[kMGT]i?B|[kM]bps|320K)\b|\b(?:seeders?|leechers?|torrent|x26[45]|"
    r"(?:720|1080|2160)p|dvdrip|web-dl)\b|\[(?:flac|mp3|ape|web)\b|网盘|提取码|无损|[整分]轨|种子|迅雷",
    "contact": r"\b(?:tel|phone|fax|e-?mail)\.?\s?[:：]|\bhotline\b|电话|電話|传真|邮箱|邮编"
    r"|\b\d{3,5}[ -]\d{3,4}[ -]\d{3,4}\b|\b1[3-9]\d{9}\b",
    "timetable": r"(?:\b\d{1,2}:\d\d\b.*?){3}",
}
NO_FACT = re.compile("|".join(JUNK.values()), re.I)
# A numbered title and its length: `4. Sale of the Century (3:45)`.  It may say what junk says, but in words alone.
TRACK = re.compile(
    r"^(?:\(?\d{1,3}[.)．、]|0\d)\s*(?=\D*[^\W\d_])(?!.*(?:\.\w{3}|\b(?:post(?:ed)?|views|replies|stock)\b))"
    r"[^:\\/@$€£¥￥%=<>{}]+[\s–—(（-]\d{1,2}:[0-5]\d[)）]?$", re.I
)  # fmt: skip
STAMP = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d\b")  # of a log or a sitemap
CALENDAR = re.compile(
    r"\b(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|fri|sat|sun)"
    r"(?:uary|ruary|ch|il|ust|ember|ober|day|nesday|rsday|urday)?\b|[年月日周週]|星期",
    re.I,
)
ROLE = (
    "vocals?|voice|singer|guitars?|bass|drums?|percussion|piano|keyboards?|organ|synth\\w*|violin|viola|cello|flute"
    "|saxophone|sax|trumpet|trombone|clarinet|harp|banjo|mandolin|conductor|producers?|engineer|mixing|mastering"
    "|composer|lyrics|songwriter|arranger|soprano|alto|tenor|baritone|mezzo|director|主唱|吉他|贝斯|貝斯|鼓手?|键盘|鍵盤"
    "|钢琴|鋼琴|小提琴|大提琴|二胡|琵琶|古筝|古箏|指挥|指揮|作曲|作词|作詞|编曲|編曲|制作人?|製作人?|监制|監製|混音|录音|錄音"
)
PLAYED = f"{ROLE}|piccolo|oboe|cor anglais|horn|(?:contra)?bassoon|cornet|tuba|timpani|celli|bass(?:es)?|celesta"
PLAYED += "|[短长長]笛|[双雙单單]簧管|[大圆圓]管|[圆小长大]号|[圓小長大]號|定音鼓|中提琴|低音提琴|[竖豎]琴|弦[乐樂]"
# What a list states its facts by.  Junk has the weak signs too, but says the same of all its lines.
STRONG = re.compile(
    r"""["“«][^"“”»]{1,90}["”»]|[《〈「『][^》〉」』]{1,60}[》〉」』]"""  # a title
    r"|(?<![\d:])\d{1,2}:[0-5]\d(?![\d:])"  # a length
    r"|(?<![\d-])(?:1[5-9]|20)\d\d(?![\d-]*\d)|第\s?[\d一二三四五六七八九十]+[届屆]"  # a year, or the year of a prize
    rf"|[,，(（/:：–—－-]\s*(?:{ROLE})\b|^(?:{ROLE})\s?[:：]",
    re.I,
)
WEAK = re.compile(
    r"^\S.{0,70}\S\s?[–—－]\s?\S|^\S.{0,70}\S -{1,2} \S"  # a name and its role
    rf"|^[^:：]{{1,40}}[:：]\s*[^\n]*[A-ZÀ-Þ{HAN}]|^[A-ZÀ-Þ]\S+ [A-ZÀ-Þ][^:：]{{1,40}}[:：]\s*\S"  # a label, its value
    r"|^[^()（）]{1,60}\s?[(（](?!\d+[)）])[^()（）]{2,60}[)）]"  # a name and what it is
    r"|^(?:[A-Z]{1,2} \d{1,2}|\d{1,2}(?: [A-Z]{1,2})?) [A-ZÀ-Þ]\S+ [A-ZÀ-Þ]"  # GK 1 David Seaman
    rf"|^\d{{1,2}} (?i:(?:[a-z]+ )?(?:{PLAYED})s?\b)"  # 2 flutes, 2支长笛, 长笛2支
    rf"|^(?:[\d两兩二三四]{{1,2}} ?[支把件台架]?(?:{PLAYED})|(?:{PLAYED}) ?[\d两兩二三四]{{1,2}}[支把件台架]?$)"
    rf"|^(?:[{HAN}]{{2,3}} \d{{1,2}}|\d{{1,2}} [{HAN}]{{2,3}}) [{HAN}]"
)
LABEL = re.compile(r"[^:：]{1,40}[:：]")
RANKED = re.compile(r"^\d{1,3}\.?\s+[^\d\s].*\s\d")  # 1 Pakhtakor 7 6 1
SIGNS = (STRONG.search, WEAK.match, NUMBERED.match, RANKED.match)
ROLES = re.compile(rf"\b(?:{ROLE})\b|[词詞曲]", re.I)
TITLE = re.compile(
    r"^[A-ZÀ-Þ][\w'’]*,?(?: (?:[A-ZÀ-Þ&\d][\w'’.]*,?|a|an|and|as|at|by|for|from|in|into|of|on|or|the|to|with))*[?!]?$"
    rf"|^[{HAN}\u3040-\u30ff]{{1,12}}$"
)

# Words of menus, which names of people and verse hardly begin with.
_MENU = """
    home about contact login log logout sign register account cart checkout shop store basket search help faq faqs
    privacy terms policy sitemap news blog forum menu skip upload download subscribe subscriptions subscribed share like
    liked show report send feedback settings options wishlist orders order returns shipping delivery payment payments
    gift track compare newsletter size read more view all next previous back top click press copyright creators
    advertise developers watch trending library history related quote reply post posts profile members downloads
    addresses dashboard new sale categories category tags tag archives archive links link follow us my your our browse
    site customer support careers jobs events tickets videos photos gallery products services cookie cookies
"""
_SPEECH = """
    i me my mine you your yours we us our he him his she her they them it this that the a an and but or so if when
    where there here what who how why to of in on at for with from by up down out over no not never don can won ain
    t m ll ve re s is are was were be been am do did does have had has will would can could let let
    all now just like oh ooh yeah hey na la da doo ah whoa baby go come know want say said got get gonna wanna der die
    das und ich du nicht le la les je tu et que el yo de no mi
"""
MENU, SPEECH = frozenset(_MENU.split()), frozenset(_SPEECH.split())
MENU_ZH = re.compile(
    "首页|关于|联系|公司|产品|服务|案例|招聘|问题|新闻|中心|会员|购物|商城|培训|课程|网站|友情|链接|招商|加盟|客服|售后|支付|配送|帮助"
    "|活动|专题|排行|推荐|更多|订单|账户|帐户|收藏|足迹|设置|反馈|首頁|關於|聯繫|聯絡|產品|服務|招聘|問題|新聞|會員|購物|網站|連結|客服"
)
SPEECH_ZH = frozenset(
    "我你妳她它们們的了是在不这這那就也都着著过過啦哦喔嘿噢耶啊呀吧吗嗎呢把让讓被为為谁誰有没沒还還又再和与與"
)
SURNAMES = frozenset(
    "王李张張刘劉陈陳杨楊赵趙黄黃周吴吳徐孙孫胡朱高林何郭马馬罗羅梁宋郑鄭谢謝韩韓唐冯馮于董萧蕭程曹袁邓鄧许許傅沈曾彭吕呂苏蘇卢盧"
    "蒋蔣蔡贾賈丁魏薛叶葉阎閻余潘杜戴夏钟鍾汪田任姜范方石姚谭譚廖邹鄒熊金陆陸郝孔白崔康毛邱秦江史顾顧侯邵孟龙龍万萬段雷钱錢汤湯尹"
    "黎易武乔喬贺賀赖賴龚龔庞龐樊兰蘭殷施陶翟倪严嚴牛温溫季俞章鲁魯葛韦韋"
)
NAME = re.compile(r"^[A-ZÀ-Þ][\w'’.-]*(?: (?:(?:de|da|van|von|der|la|le|du|y|&|and) ?)*[A-ZÀ-Þ][\w'’.-]*){1,3}$")

ABC = (re.compile(r"^X: ?\d+", re.M), re.compile(r"^K: ?\S", re.M))
LILYPOND = re.compile(r"\\(?:relative|time|key|clef|score|tempo|new Staff)\b")
CHORD = r"[A-G][#b♯♭]?(?:maj|min|m|M|dim|aug|sus|add|\+|°|ø)*\d{0,2}(?:[#b]\d+|sus\d|add\d+)*(?:/[A-G][#b♯♭]?)?"
NOTATION = re.compile(
    r"^(?=(?:[^|]*\|){2})(?=.*[A-Ga-gz][,'\d]*[A-Ga-g])[A-Ga-gxz\d/|:^_=,'()\[\]~. -]+$"  # |:A|d2d fed|cBA ABc|
    rf"|^\|?\s*{CHORD}(?:[\s|/–-]+(?:{CHORD}|%|N\.?C\.?))+[\s|]*(?:x ?\d)?$"  # C  Am  F  G7
    r"|^[A-Ga-g]?[#b]?\s?[|:‖][-\dhpbx/\\~^|()*. ]*-{2}[-\dhpbx/\\~^|()*. ]*$"  # e|---0---3---|
    r"|^(?=.*\|)(?=(?:\D*\d){3})[-0-7.,'·_()|:~‖#b\s]+$"  # 1 1 5 5 | 6 6 5 - |
)
_CELLS = {"|": r"\s*\|{1,2}\s*", "\t": r"\t", "!!": r"\s*!!\s*", "  ": r" {2,}"}
CELLS = {sign: re.compile(between) for sign, between in _CELLS.items()}
RULE = re.compile(r"^[|\s:+=-]+$")  # below the head of a table
NUMBER = re.compile(r"^[#№]?\d[\d.,:%–/-]*\*?$|^[–—-]$")
TAG = re.compile(r"^[\[(【（].{1,40}[\])】）]:?$")  # [Chorus]

POINTING = r"(?:This|That|It|There|Here|Your?|If|What|Please|The (?:page|site|file|content|website)|Click|All|You)\b"
DEFINITION = re.compile(
    rf"""^["“]?(?!{POINTING})[A-ZÀ-Þ\d][^\n]{{0,100}}?["”]?(?: \([^)\n]*\))?,? (?:is|was|are|were) """
    r"""(?:an?|the|one|[A-ZÀ-Þ][\w'’.-]+)\b[^\n]{5,200}\.$"""
)
DEFINITION_ZH = re.compile(
    rf"^(?:[《〈「“][^》〉」”\n]{{1,60}}[》〉」”]|(?:(?![本这這该該此那您你我他她它的了在])[{HAN}\w·・\-－ ]){{2,40}})"
    rf"(?:[（(][^）)\n]*[）)][，,]?|[是為为由]|收录|收錄)[^\n]*[{HAN}][^\n]*。$"
)
CLASSICAL = re.compile(
    "|".join(rf"(?:[{HAN}]{{{size}}}[，,、\s]+[{HAN}]{{{size}}}[。！？；，,.\s]*){{2,}}" for size in (5, 7))
)


def form_of(text: str, is_name: Callable[[str], bool] = lambda line: False) -> str:
    """One of FORMS, or prose.  `is_name` knows lines that are names of a catalogue: such a line states something."""
    text = text[:READ].strip()
    lines = [line for line in map(str.strip, BREAK.split(text)) if line]
    plain = [line for line in lines if not is_junk(line)]
    if is_notation(text, lines):
        return "notation"
    if 2 * len(plain) < len(lines):
        prose = sum(len(line) for line in lines if is_sentence(line))
        return "junk" if len(lines) >= LEAST and 4 * prose < len(text) else "prose"
    if 4 * len(plain) >= 3 * len(lines) and is_table(plain, len(lines)):
        return "table"
    entries = entries_of(lines, len(plain) == len(lines))
    stated = facts_of(entries, is_name)
    if len(set(stated)) >= LEAST and 2 * len(stated) >= len(entries):
        return "list" if 4 * len(plain) >= 3 * len(lines) and are_different(stated, is_name) else "prose"
    if are_people(entries):
        return "list"
    if is_classical(text) or is_blues(lines):
        return "verse"
    if are_titles(entries):
        return "list"
    if is_verse(lines, len(plain)):
        return "verse"
    return "definition" if is_definition(text) else "prose"


def is_junk(line: str) -> bool:
    return bool(NO_FACT.search(line)) and not TRACK.match(line)


def is_notation(text: str, lines: Sequence[str]) -> bool:
    if all(pattern.search(text) for pattern in ABC) or len(set(LILYPOND.findall(text))) >= 2:
        return True
    notes = [line for line in lines if len(line) < 200 and NOTATION.match(line)]
    return (len(notes) >= LEAST or notes == lines) and len(set(notes)) > 1 and 5 * len(notes) >= 2 * len(lines)


def is_table(lines: Sequence[str], of: int) -> bool:
    """At least LEAST lines, and half of all, have as many cells; their words differ, and half of them hold a number."""
    text = "\n".join(lines)
    rows = max((cells_of(lines, between) for sign, between in CELLS.items() if sign in text), key=len, default=())
    if len(rows) < LEAST or 2 * len(rows) < of:
        return False
    worded = [cell for cell in (next(filter(LETTERS.search, row), "") for row in rows) if cell]
    numbered = sum(any(map(NUMBER.match, row)) for row in rows)
    return 5 * len(worded) >= 4 * len(rows) and 2 * numbered >= len(rows) and 2 * len(set(worded)) >= len(rows)


def cells_of(lines: Sequence[str], between: re.Pattern) -> list[list[str]]:
    """The lines of the most frequent number of cells, two or more."""
    rows = [between.split(line.strip("|! \t")) for line in lines if not RULE.match(line)]
    sizes = Counter(len(row) for row in rows if len(row) > 1)
    size = max(sizes, key=lambda size: sizes[size], default=0)
    return [row for row in rows if len(row) == size] if size else []


def entries_of(lines: Sequence[str], plain: bool) -> list[str]:
    """The lines that are no sentences, without their marks; or the entries of a list in one line."""
    if len(lines) <= LEAST and plain:
        lines = [entry for line in lines for entry in map(str.strip, ENTRY.split(line)) if entry]
    return [MARK.sub("", line) for line in lines if not is_sentence(line)]


def facts_of(entries: Sequence[str], is_name: Callable[[str], bool]) -> list[str]:
    return [entry for entry in entries
            if (states(entry) and not is_junk(entry)) or is_name(NUMBERED.sub("", entry))]  # fmt: skip


def are_different(facts: Sequence[str], is_name: Callable[[str], bool]) -> bool:
    """A third of the lines has a strong sign; or no word and no label stands in most lines, as keywords have them."""
    weak = [entry for entry in facts if not (STRONG.search(entry) or is_name(NUMBERED.sub("", entry)))]
    if 3 * len(weak) <= 2 * len(facts):
        return True
    labels = [match[0] for match in map(LABEL.match, weak) if match]
    words = Counter(word for entry in set(weak) for word in contents(entry))
    return 2 * len(set(labels)) >= len(labels) and 2 * max(words.values(), default=0) <= len(weak) + 2


def contents(entry: str) -> set[str]:
    """Words that are neither roles nor function words; of Chinese, two characters in a row."""
    title = WRITERS.sub("", entry) if NUMBERED.match(entry) else entry
    words = WORD.findall(ROLES.sub(" ", NUMBERED.sub("", title).lower()))
    pairs = {a + b for a, b in itertools.pairwise(words) if len(a) == len(b) == 1 and min(a, b) >= "\u3040"}
    return pairs | {word for word in words if len(word) > 2 and word not in SPEECH}


def are_people(entries: Sequence[str]) -> bool:
    people = {entry for entry in entries if is_person(entry)}
    firsts = Counter(word for line in people for word in line.split())
    return len(people) >= 5 and 10 * len(people) >= 7 * len(entries) and 4 * max(firsts.values()) <= len(people) + 4


def are_titles(entries: Sequence[str]) -> bool:
    """Short lines in capitals, or Chinese, of different words; a quarter has a function word, none one of menus."""
    titles = {entry for entry in entries if is_title(entry) and not is_menu(entry)}
    if len(titles) < 5 or 10 * len(titles) < 8 * len(entries):
        return False
    words = Counter(word for entry in titles for word in contents(entry))
    spoken = sum(not SPEECH_ZH.isdisjoint(entry) or not SPEECH.isdisjoint(entry.lower().split()) for entry in titles)
    return 4 * spoken >= len(titles) and 4 * max(words.values(), default=0) <= len(titles) + 4


def is_title(entry: str) -> bool:
    """The Long Way to Whitby; 海边的墙"""
    return bool(TITLE.match(entry)) and len(WORD.findall(entry)) <= 10


def is_sentence(line: str) -> bool:
    """An entry of a list may end in a stop too, but is short then."""
    least = 6 if line.endswith(("。", "？", "！", "?", "!")) else 9
    return bool(ENDED.search(line)) and not NUMBERED.match(line) and len(WORD.findall(line)) >= least


def states(line: str) -> bool:
    """Whether a line of a list states a fact, and does so in words, not in dates alone."""
    if len(line) > 400 or not any(sign(line) for sign in SIGNS) or STAMP.search(line):
        return False
    return bool(LETTERS.search(CALENDAR.sub("", line)))


def is_person(line: str) -> bool:
    if 2 <= len(line) <= 4 and line[0] in SURNAMES:
        return not LETTERS.sub("", line)
    return bool(NAME.match(line)) and not MENU.intersection(line.lower().split())


def is_verse(lines: Sequence[str], plain: int) -> bool:
    """`plain`: how many lines are such as pages of content have."""
    no_fact = len(lines) - plain
    lines = [line.lower() for line in lines if not TAG.match(line) and not NOTATION.match(line)]
    words = [WORD.findall(line) for line in lines]
    size, once = sum(map(len, words)), sum(times == 1 for times in Counter(lines).values())
    if len(lines) < 6 or once < 4 or 7 * once < len(lines) or not 3 * len(lines) <= size <= 14 * len(lines):
        return False
    ended = sum(line.endswith((".", "。")) for line in lines)
    no_verse = no_fact + sum(map(is_menu, lines))
    spoken = sum(word in SPEECH or word in SPEECH_ZH for line in words for word in line)
    chinese = sum(len(word) == 1 and word >= "\u3040" for line in words for word in line)
    return (
        2 * ended < len(lines) and 10 * no_verse < len(lines) and spoken > (0.06 if 2 * chinese > size else 0.2) * size
    )


def is_blues(lines: Sequence[str]) -> bool:
    """Stanzas of three lines, of which the second says the first again, in the words of speech."""
    said = [tuple(WORD.findall(line.lower())) for line in lines if not TAG.match(line)]
    stanzas = list(zip(*[iter(said)] * 3, strict=True)) if said and len(said) % 3 == 0 else []
    if not stanzas or not all(first == second != third for first, second, third in stanzas):
        return False
    spoken = sum(word in SPEECH or word in SPEECH_ZH for line in said for word in line)
    return len({third for _, _, third in stanzas}) == len(stanzas) and spoken > 0.2 * sum(map(len, said))


def is_classical(text: str) -> bool:
    """Keywords of five characters have some in common; the lines of a poem hardly do."""
    if not CLASSICAL.fullmatch(text):
        return False
    units = [unit for unit in re.split(r"\W+", text) if unit]
    pairs = Counter(unit[i : i + 2] for unit in units for i in range(len(unit) - 1))
    return max(pairs.values()) <= max(2, len(units) // 8)


def is_menu(line: str) -> bool:
    words = line.lower().split()
    return (len(words) < 4 and bool(words) and words[0] in MENU) or bool(MENU_ZH.search(line))


def is_definition(text: str) -> bool:
    pattern = DEFINITION_ZH if re.search(f"[{HAN}]", text[:40]) else DEFINITION
    return len(text) <= 320 and "\n" not in text and not NO_FACT.search(text) and bool(pattern.match(text))


def is_statement(text: str) -> bool:
    """A sentence or two, whatever they say."""
    return len(text) <= 320 and bool(ENDED.search(text)) and not NO_FACT.search(text)
