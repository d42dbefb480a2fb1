"""Every JSON that is read passes here: decoded, held against a type, and refused in one sentence.

Files of our own are data too: a disk, a copy or an editor may have damaged them.  A type is a TypedDict or dataclass
that stands beside what it describes, with its ranges, as in `Annotated[int, Meta(ge=1)]`.  What is returned is the
value as the file has it: keys that the type does not know are those of another version, and stay.

Decoding is msgspec's, which is strict: no NaN, no half characters, no newlines in strings.  A byte-order mark is read.
Lines end at \n alone: U+2028 and its like may stand in strings.
"""

import codecs
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mucpt_jax.errors import UserError, one_line

Count = Annotated[int, Meta(ge=0, le=2**53)]
Size = Annotated[int, Meta(ge=1, le=2**53)]
Positive = Annotated[float, Meta(gt=0, le=2.0**62)]
Number = Annotated[float, Meta(ge=-(2.0**62), le=2.0**62)]  # finite; as an integer it fits in 64 bits
MARK = b"\xef\xbb\xbf"
OBJECTS = 2_000
DEEPEST = 200  # lists and objects in each other: whatever walks through a value, or writes it again, gets to its end


def read_json(path: str | Path, kind: Any = Any, way_out: str = "copy or write it again") -> Any:
    """The value of a JSON file, of type `kind`; `way_out` is what the user can do where it is none."""
    return decoded(_bytes(path, way_out), kind, str(path), way_out)


def read_lines(path: str | Path, kind: Any = dict, way_out: str = "copy or write it again") -> list:
    """The values of a JSONL file that was written whole; blank lines do not count."""
    lines = enumerate(_bytes(path, way_out).removeprefix(MARK).split(b"\n"), 1)
    return [decoded(line, kind, f"{path} line {number}", way_out) for number, line in lines if line.strip()]


def read_log(path: str | Path, kind: Any = dict) -> list:
    """The values of a JSONL file that runs append to; none where it is missing.

    A kill may cut a line in its middle, and the next start writes on: such lines are left out with one warning.
    """
    values, wrong = [], []
    for number, line in enumerate(_bytes(path, "copy it again").split(b"\n") if Path(path).exists() else [], 1):
        try:
            values += [decoded(line, kind, f"{path} line {number}", "")] if line.strip() else []
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        more = f", and {len(wrong) - 1} more lines" if wrong[1:] else ""
        logging.warning("%s%s: left out, as a kill may cut off a line", wrong[0], more)
    return values


def is_cut(line: bytes) -> bool:
    """Is a log's line the start of an object, alone or with the line behind it that the next start has written?"""
    behind = [match.start() for match in re.finditer(rb'\{"', line) if match.start()]
    if len(behind) > OBJECTS:  # of a log's line; each is tried, which costs the square of their number
        return False
    return is_start(line) or any(is_object(line[end:]) and is_start(line[:end]) for end in behind)


def is_start(text: bytes) -> bool:
    """Of a JSON object that has no end; the rest of a character or of a number that was cut is left out."""
    try:
        whole = codecs.getincrementaldecoder("utf-8")().decode(text.rstrip())
        msgspec.json.decode(re.sub(r"(?:(?<=\d)[.eE][-+]?|-)\Z", "0", whole))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return text.startswith(b"{") and "truncated" in str(error)
    return False


def is_object(text: bytes) -> bool:
    try:
        return isinstance(decoded(text, dict, "", ""), dict)
    except UserError:
        return False


def decoded(text: str | bytes, kind: Any, where: str, way_out: str) -> Any:
    """The value of a JSON text; `where` is what the user calls it."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        value = msgspec.json.decode(data.removeprefix(MARK))
        if data.count(b"[") + data.count(b"{") > DEEPEST and nesting(value) > DEEPEST:
            raise RecursionError
    except (ValueError, RecursionError) as error:
        raise _refused("cannot be read as JSON", error, where, way_out) from error
    return checked(value, kind, where, way_out)


def checked(value: Any, kind: Any, where: str, way_out: str) -> Any:
    """The value, if it is of type `kind`: also for what another library has decoded."""
    try:
        msgspec.convert(value, kind)
    except (ValueError, RecursionError) as error:
        raise _refused("is damaged or of another kind", error, where, way_out) from error
    return value


def own_field(text: str, nan: Callable[[str], Any] = float) -> Any:
    """A user's own line or field (`meta`), in which NaN and half characters may stand; ValueError for no JSON."""
    try:
        value = json.loads(text, parse_constant=nan)
    except RecursionError as error:
        raise ValueError(f"more than {DEEPEST} lists or objects in each other") from error
    if text.count("[") + text.count("{") > DEEPEST and nesting(value) > DEEPEST:
        raise ValueError(f"more than {DEEPEST} lists or objects in each other")
    return value


def nesting(value: Any) -> int:
    """How deep lists and objects stand in each other."""
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, (dict, list))]:
        level = [item for v in level for item in (v.values() if isinstance(v, dict) else v)]
        depth += 1
    return depth


def _bytes(path: str | Path, way_out: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise _refused("cannot be read", error, str(path), way_out) from error


def _refused(fault: str, error: Exception, where: str, way_out: str) -> UserError:
    deep = isinstance(error, RecursionError)
    reason = f"more than {DEEPEST} lists or objects in each other" if deep else one_line(error)
    return UserError(f"{where} {fault} ({reason}){'; ' if way_out else ''}{way_out}")
