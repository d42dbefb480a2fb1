"""Where private data stands in a text: e-mail addresses, phone numbers, identity and bank cards, and the like.

find(text) gives hits, replaced(text, hits, placeholder) the text without them, mask_text both at once.

A number is private by its form alone only where the form leaves no doubt (a checksum, a mobile's prefix); else by
words beside it.  So BPM, years, catalogue and chart numbers, barcodes, ISRC and opus numbers stay, and so does
"867-5309", which is a song; "Phone: 867-5309" is a number to call.  A postal address is private where someone is said
to live or get mail there, one of the net where it leads to someone.

Each kind has a hint, a pattern that fails fast on almost every line, and the pattern proper for the lines that are
left; they stand in addresses.py, numbers.py and homes.py.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from data_prep.private.addresses import MESSENGERS, NET
from data_prep.private.homes import HOMES, is_listed
from data_prep.private.numbers import BLANK, EDGES, NUMBERS, Kind, Span
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import own_field

OWNED = "owned"  # of the postal addresses, those of people; see homes.py
KINDS = {homes: (*NET, *MESSENGERS, *NUMBERS, *kinds) for homes, kinds in HOMES.items()}  # the first that fits counts
TYPES = tuple(dict.fromkeys(kind.name for kind in KINDS[OWNED] if kind.name))
ROUNDS = 10  # taking a value out may uncover another; random and hostile texts were done after 3

# As some keyboards write them; same length, so places stay.
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ＠]")
_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F) if chr(wide - 0xFEE0).isalnum()} | {
    ord(wide): narrow for wide, narrow in zip("＠．－＿", "@.-_", strict=True)
}


class Hit(NamedTuple):
    start: int
    end: int
    type: str


def find(text: str, addresses: str = OWNED) -> list[Hit]:
    """Private data in order, none within another; postal addresses are owned, all or none."""
    if not text.isascii() and _WIDE.search(text):
        text = text.translate(_NARROW)
    kinds, lines = KINDS[addresses], {}
    hinted = {hint: list(_lines(hint, text)) for hint in {kind.hint for kind in kinds}}
    for kind in kinds:
        for line in hinted[kind.hint]:
            lines.setdefault(line, []).append(kind)
    return sorted(
        Hit(start + hit.start, start + hit.end, hit.type)
        for (start, end), some in lines.items()
        for hit in _find_in_line(text[start:end], some)
        if hit.type
        and not (addresses == OWNED and hit.type == "address" and is_listed(text, (start, end), start + hit.start))
    )


def replaced(text: str, hits: list[Hit], placeholder: str) -> str:
    """The text with a placeholder for each hit of `find`, its {type} filled in."""
    pieces, last = [], 0
    for hit in hits:
        pieces += [text[last : hit.start], placeholder.replace("{type}", hit.type)]
        last = hit.end
    return "".join([*pieces, text[last:]])


def _lines(hint: re.Pattern, text: str) -> Iterator[Span]:
    match = hint.search(text)
    while match:
        start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
        end = len(text) if end < 0 else end
        yield start, end
        match = hint.search(text, end)


def _find_in_line(line: str, kinds: list[Kind]) -> list[Hit]:
    """Looks until nothing more turns up, so that a masked text has nothing to mask."""
    hits: list[Hit] = []
    for _ in range(ROUNDS):
        before = len(hits)
        for kind in kinds:
            spans = _apart(kind.span(line, match) for match in kind.pattern.finditer(line))
            hits += [Hit(*span, kind.name) for span in spans]
            line = _without(line, spans)
        if len(hits) == before:
            break
    return hits


def _apart(spans: Iterable[Span | None]) -> list[Span]:
    """Spans without those that begin before the last one ends: an address may reach back into another."""
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


PLACEHOLDER = "<|{type}|>"


def mask_text(text: str, placeholder: str = PLACEHOLDER, addresses: str = OWNED) -> tuple[str, dict[str, int]]:
    """-> (masked text, {type: hits}); masking a masked text changes nothing."""
    hits = find(text, addresses)
    return replaced(text, hits, placeholder), dict(Counter(hit.type for hit in hits))


def mask_meta(meta: str, placeholder: str = PLACEHOLDER, addresses: str = OWNED) -> tuple[str, dict[str, int]]:
    """A JSON object -> (the same with its strings and numbers masked, {type: hits}); its keys stay."""
    try:
        values = own_field(meta)
        if not find("\n".join(labelled(values)), addresses):  # nearly always
            return meta, {}
        hits: Counter[str] = Counter()
        return json.dumps(mask_values(values, placeholder, addresses, hits), ensure_ascii=False), dict(hits)
    except (ValueError, RecursionError):  # a table from elsewhere: no JSON, or lists in lists in lists
        return mask_text(meta, placeholder, addresses)


def labelled(value, key: str = "") -> Iterator[str]:
    """Each string and number behind its key, which may say what it is: {"phone": "867-5309"}."""
    if isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else ((key, item) for item in value):
            yield from labelled(item, name)
    else:
        yield f'"{key}": {value if isinstance(value, str) else json.dumps(value)}'


def mask_values(value, placeholder: str, addresses: str, hits: Counter, key: str = ""):
    """The same with its strings and numbers masked; adds to hits."""
    if isinstance(value, dict):
        return {name: mask_values(item, placeholder, addresses, hits, name) for name, item in value.items()}
    if isinstance(value, list):
        return [mask_values(item, placeholder, addresses, hits, key) for item in value]
    (line,), label = labelled(value, key), f'"{key}": '
    text, line_hits = mask_text(line, placeholder, addresses)
    if not text.startswith(label):  # the key itself is private, and stays
        text, line_hits = mask_text(line.removeprefix(label), placeholder, addresses)
    hits.update(line_hits)
    return text.removeprefix(label) if line_hits else value


def check_placeholder(placeholder: str, flag: str = "--placeholder") -> None:
    """UserError where a placeholder could be taken for private data, or for part of it, in the next run."""
    filled = [placeholder.replace("{type}", kind) for kind in TYPES]
    bare = any(not text or text[0] not in EDGES or text[-1] not in EDGES for text in filled)
    if "{type}" not in placeholder or "\n" in placeholder or bare or any(map(find, filled)):
        raise UserError(
            f"{flag}={placeholder} will not do; it must contain {{type}}, begin and end with one of "
            f"{' '.join(EDGES)}, and hold no private data itself, as {PLACEHOLDER} does"
        )
