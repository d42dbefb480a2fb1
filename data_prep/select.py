"""Select: of scored rows, the documents or segments that the reference model knows better than the start model.

    python -m data_prep.select --scored=SCORED --base=SCORED_BY_START_MODEL --output=SELECTED --threshold=1.0

For a document (or a segment, --level=segment)

    rho = sum(-log p_start) / sum(-log p_RM)        over its targets; nats / nats

is high where the RM knows the text better than the start model does.  --threshold keeps rho >= threshold.  --keep=0.6
keeps the best, all sources together and equal rho in the corpus' order, until they hold 60% of the target tokens; the
last one may pass that.  What has no target, such as a segment of one token, has no rho and goes as `no_targets`.

Both folders hold the same rows, scored by two models.  A segment's context is itself, so its scores stay right in any
row: what is kept is packed anew and nothing is scored again.  The output is a folder of scored rows with counts.json
(documents, by reason) and select.json: what went by source, and the units next to the threshold, for people to read.
Scores are written as float16, whatever they were stored as: their values stay the same bit for bit.

No Beam: one threshold holds for the whole corpus, and the job reads the shards twice, in order, doing little with each
token.  It holds some 70 bytes a segment, and the kept tokens of one to two shards.
"""

import argparse
import functools
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.jobs import job, options
from data_prep.packing import loss_ratio, pack, tokens
from data_prep.packing.shards import ROW_FILES, fill_of, number_shards, write_full
from mucpt_jax.errors import UserError
from mucpt_jax.formats import rows, score_sums
from mucpt_jax.formats.files import file_hash, write_json
from mucpt_jax.formats.rows import NO_LOSS, read_shard, target_mask
from mucpt_jax.formats.scored import check_scored_by_two
from mucpt_jax.formats.tokenizer import check_same_tokenizer

FILES = (*ROW_FILES, "select.json")
NEAREST = 20  # units shown on each side of the threshold
EXCERPT = 48  # tokens
CODES = 0x7C00  # float16 codes of 0 to below infinity; they rise with their values


def run(argv: list[str] | None = None) -> dict:
    """Returns what it wrote to select.json."""
    args = arguments(argv)
    manifest, base = check_scored_by_two(args.scored, args.base)
    check_same_tokenizer(args.scored, args.tokenizer)
    tokenizer = tokens.load_tokenizer(args.tokenizer) if args.tokenizer else None
    inputs = [f"{folder}/manifest.json" for folder in (args.scored, args.base)]
    with job.output_folder(args.output, inputs, FILES) as folder:
        check_replaced(args.output)
        segments = loss_ratio.read_sums(args.scored, args.base, manifest)
        units = loss_ratio.sums_of_units(segments, args.level)
        order, count = choose(units, args)
        kept = np.isin(units["of_segment"], order[:count])
        sources = counts_by_source(segments, kept, sorted({facts["source"] for facts in manifest["shards"]}))
        about = {
            "level": args.level,
            **({"keep": args.keep} if args.keep else {"threshold": args.threshold}),
            "lowest_rho": plain(units["rho"][order[count - 1]]),
            "base_hash": base["scores"]["rm_hash"],
        }
        written, stats = write_kept(args, manifest, kept, folder)
        kept_counts = {source: counts["kept"] for source, counts in sources.items()}
        write_manifest(folder, manifest, about, kept_counts, written, stats)
        sides = {"kept": order[:count][::-1][:NEAREST], "dropped": order[count:][:NEAREST]}
        deciles = np.quantile(units["rho"][order], np.linspace(0, 1, 11), method="inverted_cdf")
        near = {
            side: nearest(args.scored, manifest, segments, units, of.tolist(), tokenizer) for side, of in sides.items()
        }
        report = about | {"rho_deciles": [plain(rho) for rho in deciles], "sources": sources, "nearest": near}
        write_json(folder / "select.json", report)
        write_json(folder / "counts.json", document_counts(segments, kept))
    print_report(report)
    return report


# Input


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--scored", required=True, help="rows scored by the reference model")
    parser.add_argument("--base", required=True, help="the same rows scored by the start model")
    parser.add_argument("--output", required=True, help="folder, replaced when all is done")
    parser.add_argument("--level", choices=("document", "segment"), default="document")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--threshold", type=float, help="keep rho >= this; 1: not worse than the start model")
    how.add_argument("--keep", type=float, help="share of the target tokens to keep, best rho first")
    parser.add_argument("--tokenizer", help="tokenizer folder: shows text of what lies next to the threshold")
    parser.add_argument("--rows_per_shard", type=int, default=32768, help="at most (32768)")
    args = parser.parse_args(argv)
    if args.keep is not None and not 0 < args.keep <= 1:
        raise UserError(f"--keep={args.keep} is no share; use more than 0 and at most 1")
    if args.threshold is not None and not 0 < args.threshold < math.inf:
        raise UserError(f"--threshold={args.threshold} is no ratio of losses; use a number above 0, such as 1.0")
    if args.rows_per_shard < 1:
        raise UserError(f"--rows_per_shard={args.rows_per_shard} holds no row; use 1 or more")
    return args


