"""Small scored rows, by text and score, and the audit's page of them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mucpt_jax import audit
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import INDEX_SCHEMA, write_index
from mucpt_jax.formats.rows import COLUMNS, shard_name, target_mask, write_shard
from mucpt_jax.formats.tokenizer import tokenizer_hash

T = 64


def write_tokenizer(folder: Path) -> Path:
    """Every byte is a token: a Chinese character has three."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token=None).save_pretrained(folder)
    return folder


def write_scored(folder: Path, tokenizer: Path, sources: dict, rm_hash: str = "rm", scored: bool = True) -> Path:
    """{source: {document: [(text, r of its tokens), ...]}} -> scored rows, a segment of at most T tokens each."""
    folder.mkdir(parents=True)
    encode = audit.load_tokenizer(str(tokenizer)).backend_tokenizer.encode
    shards, facts, index, stats = [], {}, [], score_sums.stats_of(np.array([]), "")
    for source, documents in sources.items():
        rows, name = [], shard_name(source, 0, 1)
        for document, spans in documents.items():
            ids = [encode(text).ids for text, _ in spans]
            tokens = np.concatenate(ids)
            r = np.concatenate([np.full(len(run), value) for run, (_, value) in zip(ids, spans, strict=True)])
            for start in range(0, len(tokens), T):
                run = slice(start, start + T)
                rows.append(row_of(tokens[run], r[run]))
                index.append((name, len(rows) - 1, 1, document, start, len(tokens[run])))
        masks = [target_mask(row["segment_ids"]) for row in rows]
        for row, mask in zip(rows, masks, strict=True):
            stats = score_sums.add(stats, score_sums.stats_of(row["rm_nll"][1:][mask], name))
        counts = {"targets": int(sum(mask.sum() for mask in masks)), "segments": len(rows)}
        counts["tokens"] = counts["targets"] + len(rows)  # the first of a segment is no target
        shards.append({"name": name, "source": source} | counts | write_shard(folder / name, rows))
        facts[source] = {"documents": len(documents), "records": len(rows)} | counts
    columns = [list(column) for column in zip(*index, strict=True)]
    write_index(folder, [pa.table(columns, schema=INDEX_SCHEMA)])
    about = {"rm_hash": rm_hash, "compute_dtype": "float32", "encoding": "float16"}
    manifest = {
        "schema": 1, "sequence_length": T, "tokenizer_hash": tokenizer_hash(tokenizer), "vocab_size": 256,
        "shards": shards, "sources": facts, "scores": about | score_sums.summary(stats) if scored else None,
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest)
    return folder


def row_of(tokens: np.ndarray, r: np.ndarray) -> dict:
    row = {name: np.zeros(T + 1, dtype) for name, dtype in COLUMNS}
    row["tokens"][: len(tokens)], row["segment_ids"][: len(tokens)] = tokens, 1
    row["rm_nll"][:] = np.nan
    row["rm_nll"][1 : len(tokens)] = r[1:]
    return row


# 40 + 40 targets of r = 0.5 in `known`, 40 + 40 of r = 8 in `noise`; a document's first token has no score.
SOURCES = {
    "music": {"known": [("The album came out in nineteen ninety one", 0.5)], "noise": [("x" * 41, 8.0)]},
    "歌": {"唱": [("?" + "她在唱歌" * 3 + "!!!!", 0.5)], "junk": [(("&lt;<b>" * 6)[:41], 8.0)]},
}


def write_audited(folder: Path) -> Path:
    """SOURCES as scored/ and base/ (by a start model, whose r is 2 everywhere), their tokenizer/ and audit.html."""
    tokenizer = write_tokenizer(folder / "tokenizer")
    base = {s: {d: [(t, 2.0) for t, _ in spans] for d, spans in ds.items()} for s, ds in SOURCES.items()}
    write_scored(folder / "scored", tokenizer, SOURCES)
    write_scored(folder / "base", tokenizer, base, "start")
    write_page(folder, folder / "audit.html")
    return folder


def write_page(folder: Path, output: Path) -> Path:
    named = [f"--{name}={folder / name}" for name in ("base", "tokenizer")]
    return audit.run([str(folder / "scored"), *named, f"--output={output}"])


def payload(page: Path) -> dict:
    return json.loads(page.read_text(encoding="utf-8").split('id="payload">')[1].split("</script>")[0])
