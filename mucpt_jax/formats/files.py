"""Files and folders replaced whole, locks, hashes: a reader sees the old one or the new one, never half."""

import fcntl
import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from mucpt_jax.errors import UserError, one_line


def file_hash(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def hash_of(path: Path) -> str:
    """file_hash, computed once in a process for each state of the file."""
    try:
        state = path.stat()
        return _hash_of(path, state.st_size, state.st_mtime_ns, state.st_ino)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); copy it again") from error


@functools.lru_cache(maxsize=100_000)
def _hash_of(path: Path, *state: int) -> str:
    return file_hash(path)


def hashes_of(paths: Iterable[Path]) -> Iterator[str]:
    """hash_of each, by all cores: a second for one or two GB and core."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from threads.map(hash_of, paths)


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# Files


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside `path`; what is written there takes the place of `path` if the block ends well.

    The name is new at each call: another process may be writing the same file.  The bytes are on the disk before the
    name is: what stands under `path` is whole after a power cut too, where the disk keeps its word.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.writing")
    try:
        yield beside
        sync(beside)
        os.replace(beside, path)
        sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)  # half a file, of a full disk


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value) -> None:
    """What is not finite becomes null, as JSON has no NaN."""
    write_text(path, json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def copy_file(source: str | Path, target: str | Path) -> None:
    with replacing(target) as beside:
        shutil.copyfile(source, beside)


# Folders; `name` is what the user calls the folder, for the sentence


@contextmanager
def replacing_folder(path: str | Path, name: str) -> Iterator[Path]:
    """A new folder beside `path` that takes its place if the block ends well.

    It has a new name at each start: tasks that outlive a killed launcher write where nobody looks.  The lock in
    .NAME.writing lists these names, so that a later start clears what a killed one left and nothing else.  At every
    moment a whole folder stands under `path` or in .NAME.writing/old-*, from where the next start puts it back.
    """
    final = Path(path).resolve()  # a link stays: what it points to is replaced
    beside = final.with_name(f".{final.name}.writing")
    with writable(name):
        beside.mkdir(parents=True, exist_ok=True)
    if beside.is_symlink():
        raise _foreign(beside)
    with _gone_if_empty(beside), locked(beside, name) as lock:
        word = uuid.uuid4().hex[:8]
        new, old = beside / f"run-{word}", beside / f"old-{word}"
        try:
            with _to_the_end(name):
                for left in re.findall(r"^[0-9a-f]{8}$", lock.read(), re.MULTILINE):  # of killed runs
                    _clear(beside, left, final)
                _append(lock, f"{word}\n")
                new.mkdir()
                yield new
                for written in (*new.rglob("*"), new):
                    sync(written)
                if final.exists():
                    os.replace(final, old)
                os.replace(new, final)
                sync(final.parent)
        finally:
            _clear(beside, word, final)
            (beside / "lock").unlink(missing_ok=True)
            if any(beside.iterdir()):
                logging.warning("%s holds files that are not of this run and stay; look at them", beside)


@contextmanager
def _gone_if_empty(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def _clear(beside: Path, word: str, final: Path) -> None:
    """Removes what the run of that name left in `beside`; the old folder goes back where none stands in its place."""
    new, old = beside / f"run-{word}", beside / f"old-{word}"
    if old.is_dir() and not final.exists():
        os.replace(old, final)
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)  # follows no link


LOCK_MARK = "lock of mucpt_jax\n"  # the first line of a lock of ours; an empty file is one of an older version


@contextmanager
def locked(folder: Path, name: str) -> Iterator[Any]:
    """Two runs into one folder would mix; the lock ends with the process, however it ends.

    Gives the file folder/lock, behind its first line.  A link or a file of other content is refused and stays.
    """
    path = folder / "lock"
    with writable(name):
        lock = _opened(path)
    with lock:
        if not _alone(lock.fileno(), path, name):
            raise UserError(f"{name} is being written by another run; wait for its end or name another folder")
        mark = lock.readline()
        if mark not in ("", LOCK_MARK):
            raise _foreign(path)
        if not mark:
            with _to_the_end(name):
                _mark(lock, path)
        yield lock


def _mark(lock: TextIO, path: Path) -> None:
    try:
        _append(lock, LOCK_MARK)
    except OSError:
        path.unlink(missing_ok=True)  # half a mark would be a foreign one
        raise


def _append(lock: TextIO, text: str) -> None:
    """Without a buffer, which would fail again as the file is closed."""
    data = text.encode()
    while data:
        data = data[os.write(lock.fileno(), data) :]


def _opened(path: Path) -> TextIO:
    """For reading and writing, with all that stands in it; not through a link."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise _foreign(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(path, flags, 0o666), "r+", encoding="utf-8", errors="replace")


def _foreign(path: Path) -> UserError:
    return UserError(f"{path} is not of this program, which would write there; move it away")


def clear_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Removes what replacing() of these files of the folder left when it was killed."""
    known = set(names)
    for left in folder.glob("*.writing"):
        stem, _, word = left.name.removesuffix(".writing").rpartition(".")
        if stem in known and re.fullmatch("[0-9a-f]{8}", word) and not left.is_symlink():
            left.unlink(missing_ok=True)


def bare_name(name: Any, where: str | Path) -> str:
    """The name of a file in the folder of `where`, which lists it; UserError for what leads elsewhere."""
    if not isinstance(name, str) or not name or name in (".", "..") or any(c in name for c in "/\\\0"):
        raise UserError(f"{where} names the file {str(name)[:80]!r}, which is no name in its own folder; copy it again")
    return name


def _alone(lock: int, path: Path, name: str) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), os.stat(path))  # not removed meanwhile
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:  # a file system without locks
        logging.warning("%s cannot be locked (%s): start no second run into it", name, error)
        return True


@contextmanager
def _explained(fault: str, way_out: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{fault} ({one_line(error)}); {way_out}") from error


def writable(name: str) -> AbstractContextManager[None]:
    """Around what first touches a place: an OSError there is about the name that was given."""
    return _explained(f"{name} cannot be made or written", "name a folder in a place where you may write")


def _to_the_end(name: str) -> AbstractContextManager[None]:
    """Around all that writes there: OSErrors of tasks and of this process as one sentence."""
    return _explained(f"{name} cannot be written to the end", "make room or name another place, then run it again")


def sync(path: Path) -> None:
    """A file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
