"""Decontaminate: documents that hold an evaluation question go as `contaminated`.

    python -m data_prep.decontaminate --input=docs/ --output=kept/ --questions=eval/*.jsonl [--questions=...]

A document holds a question where it has

    whole   all its words in a row, six at least
    near    13 words of it in a row (all, where it has fewer), and an answer at most 100 words before or behind them

Words are those of text/words.py (a Chinese character is one), so case, width, blanks and punctuation do not count.  A
fact that is stated is no leak, nor is an answer alone.  rejects.jsonl names document, question and kind of each hit,
without their texts.

Questions are JSONL or CSV: `question` (or `problem`), `answer`, `aliases`, `id`.  In multiple choice `answer` may name
the column that holds the answer (C-Eval, CMMLU).
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data_prep.jobs import documents, job, notes
from data_prep.jobs.options import option
from data_prep.jobs.stage import Stage, each_batch
from data_prep.text.contamination import find, load, words_of


@dataclass(frozen=True)
class Options:
    questions: tuple[str, ...] = option((), "JSONL or CSV files of evaluation questions, or globs; may be repeated")


def decontaminate_batch(batch: pa.RecordBatch, folder: Path, options: Options) -> pa.RecordBatch:
    table, reasons, hits = load(options.questions), [], []
    for name, words in zip(batch["id"].to_pylist(), words_of(batch["text"].to_pylist()), strict=True):
        hit = find(words, table)
        reasons.append("contaminated" if hit else None)
        if hit:
            hits.append({"id": name, "reason": "contaminated", "question": hit[0], "kind": hit[1]})
    if hits:
        part = batch.schema.metadata[b"part"].decode()
        notes.add_lines(Path(folder) / f"rejects-{part}.jsonl", hits)
    return documents.keep(batch, reasons, folder)


def check(options: Options) -> None:
    load.cache_clear()  # the files may have changed since a run before in this process
    load(options.questions)


STAGE = Stage(
    "decontaminate", "evaluation questions", __doc__, Options, each_batch(decontaminate_batch), check=check,
    counts={"contaminated": "questions"}, needs="questions", reads="questions",
)  # fmt: skip
run = STAGE.run

if __name__ == "__main__":
    job.main(run)
