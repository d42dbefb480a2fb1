"""The curation report: what a run read, dropped, changed and kept; report.html for people, report.json for programs.

    python -m data_prep.report OUT [--tokenizer=FOLDER]

OUT is what data_prep.pipeline wrote, or any folder with a stage's output under the stage's name (OUT/clean, ...).  The
page is one file of less than 2 MB that opens from disk.  report.json has these keys; what is not known is null:

    written_by    version and commit of the code that wrote the report
    finished      when the newest counts.json was written, UTC
    input, recipe what was read (a path), and the settings: OUT/config.json
    read, kept, dropped   documents of the whole road; dropped by reason
    adds_up       read == kept + dropped, and each stage read what the one before it kept
    tokens        how tokens were counted: "rows" (exact in rows, before that estimated from the tokens per
                  character in the rows), "sample" (estimated by --tokenizer) or null
    stages        [{stage, does, read, kept, dropped, masked, lines, changed, seconds}]: the counters of each
    left_out      [{stage, does, why}]: the stages that did not run
    funnel        [{stage, documents, characters, bytes, tokens, exact, by_source, by_language}]: `input` first, then
                  what each stage kept; by_source and by_language are {name: {documents, characters, bytes, tokens}}
    composition   [{source, lang, documents, characters, bytes, tokens}] of the final corpus, largest first
    copies        {groups: [{size, groups, documents}], largest}: for how many documents those that dedup kept stand
    quality       {edges, counts, mean, outside}: a histogram of the scores of the documents that quality kept
    largest       sources and languages with a name of their own; the others go together as "(other)"
"""

import datetime
import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa

from data_prep.jobs import notes, options
from data_prep.jobs.runner import MORE
from data_prep.jobs.stage import Stage
from data_prep.reporting import page
from data_prep.reporting.ratios import opened, token_ratios, with_tokens
from mucpt_jax.errors import UserError, exiting
from mucpt_jax.formats.decode import Count, Number, decoded, read_json, read_log
from mucpt_jax.formats.files import finite, write_json, write_text
from mucpt_jax.formats.version import written_by

SIZES = ("documents", "characters", "bytes", "tokens")
OTHER = "(other)"
MAX_SOURCES, MAX_LANGS = 200, 20
SAMPLES = 5  # of a reason, on the page
BINS = 20  # of quality


def known() -> tuple[Stage, ...]:
    from data_prep import pipeline  # which writes a report itself

    return pipeline.STAGES


def write(out: Path, tokenizer: str | None = None) -> None:
    """report.json and report.html of a run; UserError where `out` holds no stage, or a file that is damaged."""
    out = Path(out)
    text = json.dumps(finite(facts(out, tokenizer)), ensure_ascii=False)
    # A name may hold half a character, which no file can.
    report = decoded(text.encode("utf-8", "replace"), dict, "report.json", "")
    write_json(out / "report.json", report)
    names = [stage["stage"] for stage in report["stages"]]
    examples = {stage: samples(out, stage) for stage in names}
    lines = read_log(out / "boilerplate/lines.jsonl", Repeated)[:30] if "boilerplate" in names else []
    write_text(out / "report.html", page.page(report, examples, lines))


def facts(out: Path, tokenizer: str | None = None) -> dict:
    """All of report.json."""
    run = {"stages": {}, "seconds": {}, "left_out": {}} | read_if_there(out / "counts.json", Whole)
    stages = read_stages(out, run)
    compositions = {s["stage"]: read_if_there(out / s["stage"] / "composition.json", notes.Sides) for s in stages}
    how, ratios = token_ratios(out, compositions, tokenizer)
    recipe = read_if_there(out / "config.json", dict) or None
    return {
        "written_by": written_by(),
        "finished": finished(out, stages),
        "input": run.get("input") or (recipe or {}).get("input"),
        "recipe": recipe,
        **total(stages),
        "tokens": how,
        "stages": stages,
        "left_out": left_out(stages, run),
        "funnel": funnel(stages, compositions, ratios),
        "composition": last_composition(compositions, ratios),
        "copies": copies(out / "dedup") if "dedup" in compositions else None,
        "quality": quality(out / "quality") if "quality" in compositions else None,
        "largest": {"sources": MAX_SOURCES, "languages": MAX_LANGS},
    }


# Files