def check_replaced(output: str) -> None:
    """Rows of other jobs have the same file names, and may be the only copy."""
    if any(Path(output).glob("*")) and not (Path(output) / "select.json").is_file():
        raise UserError(f"--output={output} holds files that this job did not write; name a new or empty folder")


def choose(units: dict[str, np.ndarray], args: argparse.Namespace) -> tuple[np.ndarray, int]:
    """Units that have a rho, best first, and how many of them are kept."""
    rho, targets = units["rho"], units["targets"]
    order = np.argsort(-rho, kind="stable")  # NaN last
    order = order[: np.count_nonzero(targets)]
    if args.keep:
        # Counts are whole: a thousandth less takes nothing but the error of the product.
        wanted = math.ceil(args.keep * targets.sum() - 1e-3)
        count = int(np.searchsorted(np.cumsum(targets[order]), wanted)) + 1
    else:
        count = int(np.count_nonzero(rho[order] >= args.threshold))
    if not count or not len(order):
        best = f"the best rho is {rho[order[0]]:.4g}" if len(order) else "no segment has a target"
        raise UserError(
            f"--threshold={args.threshold} keeps nothing of {args.scored} ({best}); lower it or use --keep"
            if args.threshold
            else f"{args.scored} has nothing to keep ({best}); check the rows"
        )
    return order, count


# The second pass: writing


def write_kept(
    args: argparse.Namespace, manifest: dict, kept: np.ndarray, folder: Path
) -> tuple[dict[str, list[dict]], dict[str, dict]]:
    """Packs kept segments into shards of their source -> {source: shards' facts}, {source: score_sums.stats_of}."""
    size = manifest["sequence_length"], args.rows_per_shard
    written, stats, begin = {}, {}, 0
    for source, of_source in itertools.groupby(
        pack.progress("write", loss_ratio.in_order(manifest)), lambda f: f["source"]
    ):
        waiting, done, counted = [], [], np.zeros((2, CODES))
        for facts in of_source:
            index = pack.read_index(args.scored, facts)
            mine = kept[begin : begin + len(index["row"])]
            begin += len(mine)
            for row, start, place in loss_ratio.walk(args.scored, args.base, facts, index, size[0]):
                if mine[place].any():
                    waiting += kept_runs(row, index, place, mine)
                    count_scores(counted, row, start, mine[place])
            waiting = write_full(waiting, done, folder / f"00000-{source}", size, last=False)
        write_full(waiting, done, folder / f"00000-{source}", size, last=True)
        if done:
            written[source], stats[source] = done, stats_of_counts(*counted, source)
    return written, stats


def kept_runs(row: dict, index: dict, place: slice, mine: np.ndarray) -> Iterator[pack.Segment]:
    """A row's kept segments with their scores; copies, as a view would hold the whole row in memory."""
    end = 0
    for segment in range(place.start, place.stop):
        begin, end = end, end + int(index["length"][segment])
        if mine[segment]:
            run = np.empty(end - begin, pack.SCORED)
            run["tokens"], run["rm_nll"] = row["tokens"][begin:end], row["rm_nll"][begin:end]
            run["no_loss"] = row["segment_ids"][begin:end] >= NO_LOSS
            yield pack.Segment(run, index["document"][segment], int(index["offset"][segment]))


def count_scores(counted: np.ndarray, row: dict, start: dict, kept: np.ndarray) -> None:
    """Adds a row's kept targets to counted f8[2, CODES]: how many have a score, and the start model's nats of these."""
    ids = row["segment_ids"]
    chosen_T = target_mask(ids) & np.concatenate([[False], kept])[rows.segment_numbers(ids[1:])]
    code = np.abs(row["rm_nll"][1:][chosen_T]).view(np.uint16)  # -0.0 is 0
    np.add.at(counted[0], code, 1)
    np.add.at(counted[1], code, start["rm_nll"][1:][chosen_T].astype(np.float64))


def stats_of_counts(targets: np.ndarray, base: np.ndarray, where: str) -> dict:
    """score_sums.stats_of of counted scores.  It gives sums: 2**bit equal scores add 2**bit times what one adds."""
    r, many = np.arange(CODES, dtype=np.uint16).view(np.float16), targets.astype(np.int64)
    bits = range(int(many.max()).bit_length())
    parts = [(2**bit, score_sums.stats_of(r[many >> bit & 1 == 1], where)) for bit in bits]
    sums = ({name: times * value for name, value in part.items()} for times, part in parts)
    return functools.reduce(score_sums.add, sums) | {"base": score_sums.stats_of(r, where, base)["base"]}


