"""Prose: lines that are sentences, told from titles, works, credits, citations and names.

A line of prose ends as a sentence does, and holds more words than names: titles and their translations, in quotes or
brackets, do not count, and most of the other words begin in lower case (of German three in five, the fewest; of works
and citations half or fewer).  Japanese, which has neither blanks nor capitals, ends a sentence in hiragana, or has
two on a line.  What begins as a list does, or ends in a year or page behind a mark as a citation does, is none.
"""

import re

UNSTOPPED = 120  # letters from which a line in a script other than Latin and Han is prose without an end, as in Thai
JAPANESE = 60  # letters, four to a character, from which a line in kana may be prose
WORDS, LOWER = 8, 0.55  # words of a line of prose, and the share of them that begin in lower case

_END = re.compile(r"""[.!?。！？…؟।۔]["'”’»«“」』)\]）】]*(?:\[[0-9]{1,3}\])*$""")
_NAMES = re.compile(
    r"""\([^()]{0,200}\)|（[^（）]{0,200}）|\[[^][]{0,200}\]|【[^【】]{0,80}】|《[^《》]{0,80}》|「[^「」]{0,80}」|『[^『』]{0,80}』"""
    r"""|“[^“”]{0,80}”|„[^„“”]{0,80}[“”]|«[^«»]{0,80}»|»[^«»]{0,80}«|"[^"]{1,80}\""""
)
_LIST = re.compile(r"[0-9*•#=|!:;–—-]|[\"“„«»]")  # begins of lines that list, and of quoted titles
_NUMBERED = re.compile(r"[0-9]{1,3}[.)、．]|[*•#|=–—-]")
_CITED = re.compile(r"[^\w\s]\s*[0-9]{1,4}\s?(?:年|년|г)?[)\]）.。]*$")  # a citation ends: ", 1998." "p. 24." "(1998)."
_HIRAGANA_END = re.compile("[\u3041-\u3096][」』）)]*[。！？!?][」』）)]*$")
_KANA = re.compile("[\u3041-\u30ff]")
_INTRODUCES = re.compile(r"\b(?:is|was|are|were) (?:an?|the|one of)\b")
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
    rest = without_names(line)
    cited = _LIST.match(line) or _CITED.search(line[-24:])
    return not cited and not _HAN.search(rest) and runs(rest)


def is_other(line: str, letters: int) -> bool:
    """Whether a line of so many letters, in a script other than Latin and Han, is a sentence."""
    if _NUMBERED.match(line) or _CITED.search(line[-24:]):
        return False
    if _KANA.search(line):
        stops = _HIRAGANA_END.search(line[-16:]) or (line.count("。") > 1 and ends(line))
        return letters >= JAPANESE and bool(stops)
    words = _WORD.findall(without_names(line))
    if 2 * sum(word.upper() != word.lower() for word in words) > len(words):  # Cyrillic, Greek
        return ends(line) and runs(line)
    return letters >= UNSTOPPED or ends(line)


def introduces(line: str) -> str:
    """The words in lower case of a sentence that says in English what something is, as an article begins; else ""."""
    if not (ends(line) and _INTRODUCES.search(line)):
        return ""
    return " ".join(word for word in _WORD.findall(without_names(line)) if word.islower())


def is_verse(line: str) -> bool:
    """Whether a line of any script is words alone, few of them with a capital."""
    return not _MARKS.search(line) and (not _CAPITAL.search(line) or runs(line, least=1))


def runs(text: str, least: int = WORDS) -> bool:
    """Whether a text is so many words or more, most of them in lower case."""
    words = _WORD.findall(text)
    return len(words) >= least and sum(word[0].islower() for word in words) >= LOWER * len(words)
