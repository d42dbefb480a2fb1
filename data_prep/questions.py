"""Questions: short ones of a single answer that time does not change, out of pages and records, in Chinese and English.

    python -m data_prep.questions --input=DOCS --output=OUT [--catalogue=FILES ...] [--popular=300 --even=200]
    python -m data_prep.questions ... --endpoint=URL --model=NAME     a language model writes questions too
    python -m data_prep.questions ... --against=TRAINING              which questions stand in documents or rows

Pages are documents with `name` or `title`, and perhaps `infobox`.  A catalogue is TSV or CSV with a head, JSONL of
records, or JSON of triples {name, attrname, attrvalue}; columns that are known stand in entities/fields.py.  Facts come
from first sentences (entities/english.py, chinese.py) and from fields; templates (relations.py) ask for them.  A fact
of a table is never asked: it speaks for or against.  Chinese questions are in simplified characters.

All evidence on a name meets: its pages, its rows, its namesakes.  entities/filters.py says for which reasons a question
goes; each is counted, and read = kept + dropped.  Aliases of an answer are other ways to write its date, number or name
(traditional characters too), and what the catalogue calls the entity.

With --endpoint a model writes up to three questions on each of --pages pages (entities/written.py), which pass the same
filters, and is asked again from all evidence.  A run that stopped asks only what its --cache lacks.

Of the questions that stay --popular are on entities in the top fifth of popularity and --even come in equal numbers
from each tenth (entities/sample.py); languages get equal shares, relations take turns.  --popularity names the column
that popularity is read from, in pages or catalogues (weeks, links, ...); by default it is the length of the page.

OUT has questions.jsonl (formats/questions.py), report.json and report.html, dropped.jsonl: candidates of each reason,
and with --against overlaps.jsonl.  Give questions.jsonl to data_prep.decontaminate as --questions.
"""

import dataclasses
import glob
import logging
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam

from data_prep.entities import against, asking, candidates, fields, filters, pages, sample
from data_prep.entities.filters import Candidate
from data_prep.entities.records import Entity, Fact
from data_prep.entities.values import key_of
from data_prep.jobs import documents, job, notes, options, progress
from data_prep.jobs.documents import File
from data_prep.jobs.options import option
from data_prep.jobs.runner import run_pipeline
from data_prep.jobs.stage import parser
from data_prep.reporting import question_page
from mucpt_jax import llm
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import write_json, write_text
from mucpt_jax.formats.version import written_by

BUCKETS = 64  # tasks of a grouping; each holds its names' records in memory
FILES = ("questions.jsonl", "dropped.jsonl", "overlaps.jsonl", "report.json", "report.html", *notes.FILES)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    catalogue: tuple[str, ...] = option((), "files of entities, or globs of them; may be repeated")
    popular: int = option(300, "questions on popular entities")
    even: int = option(200, "questions from ten equal parts of popularity")
    per_entity: int = option(2, "questions on one artist at most")
    seed: int = option(0, "of the sampling")
    popularity: str = option("characters", "column that says how popular an entity is; characters: its page's length")
    pages: int = option(1000, "that the model behind --endpoint writes questions on")
    against: tuple[str, ...] = option((), "training documents or rows, in which questions are looked for")
    tokenizer: str = option("", "folder, to read the rows of --against")


class Plan(NamedTuple):
    """What the tasks know."""

    folder: Path  # that becomes the output
    columns: dict[str, str]
    options: Options

    @property
    def work(self) -> Path:
        return self.folder / "work"


def run(argv: list[str] | None = None) -> dict:
    """Returns what report.json holds."""
    flags = parser(__doc__)
    options.add_flags(flags, Options, "")
    llm.add_options(flags)
    args, beam_args = flags.parse_known_args(argv)
    chosen, settings = options.of_flags(Options, args), llm.settings_of(args)
    check(chosen)
    paths, rows = job.find_files(args.input), catalogue_files(chosen.catalogue)
    parts = against.parts_of(chosen.against, chosen.tokenizer)
    with job.output_folder(args.output, [*paths, *rows], FILES) as folder:
        plan = Plan(folder, args.columns, chosen)
        plan.work.mkdir()
        with progress.shown(args.output, folder, progress.size_of(paths), 2 if settings else 1):
            asked, counters = candidates_of(plan, paths, rows, settings, beam_args)
        notes.merge(folder)
        report = {"input": args.input, "catalogue": rows, **documents_of(counters), "asked": asked} | finish(plan)
        report["overlaps"] = overlaps(plan, parts, beam_args)
        write_json(folder / "report.json", report)
        write_text(folder / "report.html", question_page.page(report, folder))
        shutil.rmtree(plan.work)
    print_report(report)
    return report


