"""The jobs of data_prep: text a second of one core, beside a plain loop and what PyPI has.

    python -m benchmarks.curation --data=../shared/data [--datatrove=PY --presidio=PY --scrubadub=PY]

Processor seconds of whole jobs on the same documents, in turn, processes started anew, medians of --rounds; what a job
on two documents takes (imports, word lists, questions, the tokenizer) is taken off.  Our jobs get --megabytes of text,
plain loops and peers the first quarter of it, slow peers the first tenth.

PY is the python of a virtual environment of the peer's own (`pip install datatrove[io] spacy jieba ftfy tokenizers`,
`presidio-analyzer presidio-anonymizer`, `scrubadub`); a peer that is not named is left out.  The plain loops stand in
peers/plain_loops.py; what is asked of the peers in peers/.

A second table, curation_masking: what each finds of private data that tests/planted_private.py invents.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import facts, planted
from benchmarks.near_duplicates import cpu_of, datatrove_command, sample, write
from data_prep.pipeline import STAGES
from mucpt_jax.formats.decode import read_lines

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks" / "peers"
JOBS = tuple(stage.name for stage in STAGES)
LEAST = 200  # characters of a document: no job drops both of the two that measure the start
VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


class Peer(NamedTuple):
    flag: str  # that names its python
    package: str
    does: str  # in the table, behind its name
    part: str = "quarter"  # of the documents


PEERS_OF = {
    "clean": (Peer("datatrove", "datatrove", "FTFYFormatter; no language"),),
    "boilerplate": (Peer("datatrove", "datatrove", "SentenceDedup of lines"),),
    "quality": (Peer("datatrove", "datatrove", "Gopher, C4 and FineWeb filters", "tenth"),),
    "dedup": (Peer("datatrove", "datatrove", "MinHash", "tenth"),),
    "decontaminate": (Peer("datatrove", "datatrove", "NGramsDecontFilter", "tenth"),),
    "mask": (
        Peer("datatrove", "datatrove", "PIIFormatter: e-mail, IP"),
        Peer("scrubadub", "scrubadub", "defaults"),
        Peer("presidio", "presidio-analyzer", "patterns; no spaCy model", "tenth"),
    ),
    "shard": (Peer("datatrove", "datatrove", "DocumentTokenizer"),),
}


class Task(NamedTuple):
    """One job on one language."""

    job: str
    language: str
    extra: tuple[str, ...]  # of a plain loop and a peer: file of questions, or folder of a tokenizer
    flags: tuple[str, ...]  # of our job


# How fast


def speed(args: argparse.Namespace, folder: Path) -> Iterator[dict]:
    questions = folder / "questions.jsonl"
    write_questions(args.data, questions)
    tokenizer = str(args.data / "tokenizer/qwen2")
    more = {
        "decontaminate": ((str(questions),), (f"--questions={questions}",)),
        "shard": ((tokenizer,), (f"--tokenizer={tokenizer}", "--sequence_length=4096")),
    }
    for language in planted.FILES:
        sizes = write_slices(args, folder, language)
        for job in args.jobs:
            yield from rows_of(Task(job, language, *more.get(job, ((), ()))), sizes, args, folder)


def write_questions(data: Path, path: Path) -> None:
    files = (
        data / "eval/music_proxy/music_simpleqa_proxy.jsonl",
        data / "eval/chinese_simpleqa/chinese_simpleqa.jsonl",
    )
    rows = (row for file in files for row in read_lines(file))
    lines = (json.dumps({name: row[name] for name in ("id", "question", "answer")}) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_slices(args: argparse.Namespace, folder: Path, language: str) -> dict[str, float]:
    """Writes LANGUAGE-whole, -quarter, -tenth and -two to the folder; the megabytes of text of each."""
    docs = planted.documents(args.data, language, LEAST)
    random.Random(0).shuffle(docs)
    parts = {"whole": 1, "quarter": 1 / 4, "tenth": 1 / 10}
    slices = {name: sample(docs, args.megabytes * part) for name, part in parts.items()} | {"two": docs[:2]}
    for name, chosen in slices.items():
        write(folder / f"{language}-{name}/a.jsonl.gz", chosen)
    return {name: sum(len(d["text"].encode()) for d in chosen) / 1e6 for name, chosen in slices.items()}


def rows_of(task: Task, sizes: dict[str, float], args: argparse.Namespace, folder: Path) -> Iterator[dict]:
    peers = [peer for peer in PEERS_OF.get(task.job, ()) if getattr(args, peer.flag)]
    commands = {"ours": ours_command, "plain": plain_command}
    commands |= {peer.flag: peer_command(peer, getattr(args, peer.flag)) for peer in peers}
    part_of = {"ours": "whole", "plain": "quarter"} | {peer.flag: peer.part for peer in peers}
    calls = {
        (name, part): lambda c=c, part=part: cpu_of(c(task, folder / f"{task.language}-{part}", folder / "out"))
        for name, c in commands.items()
        for part in ("two", part_of[name])
    }
    seconds = in_turn(calls, args.rounds)
    net = {name: seconds[name, part] - seconds[name, "two"] for name, part in part_of.items()}
    rate = {name: sizes[part] / net[name] for name, part in part_of.items()}
    print(task.job, task.language, *(f"{name} {r:.2f}" for name, r in rate.items()), "MB/s", flush=True)
    for peer in peers or [None]:
        yield row_of(task, sizes, rate, peer, peer and version(getattr(args, peer.flag), peer.package))


def row_of(task: Task, sizes: dict, rate: dict, peer: Peer | None, version: str | None) -> dict:
    """A row of the table, with one of the peers."""
    return {
        "job": task.job,
        "language": task.language,
        "MB": sizes["whole"],
        "MB/s": rate["ours"],
        "plain_MB/s": rate["plain"],
        "times_plain": rate["ours"] / rate["plain"],
        "peer": peer and f"{peer.flag} {version} ({peer.does})",
        "peer_MB": peer and sizes[peer.part],
        "peer_MB/s": peer and rate[peer.flag],
        "times_peer": peer and rate["ours"] / rate[peer.flag],
    }


def in_turn(calls: dict[tuple, Callable[[], float]], rounds: int) -> dict[tuple, float]:
    """Medians.  Another call begins each round; each is a process of its own, so none is run twice in a row."""
    seconds, names = {name: [] for name in calls}, list(calls)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(calls[name]())
    return {name: facts.median(values) for name, values in seconds.items()}


# Commands


PEER_FLAGS = ("datatrove", "presidio", "scrubadub")


def ours_command(task: Task, source: Path, output: Path) -> list[str]:
    where = (f"--input={source}", f"--output={output}/ours-{task.job}")
    return [sys.executable, "-m", f"data_prep.{task.job}", *where, *task.flags]


def plain_command(task: Task, source: Path, output: Path) -> list[str]:
    output.mkdir(exist_ok=True)
    return script(sys.executable, "plain_loops.py", task, source, output / "plain.jsonl")


def peer_command(peer: Peer, python: str) -> Callable[[Task, Path, Path], list[str]]:
    def command(task: Task, source: Path, output: Path) -> list[str]:
        if peer.flag != "datatrove":
            return script(python, f"{peer.flag}_mask.py", task, source, output / f"{peer.flag}.jsonl")
        if task.job == "dedup":
            return datatrove_command(python, source, output, task.language)
        # It leaves out what a folder says is done.
        return script(python, "datatrove_jobs.py", task, source, output / f"datatrove-{time.monotonic_ns()}")

    return command


def script(python: str, name: str, task: Task, source: Path, output: Path) -> list[str]:
    return [python, str(PEERS / name), task.job, str(source), str(output), task.language, *task.extra]


def version(python: str, package: str) -> str:
    return subprocess.run([python, "-c", VERSION, package], capture_output=True, text=True, check=True).stdout.strip()


# What masking finds


TYPES = {  # column -> planted types
    "email": ("email",),
    "phone": ("phone",),
    "ids": ("id_card", "passport", "plate"),
    "bank_card": ("bank_card",),
    "wechat_qq": ("wechat", "qq"),
    "ip": ("ip",),
    "url": ("url",),
    "address": ("address",),
}


def masking(args: argparse.Namespace, folder: Path) -> list[dict]:
    """A row for each contestant and language: recall by type, and hits in sentences of music's numbers."""
    sys.path.insert(0, str(ROOT / "tests"))
    import planted_private

    both = (False, True)
    planted_values = [one for held_out in both for one in planted_private.sentences(5, args.values, held_out)]
    stays = [text for held_out in both for text in planted_private.stays(held_out)]
    rows = []
    for language in planted.FILES:
        mine = [(text, values[0]) for of, text, values in planted_values if of == language]
        texts = [text for text, _ in mine] + stays
        for name, find in finders(args, folder, language).items():
            spans = find(texts)
            rows.append({"language": language, "of": name} | recall_by_type(mine, spans, stays))
    return rows


