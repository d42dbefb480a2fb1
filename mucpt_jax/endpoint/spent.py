"""What calls cost: tokens, money, a budget that no call can exceed; how far a run is."""

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mucpt_jax.endpoint.call import Failure, Reply
from mucpt_jax.endpoint.settings import Prompt, Settings
from mucpt_jax.errors import BUDGET_SPENT

EVERY = 30  # seconds between lines of a log; a terminal has a bar
log = logging.getLogger(__name__)


@dataclass
class Spent:
    """What a run has cost so far.  `stopped` says why it ended before its last prompt, `status` is the exit status."""

    answered: int = 0  # cached ones too
    cached: int = 0
    failed: int = 0
    calls: int = 0  # retries too
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    unmetered: int = 0  # calls that may have cost something, unsaid: their cost is the most that it can be
    under_way: int = 0  # calls
    reserved: float = 0.0  # the most that those can cost
    in_a_row: int = 0  # prompts that failed since the last reply
    stopped: str | None = None
    status: int = 0


def cost(settings: Settings, prompt_tokens: int, completion_tokens: int) -> float:
    return (prompt_tokens * settings.price_in + completion_tokens * settings.price_out) / 1e6


def most(settings: Settings, prompt: Prompt) -> float:
    """The cost of a call cannot be higher: a token has a byte or more, and 100 tokens are the template's."""
    size = len(json.dumps(prompt, ensure_ascii=False).encode("utf-8", "replace"))
    return cost(settings, size + 100, settings.max_tokens)


async def affordable(spent: Spent, settings: Settings, price: float) -> bool:
    """May a call of at most this price begin?  Waits for calls under way where their true cost decides."""
    while not spent.stopped:
        if settings.max_calls is not None and spent.calls >= settings.max_calls:
            stop(spent, f"max_calls={settings.max_calls} calls are made", BUDGET_SPENT)
        elif settings.budget is None or spent.cost + spent.reserved + price <= settings.budget:
            return True
        elif spent.under_way:
            await asyncio.sleep(0.02)
        else:
            known = f"{spent.cost:.4g} of budget={settings.budget:g} is spent"
            stop(spent, f"{known} and the next call may cost {price:.2g}", BUDGET_SPENT)
    return False


def stop(spent: Spent, why: str, status: int) -> None:
    """The first reason stays."""
    if not spent.stopped:
        spent.stopped, spent.status = why, status


@contextmanager
def reserved(spent: Spent, price: float) -> Iterator[None]:
    spent.calls, spent.under_way, spent.reserved = spent.calls + 1, spent.under_way + 1, spent.reserved + price
    try:
        yield
    finally:
        spent.under_way, spent.reserved = spent.under_way - 1, spent.reserved - price


def meter(spent: Spent, settings: Settings, price: float, outcome: Reply | Failure) -> None:
    """`price`: the most that the call may have cost, which counts where the server does not say."""
    if isinstance(outcome, Reply) and outcome.prompt_tokens:
        spent.prompt_tokens += outcome.prompt_tokens
        spent.completion_tokens += outcome.completion_tokens
        spent.cost += cost(settings, outcome.prompt_tokens, outcome.completion_tokens)
    elif isinstance(outcome, Reply) or outcome.billed:
        spent.unmetered += 1
        spent.cost += price


def count(spent: Spent, reply: Reply) -> None:
    spent.answered += reply.error is None
    spent.cached += reply.cached
    spent.failed += reply.error is not None
    spent.in_a_row = 0 if reply.text is not None else spent.in_a_row + 1


@contextmanager
def shown(name: str, total: int | None, spent: Spent) -> Iterator[None]:
    """While the block runs: a bar on a terminal, else a line in the log every 30 seconds."""
    ended = threading.Event()
    show = _bar if sys.stderr.isatty() else _lines
    thread = threading.Thread(target=show, args=(name, total, spent, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _lines(name: str, total: int | None, spent: Spent, ended: threading.Event) -> None:
    started = time.monotonic()
    while not ended.wait(EVERY):
        log.info("%s: %s; %s", name, so_far(spent, total, time.monotonic() - started), summary(spent))


def so_far(spent: Spent, total: int | None, seconds: float) -> str:
    finished = spent.answered + spent.failed
    if total is None:
        return f"{finished:,} prompts"
    called = finished - spent.cached  # a cached reply takes no time
    return f"{finished:,} of {total:,}" + (f", {(total - finished) * seconds / called:.0f} s to go" if called else "")


def _bar(name: str, total: int | None, spent: Spent, ended: threading.Event) -> None:
    from rich import progress  # no need of it in a log

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[spent]}"), progress.TimeElapsedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=progress.Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(name, total=total, spent="")
        while not ended.wait(0.5):
            bar.update(task, completed=spent.answered + spent.failed, spent=summary(spent))


def summary(spent: Spent) -> str:
    parts = [f"{spent.calls:,} calls", f"{spent.cached:,} cached", f"{spent.failed:,} failed"]
    parts += [f"{spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens"]
    parts += [f"{spent.unmetered:,} calls of unknown cost"] if spent.unmetered else []
    return ", ".join(parts + ([f"cost {spent.cost:.4g}"] if spent.cost else []))
