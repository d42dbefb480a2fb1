"""Where private data stands in a text: e-mail addresses, phone numbers, identity and bank cards, and the like.

find(text) gives spans, replaced(text, spans, placeholder) the text without them; mask.py is the job.

A number is private by its form alone only where the form leaves no doubt (a checksum, a mobile's prefix); else by
words beside it.  So BPM, years, catalogue and chart numbers, barcodes, ISRC and opus numbers stay, and so does
"867-5309", which is a song; "Phone: 867-5309" is a number to call.  Addresses are private when whole (town, street and
number; in English with its code), when they lead to a door, or when someone is said to live or get mail there.

Each kind has a hint, a pattern that fails fast on almost every line, and the pattern proper for the lines that are
left; they stand in private_addresses.py and private_numbers.py.
"""

import re
from collections.abc import Iterable, Iterator

from data_prep.private_addresses import HOMES, MESSENGERS, NET
from data_prep.private_numbers import BLANK, NUMBERS, Kind, Span

KINDS = (*NET, *MESSENGERS, *NUMBERS, *HOMES)  # the first that finds a value has it
TYPES = tuple(dict.fromkeys(kind.name for kind in KINDS if kind.name))
ROUNDS = 10  # a find may uncover another; random and hostile texts were done after 3

# As some keyboards write them; same length, so places stay.
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ＠]")
_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F) if chr(wide - 0xFEE0).isalnum()} | {
    ord(wide): narrow for wide, narrow in zip("＠．－＿", "@.-_", strict=True)
}


def find(text: str) -> list[tuple[int, int, str]]:
    """[(start, end, type)] in order, none within another."""
    if not text.isascii() and _WIDE.search(text):
        text = text.translate(_NARROW)
    lines: dict[Span, list[Kind]] = {}
    hints = {kind.hint for kind in KINDS}
    hinted = {hint: list(_lines(hint, text)) for hint in hints}
    for kind in KINDS:
        for line in hinted[kind.hint]:
            lines.setdefault(line, []).append(kind)
    return sorted(
        (start + first, start + last, name)
        for (start, end), kinds in lines.items()
        for first, last, name in _find_in_line(text[start:end], kinds)
        if name
    )


def replaced(text: str, spans: list[tuple[int, int, str]], placeholder: str) -> str:
    """The text with the placeholder, whose {type} is filled in, in the place of each span, as `find` gives them."""
    pieces, last = [], 0
    for start, end, kind in spans:
        pieces += [text[last:start], placeholder.replace("{type}", kind)]
        last = end
    return "".join([*pieces, text[last:]])


def _lines(hint: re.Pattern, text: str) -> Iterator[Span]:
    match = hint.search(text)
    while match:
        start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
        end = len(text) if end < 0 else end
        yield start, end
        match = hint.search(text, end)


def _find_in_line(line: str, kinds: list[Kind]) -> list[tuple[int, int, str]]:
    """Until nothing more is found, so that a masked text has nothing to mask."""
    found: list[tuple[int, int, str]] = []
    for _ in range(ROUNDS):
        before = len(found)
        for kind in kinds:
            spans = _apart(kind.span(line, match) for match in kind.pattern.finditer(line))
            found += [(*span, kind.name) for span in spans]
            line = _without(line, spans)
        if len(found) == before:
            break
    return found


def _apart(spans: Iterable[Span | None]) -> list[Span]:
    """Those that begin after the one before ends: an address may reach back into another."""
    kept: list[Span] = []
    for span in spans:
        if span and (not kept or span[0] >= kept[-1][1]):
            kept.append(span)
    return kept


def _without(line: str, spans: list[Span]) -> str:
    pieces, last = [], 0
    for start, end in spans:
        pieces += [line[last:start], BLANK * (end - start)]
        last = end
    return "".join([*pieces, line[last:]]) if spans else line
