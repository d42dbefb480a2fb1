"""Postal addresses, zh and en, and whose they are.

An address is someone's where a person or a contact phrase owns it: 家住, 收货地址, 寄到, "lives at", "my house at",
"mail to"; in English also by its form, since an apartment or a postal code is written for the mail.  A bare label
(地址：, "Address:"), the form alone and a postal code before it own nothing where a hall, shop or office is named in
the same clause, in the head line above, or right behind.  One that those are said to stand at is public.

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
    rf"(?:[路街巷弄里村段园園苑寓厦廈城庄坊条條]|(?<![国國省县縣市乡鄉府都])道|(?<=成都)道|胡同|[小社][区區]){SPACE}?"
    rf"(?P<first>{_DIGITS}(?:[-之][0-9]{{1,4}}){{0,3}}{SPACE}?(?:号楼|號樓|号院|号|號|弄|栋|棟|幢|座|单元|單元|楼|樓|室)"
    rf"|{_NUMERALS}{SPACE}?(?:号|號|弄)|[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{2}})(?![线線])"
    rf"(?P<door>(?:(?:{_ESTATE})?{SPACE}?{_DOOR}){{0,6}})"
)
_BEFORE = re.compile(rf"[{_HAN}0-9·• ]{{1,40}}\Z")
_SELF = r"(?:[我你您他她咱俺]们?|[我你您他她]們|本人|自己)"
_KIN = (
    "爷爷|奶奶|外公|外婆|姥姥|姥爷|爸妈|父母|爸爸|妈妈|父亲|母亲|哥哥|姐姐|弟弟|妹妹|叔叔|阿姨|姑姑|舅舅|爱人|妻子|丈夫|老婆|老公"
    "|女儿|儿子|朋友|同学|老师|邻居|房东|室友|爺爺|爸媽|媽媽|父親|母親|愛人|女兒|兒子|同學|老師|鄰居|房東"
)
_ONE = rf"(?:{_SELF}|{_KIN})"
_SURNAME = (
    "[王李张張刘劉陈陳杨楊黄黃赵趙吴吳周徐孙孫马馬朱胡郭何高林罗羅郑鄭梁谢謝宋唐许許韩韓冯馮邓鄧曹彭曾萧蕭田董袁潘蒋蔣蔡余杜叶葉程"
    "苏蘇魏吕呂丁任沈姚卢盧姜崔钟鍾谭譚陆陸汪范金石廖贾賈夏韦韋方白邹鄒孟熊秦邱江尹薛段雷侯龙龍史陶黎贺賀顾顧毛郝龚龔邵万莫孔]"
)
_HOUSE = (
    "(?:公司|集[团團]|[物美术術书書念览覽育化教场場宾賓饭飯酒茶商会會事使领領][馆館]|[剧劇影戏戲医醫学學法]院|[大中小][学學]|[学學]校|校[区區舍]"
    "|教堂|[乐樂剧劇舞歌][团團]|[协協学學商工金][会會]|委[員员][会會]|[版报報志誌信行]社|[电電视視]台|[局厅廳吧庙廟寺]|[总總辑輯乐樂市]部|中心"
    "|琴行|[银銀]行|唱片|影城|[书書商分门門卖賣总總酒饭飯花]店|超市|[商市广廣剧劇会會现現球][场場]|[餐咖]|派出所|[究务務]所|工作室|[录錄]音"
    "|排[练練]|[办辦][事公]|活[动動]|演出|比[赛賽]|展[览覽]|[讲講]座|[报報]名|出口|[厂廠]|[商店卖賣]家)"
)
_OF_HOUSE = re.compile(rf"{_HOUSE}[，,]?[^，,。；！？]*\Z")
_ELSEWHERE = re.compile(rf"{_HOUSE}[^，。]{{0,4}}[在于於]|[放开開设設办辦][在于於立]")  # between an owner and a place
_AT_HOUSE = re.compile(rf"[的（( ]?[{_HAN}0-9]{{0,9}}?{_HOUSE}")
_LIVES = (
    r"家住|(?<!入)住(?![宅院户戶房民客持宿路的过過建友处處所址])|[定寓现現旅寄客移租]居(?!民)|居住(?![证證区區])|(?<!创)新家(?=[在是])"
    rf"|(?:全|{_SURNAME}|(?<![{_HAN}]))家(?:[里裡])?[在于於]|老家"
    rf"|{_ONE}(?:的?[新老]?(?:家|房子|公寓|宿舍|住[处處])(?!人|[长長乡鄉])|[^，。]{{0,2}}租(?:的房子?|[了下]))"
)
_MOVES = (
    rf"(?:{_ONE}|(?:全|举|舉|{_SURNAME})家|一家人?)[^从從由，。店馆館院团團校司社会會局厂廠厅廳部台]{{0,6}}?"
    r"[搬迁遷]家?[到至进進入往去]"
)
_MAILED = (
    r"(?:寄|(?<![运運护護押被])送|快[递遞]|投[递遞]|(?<![开開出爆散颁頒批研转轉])[发發][货貨]?)[到至往给給回来來]"
    r"|(?:快[递遞]|包裹|外[卖賣])[^，。]{0,3}?[放留][到在]"
)
_NAMED = (
    rf"(?:{_ONE}(?:的?家)?|{_SURNAME}家|家[庭里裡中属屬]|[老新]家|居住|[联聯][系繫络絡]人?|[联聯]絡|通[讯信訊]|[收取退寄发發][货貨件信]人?|[邮郵]寄|寄送|快[递遞]"
    r"|配送|派送|送[货貨]|投[递遞]|回[邮郵]|上[门門]|[户戶][籍口]|身份[证證]|[暂暫]住)[上里裡]?的?新?(?:地址|住址)"
    r"|住址|住[处處](?!理)|(?<!公司)(?<!公司的)(?<!企业)住所(?![长長])|居所|[户戶][籍口](?:所在)?地?|[暂暫现現居常]住地|通[讯信訊][处處]"
    r"|(?:上[门門])?[取收][件货貨](?=[:：])"
)
_OWNER = re.compile(f"{_LIVES}|{_MOVES}|{_MAILED}|{_NAMED}")
_OWNING = re.compile("[家住居租房寓宿搬迁遷寄送快投发發包外址所地处處件货貨籍口]")  # a character of each owner
_MARKS = tuple(":：,，、;； (（[\"'")
_CLOSED = r"[\"']?[ ]?[:：,，]?[ ]?[(（\[\"']?\Z"
_ENDS_OWNED = re.compile(f"(?:{_OWNER.pattern})(?:是|为|為|在)?{_CLOSED}")
_PARTY = re.compile(
    rf"(?:[寄收发發][件货貨信]人|[联聯][系繫络絡]人|[户戶]主|房[东東])[ ]?[:：]?[ ]?[{_HAN}]{{2,4}}[，,、 ]{{1,2}}\Z"
)
_MOVED = re.compile(
    rf"(?:{_ONE}|[全举舉]家|一家人?)[^，。店馆館院團团校司社会會局厂廠厅廳部台行吧室所]{{0,6}}?[搬迁遷]了?新?家?了?[，,。！!；;]\Z"
)
_NEW_ADDRESS = re.compile("[新现現]?[地住]址")  # behind _MOVED
_POST_CODE = re.compile(r"[邮郵][编編][ ]?[:：]?[ ]?[0-9]{6}[，,;； ]{1,2}\Z")
_LABEL = re.compile(rf"(?<![{_HAN}A-Za-z])(?:[详詳][细細]|具[体體]|[现現新])?地址[\"']?[ ]?[:：][ ]?[(（\[\"']?\Z")
_FOR_SOMEONE = re.compile(rf"的?{_ONE}的?家|[，, ]?[{_HAN}]{{2,4}}[（(]?收[）)]?(?![{_HAN}])")
_LED = re.compile(
    "(?:[新现現]?[地住]?址|地(?=[是为為：:]))?(?:就|都|也|一直|[现現目]前?在?(?=[在住])|从?[去今前]年起?(?=[在住]))?"
    "[在于於到至是为為了：: ]{0,3}"
)
_ASIDE = re.compile(r".*(?:[的旁]|附近|对面|對面|隔壁)")
_LEADING = re.compile(
    r".*(?:[在到是为為了给給往至从從由今即址入]|以及|而|[购購][入得]|[搬迁遷][进進]|于(?![洪都田])|於)"
)
_TOWN = re.compile("[省市区區县縣州镇鎮乡鄉旗盟]")
_BLANKS = re.compile(" *")
_PROVINCE = re.compile(
    "北京|上海|天津|重庆|重慶|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南"
    "|陕西|甘肃|青海|台湾|臺灣|内蒙古|广西|西藏|宁夏|新疆|香港|澳门"
)


def _zh_owned(line: str, match: re.Match) -> Span | None:
    """What someone lives at, or gets mail at; beside another private value, what leads to a door."""
    before = _BEFORE.search(line, max(0, match.start() - 40), match.start("first"))
    if not before or quoted(line, before.start()):
        return None
    start = before.start()
    if _OWNING.search(line, start, match.start()):  # for speed alone
        owners = list(_OWNER.finditer(line, start, match.start()))
        if owners:
            elsewhere = _ELSEWHERE.search(line, owners[-1].end(), match.start())
            return None if elsewhere else _without_aside(line, owners[-1].end(), match)
    introduced = line[start - 1 : start] in _MARKS
    if introduced and any(said(words, line, start, 14) for words in (_ENDS_OWNED, _PARTY)):
        return _without_aside(line, start, match)
    if _NEW_ADDRESS.match(line, start) and said(_MOVED, line, start, 14):
        return _without_aside(line, start, match)
    if _FOR_SOMEONE.match(line, match.end()):
        return _begin(line, start, match), match.end()
    beside = BLANK in line[max(0, start - 8) : start] + line[match.end() : match.end() + 8]
    labelled = introduced and any(said(words, line, start, 14) for words in (_LABEL, _POST_CODE))
    contact = labelled or (match["door"] and beside)
    return _without_aside(line, start, match) if contact and not _is_house(line, start, match) else None


def _is_house(line: str, start: int, match: re.Match) -> bool:
    """Whether the clause before the address names a hall, shop or office, or one follows the address at once."""
    return said(_OF_HOUSE, line, start, 30) or _AT_HOUSE.match(line, match.end()) is not None


def _without_aside(line: str, start: int, match: re.Match) -> Span:
    """From the place's name on, without what leads there: 在, 了, 学校旁的."""
    start = _LED.match(line, start).end()
    aside = _ASIDE.match(line, start, match.start())
    return (aside.end() if aside else start), match.end()