class StageCounts(TypedDict, total=False):
    """A stage's counts.json, of any version."""

    read: Count
    kept: Count
    dropped: dict[str, Count]
    masked: dict[str, Count]
    lines: dict[str, Count]
    changed: dict[str, Count]
    seconds: Number | None


class Whole(TypedDict, total=False):
    """counts.json of a pipeline's run."""

    input: str | None
    stages: dict[str, StageCounts]
    seconds: dict[str, Number | None]
    left_out: dict[str, str]


class Repeated(TypedDict):
    """A line of boilerplate/lines.jsonl."""

    source: str
    documents: Count
    text: str


def read_if_there(path: Path, kind: type) -> dict:
    return read_json(path, kind, "write it again, or move it away") if path.is_file() else {}


def read_stages(out: Path, run: dict) -> list[dict]:
    """The counters of each stage in order; a run's own list of stages goes before what else lies in the folder."""
    folders = [stage.output for stage in known()]
    names = run["stages"] or {name for name in folders if (out / name / "counts.json").is_file()}
    if not any(name in names for name in folders):
        raise UserError(
            f"{out} holds no stage's output; name the folder that data_prep.pipeline wrote, "
            f"or one with {', '.join(folders)} in it"
        )
    return [read_stage(out, stage, run) for stage in known() if stage.output in names]


def read_stage(out: Path, stage: Stage, run: dict) -> dict:
    counts = run["stages"].get(stage.output) or read_if_there(out / stage.output / "counts.json", StageCounts)
    facts = {"stage": stage.output, "does": stage.does, "read": counts.get("read", 0), "kept": counts.get("kept", 0)}
    facts |= {name: counts.get(name, {}) for name in ("dropped", *MORE)}
    return facts | {"seconds": run["seconds"].get(stage.output) or counts.get("seconds")}


def left_out(stages: list[dict], run: dict) -> list[dict]:
    there = {facts["stage"] for facts in stages}
    return [
        {"stage": stage.output, "does": stage.does, "why": run["left_out"].get(stage.output, "no output here")}
        for stage in known()
        if stage.output not in there
    ]


def finished(out: Path, stages: list[dict]) -> str | None:
    paths = [out / "counts.json", *(out / s["stage"] / "counts.json" for s in stages)]
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    return datetime.datetime.fromtimestamp(max(times), datetime.UTC).isoformat("T", "seconds") if times else None


def samples(out: Path, stage: str) -> dict[str, list[notes.Sample]]:
    """{reason: its first dropped documents}; a damaged line is left out: these are examples, not numbers."""
    by_reason: dict[str, list[notes.Sample]] = {}
    for sample in read_log(out / stage / "samples.jsonl", notes.Sample):
        some = by_reason.setdefault(sample["reason"], [])
        if len(some) < SAMPLES:
            some.append(sample)
    return by_reason


def total(stages: list[dict]) -> dict:
    dropped: Counter[str] = Counter()
    for stage in stages:
        dropped.update(stage["dropped"])
    read, kept = stages[0]["read"], stages[-1]["kept"]
    chained = all(before["kept"] == after["read"] for before, after in pairwise(stages))
    return {"read": read, "kept": kept, "dropped": dropped, "adds_up": chained and read == kept + sum(dropped.values())}


# Funnel and composition


def funnel(stages: list[dict], compositions: dict, ratios: dict) -> list[dict]:
    """Sizes of the input and of what each stage kept; documents as counters have them, with lines that held none."""
    sides = [("input", stages[0]["read"], compositions[stages[0]["stage"]].get("read"))]
    sides += [(s["stage"], s["kept"], compositions[s["stage"]].get("kept")) for s in stages]
    exact = [bool(rows) and all("tokens" in row for row in rows) for _, _, rows in sides]
    does = {"input": "documents as read"} | {s["stage"]: s["does"] for s in stages}
    by_source, by_lang = (tables_of(sides, ratios, of) for of in ("source", "lang"))
    sources, langs = largest(by_source, "source", MAX_SOURCES), largest(by_lang, "lang", MAX_LANGS)
    return [
        {"stage": name, "does": does[name], **sizes(by_source[i] or []), "documents": documents, "exact": exact[i]}
        | {"by_source": grouped(by_source[i], "source", sources), "by_language": grouped(by_lang[i], "lang", langs)}
        for i, (name, documents, _) in enumerate(sides)
    ]


def tables_of(sides: list[tuple], ratios: dict, of: str) -> list[list[dict] | None]:
    return [None if rows is None else [with_tokens(row, ratios, of) for row in rows] for _, _, rows in sides]


