"""datatrove's near-duplicate pipeline as its examples set it up; benchmarks.near_duplicates runs it in its own venv.

VENV/bin/python benchmarks/peers/datatrove_minhash.py FOLDER_OF_JSONL_GZ OUTPUT cmn
"""

import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


def main(source: str, output: str, language: str) -> None:
    config = MinhashConfig()  # 14 bands of 8, 5 words
    stages = [
        [JsonlReader(source), MinhashDedupSignature(f"{output}/signatures", config=config, language=language)],
        [MinhashDedupBuckets(f"{output}/signatures", f"{output}/buckets", config=config)],
        [MinhashDedupCluster(f"{output}/buckets", f"{output}/remove", config=config)],
        [JsonlReader(source), MinhashDedupFilter(f"{output}/remove"), JsonlWriter(f"{output}/kept")],
    ]
    for number, stage in enumerate(stages):
        tasks = config.num_buckets if number == 1 else 1
        LocalPipelineExecutor(stage, tasks=tasks, workers=1, logging_dir=f"{output}/logs{number}").run()


if __name__ == "__main__":
    main(*sys.argv[1:])