def _begin(line: str, start: int, match: re.Match) -> int:
    """Behind a word that leads to a place, else at a province's name, else behind blanks."""
    leading = _LEADING.match(line, start, match.start())
    start = leading.end() if leading else start
    province = _PROVINCE.search(line, start, match.start())
    return province.start() if province else start + len(_BLANKS.match(line, start)[0])


def _zh_any(line: str, match: re.Match) -> Span | None:
    """Also a whole address of town and street that nobody owns, where it is clear where it begins."""
    if owned := _zh_owned(line, match):
        return owned
    before = _BEFORE.search(line, max(0, match.start() - 40), match.start("first"))
    if not before or quoted(line, before.start()):
        return None
    start = _begin(line, before.start(), match)
    town = _TOWN.search(line, start + 1, match.start())
    clear = town or line[before.start() : start].strip() or _PROVINCE.match(line, start)
    return (start, match.end()) if (town or match["door"]) and clear else None


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
_ONE_S = (
    r"(?:my|his|her|your|our|their|(?:landlord|landlady|mother|father|parents|grandmother|grandfather|grandparents|mum|mom|dad|aunt"
    r"|uncle|sister|brother|son|daughter|wife|husband|friend|neighbou?r|girlfriend|boyfriend|roommate)(?:['’]s|s['’]|['’]))"
)
_HOME = r"(?:[a-z]{1,12}[ ]){0,2}(?:house|home|apartment|flat|condo|cottage|bungalow|place|room|residence|dorm)"
_LIVES_AT = re.compile(
    r"(?i:(?<![a-z])(?:(?<!were )(?<!was )(?-i:live)|lives(?![ ]on[ ]in)|living(?![ ]room)|resid(?:es?|ed|ing)"
    r"|ship|mail|send|deliver|forward)(?![a-z])[^0-9\n.]*$"
    rf"|(?<![a-z])(?:(?!their){_ONE_S}|home|mailing|postal|shipping|delivery|billing|current|residential|return)[ ]"
    r"(?:[a-z]{1,12}[ ])?address(?:[ ](?:is|was))?[ ]?[:：]?[ ]?$)"
)
_HOME_AT = re.compile(
    rf"(?i:(?<![a-z]){_ONE_S}[ ](?!former|childhood){_HOME}(?:[ ](?:is|was))?(?:[ ](?:at|in|on))?[ ]?[,:：]?[ ]$"
    r"|(?<![a-z])(?:I|we|he|she|they)(?:['’](?:m|re|ve|s|d|ll))?[ ](?:[a-z]{1,10}[ ]){0,3}?"
    r"(?:(?:mov(?:e|ed|ing)|relocated)[ ][^0-9\n.;]{0,20}(?:to|into)|(?:stay(?:s|ed|ing)?|grew[ ]up)[ ](?:at|in)"
    rf"|(?:rent(?:s|ed)?|bought|owns?|ha(?:ve|s|d))[ ]an?[ ]{_HOME}[ ](?:at|in|on))[ ]$"
    r"|(?<![a-z])(?:I|we)(?:['’](?:m|re|ve))?[ ](?:[a-z]{1,10}[ ]){0,2}?(?:lived|am|are)[ ](?:at|in|on)[ ]$"
    r"|(?<![a-z])(?:contact|reach|find|visit|meet|write[ ]to)[ ](?:me|him|her)[ ]at[ ]$"
    r"|(?:^|[,;.|(\"'>][ ]?)(?:home|residence|contact|sender|recipient|addressee|next[ ]of[ ]kin|emergency[ ]contact"
    r"|return[ ]to|ship[ ]to|c/o)[ ]?[:：][ ]?(?-i:(?!The[ ])[A-Z][A-Za-z.'’-]*(?:[ ][A-Z][A-Za-z.'’-]*){1,2},[ ])?$)"
)
_LABELLED = re.compile(r"(?i:(?:^|[,;.|(\"'][ ]?)address[\"']?[ ]?[:：][ ]?[\"']?$)")
_ON_STAGE = re.compile(
    r"(?i:(?<![a-z])(?:perform|play|record|tap(?:ed|ing)|film|broadcast|stream|sing|sang|sung|appear|heard|sent|captur|debut"
    r"|concert|show|jam|air)[a-z]*[ ](?:[a-z]{1,12}[ ]){0,2}live(?![a-z])[^.\n]*$"
    r"|(?<![a-z])live[ ](?:at|from)[ ](?:the[ ])?(?-i:[A-Z])[^.\n]*$)"
)
_STANDS_AT = re.compile(
    r"(?i:(?<![a-z])(?:(?:located|situated|headquartered|based|housed)(?:[ ][a-z]{1,12})?[ ](?:at|in|on)"
    r"|(?:offices?|headquarters|building|studios?|venue)(?:[ ](?:is|are|was|were))?[ ]at)[ ](?:the[ ])?$)"
)
_HALL = (
    "(?:studios?|church|cathedral|chapel|synagogue|temple|hall|theat(?:re|er)|museum|gallery|school|college|university"
    "|academy|conservatory|institute|library|records|music|label|publish(?:er|ers|ing)|press|cent(?:re|er)|hotel|club"
    "|ballroom|auditorium|arena|stadium|lounge|caf[eé]|restaurant|bar|pub|store|shop|market|bank|hospital|clinic|station"
    "|opera|orchestra|symphony|company|co|inc|ltd|llc|corporation|foundation|association|society|office|headquarters"
    "|building|tower|plaza|park)(?![a-z])"
)
_PUBLIC = re.compile(
    rf"(?<![A-Za-z])(?:(?:[A-Z][A-Za-z'’&.-]*|&|of|the)[ ](?i:{_HALL})|(?=[A-Z])(?i:{_HALL})[ ][A-Z])"
    r"(?:[^.!?;:\n]|(?<=Ltd)\.|(?<=Inc)\.|(?<=Co)\.)*(?i:[(]?address[ ]?[:：][ ]?)?$"
    rf"|(?i:(?<![a-z])(?:the|an?)[ ](?:[a-z]{{1,12}}[ ]){{0,2}}(?<!fan[ ]){_HALL}"
    r"(?:,|[ ](?:[a-z]{1,12}[ ]){1,3}(?:at|in|on|to))[ ]$)"
    r"|(?:(?:^|[.;(|][ ]?)(?i:(?:record[ ])?(?:label|publisher|distributor)s?[ ]?[:：])"
    r"|(?<![A-Za-z])(?i:(?:publish|releas|issu|distribut|manufactur|press)ed[ ]by))"
    r"(?:[ ](?:[A-Z0-9][A-Za-z0-9'’&.-]*|&|and|of|the))+,[ ]$"  # a maker of records or books
    r"|(?<![A-Za-z])The[ ][A-Z][A-Za-z'’&.-]*(?:[ ][A-Z][A-Za-z'’&.-]*)*,?[ ][(]?(?i:address:[ ]?)?$"
)
_ADDRESS_IS = re.compile(r"(?i:(?<![a-z])address(?:[ ]is)?[ ]?[:：]?[ ]?$)")


