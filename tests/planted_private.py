"""Private data that is none: invented values in zh and en sentences, and numbers of music that must stay.

Sentences stand in data/private_sentences.tsv and data/music_numbers.tsv, written before the patterns in
data_prep/private.  Every second one is `held_out`: no pattern was made or mended after a look at what it gave.
"""

import ipaddress
import random
from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).parent / "data"


def one_of(chance: random.Random, words: str) -> str:
    return chance.choice(words.split("|"))


def digits(chance: random.Random, number: int) -> str:
    return "".join(chance.choices("0123456789", k=number))


def letters(chance: random.Random, number: int, alphabet: str = "abcdefghijklmnopqrstuvwxyz") -> str:
    return "".join(chance.choices(alphabet, k=number))


def cut(number: str, *lengths: int, by: str = " ") -> str:
    pieces, start = [], 0
    for length in lengths:
        pieces.append(number[start : start + length])
        start += length
    return by.join([*pieces, number[start:]] if start < len(number) else pieces)


def wide(text: str) -> str:
    """ASCII letters and digits in their full-width forms, as some keyboards write them."""
    return "".join(chr(ord(c) + 0xFEE0) if c.isascii() and (c.isalnum() or c in "@-.") else c for c in text)


# Values


def mobile(chance: random.Random) -> str:
    number = "1" + chance.choice("3456789") + digits(chance, 9)
    forms = [number] * 4 + [cut(number, 3, 4), cut(number, 3, 4, by="-"), cut(number, 3, 4, by="－")]
    forms += [wide(number), "+86-" + cut(number, 3, 4, by="-"), cut(number, 3, 4, by="\u00a0")]
    forms += [before + number for before in ("+86 ", "86", "0086", "+86")]
    return chance.choice([*forms, cut(number, 3, 3), cut(number, 4, 3, by="-")])


def landline(chance: random.Random) -> str:
    code = one_of(chance, "010|021|020|028|0755|0571|0531|0311|0898|0991")
    number = chance.choice("2345678") + digits(chance, 7 if len(code) == 3 else chance.choice([6, 7]))
    forms = [f"{code}-{number}", f"{code} {number}", f"({code}){number}", f"（{code}）{number}", f"{code}－{number}"]
    forms += [f"{code}-{cut(number, 4)}", f"+86-{code[1:]}-{number}", f"{code}—{number}", f"+86 {code[1:]} {number}"]
    forms += [f"{code}-{number}转{chance.randint(100, 9999)}", wide(f"{code}-{number}")]
    return chance.choice(forms)


def foreign(chance: random.Random) -> str:
    area = chance.choice("23456789") + digits(chance, 2)
    us = [area, chance.choice("23456789") + digits(chance, 2), digits(chance, 4)]
    forms = [
        "({}) {}-{}",
        "{}-{}-{}",
        "+1 {} {} {}",
        "+1-{}-{}-{}",
        "{}.{}.{}",
        "+1 ({}) {}-{}",
        "1-{}-{}-{}",
        "+1{}{}{}",
    ]
    forms = [form.format(*us) for form in forms]
    forms += [f"+44 20 7{digits(chance, 3)} {digits(chance, 4)}", f"+44 7{digits(chance, 3)} {digits(chance, 6)}"]
    forms += [f"020 7{digits(chance, 3)} {digits(chance, 4)}", f"07{digits(chance, 3)} {digits(chance, 6)}"]
    forms += [f"+49 30 {digits(chance, 6)}", f"+33 1 {digits(chance, 2)} {cut(digits(chance, 6), 2, 2)}"]
    forms += [
        f"+81-3-{digits(chance, 4)}-{digits(chance, 4)}",
        f"+852 {chance.choice('259')}{cut(digits(chance, 7), 3)}",
    ]
    forms += [f"+886 9{digits(chance, 2)} {digits(chance, 3)} {digits(chance, 3)}", f"0044 20 7{digits(chance, 7)}"]
    forms += [f"+61 4{digits(chance, 2)} {digits(chance, 3)} {digits(chance, 3)}", f"+65 {cut(digits(chance, 8), 4)}"]
    forms += [
        f"09{digits(chance, 2)}-{digits(chance, 3)}-{digits(chance, 3)}",
        f"(02) 2{digits(chance, 3)}-{digits(chance, 4)}",
    ]
    return chance.choice(forms)


def birthday(chance: random.Random) -> str:
    return f"{chance.randint(1945, 2015)}{chance.randint(1, 12):02}{chance.randint(1, 28):02}"


def region(chance: random.Random) -> str:
    province = one_of(chance, "11|12|13|14|21|22|31|32|33|34|35|36|37|41|42|43|44|45|50|51|52|61|62|65")
    return f"{province}{chance.randint(1, 12):02}{chance.randint(1, 30):02}"