def finders(args: argparse.Namespace, folder: Path, language: str) -> dict[str, Callable]:
    """Contestant -> function from texts to the spans found in each."""
    from data_prep.private import masking  # no --help without it, else

    functions = {"ours": lambda texts: [[span[:2] for span in masking.find(text)] for text in texts]}
    task = Task("spans", language, (), ())
    commands = {"plain loop": plain_command}
    commands |= {
        f"{peer.flag} {version(getattr(args, peer.flag), peer.package)}": peer_command(peer, getattr(args, peer.flag))
        for peer in PEERS_OF["mask"]
        if getattr(args, peer.flag)
    }
    for name, command in commands.items():
        functions[name] = lambda texts, command=command: spans_of(texts, command, task, folder)
    return functions


def spans_of(texts: Iterable[str], command: Callable, task: Task, folder: Path) -> list:
    source = folder / f"spans-{task.language}"
    write(source / "a.jsonl.gz", [{"id": str(n), "text": text} for n, text in enumerate(texts)])
    line = command(task, source, folder / "out")
    cpu_of(line)
    return read_lines(line[4], Any)


def recall_by_type(planted_values: list[tuple[str, tuple]], spans_of_texts: list[list], stays: list[str]) -> dict:
    """The texts are those of planted_values, then stays."""
    hits: dict[str, list[bool]] = {}
    for (text, (start, end, kind)), spans in zip(planted_values, spans_of_texts, strict=False):
        hits.setdefault(kind, []).append(is_masked(text, start, end, spans, kind))
    columns = {}
    for column, kinds in TYPES.items():
        of_column = [hit for kind in kinds for hit in hits.get(kind, ())]
        columns[column] = sum(of_column) / len(of_column)
    music_hits = sum(map(bool, spans_of_texts[len(planted_values) :]))
    return columns | {"planted": len(planted_values), "music_lines_hit": f"{music_hits}/{len(stays)}"}


