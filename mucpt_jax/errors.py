"""The error that is the user's to mend, and how a command ends with it.  Standard library alone: whatever reports a
fault may import it."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, a quota, a file


LONGEST = 1500  # characters of a message: it may quote a value of 100 kB


class UserError(ValueError):
    """What the user gave cannot work; the message says what, where and the way out in one sentence."""

    def __init__(self, message: str):
        cut = len(message) > LONGEST
        super().__init__(f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}" if cut else message)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def exiting() -> Iterator[None]:
    """Around a command: a UserError, or an OSError such as a full disk, ends it as one sentence with exit status 1."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        way_out = "; make room, then run it again" if error.errno in FULL else ""
        sys.exit(f"error: {one_line(error)}{way_out}")
