"""One call to an endpoint: a reply, or what went wrong, without the key that the server may have echoed."""

import asyncio
import email.utils
import html
import logging
import math
import re
import time
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

from msgspec import Meta

from mucpt_jax.endpoint.settings import Prompt, Settings
from mucpt_jax.errors import UserError, one_line
from mucpt_jax.formats.decode import Count, decoded

SECRET = 6  # characters of a key that is one: not "none", "EMPTY"
PASSING = (408, 409, 425, 429)  # and 500 and above: the same call may do next time
FATAL = (401, 404)  # wrong key, URL or model


class Reply(NamedTuple):
    text: str | None  # with an error: what could not be parsed
    error: str | None
    cached: bool
    prompt_tokens: int
    completion_tokens: int
    ended: bool = True  # not cut at max_tokens
    retried: bool = False  # the first reply could not be parsed
    value: Any = None  # what `parse` made of the text
    served: str | None = None  # the model, as the server calls it


class Failure(NamedTuple):
    text: str
    status: int | None = None  # of HTTP; None: no reply
    passing: bool = True
    after: float | None = None  # seconds, the server's wish
    fatal: bool = False  # no other prompt would fare better
    billed: bool = False  # perhaps


class Message(TypedDict):
    content: NotRequired[str | None]
    refusal: NotRequired[str | None]


class Choice(TypedDict):
    message: NotRequired[Message]
    text: NotRequired[str | None]  # of /completions
    finish_reason: NotRequired[str | None]


class Usage(TypedDict):
    prompt_tokens: Count
    completion_tokens: NotRequired[Count]


class Body(TypedDict):
    choices: Annotated[list[Choice], Meta(min_length=1)]
    usage: NotRequired[Usage | None]
    model: NotRequired[str | None]


def client(settings: Settings, key: str):
    """The SDK's, without its own retries: they sleep as long as a server wishes."""
    for library in ("httpx", "httpx2", "openai"):  # a line a call, with the URL
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        import openai  # a second, and an extra
    except ImportError as error:
        raise UserError(f'an endpoint needs the openai package ({error}); pip install "mucpt_jax[eval]"') from None
    return openai.AsyncOpenAI(
        api_key=key or "none", base_url=settings.endpoint, max_retries=0, timeout=settings.timeout
    )


async def call(client, settings: Settings, prompt: Prompt, key: str) -> Reply | Failure:
    known = {"temperature": settings.temperature, "max_tokens": settings.max_tokens, **settings.extra}
    body = {name: value for name, value in known.items() if value is not None}
    try:
        async with asyncio.timeout(settings.timeout):  # the SDK's own counts from byte to byte
            if isinstance(prompt, str):
                raw = client.completions.with_raw_response.create(model=settings.model, prompt=prompt, extra_body=body)
            else:
                chat = client.chat.completions.with_raw_response
                raw = chat.create(model=settings.model, messages=prompt, extra_body=body)
            return read((await raw).content, key)
    except Exception as error:
        return failure(error, key, settings.timeout)


def read(data: bytes, key: str) -> Reply | Failure:
    """The body of a reply with status 200, which may be anything."""
    try:
        body = decoded(data, Body, "the reply", "")
    except UserError as error:
        start = one_line(Exception(scrubbed(data.decode("utf-8", "replace"), key)))
        return Failure(f"{one_line(error)}: {start!r}", 200, billed=True)
    choice, usage = body["choices"][0], body.get("usage") or {}
    message, reason = choice.get("message") or {}, choice.get("finish_reason")
    texts = (message.get("content"), message.get("refusal"), choice.get("text"))
    text = next((text for text in texts if text is not None), None)
    if text is None:
        return Failure(f"a reply without text (finish_reason {reason})", 200, reason != "content_filter", billed=True)
    return Reply(
        scrubbed(text, key), None, False, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0),
        ended=reason != "length", served=scrubbed(body.get("model") or "", key) or None,
    )  # fmt: skip


def failure(error: Exception, key: str, timeout: float) -> Failure:
    if isinstance(error, TimeoutError) or type(error).__name__ == "APITimeoutError":
        return Failure(f"no whole reply within {timeout:g} s", billed=True)
    status, response = getattr(error, "status_code", None), getattr(error, "response", None)
    words = f"{type(error).__name__}: {error}" + ("" if status else f" {error.__cause__ or ''}")
    ours = isinstance(error, UnicodeError | TypeError)  # half a character in the prompt, a value that is no JSON
    quota = getattr(error, "code", None) == "insufficient_quota"
    return Failure(
        one_line(Exception(scrubbed(words, key))),  # scrubbed first: half a key would not be known
        status,
        passing=not ours and (status is None or status in PASSING or status >= 500),
        after=None if response is None else retry_after(response.headers.get("retry-after") or ""),
        fatal=quota or status in FATAL,
        billed=status is None,
    )


def retry_after(value: str) -> float | None:
    """Seconds, of a header that holds seconds or a date."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(seconds, 0.0)


def scrubbed(text: str, key: str) -> str:
    """Without the key, and without its first 8 characters and what follows: plain or escaped for URLs, JSON, HTML."""
    if len(key) < SECRET:
        return text

    def spelled(part: str) -> str:
        return "".join(
            rf"(?:{re.escape(c)}|%(?:25)*{ord(c):02x}|\\u00{ord(c):02x}|&\#x0*{ord(c):x};|&\#0*{ord(c)};"
            rf"|{re.escape(html.escape(c))}|\\{re.escape(c)})" for c in part
        )  # fmt: skip

    cut = [spelled(key[:8]) + r"[^\s\"'<>]*"] if len(key) > 8 else []
    return re.sub("|".join([spelled(key), *cut]), "[key]", text, flags=re.IGNORECASE)