def _en_owned(line: str, match: re.Match) -> Span | None:
    start = match.start("v")
    if said(_HOME_AT, line, start, 60) or (said(_LIVES_AT, line, start, 30) and not said(_ON_STAGE, line, start, 70)):
        return match.span("v")
    contact = match["unit"] or match["code"] or said(_LABELLED, line, start, 30)
    public = said(_STANDS_AT, line, start, 40) or said(_PUBLIC, line, start, 70)
    return match.span("v") if contact and not public else None


def _en_any(line: str, match: re.Match) -> Span | None:
    start = match.start("v")
    public = match["unit"] or match["code"] or said(_STANDS_AT, line, start, 40) or said(_ADDRESS_IS, line, start, 20)
    return match.span("v") if public else _en_owned(line, match)


# Lines around

_BARE = re.compile(
    rf"[^0-9A-Za-z{_HAN}]{{0,9}}(?:[详詳][细細]|具[体體]|[现現新])?(?:地址|(?i:address))[\"']?[ ]?[:：][ ]?[(（\[\"']?"
)
_HEAD = re.compile(rf"{_HOUSE}|(?<![A-Za-z])(?i:{_HALL})")
_SENTENCE = re.compile("[。.!?！？；;：:]")  # or a field: no head line
_OPEN = re.compile("[开開营營]放?[业業]?[时時][间間]|[门門]票|票[价價]|乘[车車]|(?i:opening|hours|admission|tickets)")


def is_listed(text: str, line: Span, start: int) -> bool:
    """Whether the address behind a bare label that begins its line is a hall's by the head line or the hours around."""
    if start - line[0] > 30 or not _BARE.fullmatch(text, line[0], start):
        return False
    head = text[max(0, line[0] - 60) : line[0]].rstrip("\n").rpartition("\n")[2]
    hall = _HEAD.search(head) and not _SENTENCE.search(head)
    return bool(hall or _OPEN.match(text, line[1] + 1))


HOMES = {
    "owned": (Kind("address", _STREET_HINT, _ZH, _zh_owned), Kind("address", _EN_HINT, _EN, _en_owned)),
    "all": (Kind("address", _STREET_HINT, _ZH, _zh_any), Kind("address", _EN_HINT, _EN, _en_any)),
    "none": (),
}
