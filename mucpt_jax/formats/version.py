"""Which code wrote a file."""

import functools
import subprocess
from pathlib import Path
from typing import Annotated, TypedDict

from msgspec import Meta

from mucpt_jax import __version__

ROOT = Path(__file__).parents[2]


class Writer(TypedDict):
    version: str
    commit: str | None


class Written(TypedDict, total=False):
    """Of a run's config.json and a checkpoint's meta."""

    format: Annotated[int, Meta(ge=1)]
    written_by: Writer | None


@functools.cache
def written_by() -> Writer:
    """{"version", "commit"}; commit is None where the code is no git checkout, or git is not installed."""
    commit = None
    if (ROOT / ".git").exists():  # else git would answer for a repository around an installed package
        try:
            command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
            commit = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip() or None
        except (OSError, subprocess.TimeoutExpired):
            pass
    return {"version": __version__, "commit": commit}


def as_text(writer: Writer | None) -> str:
    """ "mucpt_jax 0.2.0 (commit 0123456789ab)"; files of before 0.2.0 name no writer."""
    if not writer:
        return "mucpt_jax before 0.2.0"
    commit = f" (commit {writer['commit'][:12]})" if writer["commit"] else ""
    return f"mucpt_jax {writer['version']}{commit}"