def largest(tables: list[list[dict] | None], key: str, most: int) -> set[str]:
    sizes: dict[str, int] = {}
    for row in (row for table in tables for row in table or []):
        sizes[row[key]] = max(sizes.get(row[key], 0), row["characters"])
    return set(sorted(sizes, key=lambda name: (-sizes[name], name))[:most])


def sizes(rows: list[dict]) -> dict[str, int | None]:
    """Sums; None where nothing is known."""
    known = {name: [row[name] for row in rows if row.get(name) is not None] for name in SIZES}
    return {name: sum(values) if values else None for name, values in known.items()}


def grouped(table: list[dict] | None, key: str, names: set[str]) -> dict[str, dict] | None:
    if table is None:
        return None
    groups: dict[str, list[dict]] = {}
    for row in table:
        groups.setdefault(row[key] if row[key] in names else OTHER, []).append(row)
    return {name: sizes(groups[name]) for name in sorted(groups)}


def last_composition(compositions: dict, ratios: dict) -> list[dict]:
    """Largest first, by tokens where they are known."""
    kept = [composition["kept"] for composition in compositions.values() if composition.get("kept")]
    rows = [with_tokens(row, ratios, "lang") for row in kept[-1]] if kept else []
    sources, langs = largest([rows], "source", MAX_SOURCES), largest([rows], "lang", MAX_LANGS)
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        source = row["source"] if row["source"] in sources else OTHER
        lang = row["lang"] if row["lang"] in langs else OTHER
        groups.setdefault((source, lang), []).append(row)
    totals = [{"source": source, "lang": lang, **sizes(group)} for (source, lang), group in groups.items()]
    return sorted(totals, key=lambda r: (-(r["tokens"] or 0), -(r["characters"] or 0), r["source"], r["lang"]))


# Columns of documents, read alone and in batches


def column(where: Path, name: str) -> Iterator[np.ndarray]:
    """f8[n] of each batch; what is null or no number is left out."""
    for path in sorted(where.glob("part-*.parquet")):
        with opened(path) as parquet:
            schema = parquet.schema_arrow
            kind = schema.field(name).type if name in schema.names else None
            if kind and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                for batch in parquet.iter_batches(65536, columns=[name]):
                    values = batch[0].cast(pa.float64()).to_numpy(zero_copy_only=False)
                    yield values[~np.isnan(values)]


def copies(where: Path) -> dict | None:
    starts = np.array([1, 2, 3, *(2**n for n in range(2, 41))])
    groups, documents, most = np.zeros(len(starts), np.int64), np.zeros(len(starts)), 0
    for values in column(where, "copies"):
        values = values[values >= 1]
        place = np.searchsorted(starts, values, "right") - 1
        groups += np.bincount(place, minlength=len(starts))
        documents += np.bincount(place, values, len(starts))
        most = max(most, int(values.max(initial=0)))
    if not most:
        return None
    shown = np.flatnonzero(groups)[-1] + 1
    ends = [str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in pairwise(starts[: shown + 1].tolist())]
    rows = zip(ends, groups.tolist(), documents.astype(int).tolist(), strict=False)
    return {"groups": [dict(zip(("size", "groups", "documents"), r, strict=True)) for r in rows], "largest": most}


def quality(where: Path) -> dict | None:
    edges, counts, outside, mass = np.linspace(0, 1, BINS + 1), np.zeros(BINS, np.int64), 0, 0.0
    for values in column(where, "quality"):
        inside = values[(values >= 0) & (values <= 1)]
        counts += np.histogram(inside, edges)[0]
        outside, mass = outside + len(values) - len(inside), mass + inside.sum()
    if not counts.sum() and not outside:
        return None
    mean = round(mass / counts.sum(), 4) if counts.sum() else None
    return {"edges": edges.round(4).tolist(), "counts": counts.tolist(), "mean": mean, "outside": outside}


def main(argv: list[str] | None = None) -> None:
    parser = options.parser(__doc__, prog="python -m data_prep.report")
    parser.add_argument("out", metavar="OUT", help="folder of a run, or of stages that were run alone")
    parser.add_argument("--tokenizer", help="folder; estimates tokens where no rows tell them")
    args = parser.parse_args(argv)
    with exiting():
        write(Path(args.out), args.tokenizer)
    print(Path(args.out) / "report.html")


if __name__ == "__main__":
    main()
