"""scrubadub over JSONL.gz; benchmarks.curation runs it in scrubadub's own virtual environment.

VENV/bin/python benchmarks/peers/scrubadub_mask.py mask|spans FOLDER_OF_JSONL_GZ OUTPUT.jsonl en|zh
"""

import gzip
import json
import sys
from pathlib import Path

import scrubadub

LOCALES = {"en": "en_US", "zh": "zh_CN"}


def main(job: str, source: str, output: str, language: str) -> None:
    scrubber = scrubadub.Scrubber(locale=LOCALES[language])  # its default detectors
    with open(output, "w", encoding="utf-8") as out:
        for path in sorted(Path(source).glob("*.jsonl.gz")):
            with gzip.open(path, "rt", encoding="utf-8") as f:
                for doc in map(json.loads, f):
                    if job == "mask":
                        row = doc | {"text": scrubber.clean(doc["text"])}
                    else:
                        row = [[filth.beg, filth.end] for filth in scrubber.iter_filth(doc["text"])]
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
