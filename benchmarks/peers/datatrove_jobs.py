"""datatrove's blocks for the tasks of data_prep's jobs; benchmarks.curation runs it in datatrove's own environment.

VENV/bin/python benchmarks/peers/datatrove_jobs.py JOB FOLDER_OF_JSONL_GZ OUTPUT en|zh [QUESTIONS | TOKENIZER_FOLDER]

Near-duplicates are in datatrove_minhash.py.  Not here: LanguageFilter and C4BadWordsFilter, which download
models and lists.
"""

import json
import sys
from pathlib import Path

import numpy as np
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline import filters
from datatrove.pipeline.decont import n_grams
from datatrove.pipeline.dedup import SentenceDedupFilter, SentenceDedupSignature, SentenceFindDedups
from datatrove.pipeline.dedup.sentence_dedup import SentDedupConfig
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter

CODES = {"en": "eng", "zh": "cmn"}
# The limits of GopherQualityFilter are made for English: 2 of its stop words, 3 letters a word.
GOPHER = {"en": {}, "zh": {"min_avg_word_length": 1, "stop_words": ["的", "是", "在", "了", "和", "有", "不"]}}


def clean(language: str, extra: str, output: str) -> list:
    return [FTFYFormatter()]


def mask(language: str, extra: str, output: str) -> list:
    return [PIIFormatter()]


def quality(language: str, extra: str, output: str) -> list:
    """In the order of FineWeb's recipe."""
    code = CODES[language]
    return [
        filters.GopherRepetitionFilter(language=code),
        filters.GopherQualityFilter(language=code, **GOPHER[language]),
        filters.C4QualityFilter(filter_no_terminal_punct=False, language=code),
        filters.FineWebQualityFilter(language=code),
    ]


def decontaminate(language: str, questions: str, output: str) -> list:
    """13 words of a question in a row; the index is what NGramsDecontIndexer would write, which needs lighteval."""
    config = n_grams.NGramsDecontConfig(n_grams=13, find_query_ngrams=True)
    indexer = object.__new__(n_grams.NGramsDecontIndexer)
    indexer.config, indexer.hash_func = config, n_grams.create_hash_func(config.hash_config)
    indexer.tokenizer = n_grams.load_word_tokenizer(CODES[language])
    with open(questions, encoding="utf-8") as f:
        rows = list(map(json.loads, f))
    hashes = {one for row in rows for one in indexer.compute_hashes(row["answer"], row["question"])}
    index = Path(output) / "index"
    index.mkdir(parents=True)
    np.array(list(hashes), config.hash_config.np_descr).tofile(index / "questions.index.hashes")
    return [n_grams.NGramsDecontFilter(str(index), config=config, language=CODES[language])]


def run(steps: list, output: str, name: str) -> None:
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=f"{output}/logs-{name}").run()


def chained(blocks: list) -> None:
    documents = None
    for block in blocks:
        documents = block.run(documents)
    for _ in documents:
        pass


def boilerplate(source: str, output: str, language: str) -> None:
    """Lines that stood before; the first stays."""
    config = SentDedupConfig(n_sentences=1, split_sentences=False, min_doc_words=0, min_num_sentences=0)
    code = CODES[language]
    signed, found = f"{output}/signatures", f"{output}/found"
    run([JsonlReader(source), SentenceDedupSignature(signed, config=config, language=code)], output, "sign")
    run([SentenceFindDedups(signed, found, config=config)], output, "find")
    removed = [JsonlReader(source), SentenceDedupFilter(found, config=config, language=code)]
    run([*removed, JsonlWriter(f"{output}/kept")], output, "filter")


def main(job: str, source: str, output: str, language: str, extra: str = "") -> None:
    if job == "boilerplate":
        boilerplate(source, output, language)
    elif job == "shard":
        tokenizer = DocumentTokenizer(
            f"{output}/tokens", f"{extra}/tokenizer.json", eos_token="<|endoftext|>", shuffle_documents=False
        )
        run([JsonlReader(source), tokenizer], output, job)
    elif job == "spans":
        spans(source, output)
    else:
        steps = {"clean": clean, "quality": quality, "decontaminate": decontaminate, "mask": mask}[job]
        blocks = [JsonlReader(source), *steps(language, extra, output), JsonlWriter(f"{output}/kept")]
        if job == "decontaminate":  # the executor cannot copy a filter that holds jieba
            chained(blocks)
        else:
            run(blocks, output, job)


def spans(source: str, output: str) -> None:
    """Where PIIFormatter would put its replacements."""
    block = PIIFormatter()
    with open(output, "w", encoding="utf-8") as out:
        for doc in JsonlReader(source).run():
            found = [
                match.span()
                for replacer in (block.emails_replacer, block.ip_replacer)
                for match in replacer.regex.finditer(doc.text)
                if replacer.validator is None or replacer.validator(match[0])
            ]
            out.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
