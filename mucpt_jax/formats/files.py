"""Files and folders replaced whole, locks, hashes: a reader sees the old one or the new one, never half."""

import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from mucpt_jax.errors import UserError, one_line


def file_hash(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


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

    It has a new name at each start: tasks that outlive a killed launcher write where nobody looks.  At every moment a
    whole folder stands under `path`, as .NAME.old or in .NAME.writing.
    """
    final = Path(path).resolve()  # a link stays: what it points to is replaced
    beside, old = (final.with_name(f".{final.name}.{word}") for word in ("writing", "old"))
    with writable(name):
        beside.mkdir(parents=True, exist_ok=True)
    with locked(beside, name):
        try:
            with _to_the_end(name):
                for left in beside.glob("run-*"):  # of a killed run
                    shutil.rmtree(left, ignore_errors=True)
                folder = beside / f"run-{uuid.uuid4().hex[:8]}"
                folder.mkdir()
                yield folder
                for written in (*folder.rglob("*"), folder):
                    sync(written)
                if final.exists():
                    shutil.rmtree(old, ignore_errors=True)
                    os.replace(final, old)
                try:
                    os.replace(folder, final)
                except OSError:
                    if old.exists():
                        os.replace(old, final)
                    raise
                sync(final.parent)
                shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Two runs into one folder would mix; the lock ends with the process, however it ends."""
    with writable(name):
        lock = open(folder / "lock", "w")  # noqa: SIM115
    with lock:
        if not _alone(lock.fileno(), folder / "lock", name):
            raise UserError(f"{name} is being written by another run; wait for its end or name another folder")
        yield


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
