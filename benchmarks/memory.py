"""Peak memory of a whole curation job (data_prep.clean) on input that is large where texts are not.

    python -m benchmarks.memory

Each case runs in a process of its own; peak is the most memory that the process held, imports and Beam included (the
first row).  The bar is 600 MB.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import facts

BAR_MB = 600


# Lines of JSON, and a table


def one_document() -> Iterator[str]:
    yield '{"text": "a song that is not too short"}'


def large_fields() -> Iterator[str]:
    html = "<p>once more</p>" * 131_072
    yield from (
        json.dumps({"text": f"page {n} of four hundred, all with a song", "html": f"{n}{html}"}) for n in range(400)
    )


def empty_texts() -> Iterator[str]:
    yield from (f'{{"text": "", "id": "{n}"}}' for n in range(2_999_999))
    yield '{"text": "a song that is not too short"}'


def empty_lists() -> Iterator[str]:
    yield '{"text": "a song that is not too short"}'
    yield f'{{"text": "a song that goes", "lists": [{"[]," * 20_000_000}[]]}}'


def empty_lists_that_pass() -> Iterator[str]:
    yield from [f'{{"text": "a song that is not too short", "lists": [{"[]," * 2_000_000}[]]}}'] * 3


def same_field() -> pa.Table:
    """400 rows share a field of 2 MB; it stands once in the file."""
    return pa.table(
        {
            "text": [f"page {n} of four hundred, all with a song" for n in range(400)],
            "html": ["<p>once more</p>" * 131_072] * 400,
        }
    )


CASES: dict[str, Callable] = {
    "one document": one_document,
    "400 documents with 2 MB in another field": large_fields,
    "3 million empty texts": empty_texts,
    "a line of 60 MB of empty lists": empty_lists,
    "3 lines of 6 MB of empty lists": empty_lists_that_pass,
    "Parquet: 400 documents share a field of 2 MB": same_field,
}


def row(case: str, folder: Path) -> dict:
    folder.mkdir()
    # Elsewhere: what this process takes at its peak would count as the job's, as Linux sees it.
    writer = multiprocessing.Process(target=write, args=(CASES[case], folder / "raw"))
    writer.start()
    writer.join()
    (source,) = folder.glob("raw.*")
    start = time.monotonic()
    command = [sys.executable, "-m", "data_prep.clean", f"--input={source}", f"--output={folder / 'out'}"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert not status, f"{' '.join(command)} failed"
    counts, peak = json.loads((folder / "out/counts.json").read_text()), used.ru_maxrss / 1024
    return {
        "case": case,
        "MB on disk": source.stat().st_size / 1e6,
        "read": counts["read"],
        "dropped": ", ".join(f"{n:,} {reason}" for reason, n in counts["dropped"].items()) or "none",
        "seconds": time.monotonic() - start,
        "peak MB": peak,
        "bar holds": peak < BAR_MB,
    }


def write(lines: Callable, path: Path) -> None:
    content = lines()
    if isinstance(content, pa.Table):
        pq.write_table(content, path.with_suffix(".parquet"))
    else:
        path.with_suffix(".jsonl").write_text("".join(f"{line}\n" for line in content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="memory", help="name of the file in benchmarks/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = [row(case, Path(name) / str(number)) for number, case in enumerate(CASES)]
    facts.write(args.output, f"Peak memory of data_prep.clean, one worker; bar: {BAR_MB} MB", rows)


if __name__ == "__main__":
    main()
