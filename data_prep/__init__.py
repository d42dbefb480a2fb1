"""Set before Apache Beam and transformers load: each would open every job with a warning about what no job uses."""

import logging
import os

# Beam says so with logging.warning while it is imported, so only a filter of the root logger sees it.
logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("apitools not found"))
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # "PyTorch was not found ..."
