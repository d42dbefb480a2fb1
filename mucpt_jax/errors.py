"""The error that is the user's to mend, and how a command ends with it.  Standard library alone: whatever reports a
fault may import it.

Exit statuses of all commands, beside 0 and 1:
    69     the budget for an endpoint is spent: what was answered is kept, with more the same command goes on
    74     the disk is full: make room first; a scheduler that starts again at once finds the disk as full (EX_IOERR)
    75     try again: a step hangs, or another process of the run has died (EX_TEMPFAIL)
    143    SIGTERM: the state was saved, the same command goes on from there
"""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, a quota, a file
BUDGET_SPENT, DISK_FULL, TRY_AGAIN, STOPPED = 69, 74, 75, 128 + signal.SIGTERM


LONGEST = 1500  # characters of a message: it may quote a value of 100 kB


class UserError(ValueError):
    """What the user gave cannot work; the message says what, where and the way out in one sentence."""

    def __init__(self, message: str):
        super().__init__(clipped(message))


def clipped(message: str) -> str:
    """The message without its middle, where that is long: what is wrong and the way out stay."""
    return f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}" if len(message) > LONGEST else message


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def fullness(error: BaseException | None) -> str:
    """The system's words for a full disk, where that is at the root of an error; else "".

    Libraries (tensorstore, array_record, Beam's workers) keep the words alone, not the OSError.
    """
    while error:
        for words in map(os.strerror, FULL):
            if words in str(error):
                return words
        error = error.__cause__ or error.__context__
    return ""


def ending(error: Exception) -> tuple[int, str]:
    """(exit status, sentence) of a command that ends with the error; a fault of ours has no sentence."""
    status = DISK_FULL if fullness(error) else 1
    if isinstance(error, UserError):
        return status, f"error: {error}"
    if isinstance(error, OSError):
        return status, f"error: {one_line(error)}{'; make room, then run it again' if status == DISK_FULL else ''}"
    return 1, ""


@contextmanager
def exiting() -> Iterator[None]:
    """Around a command: a UserError, or an OSError, ends it as one sentence with exit status 1, or 74 (see above)."""
    try:
        yield
    except (UserError, OSError) as error:
        status, sentence = ending(error)
        if status == 1:
            sys.exit(sentence)
        print(sentence, file=sys.stderr)
        sys.exit(status)
