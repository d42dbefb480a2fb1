"""A job's options are one frozen dataclass: its flags, --help and its section of a recipe are made from it.

    @dataclass(frozen=True)
    class Options:
        min_chars: int = option(20, "shorter documents go as too_short")

A field is a bool, int, float, str or a tuple of names, as its default is.  Names are comma-separated in flags and
recipes; in a recipe they may be a list.
"""

import argparse
import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mucpt_jax.errors import UserError


def parser(doc: str | None, **more: Any) -> argparse.ArgumentParser:
    """Of a command; --help shows its docstring as it is.  No short forms: flags for Beam could be taken for them."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **more
    )


def option(default: Any, meaning: str, bare: Any = None) -> Any:
    """A field; `bare` is the value of a flag that is given without one."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "bare": bare})


def add_flags(parser: argparse.ArgumentParser, options: type, needed: str) -> None:
    """A flag for each field; `needed` is the one that must be given, if any."""
    for field in dataclasses.fields(options):
        kind, bare = type(field.default), field.metadata["bare"]
        text = field.metadata["meaning"] if field.name == needed else help_of(field)
        more: dict = {"help": text.replace("%", "%%"), "required": field.name == needed}
        if kind is bool:
            more |= {"action": "store_true"}
        elif kind is tuple:
            more |= {"action": "append", "metavar": "NAME,..."}
        else:
            more |= {"type": kind, "default": field.default}
            more |= {} if bare is None else {"nargs": "?", "const": bare}
        parser.add_argument(f"--{field.name}", **more)


def help_of(field: dataclasses.Field) -> str:
    """What --help says; floats as they are typed."""
    default, meaning, bare = in_recipe(field.default), field.metadata["meaning"], field.metadata["bare"]
    if isinstance(default, bool):
        return meaning
    shown = f"{default:g}" if isinstance(default, float) else str(default) or "none"
    return f"{meaning} (default {shown}{'' if bare is None else f', {bare} where the flag has no value'})"


def of_flags(options: type, args: argparse.Namespace) -> Any:
    """What argparse read -> options."""
    values = {field.name: getattr(args, field.name) for field in dataclasses.fields(options)}
    joined = {name: ",".join(value) if isinstance(value, list) else value for name, value in values.items()}
    return of_section(options, joined, "")


def in_recipe(value: Any) -> bool | int | float | str:
    """As a recipe has it: what can be set by --config.KEY=a,b is a string."""
    return ",".join(value) if isinstance(value, tuple) else value


def section_of(options: type) -> dict[str, bool | int | float | str]:
    """{key: default}, for a recipe."""
    return {field.name: in_recipe(field.default) for field in dataclasses.fields(options)}


def of_section(options: type, section: Mapping[str, object], where: str) -> Any:
    """A section of a recipe -> options; UserError names `where`.KEY for a key or a value that is none of these."""
    fields = {field.name: field for field in dataclasses.fields(options)}
    if not hasattr(section, "items"):
        raise UserError(f"{where}={section!r} is no section; set its keys, such as {where}.{next(iter(fields))}")
    check_keys(section, fields, where)
    values = ((key, typed(value, fields[key].default, f"{where}.{key}")) for key, value in section.items())
    return options(**{key: value for key, value in values if value is not None})


def check_keys(given: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0)[0]
            raise UserError(f"{where}.{key} is none of its keys, which are {', '.join(known)}; did you mean {near}?")


def typed(value: object, default: Any, where: str) -> Any:
    """The value as of the default's type; None leaves the default."""
    kind = type(default)
    if value is None:
        return None
    if kind is tuple and isinstance(value, (str, list, tuple)):
        return tuple(names(value))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UserError(f"{where}={value!r} is no {kind.__name__}; give one such as {default!r}")
    return value


def names(value: str | list | tuple) -> Iterator[str]:
    """ "a, b" or ["a", "b"] -> a, b"""
    parts = value.split(",") if isinstance(value, str) else map(str, value)
    return filter(None, map(str.strip, parts))
