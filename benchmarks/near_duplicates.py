"""Near-duplicates of data_prep.dedup: what it finds, and how fast, beside datatrove.

    python -m benchmarks.near_duplicates --data=../shared/data --datatrove=VENV/bin/python

Finds: planted copies in real documents, and pages of Wikipedia beside their state of two years before; see planted.py.
The table by_jaccard has pairs found and pairs planted.  A link is right from a Jaccard of .8 on, or, as precision is
counted for peers, from .6 on (`precision_.6`).
Speed, in a table of its own: processor seconds of whole jobs on the same files, in turn, processes started anew; what a
job on two documents takes (imports, word lists) is taken off.  datatrove gets the first quarter of them.
datatrove lives in a virtual environment of its own (`pip install datatrove[io] spacy`); without --datatrove its column
is left out.  datatrove's code for Chinese is `cmn`.
"""

import argparse
import gzip
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import facts, planted

BY_JACCARD = "by_jaccard"  # of a row: {bin: "found/planted"}, a table of its own
BINS = ((0.0, 0.6), (0.6, 0.7), (0.7, 0.75), (0.75, 0.8), (0.8, 0.85), (0.85, 0.9), (0.9, 1.01))


# What it finds


def quality(data: Path, folder: Path, copies: int = 2000, seed: int = 0, flags: tuple[str, ...] = ()) -> list[dict]:
    """Recall and precision on planted copies among all documents of a language, a row each for en and zh."""
    return [planted_row(data, folder, language, copies, seed, flags) for language in planted.FILES]


def planted_row(data: Path, folder: Path, language: str, copies: int, seed: int, flags: tuple[str, ...]) -> dict:
    docs = planted.documents(data, language, least=200)
    copied = planted.plant(docs, language, copies, seed)
    source = folder / f"planted-{language}"
    write(source / "a.jsonl.gz", docs)
    write(source / "b.jsonl.gz", copied)
    kept = groups(dedup(source, folder / f"out-{language}", *flags))
    texts = {doc["id"]: doc["text"] for doc in docs + copied}
    pairs = [(copy["id"], copy["of"]) for copy in copied]
    linked = [kept.get(a, a) == kept.get(b, b) for a, b in pairs]
    dropped = [pair for pair in kept.items() if pair[0] != pair[1]]
    of_copies = [pair for pair in dropped if any(name.endswith("-copy") for name in pair)]
    words, others = (similarities(texts, pairs, s) for s in (planted.word_shingles, planted.character_shingles))
    of_characters = similarities(texts, of_copies, planted.character_shingles)
    return {
        "language": language,
        "documents": len(docs),
        "pairs": len(copied),
        "pairs_at_.8": sum(j >= 0.8 for j in words),
        "recall_at_.8": recall(words, linked, 0.8),
        "recall_at_.8_of_13_characters": recall(others, linked, 0.8),
        "links_of_copies": len(of_copies),
        **precisions(similarities(texts, of_copies, planted.word_shingles)),
        "precision_.6_of_13_characters": precision(of_characters, 0.6),
        "all_links": len(dropped),
        "precision_.6_of_all": precision(similarities(texts, dropped, planted.word_shingles), 0.6),
        BY_JACCARD: by_jaccard(words, linked),
    }


def real_row(data: Path, folder: Path, flags: tuple[str, ...] = ()) -> dict:
    """Pages of 2022 beside the same pages of older dumps, by true Jaccard."""
    new = list(planted.read(data, "music/music_en_neardup_pairs_2022side"))
    names = {doc["id"] for doc in new}
    old = {doc["id"]: doc for doc in planted.read(data, "music/music_en_wiki") if doc["id"] in names}
    everything = list(planted.read(data, "music/music_en_wiki"))
    write(folder / "real/a.jsonl.gz", everything)
    write(folder / "real/b.jsonl.gz", [{"id": f"{doc['id']}-2022", "text": doc["text"]} for doc in new])
    kept = groups(dedup(folder / "real", folder / "out-real", *flags))
    pairs = [(f"{doc['id']}-2022", doc["id"]) for doc in new if doc["id"] in old]
    texts = {f"{doc['id']}-2022": doc["text"] for doc in new} | {name: doc["text"] for name, doc in old.items()}
    linked = [kept.get(a, a) == kept.get(b, b) for a, b in pairs]
    true = similarities(texts, pairs, planted.word_shingles)
    return {
        "language": "en, two years apart",
        "documents": len(everything) + len(new),
        "pairs": len(pairs),
        "pairs_at_.8": sum(j >= 0.8 for j in true),
        "recall_at_.8": recall(true, linked, 0.8),
        BY_JACCARD: by_jaccard(true, linked),
    }


