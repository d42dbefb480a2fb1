"""Tokens per character of a corpus, and the tokens of text that no tokenizer has seen, estimated by them.

No command of its own; report.py calls it.
"""

from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mucpt_jax.errors import UserError
from mucpt_jax.formats.tokenizer import end_of_document

FILES_SAMPLED, DOCUMENTS_SAMPLED, CHARACTERS_SAMPLED = 40, 50, 20_000  # of a file; of a document


def token_ratios(out: Path, compositions: dict, tokenizer: str | None) -> tuple[str | None, dict]:
    """How tokens were counted, and tokens per character of each source, of each language, and of all."""
    rows = compositions.get("rows", {}).get("kept", [])
    if rows and all("tokens" in row for row in rows):
        return "rows", ratios_of(rows)
    if tokenizer:
        return "sample", ratios_of(sampled(out, list(compositions), tokenizer))
    return None, {}


def ratios_of(rows: list[dict]) -> dict:
    """{("source" | "lang", name): tokens per character}, and None: that of all rows."""
    sums: dict[tuple | None, np.ndarray] = {}
    for row in rows:
        for kind in (("source", row["source"]), ("lang", row["lang"]), None):
            sums[kind] = sums.get(kind, 0) + np.array([row["tokens"], row["characters"]])
    return {kind: float(tokens / characters) for kind, (tokens, characters) in sums.items() if characters}


def sampled(out: Path, stages: list[str], tokenizer: str) -> list[dict]:
    """Rows of a composition, with tokens, of the beginnings of a few documents of the last stage that has documents."""
    from data_prep.packing import tokens  # brings transformers, which a report of counts does not need

    parts = next(filter(None, (sorted((out / s).glob("part-*.parquet")) for s in stages[::-1])), [])
    loaded, rows = tokens.load_tokenizer(tokenizer), []
    for path in parts[:: -(-len(parts) // FILES_SAMPLED) or 1]:
        with opened(path) as parquet:
            wanted = ["text", "source", "lang"]
            for batch in islice(parquet.iter_batches(DOCUMENTS_SAMPLED, columns=wanted), 1):
                texts = [text[:CHARACTERS_SAMPLED] for text in batch["text"].to_pylist()]
                runs = tokens.tokenize(texts, loaded, end_of_document(loaded))
                names = zip(batch["source"].to_pylist(), batch["lang"].to_pylist(), strict=True)
                rows += [
                    {"source": source, "lang": lang, "characters": len(text), "tokens": len(run)}
                    for (source, lang), text, run in zip(names, texts, runs, strict=True)
                ]
    return rows


def with_tokens(row: dict, ratios: dict, of: str) -> dict:
    """The row with exact tokens if it has them, else estimated ones, else none.

    The ratio is that of the row's source, or of its language, as `of` says: the same one at every stage, so that
    tokens fall with the characters.  A closer one would not be known before clean, and its estimates could rise there.
    """
    ratio = ratios.get((of, row[of]), ratios.get(None))
    estimated = None if ratio is None else round(row["characters"] * ratio)
    return {"tokens": estimated, **row}


def opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is damaged or unreadable; run its stage again") from error
