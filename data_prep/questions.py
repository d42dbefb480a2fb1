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

Of the questions that stay --popular are on entities in the top fifth of popularity and --even come in equal numbers
from each tenth (entities/sample.py); languages get equal shares, relations take turns.  --popularity names the column
that popularity is read from, in pages or catalogues (weeks, links, ...); by default it is the length of the page.

OUT has questions.jsonl (formats/questions.py), report.json and report.html, and dropped.jsonl: candidates of each
reason.  Give questions.jsonl to data_prep.decontaminate as --questions.
"""

import dataclasses
import glob
import json
import logging
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam

from data_prep.entities import fields, filters, pages, sample
from data_prep.entities.filters import Candidate
from data_prep.entities.records import Entity, Fact
from data_prep.entities.relations import type_of
from data_prep.entities.values import key_of
from data_prep.jobs import documents, job, notes, options, progress
from data_prep.jobs.documents import File
from data_prep.jobs.options import option
from data_prep.jobs.runner import run_pipeline
from data_prep.jobs.stage import parser
from data_prep.reporting import question_page
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_lines
from mucpt_jax.formats.files import text_hash, write_json, write_text
from mucpt_jax.formats.version import written_by

BUCKETS = 64  # tasks of a grouping; each holds its names' records in memory
EXAMPLES = 20  # of a reason in dropped.jsonl
FILES = ("questions.jsonl", "dropped.jsonl", "report.json", "report.html", *notes.FILES)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    catalogue: tuple[str, ...] = option((), "files of entities, or globs of them; may be repeated")
    popular: int = option(300, "questions on popular entities")
    even: int = option(200, "questions from ten equal parts of popularity")
    per_entity: int = option(2, "questions on one artist at most")
    seed: int = option(0, "of the sampling")
    popularity: str = option("characters", "column that says how popular an entity is; characters: its page's length")


class Plan(NamedTuple):
    """What the tasks know."""

    folder: Path  # that becomes the output
    columns: dict[str, str]
    options: Options


def run(argv: list[str] | None = None) -> dict:
    """Returns what report.json holds."""
    flags = parser(__doc__)
    options.add_flags(flags, Options, "")
    args, beam_args = flags.parse_known_args(argv)
    chosen = options.of_flags(Options, args)
    check(chosen)
    paths, rows = job.find_files(args.input), catalogue_files(chosen.catalogue)
    files = [File(number, path) for number, path in enumerate(paths)]
    with job.output_folder(args.output, [*paths, *rows], FILES) as folder:
        plan = Plan(folder, args.columns, chosen)
        (folder / "work").mkdir()
        with progress.shown(args.output, folder, progress.size_of(paths)):
            counters = run_pipeline(lambda pipeline: build(pipeline, files, rows, plan), beam_args)
        notes.merge(folder)
        report = finish(plan, args.input, rows, counters)
        shutil.rmtree(folder / "work")
    print_report(report)
    return report


def check(chosen: Options) -> None:
    if chosen.popular < 0 or chosen.even < 0 or chosen.popular + chosen.even == 0:
        raise UserError(f"--popular={chosen.popular} --even={chosen.even} ask for no question; use 0 or more of each")
    if chosen.per_entity < 1:
        raise UserError(f"--per_entity={chosen.per_entity} leaves no question; use 1 or more")


def catalogue_files(patterns: Iterable[str]) -> list[str]:
    files = []
    for pattern in patterns:
        names = sorted(name for name in glob.glob(pattern) if name.endswith((".tsv", ".csv", ".jsonl", ".json")))
        if not names:
            raise UserError(f"--catalogue={pattern} names no file that ends in .tsv, .csv, .jsonl or .json; name such")
        files += names
    return files


# The pipeline: records by name -> candidates -> candidates by answer


def build(pipeline: beam.Pipeline, files: list[File], rows: list[str], plan: Plan) -> object:
    records = [documents.spread(pipeline, files) | "ReadPages" >> beam.FlatMap(read_pages, plan)]
    if rows:
        listed = pipeline | "Catalogue" >> beam.Create(rows) | "SpreadCatalogue" >> beam.Reshuffle()
        records.append(listed | "ReadCatalogue" >> beam.FlatMap(read_rows, plan))
    by_name = records | beam.Flatten() | "ByName" >> beam.GroupByKey()
    by_answer = by_name | "Settle" >> beam.FlatMap(settle) | "ByAnswer" >> beam.GroupByKey()
    return by_answer | "Write" >> beam.Map(write_candidates, plan.folder)


Keyed = tuple[int, list[Entity | Fact]]


def read_pages(file: File, plan: Plan) -> Iterator[Keyed]:
    for batch in documents.read_counted(file, plan.folder, plan.columns):
        records = [r for row in batch.to_pylist() for r in pages.records(row, plan.options.popularity)]
        documents.count("pages", len({r.id for r in records if isinstance(r, Entity)}), namespace="changed")
        yield from in_buckets((record.key, record) for record in records)


def read_rows(path: str, plan: Plan) -> Iterator[Keyed]:
    yield from in_buckets((record.key, record) for record in fields.read_catalogue(path, plan.options.popularity))


def in_buckets(pairs: Iterable[tuple[str, Any]]) -> Iterator[tuple[int, list]]:
    """(key, value) -> (bucket, values): what has one key is in one bucket."""
    buckets: dict[int, list] = {}
    for key, value in pairs:
        buckets.setdefault(zlib.crc32(key.encode()) % BUCKETS, []).append(value)
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


def write_candidates(bucket: tuple[int, Iterable[list]], folder: Path) -> None:
    by_answer: dict[str, tuple[list, list]] = {}
    for value in (value for some in bucket[1] for value in some):
        entity = isinstance(value, Entity)
        by_answer.setdefault(value.key if entity else key_of(value.answer), ([], []))[entity].append(value)
    lines = []
    for candidates, entities in by_answer.values():
        lines += [line_of(c) for c in candidates if c.reason]
        named = [filters.with_aliases(c, entities) for c in candidates if not c.reason]
        blocks: dict[tuple, list[Candidate]] = {}
        for candidate in named:  # near names begin alike
            blocks.setdefault((candidate.fact.lang, key_of(candidate.fact.subject)[:2]), []).append(candidate)
        lines += [line_of(c) for block in blocks.values() for c in filters.near_duplicates(block)]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in sorted(lines, key=lambda line: line["id"]))
    write_text(folder / "work" / f"candidates-{bucket[0]:03d}.jsonl", text)


def line_of(candidate: Candidate) -> dict:
    """A line of questions.jsonl, with relation and reason."""
    fact, kind = candidate.fact, type_of(candidate.fact)
    line = {
        "id": f"{fact.lang}-{text_hash(candidate.question + candidate.answer)[:12]}", "lang": fact.lang,
        "question": candidate.question, "answer": candidate.answer, "answer_type": kind,
        "aliases": list(candidate.aliases), "entity": fact.owner or fact.subject, "popularity": candidate.popularity,
        "evidence": {"document": fact.document, "quote": fact.quote},
        "route": f"{fact.route}:{fact.relation}", "relation": fact.relation, "reason": candidate.reason,
    }  # fmt: skip
    return line | ({"margin": 0} if kind in ("year", "number") else {})


# The end, in one process: sampling and the report


def finish(plan: Plan, source: str, rows: list[str], counters: dict) -> dict:
    """Writes the output's files.  Passes over the candidates twice: for what sampling looks at, then for the chosen."""
    places, dropped, funnel = [], Counter(), Counter()
    files = sorted((plan.folder / "work").glob("candidates-*.jsonl"))
    examples: dict[str, list[dict]] = {}
    for line in (line for file in files for line in read_lines(file)):
        funnel[line["route"], line["lang"], line["reason"]] += 1
        if line["reason"]:
            dropped[line["reason"]] += 1
            some = examples.setdefault(line["reason"], [])
            if len(some) < EXAMPLES:
                some.append(line)
        else:
            places.append(sample.Place(line["id"], line["lang"], line["relation"], line["entity"], line["popularity"]))
    chosen = plan.options
    strata = sample.draw(places, chosen.popular, chosen.even, chosen.seed, chosen.per_entity)
    if not strata:
        raise UserError(
            f"--input={source} gives no question ({sum(dropped.values())} candidates, dropped {dict(dropped)}), so "
            "nothing was written; check that documents have `name` or `title`"
        )
    lines = (line for file in files for line in read_lines(file))
    questions = [
        {k: v for k, v in line.items() if k not in ("relation", "reason")} | {"stratum": strata[line["id"]]}
        for line in lines if not line["reason"] and line["id"] in strata
    ]  # fmt: skip
    dropped["not_sampled"] = len(places) - len(questions)
    notes.add_lines(plan.folder / "questions.jsonl", sorted(questions, key=lambda q: q["id"]))
    notes.add_lines(plan.folder / "dropped.jsonl", (line for why in sorted(examples) for line in examples[why]))
    read = sum(funnel.values())
    assert read == len(questions) + sum(dropped.values()), f"candidates lost: {read}, {len(questions)}, {dropped}"
    counts = {"read": read, "kept": len(questions), "dropped": dict(sorted(dropped.items()))}
    write_json(plan.folder / "counts.json", counts)
    report = counts | facts_of(questions, places, funnel) | {
        "input": source, "catalogue": rows, "options": dataclasses.asdict(chosen), "written_by": written_by(),
        "documents": counters["documents"].get("read", 0), "documents_dropped": counters["dropped"],
        "pages": counters["changed"].get("pages", 0),
    }  # fmt: skip
    write_json(plan.folder / "report.json", report)
    write_text(plan.folder / "report.html", question_page.page(report, questions, examples))
    return report