def is_masked(text: str, start: int, end: int, spans: list, kind: str) -> bool:
    """No letter or digit shows; of an address every digit and four characters of five are gone."""
    kept = [n for n in range(start, end) if text[n].isalnum()]
    gone = [any(span[0] <= n < span[1] for span in spans) for n in kept]
    if kind != "address":
        return all(gone)
    return sum(gone) >= 0.8 * len(gone) and all(
        hidden or not text[n].isdigit() for hidden, n in zip(gone, kept, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of real data, see planted.FILES")
    for name in PEER_FLAGS:
        parser.add_argument(f"--{name}", metavar="PY", help=f"the python of a virtual environment with {name}")
    parser.add_argument("--megabytes", type=float, default=20, help="text of each language (20)")
    parser.add_argument("--rounds", type=int, default=3, help="measured calls of each contestant (3)")
    parser.add_argument("--values", type=int, default=40, help="planted values of each sentence (40)")
    parser.add_argument("--jobs", nargs="+", default=JOBS, choices=JOBS, help="leave out the others")
    parser.add_argument("--output", default="curation", help="name of the file in benchmarks/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows, masked = list(speed(args, Path(name))), masking(args, Path(name))
    facts.write(args.output, "Text a second of one core, start-up taken off: jobs, plain loops, peers", rows)
    what = "Share of planted private data that is masked; of sentences with numbers of music, those with a hit"
    facts.write(f"{args.output}_masking", what, masked)


if __name__ == "__main__":
    main()
