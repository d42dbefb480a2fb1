"""Where and how to ask a language model; the options of a command that asks."""

import argparse
import os
import re
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from mucpt_jax.errors import UserError
from mucpt_jax.formats import ranges
from mucpt_jax.formats.decode import decoded

Prompt = list[dict[str, str]] | str  # messages; a text is continued, by /completions
OPTIONS = {  # fields of Settings that are flags: type, meaning
    "cache": (str, "sqlite file of replies: none is asked twice"),
    "concurrency": (int, "calls at a time"),
    "timeout": (float, "seconds of a call"),
    "retries": (int, "of a prompt, after its first call"),
    "max_retry_after": (float, "longest pause in seconds, whatever the server wishes"),
    "temperature": (float, "of the sampling"),
    "max_tokens": (int, "of a reply"),
    "budget": (float, "stop before this is spent, in the currency of the prices"),
    "max_calls": (int, "stop after so many calls"),
    "price_in": (float, "of a million tokens of prompts"),
    "price_out": (float, "of a million tokens of replies"),
    "key_env": (str, "environment variable of the key"),
}


@dataclass(frozen=True)
class Settings:
    endpoint: Annotated[str, Meta(min_length=1)]  # https://host/v1
    model: Annotated[str, Meta(min_length=1)]
    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 32  # calls at a time
    timeout: ranges.Positive = 60.0  # seconds of a call, from its start to the last byte
    retries: ranges.Count = 10  # of a prompt, after its first call
    max_retry_after: ranges.NotNegative = 10.0  # seconds of a pause, whatever the server wishes
    temperature: ranges.NotNegative = 0.0
    max_tokens: ranges.Size = 512
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of a request; null takes one away
    budget: ranges.NotNegative | None = None  # in the currency of the prices
    max_calls: ranges.Count | None = None
    price_in: ranges.NotNegative = 0.0  # of a million tokens
    price_out: ranges.NotNegative = 0.0
    cache: str | None = None  # sqlite file; not on a network's disk, where its locks fail
    key_env: Annotated[str, Meta(min_length=1)] = "OPENAI_API_KEY"  # name of the variable that holds the key


def add_options(parser: argparse.ArgumentParser) -> None:
    """--endpoint, --model, ...: one for each field of Settings."""
    group = parser.add_argument_group("endpoint", "the key comes from the environment, see --key_env")
    group.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible, as https://host/v1")
    group.add_argument("--model", metavar="NAME")
    for name, (kind, meaning) in OPTIONS.items():
        group.add_argument(f"--{name}", type=kind, default=getattr(Settings, name), help=f"{meaning}; %(default)s")
    group.add_argument("--extra", metavar="JSON", default="{}", help="further fields of a request; null takes one away")


def settings_of(flags: argparse.Namespace) -> Settings | None:
    """None without --endpoint."""
    if not flags.endpoint:
        if flags.model:  # an alias judge would take its place, unsaid
            raise UserError(f"--model={flags.model} needs --endpoint=URL, where it answers")
        return None
    if not flags.model:
        raise UserError("--endpoint needs --model=NAME, as the server calls it")
    extra = decoded(flags.extra, dict, "--extra", "write it as --extra='{\"top_p\": 0.9}'")
    values = {name: getattr(flags, name) for name in OPTIONS}
    settings = Settings(flags.endpoint, flags.model, extra=extra, **values)
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """UserError for values that cannot work; also for a key in the URL, which would stand in logs."""
    if fault := ranges.fault(asdict(settings), Settings):
        raise UserError(f"{fault}; change it")
    if not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:]+\])(:\d+)?(/[\w./~-]*)?", settings.endpoint):
        raise UserError(
            "the endpoint must be a URL as https://host/v1, without user, key or query; a key goes into the variable "
            f"{settings.key_env}"
        )
    if settings.budget is not None and not settings.price_in and not settings.price_out:
        raise UserError("a budget needs price_in and price_out, the prices of a million tokens; or limit max_calls")


def key_of(settings: Settings) -> str:
    key = os.environ.get(settings.key_env, "").strip()
    if not all("!" <= c <= "~" for c in key):
        raise UserError(f"the key in ${settings.key_env} holds characters that no key has; set it again")
    return key
