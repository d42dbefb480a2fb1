"""Which slots of the packed rows hold planted noise: from the raw corpus's truth through cleaning, tokens and index."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from data_prep.clean import clean_text
from data_prep.shard import load_tokenizer
from mucpt_jax.formats.decode import read_lines
from mucpt_jax.formats.manifest import read_manifest

NOISE = ("qr_code", "address", "phone", "chatter", "boilerplate")  # private data is planted too, but is no noise


def noise_slots(run: Path, tokenizer_folder: str) -> dict:
    """{"slots": {(shard, row): bool[T+1]}, "spans": {found, cut_by_cleaning, in_duplicates (dropped by dedup)}}."""
    rows = run / "data" / "domain" / "rows"
    length = read_manifest(rows)["sequence_length"]
    tokens, counts = noise_tokens(run, tokenizer_folder)
    slots = defaultdict(lambda: np.zeros(length + 1, bool))
    end = defaultdict(int)  # of the segments so far, which stand in the row one after the other
    index = pq.read_table(rows / "index.parquet").sort_by(
        [("shard", "ascending"), ("row", "ascending"), ("segment", "ascending")]
    )
    for item in index.to_pylist():
        key, n = (item["shard"], item["row"]), item["length"]
        mask = tokens.get(item["document"])
        if mask is not None:
            slots[key][end[key] : end[key] + n] = mask[item["offset"] : item["offset"] + n]
        end[key] += n
    return {"slots": slots, "spans": dict(counts)}


def noise_tokens(run: Path, tokenizer_folder: str) -> tuple[dict[str, np.ndarray], Counter]:
    """Document id -> bool per token (the end-of-document token last), for the documents that reached the rows."""
    tokenizer = load_tokenizer(tokenizer_folder)  # shard's own: the same text must give the same tokens
    texts = kept_texts(run)
    masks, counts = {}, Counter()
    for truth in read_lines(run / "raw" / "truth.jsonl"):
        text = texts.get(truth["id"])
        wanted = [clean_text(s["text"]) for s in truth["spans"] if s["kind"] in NOISE]
        spans = find_in_order(text, wanted) if text is not None else []
        lost = "cut_by_cleaning" if text is not None else "in_duplicates"
        counts.update({"found": len(spans), lost: len(wanted) - len(spans)})
        if spans:
            offsets = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
            hit = [any(a < e and b > s for s, e in spans) for a, b in offsets]
            masks[truth["id"]] = np.array([*hit, False])
    return masks, counts


def kept_texts(run: Path) -> dict[str, str]:
    parts = sorted((run / "data" / "domain" / "dedup").glob("part-*.parquet"))
    tables = [pq.read_table(part, columns=["id", "text"]).to_pylist() for part in parts]
    return {row["id"]: row["text"] for table in tables for row in table}


def find_in_order(text: str, wanted: list[str]) -> list[tuple[int, int]]:
    """Character spans of the strings in `wanted`, each searched behind the one before."""
    spans, start = [], 0
    for piece in wanted:
        at = text.find(piece, start) if piece else -1
        if at >= 0:
            spans.append((at, at + len(piece)))
            start = at + len(piece)
    return spans
