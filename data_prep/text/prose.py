"""Prose: lines that are sentences, told from titles, works, credits, citations and names.

A line of prose ends as a sentence does, and holds more words than names: titles and their translations, in quotes or
brackets, do not count, and most of the other words begin in lower case (of German three in five, the fewest; of works
and citations half or fewer).
"""

import re

UNSTOPPED = 120  # letters from which a line in a script other than Latin and Han is prose without an end, as in Thai
WORDS, LOWER = 8, 0.55  # words of a line of prose, and the share of them that begin in lower case

_END = re.compile(r"""[.!?。！？…؟।۔]["'”’»«“」』)\]）】]*(?:\[[0-9]{1,3}\])*$""")
_NAMES = re.compile(
    r"""\([^()]{0,200}\)|（[^（）]{0,200}）|\[[^][]{0,200}\]|【[^【】]{0,80}】|《[^《》]{0,80}》|「[^「」]{0,80}」|『[^『』]{0,80}』"""
    r"""|“[^“”]{0,80}”|„[^„“”]{0,80}[“”]|«[^«»]{0,80}»|»[^«»]{0,80}«|"[^"]{1,80}\""""
)
_LIST = re.compile(r"[0-9*•#=|!:;–—-]|[\"“„«»]")  # begins of lines that list, and of quoted titles
_YEAR = re.compile(r", (?:1[5-9]|20)[0-9]{2}\.$")  # a citation ends
_MARKS = re.compile('[][0-9(){}<>«»„“”"/=•*|:]')  # of lists, citations, code
_HAN = re.compile("[\u3400-\u9fff]")
_CAPITAL = re.compile("[A-Z]")
_WORD = re.compile(r"[^\W\d_]+")


def ends(line: str) -> bool:
    """Whether a line ends as a sentence does."""
    return _END.search(line[-16:]) is not None


def without_names(line: str) -> str:
    """A line without what stands in brackets or quotes: titles, names, translations, dates."""
    return _NAMES.sub(" ", line)


def is_latin(line: str) -> bool:
    """Whether a line of Latin script that ends as a sentence does is one."""
    if _LIST.match(line) or _YEAR.search(line[-8:]):
        return False
    rest = without_names(line)
    return not _HAN.search(rest) and runs(rest)


def is_verse(line: str) -> bool:
    """Whether a line of any script is words alone, few of them with a capital."""
    return not _MARKS.search(line) and (not _CAPITAL.search(line) or runs(line, least=1))


def runs(text: str, least: int = WORDS) -> bool:
    """Whether a text is so many words or more, most of them in lower case."""
    words = _WORD.findall(text)
    return len(words) >= least and sum(word[0].islower() for word in words) >= LOWER * len(words)
