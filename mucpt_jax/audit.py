"""The audit: documents with every token shaded by its training weight, in one page that opens from disk.

    python -m mucpt_jax.audit SCORED --tokenizer=FOLDER [--base=SCORED_BY_THE_START_MODEL] [--output=SCORED/audit.html]

SCORED is a folder that the score job wrote.  The page holds scores, never weights: objective, floor, alpha,
normalisation and caps are switched in it, and audit_weights.js does as objective.py does.  It shows documents of all
sources (a quarter the worst of each by mean mucpt weight, a quarter the best, the rest at random), the phrases that
lose most weight, r = -log p_RM (nats) by source, and what each source weighs.  With --base, the same rows scored by the
start model, it knows rho1 too.

About 20,000 evenly spaced rows (20 million tokens) at most are read for all this, some of every source.  The same rows
make the same page.
"""

import argparse
import functools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mucpt_jax.config import Loss
from mucpt_jax.errors import UserError, exiting
from mucpt_jax.formats import pages
from mucpt_jax.formats.files import write_text
from mucpt_jax.formats.manifest import index_path, read_index_where, read_manifest
from mucpt_jax.formats.rows import segment_numbers
from mucpt_jax.formats.scored import check_scored_by_two, scored_manifest
from mucpt_jax.formats.tokenizer import check_same_tokenizer, load_tokenizer
from mucpt_jax.page import survey
from mucpt_jax.page.survey import Scored, short
from mucpt_jax.step.objective import OBJECTIVES

BYTES_PER_DOCUMENT = 24_000  # of the page; 200 documents stay below 5 MB
TOKENS_SHOWN = 4_000  # of one document, at most
ENOUGH = 16  # targets; a shorter document is neither best nor worst


def open_scored(folder: str, base: str | None, tokenizer_folder: str) -> Scored:
    """Checks that folders, scores and tokenizer fit together."""
    manifest = check_scored_by_two(folder, base)[0] if base else scored_manifest(folder)
    try:
        pq.read_metadata(index_path(folder))
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{folder}/index.parquet is missing or damaged ({type(error).__name__}); copy that of the scored rows"
        ) from error
    check_same_tokenizer(folder, tokenizer_folder)
    floors = [float(floor) for floor in manifest["scores"]["mean_raw_weight"]]
    return Scored(Path(folder), Path(base) if base else None, manifest, floors)


# Documents