def write_manifest(folder: Path, manifest: dict, about: dict, kept: dict, written: dict, stats: dict) -> None:
    """Gives shards their final names, writes index and manifest; kept: {source: counts}, to hold against the disk."""
    facts = {source: {"documents": kept[source]["documents"], "shards": done} for source, done in written.items()}
    write_json(folder / "00000.facts", facts)
    shards, sources = number_shards(folder)
    assert all(facts.items() >= kept[source].items() for source, facts in sources.items()), f"{sources} of {kept}"
    summaries = {source: score_sums.summary(sums) for source, sums in stats.items()}
    scores = manifest["scores"] | score_sums.summary(functools.reduce(score_sums.add, stats.values()))
    scores |= {"encoding": "float16", "base_hash": about["base_hash"]}
    names = ("tokens", "mean_nll", "mean_raw_weight")
    scores["sources"] = {source: {name: summary[name] for name in names} for source, summary in summaries.items()}
    fill = fill_of(shards, manifest["sequence_length"])
    new = {"fill": fill, "sources": sources, "shards": shards, "scores": scores, "selected": about}
    write_json(folder / "manifest.json", manifest | new | {"index_sha256": file_hash(folder / "index.parquet")})


# The report


def counts_by_source(segments: dict[str, np.ndarray], kept: np.ndarray, sources: list[str]) -> dict[str, dict]:
    """{source: {"read" | "kept" | "dropped": {"documents", "segments", "targets"}}}; a document cut in part is kept."""
    source_of_document = np.zeros(segments["document"].max() + 1, np.int64)
    source_of_document[segments["document"]] = segments["source"]

    def count(chosen: np.ndarray) -> np.ndarray:
        source, documents = segments["source"][chosen], np.unique(segments["document"][chosen])
        targets = segments["targets"][chosen].astype(np.float64)  # exact below 2**53
        counted = ((source_of_document[documents], None), (source, None), (source, targets))
        return np.stack([np.bincount(of, w, len(sources)).astype(np.int64) for of, w in counted])

    read, held = count(np.full(len(kept), True)), count(kept)
    sides = {"read": read, "kept": held, "dropped": read - held}
    names = ("documents", "segments", "targets")
    return {
        source: {side: dict(zip(names, n[:, i].tolist(), strict=True)) for side, n in sides.items()}
        for i, source in enumerate(sources)
    }


def document_counts(segments: dict[str, np.ndarray], kept: np.ndarray) -> dict:
    """counts.json, as every job writes it."""
    held = np.bincount(segments["document"], kept) > 0
    empty = ~held & (np.bincount(segments["document"], segments["targets"]) == 0)
    dropped = {"below_threshold": int((~held & ~empty).sum()), "no_targets": int(empty.sum())}
    return {"read": len(held), "kept": int(held.sum()), "dropped": {r: n for r, n in dropped.items() if n}}


def nearest(scored: str, manifest: dict, segments: dict, units: dict, chosen: list[int], tokenizer) -> list[dict]:
    """What these units are, in their order; their first tokens as text where there is a tokenizer."""
    ordered, result = loss_ratio.in_order(manifest), []
    ends = np.cumsum([facts["segments"] for facts in ordered])
    for unit in chosen:
        own = np.flatnonzero(units["of_segment"] == unit)
        segment = own[np.argmin(segments["offset"][own])]
        number = np.searchsorted(ends, segment, "right")
        facts, place = ordered[number], int(segment - ends[number]) + ordered[number]["segments"]
        index = pack.read_index(scored, facts)
        entry = {"rho": plain(units["rho"][unit]), "targets": int(units["targets"][unit])}
        entry |= {"source": facts["source"], "document": index["document"][place]}
        entry |= {"offset": int(index["offset"][place])}
        if tokenizer:
            path, number = Path(scored) / facts["name"], index["row"][place]
            (row,) = read_shard(path, manifest["sequence_length"], [number])
            begin = int(index["length"][:place][index["row"][:place] == index["row"][place]].sum())
            end = begin + min(EXCERPT, int(index["length"][place]))
            text = tokenizer.decode(row["tokens"][begin:end].tolist(), skip_special_tokens=True)
            entry["text"] = shown(text)
        result.append(entry)
    return result


def shown(text: str) -> str:
    """One line: what could steer a terminal or turn the line around stands as \\x1b, \\u202e."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def plain(rho: float) -> float | str:
    return round(float(rho), 6) if np.isfinite(rho) else "inf"  # JSON has no infinity


def print_report(report: dict) -> None:
    print(f"{'source':<32}{'':<10}{'documents':>12}{'segments':>12}{'targets':>16}{'of read':>10}")
    for source, counts in report["sources"].items():
        for side, numbers in counts.items():
            share = numbers["targets"] / max(counts["read"]["targets"], 1)
            print(f"{source:<32}{side:<10}" + "{documents:>12}{segments:>12}{targets:>16}".format(**numbers)
                  + f"{share:>10.2%}")  # fmt: skip
    print(f"rho, deciles of {report['level']}s: {' '.join(str(rho) for rho in report['rho_deciles'])}")
    for side, entries in report["nearest"].items():
        print(f"next to the threshold, {side}:")
        for entry in entries:
            text = entry.get("text", "")
            print(f"  {entry['rho']:>10}  {entry['source']}  {shown(entry['document'])}  {text}")


if __name__ == "__main__":
    job.main(run)