def facts_of(questions: list[dict], places: list[sample.Place], funnel: Counter) -> dict:
    def counted(key: str) -> dict[str, int]:
        return dict(Counter(question[key] for question in questions).most_common())

    pool = Counter((place.lang, place.relation) for place in places)
    routes = Counter()
    for (route, lang, reason), count in funnel.items():
        routes[route, lang, reason or "kept"] += count
    return {
        "langs": counted("lang"), "answer_types": counted("answer_type"), "routes": counted("route"),
        "strata": dict(sorted(Counter(f"{q['stratum']} {q['lang']}" for q in questions).items())),
        "pool": [{"lang": lang, "relation": relation, "questions": n} for (lang, relation), n in sorted(pool.items())],
        "candidates": [
            {"route": route, "lang": lang, "outcome": outcome, "questions": n}
            for (route, lang, outcome), n in sorted(routes.items())
        ],
        "entities": len({question["entity"] for question in questions}),
    }  # fmt: skip


def print_report(report: dict) -> None:
    print(f"{report['kept']:,} questions of {report['read']:,} candidates: {report['langs']}, {report['answer_types']}")
    print(f"strata: {report['strata']}")
    print(f"dropped: {dict(sorted(report['dropped'].items(), key=lambda item: -item[1]))}")
    short = report["options"]["popular"] + report["options"]["even"] - report["kept"]
    if short > 0:
        log.warning("%d questions fewer than asked for: give more documents or catalogues", short)


if __name__ == "__main__":
    job.main(run)