def choose(documents: dict[tuple[str, str], list], wanted: int) -> dict[tuple[str, str], str]:
    """(source, id) -> worst, best or random: spread evenly over sources, by mean weight and a fixed seed."""
    names = {}
    for source, name in sorted(documents):
        names.setdefault(source, []).append((source, name))
    chosen, left, random = {}, wanted, np.random.default_rng(0)
    # The smallest source first: what it cannot give goes to the others.
    for waiting, (_, mine) in zip(
        range(len(names), 0, -1), sorted(names.items(), key=lambda item: (len(item[1]), item[0])), strict=True
    ):
        share = min(len(mine), left // waiting)
        left -= share
        ranked = [d for d in mine if documents[d][1] >= ENOUGH]
        ranked.sort(key=lambda d: documents[d][0] / documents[d][1])
        quarter = min(share // 4, len(ranked) // 2)
        picked = dict.fromkeys(ranked[:quarter], "worst")
        picked |= dict.fromkeys(ranked[len(ranked) - quarter :], "best")
        others = [d for d in mine if d not in picked]
        numbers = sorted(random.permutation(len(others))[: share - len(picked)].tolist())
        chosen |= picked | {others[i]: "random" for i in numbers}
    mixed = list(chosen)
    return {mixed[i]: chosen[mixed[i]] for i in random.permutation(len(mixed))}


def read_documents(scored: Scored, chosen: dict[tuple[str, str], str], tokenizer) -> list[dict]:
    """Facts of each document, and of its beginning (TOKENS_SHOWN): pieces of text, r and base by token."""
    shard_of = {shard["name"]: shard for shard in scored.manifest["shards"]}
    wanted = pc.field("document").isin(sorted({name for _, name in chosen}))
    places = {document: [] for document in chosen}
    for line in read_index_where(scored.folder, wanted).to_pylist():
        places.get((shard_of[line["shard"]]["source"], line["document"]), []).append(line)
    shown = []
    decode = functools.cache(lambda ids: tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
    for (source, name), pick in chosen.items():
        lines = sorted(places[source, name], key=lambda line: line["offset"])
        parts, read = [], 0
        for line in lines:
            if read < TOKENS_SHOWN:
                row = survey.read_rows(scored, shard_of[line["shard"]], [line["row"]])
                mine = segment_numbers(row.pop("segment_ids")[0]) == line["segment"]
                parts.append({key: values[0][mine] for key, values in row.items()})
                read += line["length"]
        joined = {key: np.concatenate([part[key] for part in parts])[:TOKENS_SHOWN] for key in parts[0]}
        tokens, end = sum(line["length"] for line in lines), lines[-1]["offset"] + lines[-1]["length"]
        # data_prep.select may have dropped segments.
        facts = {"id": name, "source": source, "pick": pick, "tokens": tokens, "absent": end - tokens}
        values = {key: short(joined[key]) for key in ("r", "base") if key in joined}
        shown.append(facts | {"pieces": pieces(joined["tokens"].tolist(), decode)} | values)
    return shown


def pieces(tokens: list[int], decode) -> list[tuple[str, int]]:
    """(text, tokens) of each token; those that only together make up one Chinese character are one piece."""
    parts, text = split(tokens, decode, False), decode(tuple(tokens))
    joined = "".join(piece for piece, _ in parts)
    # Words as tokens: the blanks stand between them, so that a token has to be read behind the one before it.
    blanks = joined != text and joined.replace(" ", "") == text.replace(" ", "")
    return split(tokens, decode, True) if blanks else parts


def split(tokens: list[int], decode, behind: bool) -> list[tuple[str, int]]:
    parts, before, held = [], (), ()
    for token in tokens:
        held += (token,)
        text = decode(before + held)[len(decode(before)) :]
        # A character has four bytes at most; a text may hold a real U+FFFD.
        if not text.endswith("\N{REPLACEMENT CHARACTER}") or len(held) == 8:
            parts.append((text, len(held)))
            before, held = held if behind else (), ()
    return parts + [(text, len(held))] * bool(held)


# The page


def page(facts: dict, documents: list[dict]) -> str:
    """HTML of at most BYTES_PER_DOCUMENT a document (200 at least): long documents are cut until it is so."""
    here, limit = Path(__file__).with_name("page"), TOKENS_SHOWN
    parts = (here / "audit_weights.js", here / "audit.js")
    script = "".join(part.read_text(encoding="utf-8") for part in parts)
    while True:
        payload = json.dumps(
            facts | {"documents": [cut(d, limit) for d in documents]}, ensure_ascii=False, separators=(",", ":")
        ).replace("<", "\\u003c")
        html = pages.page(here / "audit.html.template", script, PAYLOAD=payload)
        size, allowed = len(html.encode()), BYTES_PER_DOCUMENT * max(len(documents), 200)
        if size <= allowed or limit <= 16:
            return html
        # Short documents are not cut, so that this may not be enough yet.
        limit = min(limit * allowed // size, limit * 19 // 20)


def cut(document: dict, limit: int) -> dict:
    """The document's first pieces with at most `limit` tokens; `joined` says which pieces have more than one."""
    ends = np.cumsum([size for _, size in document["pieces"]])
    kept = document["pieces"][: int(np.searchsorted(ends, limit, "right"))]
    shown = sum(size for _, size in kept)
    joined = {i: size for i, (_, size) in enumerate(kept) if size > 1}
    numbers = {key: document[key][:shown] for key in ("r", "base") if key in document}
    return document | {"pieces": [text for text, _ in kept], "joined": joined} | numbers


def audit(scored: Scored, tokenizer, documents: int, floor: float, objective: str) -> str:
    """Scored rows -> HTML."""
    rows, manifest = survey.spread_rows(scored.manifest), scored.manifest
    kinds = survey.letters(tokenizer)
    surveyed = survey.survey(scored, rows, floor, kinds)
    if not surveyed["documents"]:
        raise UserError(f"{scored.folder} holds no target tokens; name a folder of longer documents")
    means = {"corpus_mean_one": list(manifest["scores"]["mean_raw_weight"].values())}
    if by_loss := manifest["scores"].get("mean_raw_weight_by_base_nll"):
        means["loss_match"] = list(by_loss.values())
    facts = {
        "folder": str(scored.folder), "objective": objective, "floor": floor, "enough": ENOUGH,
        "floors": scored.floors, "means": means,
        "objectives": {
            name: {"colour": o.colour, "needs_nll": o.needs_nll, "knobs": o.knobs} for name, o in OBJECTIVES.items()
        },
        "scores": {k: manifest["scores"][k] for k in ("rm_hash", "compute_dtype", "encoding", "tokens")},
        "base_hash": read_manifest(scored.base)["scores"]["rm_hash"] if scored.base else None,
        "tokenizer_hash": manifest["tokenizer_hash"], "sequence_length": manifest["sequence_length"],
        "rows": sum(s["records"] for s in manifest["shards"]), "rows_read": sum(len(n) for _, n in rows),
        "edges": survey.R_EDGES.tolist(), "excess_edges": survey.EXCESS_EDGES.tolist(),
        "sources": [source_facts(name, scored, counts) for name, counts in surveyed["by_source"].items()],
        "phrases": survey.phrases(scored, rows, surveyed, floor, tokenizer, kinds),
    }  # fmt: skip
    return page(facts, read_documents(scored, choose(surveyed["documents"], documents), tokenizer))


def source_facts(name: str, scored: Scored, counts: dict[str, np.ndarray]) -> dict:
    """Histograms of r and of excess loss; `middle` is the r (nats) whose weight is the mean weight of a bin."""
    middle = np.divide(counts["r"], counts["inverse"], out=np.full(len(counts["r"]), np.nan), where=counts["r"] > 0)
    facts = {"name": name, "targets": scored.manifest["sources"][name]["targets"], "middle": short(middle)}
    kinds = ("r", "excess") if scored.base else ("r",)
    return facts | {kind: counts[kind].astype(int).tolist() for kind in kinds}


def run(argv: list[str] | None = None) -> Path:
    args = arguments().parse_args(argv)
    if args.documents < 1:
        raise UserError(f"--documents={args.documents} shows nothing; use 1 or more")
    if OBJECTIVES[args.objective].needs_nll and not args.base:
        raise UserError(f"--objective={args.objective} needs the start model's scores; add --base=FOLDER")
    output = Path(args.output or Path(args.scored) / "audit.html")
    if output.is_dir() or not output.parent.is_dir():
        raise UserError(f"--output={output} is no file in a folder that exists; name one")
    scored = open_scored(args.scored, args.base, args.tokenizer)
    if not scored.floors[0] <= args.floor <= scored.floors[-1]:
        raise UserError(
            f"--floor={args.floor} is off the scored grid {scored.floors[0]}..{scored.floors[-1]} nats; choose another"
        )
    html = audit(scored, load_tokenizer(args.tokenizer), args.documents, args.floor, args.objective)
    write_text(output, html)
    return output


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mucpt_jax.audit", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("scored", metavar="SCORED", help="folder of scored rows")
    parser.add_argument(
        "--tokenizer", required=True, help="Hugging Face tokenizer folder that the rows were written with"
    )
    parser.add_argument("--base", help="the same rows scored by the start model; the page then knows rho1")
    parser.add_argument("--documents", type=int, default=200, help="how many are shown (200)")
    parser.add_argument("--floor", type=float, default=1.0, help="nats; the page opens with it, and it ranks (1.0)")
    parser.add_argument("--objective", choices=tuple(OBJECTIVES), default=Loss.kind, help="the page opens with it")
    parser.add_argument("--output", help="the page's file (SCORED/audit.html)")
    return parser


def main() -> None:
    with exiting():
        print(run())


if __name__ == "__main__":
    main()
