"""What the rules of languages and of masking take from real text that nobody planted anything in.

    python -m benchmarks.taken --data=../shared/data [--before=OLD.json] [--list]

Of each source: documents that clean drops as `language` and lines that it takes as other_language, with the recipe's
--languages=en,zh-Hans,zh-Hant, and postal and IP addresses that mask takes.  --before sets the figures of an earlier
result beside.  --list shows what is taken, to be read: the table does not say which are right.

Read in November 2026: all 33 lines removed are foreign prose, and two thirds of the one document dropped are French.
All 6 addresses in zh wiki are homes; of the 13 in English articles 12 are homes, one is an agency's with its suite.
"""

import argparse
from collections import Counter
from pathlib import Path

from benchmarks import facts, planted
from data_prep import clean
from data_prep.private import masking
from data_prep.text import language
from mucpt_jax.formats.decode import read_json

SOURCES = (
    "music/music_en_bios", "music/music_en_wiki", "music/music_zh_wiki", "general/general_en_wiki",
    "general/general_zh_wiki", "general/general_meetups_bios_nonmusic", "general/general_zh_lctt_tech",
    "general/general_debian_docs", "general/general_sgd_dialogues",
)  # fmt: skip
ASKED = ("en", "zh-Hans", "zh-Hant")
COUNTED = ("documents", "lines")  # the others are taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of real data, see SOURCES")
    parser.add_argument("--before", type=Path, help="a result of an earlier version")
    parser.add_argument("--list", action="store_true", help="show what is taken")
    parser.add_argument("--output", default="taken", help="name of the file in benchmarks/results")
    args = parser.parse_args()
    before = {row["source"]: row for row in read_json(args.before)["rows"]} if args.before else {}
    rows = []
    for source in SOURCES:
        counts = taken(args.data, source, args.list)
        row = {"source": source.split("/")[1]}
        for name in ("documents", "dropped", "lines", "removed", "addresses", "ips"):
            if before and name not in COUNTED:
                row[f"{name}_before"] = before[row["source"]][name]
            row[name] = counts[name]
        rows.append(row)
        print(row, flush=True)
    facts.write(args.output, "What language rules and masking take from real text: documents, lines, addresses", rows)


def taken(data: Path, source: str, shown: bool) -> Counter:
    counts: Counter = Counter()
    for document in planted.read(data, source):
        text = clean.clean_text(document["text"])
        (detection,) = language.detect([text])
        pieces = text.split("\n")
        counts.update(documents=1, lines=sum(map(bool, pieces)))
        hits = [hit for hit in masking.find(document["text"]) if hit.type in ("address", "ip")]
        counts.update(addresses=sum(hit.type == "address" for hit in hits), ips=sum(hit.type == "ip" for hit in hits))
        what = [f"{hit.type}: {document['text'][hit.start : hit.end]}" for hit in hits]
        if text and detection.lang not in ASKED:
            counts["dropped"] += 1
            what.append(f"dropped: {text[:100]!r}")
        elif text and clean.without_others(text, detection, ASKED)[2]:
            gone = [line for line, lang in zip(pieces, detection.lines, strict=True) if line and lang not in ASKED]
            counts["removed"] += len(gone)
            what += [f"removed: {line}" for line in gone]
        if shown:
            print(*(f"{document['id']}\t{line}" for line in what), sep="\n", end="\n" * bool(what))
    return counts


if __name__ == "__main__":
    main()