def check(chosen: Options) -> None:
    if chosen.popular < 0 or chosen.even < 0 or chosen.popular + chosen.even == 0:
        raise UserError(f"--popular={chosen.popular} --even={chosen.even} ask for no question; use 0 or more of each")
    for name in ("per_entity", "pages"):
        if getattr(chosen, name) < 1:
            raise UserError(f"--{name}={getattr(chosen, name)} leaves no question; use 1 or more")


def catalogue_files(patterns: Iterable[str]) -> list[str]:
    files = []
    for pattern in patterns:
        names = sorted(name for name in glob.glob(pattern) if name.endswith((".tsv", ".csv", ".jsonl", ".json")))
        if not names:
            raise UserError(f"--catalogue={pattern} names no file that ends in .tsv, .csv, .jsonl or .json; name such")
        files += names
    return files


# The pipelines: pages for a model; records by name -> candidates -> candidates by answer


def candidates_of(
    plan: Plan, paths: list[str], rows: list[str], settings: llm.Settings | None, beam_args: list[str]
) -> tuple[dict, dict]:
    """Writes work/candidates-*.jsonl; returns counts of what a model was asked, and Beam's counters."""
    files, asked = [File(number, path) for number, path in enumerate(paths)], {}
    if settings:
        run_pipeline(lambda pipeline: choose_pages(pipeline, files, plan), beam_args)
        asked["writing"] = asking.write_facts(plan.work, settings, plan.options.pages)
    counters = run_pipeline(lambda pipeline: build(pipeline, files, rows, plan), beam_args)
    if settings:
        asked |= {"model": settings.model, "checking": asking.look_again(plan.work, settings)}
    return asked, counters


def choose_pages(pipeline: beam.Pipeline, files: list[File], plan: Plan) -> object:
    return documents.spread(pipeline, files) | "ChoosePages" >> beam.Map(write_pages, plan)


def write_pages(file: File, plan: Plan) -> None:
    note = plan.folder / f"pages-{file.number:05d}.progress"
    rows = (row for batch, _ in documents.read_batches(file.path, plan.columns, note) for row in batch.to_pylist())
    chosen = asking.pages_of(rows, plan.options.popularity, plan.options.seed, plan.options.pages)
    candidates.rewrite(plan.work / f"pages-{file.number:05d}.jsonl", chosen)


def build(pipeline: beam.Pipeline, files: list[File], rows: list[str], plan: Plan) -> object:
    sources = [documents.spread(pipeline, files) | "ReadPages" >> beam.FlatMap(read_pages, plan)]
    listed = pipeline | "Catalogue" >> beam.Create([*rows, ""]) | "SpreadCatalogue" >> beam.Reshuffle()
    sources.append(listed | "ReadCatalogue" >> beam.FlatMap(read_rows, plan))
    by_name = sources | beam.Flatten() | "ByName" >> beam.GroupByKey()
    by_answer = by_name | "Settle" >> beam.FlatMap(settle) | "ByAnswer" >> beam.GroupByKey()
    return by_answer | "Write" >> beam.Map(candidates.write, plan.work)


Keyed = tuple[int, list[Entity | Fact]]


def read_pages(file: File, plan: Plan) -> Iterator[Keyed]:
    for batch in documents.read_counted(file, plan.folder, plan.columns):
        records = [r for row in batch.to_pylist() for r in pages.records(row, plan.options.popularity)]
        documents.count("stating", len({r.document for r in records if isinstance(r, Fact)}), namespace="changed")
        yield from in_buckets((record.key, record) for record in records)


def read_rows(path: str, plan: Plan) -> Iterator[Keyed]:
    """Of a file of the catalogue; of no file: what a model wrote."""
    records = fields.read_catalogue(path, plan.options.popularity) if path else asking.read_facts(plan.work)
    yield from in_buckets((record.key, record) for record in records)


def in_buckets(pairs: Iterable[tuple[str, Any]]) -> Iterator[tuple[int, list]]:
    """(key, value) -> (bucket, values): what has one key is in one bucket."""
    buckets: dict[int, list] = {}
    for key, value in pairs:
        buckets.setdefault(zlib.crc32(key.encode("utf-8", "replace")) % BUCKETS, []).append(value)
    yield from buckets.items()


