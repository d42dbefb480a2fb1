"""A language model behind an OpenAI-compatible endpoint: many prompts at a time, each until it is answered.

    spent = ask([("id", [{"role": "user", "content": "..."}])], Settings(endpoint, model), done=lambda id, reply: ...)

An answered prompt is never asked again: replies stand in an sqlite file, by model, prompt and parameters.  What may
pass (500, 429, a time-out, half a reply, a page of HTML) is asked again after a pause; a wrong key or URL ends the run.
The key comes from the environment and is cut out of all that leaves this module.  No jax here.
"""

import asyncio
import logging
import random
import sqlite3
import sys
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mucpt_jax.endpoint import replies
from mucpt_jax.endpoint.call import Reply, call, client
from mucpt_jax.endpoint.settings import Prompt, Settings, add_options, check, key_of, settings_of
from mucpt_jax.endpoint.spent import Spent, affordable, count, meter, most, reserved, shown, stop, summary
from mucpt_jax.errors import TRY_AGAIN, one_line

__all__ = ["Prompt", "Reply", "Settings", "Spent", "add_options", "ask", "end", "settings_of", "summary"]
GIVE_UP = 20  # prompts in a row without a reply: the endpoint is down
UNREACHED = 4  # tries of a prompt without a connection, before anything was answered
FIRST_PAUSE = 0.5  # seconds; it doubles
log = logging.getLogger(__name__)


@dataclass
class Run:
    """One call of ask(); `client` is made at the first prompt that the cache lacks: its import takes a second."""

    settings: Settings
    key: str
    cache: sqlite3.Connection
    parse: Callable[[str], Any] | None
    again: str
    spent: Spent = field(default_factory=Spent)
    client: Any = None
    locks: weakref.WeakValueDictionary = field(default_factory=weakref.WeakValueDictionary)


def ask(
    prompts: Iterable[tuple[str, Prompt]],
    settings: Settings,
    done: Callable[[str, Reply], None],
    parse: Callable[[str], Any] | None = None,
    again: str = "",
    name: str = "asking",
) -> Spent:
    """Calls done(id, reply) in the order of arrival, in this thread; prompts are drawn as they are asked.

    `parse` makes a value of a text, or raises ValueError: then the prompt is asked once more, with the sentence `again`
    behind it, and a second such reply is an error.  Errors are not kept: the next run asks these prompts again.
    Where Spent.stopped is set, the prompts that are left were not asked, and done() was not called for them.
    UserError: settings, a cache that is none.
    """
    check(settings)
    key = key_of(settings)
    with replies.opened(settings.cache) as cache:
        run = Run(settings, key, cache, parse, again)
        asyncio.run(ask_all(run, prompts, done, name))
    return run.spent


async def ask_all(run: Run, prompts: Iterable[tuple[str, Prompt]], done: Callable, name: str) -> None:
    waiting, spent = iter(prompts), run.spent

    async def work() -> None:
        while not spent.stopped and (item := next(waiting, None)):
            reply = await answer(run, item[1])
            if reply is not None:
                count(spent, reply)
                done(item[0], reply)
                if spent.in_a_row >= GIVE_UP:
                    stop(spent, f"{GIVE_UP} prompts in a row failed, the last with: {reply.error}", TRY_AGAIN)

    total = len(prompts) if hasattr(prompts, "__len__") else None
    with shown(name, total, spent):
        try:
            await asyncio.gather(*(work() for _ in range(run.settings.concurrency)))
        finally:
            if run.client:
                await run.client.close()


async def answer(run: Run, prompt: Prompt) -> Reply | None:
    """From the cache or the endpoint; None where the run stopped first."""
    variants = [prompt, with_sentence(prompt, run.again)] if run.parse else [prompt]
    keys = [replies.hash_of(run.settings, variant, number) for number, variant in enumerate(variants)]
    lock = run.locks.setdefault(keys[0], asyncio.Lock())
    async with lock:  # the same prompt twice is asked once
        for kept in filter(None, (replies.look_up(run.cache, key) for key in keys)):
            known = parsed(Reply(error=None, cached=True, **kept), run.parse)
            if known.error is None:
                return known
        tokens = (0, 0)
        for number, variant in enumerate(variants):
            reply = await call_until_answered(run, variant)
            if reply is None or reply.text is None:
                return reply
            tokens = tokens[0] + reply.prompt_tokens, tokens[1] + reply.completion_tokens
            reply = reply._replace(prompt_tokens=tokens[0], completion_tokens=tokens[1], retried=number > 0)
            reply = parsed(reply, run.parse)
            if reply.error is None:
                replies.keep(run.cache, keys[number], {name: getattr(reply, name) for name in replies.FIELDS})
                break
        return reply


def with_sentence(prompt: Prompt, sentence: str) -> Prompt:
    """The sentence ends the last message: templates want the roles to take turns."""
    if isinstance(prompt, str):
        return prompt + sentence
    return [*prompt[:-1], prompt[-1] | {"content": f"{prompt[-1]['content']}\n\n{sentence}".strip()}]


def parsed(reply: Reply, parse: Callable[[str], Any] | None) -> Reply:
    try:
        return reply._replace(value=parse(reply.text)) if parse else reply
    except ValueError as error:
        return reply._replace(error=f"not of the form asked for: {one_line(error)}")


async def call_until_answered(run: Run, prompt: Prompt) -> Reply | None:
    settings, spent, price = run.settings, run.spent, most(run.settings, prompt)
    run.client = run.client or client(settings, run.key)
    for tries in range(1, settings.retries + 2):
        if not await affordable(spent, settings, price):
            return None
        with reserved(spent, price):
            outcome = await call(run.client, settings, prompt, run.key)
            meter(spent, settings, price, outcome)
        if isinstance(outcome, Reply):
            return outcome
        if outcome.fatal or (outcome.status is None and tries >= UNREACHED and not spent.answered):
            stop(spent, f"{settings.endpoint} cannot be used: {outcome.text}", 1 if outcome.fatal else TRY_AGAIN)
            return None
        if not outcome.passing or tries > settings.retries:
            return Reply(None, f"{outcome.text} (call {tries})", False, 0, 0)
        await asyncio.sleep(pause(tries, outcome.after, settings.max_retry_after))
    raise AssertionError


def pause(tries: int, after: float | None, longest: float) -> float:
    """Seconds: as the server wishes, else twice as long each time; more or less by chance, so that calls part."""
    if after is not None:
        return min(after, longest) + random.uniform(0, FIRST_PAUSE)
    return min(FIRST_PAUSE * 2.0 ** min(tries - 1, 20), longest) * random.uniform(0.5, 1)


def end(spent: Spent, what: str) -> None:
    """At the end of a command: the summary; where the run stopped early, a sentence and its exit status."""
    log.info("%s: %s", what, summary(spent))
    if spent.stopped:
        kept = "what was answered is kept, the same command goes on from there"
        print(f"error: {spent.stopped}; {kept}", file=sys.stderr)
        sys.exit(spent.status)
