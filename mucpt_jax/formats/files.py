"""Files replaced whole, JSON, and hashes: a reader sees the old file or the new one, never half."""

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path

from mucpt_jax.errors import UserError


def file_hash(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value) -> None:
    """Writes beside, then renames: a reader sees the old file or the new one, never half, whoever else writes it."""
    beside = Path(path).with_suffix(f".{uuid.uuid4().hex[:8]}.writing")
    try:
        beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)  # of a full disk


def copy_file(source: Path, target: Path) -> None:
    """Beside first, as write_json."""
    beside = Path(target).with_suffix(f".{uuid.uuid4().hex[:8]}.writing")
    shutil.copyfile(source, beside)
    os.replace(beside, target)


def read_json(path: Path) -> dict:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); copy or write it again") from error
