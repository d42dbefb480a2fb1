"""Replies of language models that are kept: an sqlite file, one row for each prompt that was answered."""

import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

from mucpt_jax.endpoint.settings import Prompt, Settings
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import Count, decoded
from mucpt_jax.formats.files import text_hash


class Kept(TypedDict):
    text: str
    prompt_tokens: Count
    completion_tokens: Count
    ended: bool
    retried: bool
    served: str | None


FIELDS = tuple(Kept.__annotations__)


@contextmanager
def opened(path: str | None) -> Iterator[sqlite3.Connection]:
    """Several processes may write it at a time; without a path it is a file that ends with the connection."""
    with _explained(path):
        cache = sqlite3.connect(path or "", timeout=60, isolation_level=None)
    try:
        with _explained(path):
            cache.execute("PRAGMA journal_mode=WAL")
            cache.execute("PRAGMA synchronous=NORMAL")  # a kill loses nothing, a power cut the last seconds
            cache.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
        yield cache
    finally:
        cache.close()


def look_up(cache: sqlite3.Connection, key: str) -> Kept | None:
    with _explained("of replies"):
        row = cache.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    kept = decoded(row[0], Kept, "a reply in the cache", "move the cache away")
    return {name: kept[name] for name in FIELDS}


def keep(cache: sqlite3.Connection, key: str, reply: Kept) -> None:
    with _explained("of replies"):
        cache.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, json.dumps(reply, ensure_ascii=False)))


@contextmanager
def _explained(name: str | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name) from error
        raise UserError(f"the cache {name} cannot be used ({error}); name another file, or move it away") from error


def hash_of(settings: Settings, prompt: Prompt, number: int) -> str:
    """Of all that decides the reply; `number` tells the second try from the first."""
    asked = [settings.model, prompt, settings.temperature, settings.max_tokens, settings.extra, number]
    return text_hash(json.dumps(asked, sort_keys=True))
