"""What scores say about the weights before anything is trained: their corpus mean, effective sample size, floor.

    python -m mucpt_jax.calibration SCORED [--base=SCORED_BY_START_MODEL]

prints the table that the score job printed; --base first adds to SCORED's manifest what weight_norm=loss_match needs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from mucpt_jax.errors import UserError, exiting
from mucpt_jax.formats import score_sums
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.rows import read_shard, target_mask
from mucpt_jax.formats.score_sums import FLOORS, stats_of


def add_base(folder: str, base: str) -> None:
    """Sums of the start model's loss -> `mean_raw_weight_by_base_nll`, `base_hash` in the manifest's scores."""
    manifest, other = read_manifest(folder), read_manifest(base)
    rows = [[(shard["name"], shard["records"]) for shard in m["shards"]] for m in (manifest, other)]
    if not (manifest["scores"] and other["scores"]) or rows[0] != rows[1]:
        raise UserError(f"{folder} and {base} are not scores of the same rows; score one folder with both models")
    total = 0.0
    for number, shard in enumerate(manifest["shards"], 1):
        pair = [read_shard(Path(f) / shard["name"], manifest["sequence_length"]) for f in (folder, base)]
        for row, start in zip(*pair, strict=True):
            if not np.array_equal(row["tokens"], start["tokens"]):
                raise UserError(f"{shard['name']} differs between {folder} and {base}; score one folder with both")
            mask_T = target_mask(row["segment_ids"])
            total += stats_of(row["rm_nll"][1:][mask_T], shard["name"], start["rm_nll"][1:][mask_T])["base"]
        print(f"shard {number}/{len(manifest['shards'])} {shard['name']}", file=sys.stderr)
    grid = dict(zip(map(str, FLOORS), (total[1:] / max(total[0], 1e-300)).tolist(), strict=True))
    scores = manifest["scores"] | {"mean_raw_weight_by_base_nll": grid, "base_hash": other["scores"]["rm_hash"]}
    write_json(Path(folder) / "manifest.json", manifest | {"scores": scores})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scored", help="folder of scored rows")
    parser.add_argument("--base", help="the same rows scored by the start model, for weight_norm=loss_match")
    args = parser.parse_args()
    folder = args.scored
    with exiting():
        if args.base:
            add_base(folder, args.base)
        scores = read_manifest(folder)["scores"]
        if not scores or "ess" not in scores:
            raise UserError(f"{folder} holds no scores (of this version); run launch.py --job=score first")
        print(score_sums.as_text(scores))


if __name__ == "__main__":
    main()
