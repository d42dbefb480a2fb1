"""The recipe from raw text to rows, for data_prep.pipeline.

    python -m data_prep.pipeline --input=RAW --output=OUT --config.shard.tokenizer=/models/Qwen2.5-1.5B

Here stands what differs from the defaults of the jobs; `python -m data_prep.pipeline --help` has all keys, each with
its default and meaning.  The domain's catalogue is yours to give: with --config.quality.names=names.txt (names, one a
line, or JSONL of {"name": ..., "aliases": [...]}) no sentence about a name is too short.

`:plain` leaves out what judges text: it cleans, drops exact duplicates and packs rows.
"""

from ml_collections import ConfigDict

from data_prep import pipeline
from mucpt_jax.errors import UserError


def get_config(argument: str = "") -> ConfigDict:
    config = pipeline.defaults()
    config.shard.no_loss = config.mask.get_oneway_ref("placeholder")  # what mask writes is not trained on
    if argument == "plain":
        config.stages = "clean,dedup,shard"
        config.dedup.similarity = 0.0  # exact duplicates only
    elif argument:
        raise UserError(f"configs/curation.py has no variant {argument}; it has plain")
    else:
        config.clean.languages = "en,zh-Hans,zh-Hant"
        config.dedup.signatures = True  # for `against` of a later run
    return config