def write(path: Path, docs: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as f:
        f.writelines(json.dumps({"id": d["id"], "text": d["text"]}, ensure_ascii=False) + "\n" for d in docs)


def dedup(source: Path, output: Path, *flags: str) -> Path:
    from data_prep import dedup as job  # brings Beam: not for --help

    job.run([f"--input={source}", f"--output={output}", "--groups", *flags])
    return output


def groups(output: Path) -> dict[str, str]:
    """Dropped id -> kept id."""
    work_files = [pq.read_table(path) for path in sorted((output / "groups").glob("*.parquet"))]
    return {a: b for t in work_files for a, b in zip(t["id"].to_pylist(), t["kept"].to_pylist(), strict=True)}


def similarities(texts: dict[str, str], pairs: list[tuple[str, str]], shingles) -> list[float]:
    return [planted.jaccard(shingles(texts[a]), shingles(texts[b])) for a, b in pairs]


def recall(true: list[float], linked: list[bool], least: float) -> float | None:
    hits = [hit for jaccard, hit in zip(true, linked, strict=True) if jaccard >= least]
    return sum(hits) / len(hits) if hits else None


def precision(true: list[float], least: float) -> float | None:
    return sum(j >= least for j in true) / len(true) if true else None


def precisions(true: list[float]) -> dict:
    return {f"precision_{str(least)[1:]}": precision(true, least) for least in (0.8, 0.7, 0.6)}


def by_jaccard(true: list[float], linked: list[bool]) -> dict:
    bins = {}
    for low, high in BINS:
        hits = [hit for jaccard, hit in zip(true, linked, strict=True) if low <= jaccard < high]
        bins[f"{low:g}-{min(high, 1):g}"] = f"{sum(hits)}/{len(hits)}"
    return bins


# Stubs: one template, other titles, artists and years

STUBS = {
    "en": ('"{}" is a song by {}, released as a single in {}. ', """It was written in a week and
recorded in a small studio. The single reached the charts of four countries and stayed
there for a month. Critics praised its melody, and listeners
asked for it on the radio for years after. It was later played at many concerts and is on two collections."""),
    "zh": ("《{}》是{}演唱的一首歌曲，于{}年发行。", """歌曲在一周之内写成，于一间小录音室录制，
单曲进入四个国家的排行榜并停留了一个月，
乐评人称赞它的旋律，听众多年以后仍在电台点播。此后歌曲在多场演唱会上演出，并收录于两张精选集中。"""),
}  # fmt: skip


def songs(data: Path, language: str, count: int) -> list[tuple[str, str, str]]:
    """(title, artist, year) of real songs, each once."""
    name, columns = {"en": ("billboard_hot100_songs", (0, 1, 4)), "zh": ("zhwiki_works", (0, 2, 3))}[language]
    rows = [line.split("\t") for line in (data / f"entities/{name}.tsv").read_text(encoding="utf-8").split("\n")[1:-1]]
    fields = ([row[column] for column in columns] for row in rows)
    return sorted({(title, artist, year[:4]) for title, artist, year in fields if title and artist and year})[:count]


def stubs_row(data: Path, folder: Path, language: str, count: int, flags: tuple[str, ...] = ()) -> dict:
    """Stubs of songs, and a copy of each in small letters without punctuation in its first sentence, a word added."""
    first, rest = STUBS[language]
    stubs = [first.format(*song) for song in songs(data, language, count)]
    copies = [re.sub(r"[^\w\s]", " ", stub.lower()) for stub in stubs]
    docs = [{"id": f"{n}", "text": stub + rest} for n, stub in enumerate(stubs)]
    copied = [{"id": f"{n}-copy", "text": f"{copy}{rest} end"} for n, copy in enumerate(copies)]
    write(folder / f"stubs-{language}/a.jsonl.gz", docs + copied)
    kept = groups(dedup(folder / f"stubs-{language}", folder / f"out-stubs-{language}", *flags))
    right = sum(a.removesuffix("-copy") == b.removesuffix("-copy") for a, b in kept.items())
    songs_left = {name.removesuffix("-copy") for name in {doc["id"] for doc in docs + copied} - kept.keys()}
    return {
        "language": language,
        "rule": "off (--any_subject)" if flags else "on",
        "songs": len(docs),
        "songs that stay": len(songs_left),
        "copies that go": right,
        "documents that go for another song": len(kept) - right,
    }


# How fast


def speed(data: Path, folder: Path, datatrove: str | None, megabytes: float = 20, rounds: int = 2) -> list[dict]:
    """Rows of en and zh: MB/s per core of signatures and of whole jobs, and how many times datatrove's."""
    return [speed_row(data, folder, language, datatrove, megabytes, rounds) for language in planted.FILES]


def speed_row(data: Path, folder: Path, language: str, datatrove: str | None, megabytes: float, rounds: int) -> dict:
    docs = planted.documents(data, language, least=1)
    random.Random(0).shuffle(docs)
    parts = {"ours": sample(docs, megabytes), "datatrove": sample(docs, megabytes / 4), "two": docs[:2]}
    for name, part in parts.items():
        write(folder / f"{name}-{language}/a.jsonl.gz", part)
    size = {name: sum(len(doc["text"].encode()) for doc in part) / 1e6 for name, part in parts.items()}
    contestants = {"ours": job_command}
    if datatrove:
        contestants["datatrove"] = lambda s, o: datatrove_command(datatrove, s, o, language)
    calls = {
        (name, part): lambda c=command, part=part: cpu_of(c(folder / f"{part}-{language}", folder / "cpu"))
        for name, command in contestants.items()
        for part in (name, "two")
    }
    seconds = {call: facts.median(values) for call, values in facts.alternate(calls, rounds, 0).items()}
    speed = {name: size[name] / (seconds[name, name] - seconds[name, "two"]) for name in contestants}
    source = folder / f"ours-{language}/a.jsonl.gz"
    signing = facts.median([signature_seconds(source, folder / "sign") for _ in range(3)])
    theirs = {"datatrove_MB": size["datatrove"], "datatrove_MB/s": speed["datatrove"],
              "times_datatrove": speed["ours"] / speed["datatrove"]} if datatrove else {}  # fmt: skip
    return {
        "language": language,
        "documents": len(parts["ours"]),
        "MB": size["ours"],
        "signatures_MB/s": size["ours"] / signing,
        "job_MB/s": speed["ours"],
        **theirs,
    }


def sample(docs: list[dict], megabytes: float) -> list[dict]:
    size, taken = 0, []
    for doc in docs:
        taken.append(doc)
        size += len(doc["text"].encode())
        if size >= megabytes * 1e6:
            break
    return taken


def job_command(source: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "data_prep.dedup", f"--input={source}", f"--output={output}/ours"]


def datatrove_command(python: str, source: Path, output: Path, language: str) -> list[str]:
    script = Path(__file__).with_name("peers") / "datatrove_minhash.py"
    code = {"en": "eng", "zh": "cmn"}[language]
    return [python, str(script), str(source), f"{output}/datatrove-{time.monotonic_ns()}", code]


def cpu_of(command: list[str]) -> float:
    """Processor seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def signature_seconds(path: Path, folder: Path) -> float:
    """Processor seconds of the first reading: decompress, parse, sign, write work files."""
    from data_prep import dedup as job
    from data_prep.duplicates import work_files
    from data_prep.jobs.documents import File

    folder.mkdir(parents=True, exist_ok=True)
    plan = work_files.Plan(folder, {}, job.Options(), work_files.Work(folder, 1, 0.8))
    start = time.process_time()
    job.sign(File(0, str(path)), plan)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of real data, see planted.FILES")
    parser.add_argument("--datatrove", help="the python of a virtual environment with datatrove")
    parser.add_argument("--copies", type=int, default=2000, help="planted copies of each language")
    parser.add_argument("--megabytes", type=float, default=20, help="text of each language in the measure of speed")
    parser.add_argument(
        "--rounds", type=int, default=2, help="pairs of calls of each contestant, the second one counts"
    )
    parser.add_argument("--output", default="near_duplicates", help="name of the file in benchmarks/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = [
            {"rule": "off (--any_subject)" if flags else "on"} | row
            for flags in ((), ("--any_subject",))
            for row in (*quality(args.data, Path(name), args.copies, 0, flags), real_row(args.data, Path(name), flags))
        ]
        stubs = [stubs_row(args.data, Path(name), language, 2000, flags)
                 for language in STUBS for flags in ((), ("--any_subject",))]  # fmt: skip
        fast = speed(args.data, Path(name), args.datatrove, args.megabytes, args.rounds)
    bins = [{"rule": row["rule"], "language": row["language"], **row.pop(BY_JACCARD)} for row in rows]
    facts.write(f"{args.output}_stubs", "Stubs of one template about real songs, each with a copy", stubs)
    facts.write(args.output, "Near-duplicates: planted copies, and pages two years apart", rows)
    facts.write(f"{args.output}_by_jaccard", "Pairs found of all pairs, by their Jaccard similarity", bins)
    what = "MB of text a second of one core, start-up taken off: signatures alone, whole jobs"
    facts.write(f"{args.output}_speed", what, fast)


if __name__ == "__main__":
    main()
