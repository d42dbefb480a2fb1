"""SHA256SUMS of a Hugging Face folder: what is read from the folder is compared with it.  An export has one."""

import re
from pathlib import Path

from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import hashes_of

MARK, SUMS = "mucpt_jax_export.json", "SHA256SUMS"  # an export of ours, and the checksums of its files


def present(folder: str | Path, *names: str) -> list[Path]:
    """Those of the names that are files of the folder."""
    return [path for path in (Path(folder) / name for name in names) if path.is_file()]


def sums_of(folder: Path) -> dict[str, str]:
    """{file: sha256} of SHA256SUMS, for files of the folder itself; {} where there is none."""
    path, sums = folder / SUMS, {}
    if not path.is_file():
        return {}
    for number, line in enumerate(path.read_bytes().decode(errors="replace").split("\n"), 1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](?:\./)?(.+)", line)
        if line and not match:
            raise UserError(f"{path} line {number} is no sha256 and name; copy the file again")
        if match and "/" not in match[2]:
            sums[match[2]] = match[1]
    return sums


def check_sums(folder: Path, files: list[Path]) -> None:
    """UserError where a file is not what the folder's SHA256SUMS says; of an export of ours it names all of them."""
    sums = sums_of(folder)
    if (folder / MARK).is_file() and (lacking := [file.name for file in files if file.name not in sums]):
        raise UserError(
            f"{folder}/{SUMS} has no line for {lacking[0]}; copy or export the folder again, or add its line "
            "(sha256sum) if the file was put there since"
        )
    known = [file for file in files if file.name in sums]
    for file, now in zip(known, hashes_of(known), strict=True):
        if now != sums[file.name]:
            raise UserError(
                f"{file} is not what {SUMS} beside it says; copy it again, or mend that line if the change is meant"
            )
