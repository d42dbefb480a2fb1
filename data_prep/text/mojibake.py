"""Mojibake: text that was read in another encoding than it was written in, and what can be brought back.

    UTF-8 read as Latin-1    cafÃ©, donâ€™t, ä¸­æ–‡   by ftfy, which is slow: only lines that look so
    GBK read as Latin-1      ÖÐÎÄÒôÀÖ               runs of pairs that are frequent Chinese characters in GB2312
    UTF-8 read as GBK        涓枃闊充箰               runs whose bytes are UTF-8 of frequent characters

A repair counts only if it gives the broken text again when it is encoded as before; a last character that lost a byte
becomes U+FFFD.  What was lost before (U+FFFD, 锟斤拷) stays lost: `is_broken` finds the documents that are full of it.
"""

import re

import ftfy

BROKEN = 0.02  # share of lost characters from which a document is broken
LEVEL_TWO = {"gb2312": b"\xd8\xa1", "big5": b"\xc9\x40"}  # where the rare characters begin
FEW = 3  # lost characters that any document may have

# Of UTF-8's second to fourth bytes, the characters in Latin-1 or in windows-1252.
_QUOTES = "\u2018\u2019\u201c\u201d«»"
_NEXT = "\x80-\x9f\u00a1-\u00aa\u00ac-\u00ba\u00bc-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ•–—˜™š›œžŸ"
_ANY = _NEXT + _QUOTES + "\xa0"
_TWO = f"[Â-Æ][{_NEXT}]|[Â-Æ][{_QUOTES}](?=\\w)"  # IRMÃ” is a capital before a quotation mark
_AS_LATIN = re.compile(  # “Ã©” alone may well be meant
    f"(?<=[^\\W\\d_])(?:{_TWO})|(?:{_TWO})(?=[^\\W\\d_])|(?<![A-Z])Â[\xa0«»]"
    f"|(?:[Ç-ß][{_ANY}]){{2}}|[à-ï][{_ANY}]{{2}}|[ð-ô][{_ANY}]{{3}}"
)
_CAREFUL = ftfy.TextFixerConfig(replace_lossy_sequences=False, restore_byte_a0=False, fix_c1_controls=False)
_GBK_AS_LATIN = re.compile("(?:[\x81-\u00fe][\x40-\x7e\x80-\u00fe]){4,}")
_TAIL_AS_LATIN = re.compile("(?:[\x81-\u00fe][\x80-\u00fe])+")
_MAYBE_LATIN = re.compile(f"[\x81-þ][{_ANY}Â-þ]")  # cheap, as it begins with one set
_LOST = re.compile("\ufffd|锟斤拷?|斤拷")


def _gbk(leads: range, nexts: range) -> str:
    pairs = (bytes([lead, second]).decode("gbk", "ignore") for lead in leads for second in nexts)
    return "".join(sorted({pair for pair in pairs if len(pair) == 1}))


# Three bytes of one character and three of the next are 涓|枃|闊, with the cuts of GBK: begin, end and begin, end.
_BEGIN = _gbk(range(0xE2, 0xF0), range(0x80, 0xC0))
_AS_GBK = re.compile(f"[{_BEGIN}][{_gbk(range(0x80, 0xC0), range(0xE2, 0xF0))}]")
_LINE = re.compile("([\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029])")
# Characters of three bytes with controls among them, which nobody means; U+0085 among them would end a line.
_UTF8_AS_LATIN = re.compile("(?:[à-ï][\x80-\u00bf]{2}){2,}")
_CONTROL = re.compile("[\x80-\x9f]")
_NOT_ASCII = re.compile("[^\x00-\x7f\ufffd]{3,}")


def repair(text: str) -> str:
    """Line by line; the text itself where nothing looks broken, or nothing can be proved."""
    if text.isascii() or not (_MAYBE_LATIN.search(text) or _AS_GBK.search(text)):
        return text
    text = _UTF8_AS_LATIN.sub(_from_utf8, text)
    return "".join(_repair_line(line) for line in _LINE.split(text))


def _repair_line(line: str) -> str:
    if line.isascii():
        return line
    if _AS_GBK.search(line):
        line = _NOT_ASCII.sub(_from_gbk, line)
    if _GBK_AS_LATIN.search(line):
        proved = _GBK_AS_LATIN.sub(_from_latin, line)
        line = line if proved == line else _TAIL_AS_LATIN.sub(_from_latin, proved)
    if not _AS_LATIN.search(line):
        return line
    fixed, steps = ftfy.fix_encoding_and_explain(line, _CAREFUL)
    return line if ("decode", "windows-1252") in steps else fixed  # a guess at what controls should be


def _from_utf8(run: re.Match) -> str:
    if not _CONTROL.search(run[0]):
        return run[0]
    try:
        return run[0].encode("latin-1").decode()
    except UnicodeDecodeError:  # what UTF-8 forbids
        return run[0]


def _from_gbk(run: re.Match) -> str:
    try:
        data = run[0].encode("gb18030")
        text = data.decode()
    except UnicodeEncodeError:
        return run[0]
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return run[0]
        text = data[: error.start].decode() + "\ufffd"
    return text if len(text) > 1 and _is_chinese(text.rstrip("\ufffd")) else run[0]


def _from_latin(run: re.Match) -> str:
    data = run[0].encode("latin-1")
    folded = [ord(c) for c in run[0].lower()]
    cases = sum(map(int.__eq__, folded[::2], folded[1::2]))  # ÅåÄä
    russian = len(data) > 4 and all(0xC0 <= byte < 0xE0 for byte in data)  # capitals
    if russian or (len(data) > 2 and folded == sorted(folded)) or 4 * cases > len(data) // 2:
        return run[0]
    text = data.decode("gbk", "ignore")
    return text if text.encode("gbk") == data and _is_chinese(text) else run[0]


def _is_chinese(text: str) -> bool:
    """Nearly all of it frequent characters of GB2312 or Big5, or punctuation."""
    return bool(text) and sum(map(is_frequent, text)) >= 0.9 * len(text)


def is_frequent(character: str) -> bool:
    """In the first level of GB2312 or of Big5, or a sign of theirs."""
    return in_level_one(character, "gb2312") or in_level_one(character, "big5")


def in_level_one(character: str, standard: str) -> bool:
    """The 3,755 frequent characters of gb2312, or the 5,401 of big5; signs such as 。 too."""
    return b"\x80" < character.encode(standard, "ignore") < LEVEL_TWO[standard]


def is_broken(text: str) -> bool:
    """Is more than BROKEN of it lost?"""
    lost = sum(map(len, _LOST.findall(text)))
    return lost > max(FEW, BROKEN * len(text))