def id_card(chance: random.Random) -> str:
    if chance.random() < 0.2:
        return region(chance) + birthday(chance)[2:] + digits(chance, 3)
    body = region(chance) + birthday(chance) + digits(chance, 3)
    total = sum(int(d) * 2 ** (17 - i) for i, d in enumerate(body))
    number = body + "10X98765432"[total % 11]
    forms = [number] * 4 + [cut(number, 6, 8), cut(number, 6, 8, by="-"), number.lower(), wide(number)]
    return chance.choice([*forms, cut(number, 6, 4, 4)])


def luhn(body: str) -> str:
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


def bank_card(chance: random.Random) -> str:
    prefix, length = chance.choice(
        [
            ("6222", 19),
            ("6217", 19),
            ("6228", 19),
            ("6225", 16),
            ("4", 16),
            ("5" + chance.choice("12345"), 16),
            ("37", 15),
        ]
    )
    number = luhn(prefix + digits(chance, length - 1 - len(prefix)))
    if length == 15:
        return chance.choice([number, cut(number, 4, 6)])
    groups = [4] * (length // 4)
    return chance.choice([number, number, cut(number, *groups), cut(number, *groups, by="-"), wide(number)])


def passport(chance: random.Random) -> str:
    return chance.choice(
        [
            "E" + digits(chance, 8),
            "G" + digits(chance, 8),
            "E" + letters(chance, 1, "ABCDFGH") + digits(chance, 7),
            "e" + digits(chance, 8),
        ]
    )


def foreign_passport(chance: random.Random) -> str:
    return chance.choice(
        [
            digits(chance, 9),
            letters(chance, 1, "ABCHMX") + digits(chance, 8),
            letters(chance, 2, "ABCKT") + digits(chance, 7),
        ]
    )


def plate(chance: random.Random) -> str:
    place = chance.choice("京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼") + chance.choice(
        "ABCDEFGHJK"
    )
    tails = [
        digits(chance, 5),
        digits(chance, 5),
        letters(chance, 1, "ABCDEFGH") + digits(chance, 4),
        digits(chance, 3) + letters(chance, 2, "ABCDEFGH"),
    ]
    green = [
        chance.choice("DF") + digits(chance, 5),
        chance.choice("DF") + chance.choice("ABCGK") + digits(chance, 4),
        digits(chance, 5) + chance.choice("DF"),
    ]
    tail = chance.choice(tails + green)
    return place + one_of(chance, "||·| |-|•") + tail


def handle(chance: random.Random) -> str:
    name = letters(chance, chance.randint(4, 8))
    return chance.choice(
        [
            name + digits(chance, 3),
            name + "_" + digits(chance, 2),
            name + "-" + letters(chance, 3),
            "wxid_" + letters(chance, 8) + digits(chance, 4),
            letters(chance, 8),
            name.title() + digits(chance, 4),
        ]
    )


def qq(chance: random.Random) -> str:
    number = chance.choice("123456789") + digits(chance, chance.randint(4, 9))
    return chance.choice([number] * 5 + [wide(number), cut(number, 3, 3) if len(number) >= 9 else number])


def email(chance: random.Random) -> str:
    name = letters(chance, chance.randint(3, 9))
    name = chance.choice(
        [
            name,
            name + digits(chance, 3),
            name + "." + letters(chance, 5),
            name + "_x",
            name + "+music",
            digits(chance, 9),
        ]
    )
    host = one_of(
        chance,
        "qq.com|163.com|126.com|gmail.com|sina.com.cn|mail.example.org|tu-nowhere.de|foxmail.com|songs.example.co.uk|outlook.com",
    )
    forms = [f"{name}@{host}"] * 8 + [
        f"{name}＠{host}",
        f"{name}[at]{host}",
        f"{name} (at) {host}",
        wide(f"{name}@{host}"),
        f"{name}@{host}".upper(),
    ]
    return chance.choice(forms)


def ip(chance: random.Random) -> str:
    if chance.random() < 0.3:
        groups = [f"{chance.randint(0x2400, 0x2FFF):x}", *(f"{chance.randint(0x1000, 0xFFFF):x}" for _ in range(7))]
        return chance.choice(
            [
                ":".join(groups),
                "2a01:4f8::" + ":".join(groups[:2]),
                "2607:f8b0::" + ":".join(groups[:4]),
                ("2400:" + ":".join(groups[1:])).upper(),
            ]
        )
    while True:  # none of the ranges that are nobody's
        address = ".".join(str(chance.randint(low, 254)) for low in (11, 0, 0, 1))
        if ipaddress.ip_address(address).is_global and not ipaddress.ip_address(address).is_multicast:
            return address


QUERIES = (  # ? is a letter, # a digit
    "uid=########|token=??????########|email=??????@example.com|id=######&userid=#########|mail=??????%40example.com|"
    "access_token=??????########&page=2|sessionid=??????########|song=12&user_id=#######|phone=139########|"
    "id=1&openid=??????########|openId=??????########|api_key=??????########|uin=#########|PHPSESSID=??????########|"
    "v=3&auth=??????########|password=??????########"
)
PAGES = (
    "https://music.example.com/song|http://www.example.cn/play.html|https://m.example.org/u/share|"
    "https://api.example.net/v1/tracks|www.example.com/list"
)


def url(chance: random.Random) -> str:
    query = one_of(chance, QUERIES)
    made = (letters(chance, 1) if c == "?" else digits(chance, 1) if c == "#" else c for c in query)
    return one_of(chance, PAGES) + "?" + "".join(made)


def zh_address(chance: random.Random) -> str:
    city = one_of(
        chance,
        "北京市海淀区|上海市徐汇区|浙江省杭州市西湖区|广东省深圳市南山区|四川省成都市武侯区|江苏省苏州市吴中区|湖南省长沙市岳麓区|新疆维吾尔自治区乌鲁木齐市天山区|河北省石家庄市正定县|重庆市渝北区|臺北市大安區|广州市天河区|福建省晋江市",
    )
    road = one_of(
        chance,
        "学院路|漕溪北路|文三西路|科技园南一道|人民南路四段|干将东路|麓山南路|新华北街|常山大街|红锦大道|羅斯福路三段|体育西横街|世纪大道|长青里|柳荫胡同|幸福巷",
    )
    number = f"{chance.randint(1, 999)}{one_of(chance, '号|号|号|弄| 号|號')}"
    estate = one_of(chance, "阳光花园|金色家园|丽水苑|翠湖小区|东方公寓|和平新村")
    door = chance.choice(["{}栋{}室", "{}号楼{}单元{}", "{}幢{}单元{}室", "{}座{}", "{}-{}-{}", "{}楼{}房"]).format(
        chance.randint(1, 30),
        chance.randint(1, 6) if chance.random() < 0.5 else chance.randint(101, 2804),
        chance.randint(101, 1904),
    )
    forms = [
        city + road + number,
        city + road + number,
        city + road + number + door,
        city + road + number + estate + door,
        city + estate + door,
        road + number + door,
        city + " " + road + number,
    ]
    return chance.choice(forms)


def en_address(chance: random.Random) -> str:
    name = one_of(
        chance, "Maple|Elm Grove|North Lincoln|W. Harrison|Old Mill|Cedar Hill|East 14th|Fairview|King George|St. James"
    )
    kind = one_of(chance, "Street|St|St.|Avenue|Ave|Ave.|Road|Rd|Blvd|Lane|Drive|Dr.|Court|Terrace|Way|Place")
    street = f"{chance.randint(1, 9999)}{one_of(chance, '|||B|-12')} {name} {kind}"
    unit = one_of(chance, "||, Apt 4B|, Apt. 12| #305|, Suite 210|, Flat 3| Unit 7")
    us = (
        one_of(chance, "Springfield, IL|Portland, OR|Austin, Texas|Cambridge, MA|New Haven, CT")
        + " "
        + digits(chance, 5)
    )
    uk = (
        chance.choice(["London", "Leeds", "Great Yarmouth"])
        + chance.choice([" ", ", "])
        + one_of(chance, "NW3 2QP|LS6 1AA|E1 6AN|SW1A 2ZZ|NR30 4QT")
    )
    return f"{street}{unit}, {chance.choice([us, us, us + '-' + digits(chance, 4), uk])}"


def en_street(chance: random.Random) -> str:
    """Not a whole address, so only what is said around it makes it one."""
    return en_address(chance).split(",")[0]


# Sentences


def lines(file: str, held_out: bool) -> list[list[str]]:
    rows = [line.split("\t") for line in (DATA / file).read_text().splitlines()]
    return [row[1:] for row in rows if row[0] == ("held_out" if held_out else "seen")]


def sentences(seed: int, times: int, held_out: bool) -> Iterator[tuple[str, str, list[tuple[int, int, str]]]]:
    """(language, sentence, [(start, end, type)]), each template with `times` values."""
    chance = random.Random(seed)
    for kind, language, value, template in lines("private_sentences.tsv", held_out):
        before, after = template.split("{}")
        for _ in range(times):
            made = globals()[value](chance)
            yield language, before + made + after, [(len(before), len(before) + len(made), kind)]


def stays(held_out: bool) -> list[str]:
    """Sentences with numbers of music, none of them private."""
    return [line for (line,) in lines("music_numbers.tsv", held_out)]
