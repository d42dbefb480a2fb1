"""Curation on 1x, 4x and 16x of a corpus: time must grow as the corpus does, the memory of a worker must not.

    python -m benchmarks.curation_scale --data=../shared/data [--megabytes=40] [--jobs=clean,dedup]

Each job runs in a process of its own, which is also its only worker.  Files are of one size, so a larger corpus is more
files, as in a crawl.  Every document is put together from pieces of pages, so that near-duplicates are no larger a
share of a larger corpus (single lines are); a tenth of the documents are copies, half of which are not quite the same.
16x of 40 MB are 0.3 million documents: what a task of dedup reads at once is limited only above half a million.
`growth` is processor seconds on 16x over 16 times those on 1x, both less those on ten documents (imports); of the last
two the median of three runs.
"""

import argparse
import gzip
import itertools
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import facts, planted
from data_prep.pipeline import STAGES

TIMES = (1, 4, 16)
FILE_BYTES = 1_000_000  # of text
PIECES, CHARACTERS = 5, 500  # that a document is put together from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of real data, see planted.FILES")
    parser.add_argument("--megabytes", type=int, default=40, help="text of 1x")
    parser.add_argument("--jobs", default=",".join(stage.name for stage in STAGES))
    parser.add_argument("--output", default="curation_scale", help="name of the file in benchmarks/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        # Elsewhere: what this process takes at its peak would count as a job's, as Linux sees it.
        writer = multiprocessing.Process(target=write_corpora, args=(args.data, Path(name), args.megabytes))
        writer.start()
        writer.join()
        rows = [row(job, Path(name), args.data) for job in args.jobs.split(",")]
    facts.write(args.output, f"Curation on 1x, 4x and 16x of {args.megabytes} MB, one worker", rows)


# The corpora


def write_corpora(data: Path, folder: Path, files: int) -> None:
    """folder/0, ten documents; folder/1, folder/4 and folder/16, each the beginning of the next."""
    pages = {language: planted.documents(data, language, least=200) for language in planted.FILES}
    for times in (0, *TIMES):
        (folder / str(times)).mkdir()
    total, docs, written = 0, [], 0
    for number, text in enumerate(texts([[page["text"] for page in own] for own in pages.values()])):
        docs.append({"id": f"d{number}", "text": text, "source": f"site{number % 3}"})
        total += len(text.encode())
        if number == 9:
            write_file(folder / "0/00000.jsonl.gz", docs)
        if total >= FILE_BYTES:
            for times in (times for times in TIMES if written < times * files):
                write_file(folder / f"{times}/{written:05d}.jsonl.gz", docs)
            total, docs, written = 0, [], written + 1
        if written == TIMES[-1] * files:
            return


def texts(languages: list[list[str]]) -> Iterator[str]:
    """Of the languages in turn."""
    rng = random.Random(0)
    for number in itertools.count():
        for pages in languages:
            text = "\n".join(piece(rng, pages) for _ in range(PIECES))
            yield text
            if number % 20 == 0:
                yield text
            elif number % 20 == 1:
                yield f"{text[: -len(text) // 50]} (end)"


def piece(rng: random.Random, pages: list[str]) -> str:
    page = rng.choice(pages)
    start = rng.randrange(max(1, len(page) - CHARACTERS))
    return page[start : start + CHARACTERS]


def write_file(path: Path, docs: list[dict]) -> None:
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as f:
        f.writelines(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs)


# The runs


def row(job: str, folder: Path, data: Path) -> dict:
    """Processor seconds and peak memory of the job on each corpus."""
    start, first = (sorted(run(job, folder / name, data) for _ in range(3))[1] for name in ("0", "1"))
    runs = {1: first} | {times: run(job, folder / str(times), data) for times in TIMES[1:]}
    seconds = {times: max(cpu - start[0], 1e-3) for times, (cpu, _) in runs.items()}
    return {
        "job": job,
        "MB": round(text_bytes(folder / str(TIMES[-1])) / 1e6),
        **{f"{times}x_s": value for times, value in seconds.items()},
        "growth": seconds[TIMES[-1]] / seconds[TIMES[0]] / TIMES[-1],
        **{f"{times}x_peak_MB": round(peak) for times, (_, peak) in runs.items()},
    }


def run(job: str, source: Path, data: Path) -> tuple[float, float]:
    """(processor seconds, peak resident MB) of a job and its children."""
    more = {
        "dedup": ["--signatures"],
        "decontaminate": [f"--questions={data}/eval/music_proxy/*.jsonl"],
        "shard": [f"--tokenizer={data}/tokenizer/qwen2", "--sequence_length=4096"],
    }
    output = f"--output={source.parent}/out-{job}-{time.monotonic_ns()}"
    command = [sys.executable, "-m", f"data_prep.{job}", f"--input={source}", output, *more.get(job, [])]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            log.seek(0)
            raise SystemExit(f"error: {' '.join(command)} failed: {log.read()[-500:].decode()}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def text_bytes(folder: Path) -> int:
    size = 0
    for path in folder.iterdir():
        with gzip.open(path, "rt", encoding="utf-8") as f:
            size += sum(len(json.loads(line)["text"].encode()) for line in f)
    return size


if __name__ == "__main__":
    main()
