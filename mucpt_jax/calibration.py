"""What scores say about the weights before anything is trained: their corpus mean, effective sample size, floor.

    python -m mucpt_jax.calibration SCORED [--base=SCORED_BY_START_MODEL]

prints the table that the score job printed; --base first adds to SCORED's manifest what weight_norm=loss_match needs.
"""

import argparse
import sys
from pathlib import Path

from mucpt_jax.errors import exiting
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.rows import target_mask
from mucpt_jax.formats.scored import check_scored_by_two, read_both, scored_manifest


def add_base(folder: str, base: str) -> None:
    """Sums of the start model's loss -> `mean_raw_weight_by_base_nll`, `base_hash` in the manifest's scores."""
    manifest, other = check_scored_by_two(folder, base)
    total = 0.0
    for number, shard in enumerate(manifest["shards"], 1):
        for row, start in read_both(folder, base, shard, manifest["sequence_length"]):
            mask_T = target_mask(row["segment_ids"])
            total += score_sums.stats_of(row["rm_nll"][1:][mask_T], shard["name"], start["rm_nll"][1:][mask_T])["base"]
        print(f"shard {number}/{len(manifest['shards'])} {shard['name']}", file=sys.stderr)
    grid = dict(zip(map(str, score_sums.FLOORS), (total[1:] / max(total[0], 1e-300)).tolist(), strict=True))
    scores = manifest["scores"] | {"mean_raw_weight_by_base_nll": grid, "base_hash": other["scores"]["rm_hash"]}
    write_json(Path(folder) / "manifest.json", manifest | {"scores": scores})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scored", help="folder of scored rows")
    parser.add_argument("--base", help="the same rows scored by the start model, for weight_norm=loss_match")
    args = parser.parse_args()
    with exiting():
        if args.base:
            add_base(args.scored, args.base)
        print(score_sums.as_text(scored_manifest(args.scored)["scores"]))


if __name__ == "__main__":
    main()