def settle(bucket: tuple[int, Iterable[list]]) -> Iterator[tuple[int, list[Candidate | Entity]]]:
    """Candidates under the answer's key, and the entities that may be the answer to some."""
    by_name: dict[str, list] = {}
    for record in (record for some in bucket[1] for record in some):
        by_name.setdefault(record.key, []).append(record)
    for records in by_name.values():
        entities = [r for r in records if isinstance(r, Entity) and r.aliases]
        yield from in_buckets((entity.key, entity) for entity in entities)
        yield from in_buckets((key_of(c.answer), c) for c in filters.settle(records))


# The end, in one process: sampling and the report


def finish(plan: Plan) -> dict:
    """Writes questions.jsonl, dropped.jsonl and counts.json; returns the counts."""
    summary, chosen = candidates.summary_of(plan.work), plan.options
    dropped = Counter()
    for (_, _, reason), count in summary.outcomes.items():
        dropped[reason] += count * bool(reason)
    strata = sample.draw(summary.places, chosen.popular, chosen.even, chosen.seed, chosen.per_entity)
    if not strata:
        raise UserError(
            f"--input gives no question ({sum(dropped.values())} candidates, dropped {dict(+dropped)}), so nothing was "
            "written; check that documents have `name` or `title`, and look at entities/filters.py for the reasons"
        )
    questions = candidates.chosen(plan.work, strata)
    dropped["not_sampled"] = len(summary.places) - len(questions)
    notes.add_lines(plan.folder / "questions.jsonl", questions)
    examples = (line for reason in sorted(summary.examples) for line in summary.examples[reason])
    notes.add_lines(plan.folder / "dropped.jsonl", examples)
    counts = {
        "read": sum(summary.outcomes.values()),
        "kept": len(questions),
        "dropped": dict(sorted((+dropped).items())),
    }
    assert counts["read"] == counts["kept"] + dropped.total(), f"candidates lost or doubled: {counts}"
    write_json(plan.folder / "counts.json", counts)
    more = {"options": dataclasses.asdict(chosen), "written_by": written_by()}
    return counts | of_questions(questions) | of_candidates(summary) | more


def of_questions(questions: list[dict]) -> dict:
    def counted(key: str) -> dict[str, int]:
        return dict(Counter(question[key] for question in questions).most_common())

    strata = Counter((q["stratum"], q["lang"]) for q in questions)
    return {
        "langs": counted("lang"), "answer_types": counted("answer_type"), "routes": counted("route"),
        "strata": [{"stratum": s, "lang": lang, "questions": n} for (s, lang), n in sorted(strata.items())],
        "entities": len({question["entity"] for question in questions}),
    }  # fmt: skip


def of_candidates(summary: candidates.Summary) -> dict:
    """By route and language: how many stood at the end, and how many went for which reason."""
    rows = [
        {"route": route, "lang": lang, "outcome": reason or "kept", "candidates": n}
        for (route, lang, reason), n in sorted(summary.outcomes.items())
    ]
    return {"candidates": rows, "pool": len(summary.places)}


def documents_of(counters: dict) -> dict:
    read, dropped = counters["documents"].get("read", 0), counters["dropped"]
    return {"documents": read, "documents_dropped": dropped, "stating": counters["changed"].get("stating", 0)}


def overlaps(plan: Plan, parts: list[against.Part], beam_args: list[str]) -> list[dict] | None:
    """None where there is nothing to look in; overlaps.jsonl has the same."""
    if not parts:
        return None
    questions, tokenizer = str(plan.folder / "questions.jsonl"), plan.options.tokenizer
    run_pipeline(lambda pipeline: against.build(pipeline, parts, questions, tokenizer, plan.work), beam_args)
    lines = against.overlaps(plan.work)
    notes.add_lines(plan.folder / "overlaps.jsonl", lines)
    return lines


def print_report(report: dict) -> None:
    print(f"{report['kept']:,} questions of {report['read']:,} candidates: {report['langs']}, {report['answer_types']}")
    strata = ", ".join(f"{s['stratum']} {s['lang']} {s['questions']}" for s in report["strata"])
    print(f"strata: {strata}\ndropped: {dict(sorted(report['dropped'].items(), key=lambda item: -item[1]))}")
    if report["overlaps"] is not None:
        ids = sorted({line["question"] for line in report["overlaps"]})
        print(f"{len(ids)} questions stand in --against: {', '.join(ids[:10])}{', ...' * (len(ids) > 10)}")
    short = report["options"]["popular"] + report["options"]["even"] - report["kept"]
    if short > 0:
        log.warning("%d questions fewer than asked for: give more documents or catalogues", short)


if __name__ == "__main__":
    job.main(run)
