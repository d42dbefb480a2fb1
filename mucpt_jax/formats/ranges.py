"""Ranges of numbers, for annotated fields: a config's knobs, sizes of a model.  msgspec refuses what lies outside.

A knob must fit in 32 bits; Count, Size and Positive of decode.py are those of files, which hold larger numbers.

alpha: Positive = 1.0        # nan, inf, 0, -1 and "1" are refused
"""

import functools
import re
from typing import Annotated

import msgspec
from msgspec import Meta

# Floats are used as float32, which holds 1e-30 and 1e30 and their inverses.
Positive = Annotated[float, Meta(ge=1e-30, le=1e30)]
NotNegative = Annotated[float, Meta(ge=0, le=1e30)]
Share = Annotated[float, Meta(ge=0, le=1)]
Portion = Annotated[float, Meta(gt=0, le=1)]
BelowOne = Annotated[float, Meta(ge=0, lt=1)]
Count = Annotated[int, Meta(ge=0, lt=2**31)]
Size = Annotated[int, Meta(ge=1, lt=2**31)]
Bytes = Annotated[int, Meta(ge=1, le=2**62)]
Devices = Annotated[int, Meta(ge=-1, lt=2**31)]  # -1: all that remain


def fault(values: dict, kind: type) -> str | None:
    """The first value that has another type or range than the annotated field of `kind`, in words; None: all fit."""
    try:
        msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        expected, _, path = str(error).partition(" - at `$.")
        key = path.rstrip("`")
        value = functools.reduce(dict.__getitem__, key.split("."), values)
        wanted = re.sub(r"^Expected `[^`]*` (?=[<>])", "", expected).removeprefix("Expected ").replace("`", "")
        wanted = wanted.replace(">= 1e-30", "> 0 (1e-30 or more)")
        return f"{key}={repr(value)[:80]} must be {wanted}"
    return None
