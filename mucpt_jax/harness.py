"""General ability: the tasks of lm-evaluation-harness on our model, without torch.

    python -m mucpt_jax.harness --config=configs/demo.py --workdir=RUN --tasks=cmmlu --data=../shared/data/eval
    python -m mucpt_jax.harness --config=configs/qwen7b.py --config.init_from=HF --tasks=cmmlu,ceval-valid --data=A,B

The model is a run's newest checkpoint, or a Hugging Face folder.  Prompts, shots and metrics are lm-eval's own, its
data are read from local files (see exams/tasks.py).  Writes OUTPUT/harness.json (per task and group k, n
and accuracy with its 95% interval; micro: all questions alike, macro: all tasks alike) and OUTPUT/harness.jsonl, a
line a question, both of the tasks that are asked.  A task that is measured stands in OUTPUT/parts, where the same
command finds it again: after a kill it goes on with the next task.
"""

import dataclasses
import importlib.metadata
import importlib.util
import inspect
import json
import logging
import math
import os
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from absl import app, flags

import launch
from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.exams import results
from mucpt_jax.exams.tasks import Loaded, load
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import bare_name, text_hash, write_json, write_text
from mucpt_jax.formats.ranges import Count, Positive, Size, fault
from mucpt_jax.formats.tokenizer import tokenizer_hash
from mucpt_jax.formats.version import written_by

SEED = 0  # of random and numpy, which a task's own code may draw from
ASKED = (
    "description", "doc_to_text", "doc_to_choice", "doc_to_target", "num_fewshot", "target_delimiter",
    "fewshot_delimiter", "gen_prefix", "output_type", "generation_kwargs", "process_results", "metric_list",
    "filter_list", "repeats",
)  # of a task's config, what its result depends on beside its questions  # fmt: skip
EVERY = 10.0  # seconds between two lines of progress


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the flags say; FLAGS tells what each is."""

    tasks: str
    data: str = ""
    output: str | None = None
    num_fewshot: Count | None = None
    limit: Positive | None = None
    max_length: Size | None = None
    batch_tokens: Size = 8192
    chat: bool = False


FLAGS = {
    "tasks": (
        flags.DEFINE_string,
        "names of tasks, groups or tags, or YAML files of lm-eval's form, by commas; needed",
    ),
    "data": (flags.DEFINE_string, "folders that hold their data, by commas; default: Hugging Face's cache alone"),
    "output": (flags.DEFINE_string, "folder of the results; default WORKDIR/harness"),
    "num_fewshot": (flags.DEFINE_integer, "shots before each question; default: the task's own, mostly 0"),
    "limit": (flags.DEFINE_float, "questions of each task, its first ones; below 1 a share; default: all"),
    "max_length": (flags.DEFINE_integer, "tokens that the model reads; default: its max_position_embeddings"),
    "batch_tokens": (flags.DEFINE_integer, f"tokens of one forward pass; default {Settings.batch_tokens}"),
    "chat": (flags.DEFINE_boolean, "ask by the tokenizer's chat template, shots as earlier turns"),
}


class Part(TypedDict):
    """parts/TASK.json"""

    key: str  # of model, settings and questions
    task: dict[str, Any]  # its entry in harness.json
    lines: list[dict[str, Any]]  # of harness.jsonl


# The command


def parse(argv: list[str]) -> list[str]:
    if {"--help", "-help", "-h"} & set(argv):
        own = [f"  --{name:14}{meaning}" for name, (_, meaning) in FLAGS.items()]
        others = [f"  --{name:14}{meaning}" for name, meaning in launch.OPTIONS.items() if name != "job"]
        print("\n".join(["usage: python -m mucpt_jax.harness --config=FILE --tasks=NAMES\n", __doc__, *own, *others]))
        sys.exit(0)
    define_flags()
    rest = launch.parse(argv)
    if not flags.FLAGS.tasks:
        sys.exit("error: --tasks is missing; for example --tasks=cmmlu --data=FOLDER")
    if importlib.util.find_spec("lm_eval") is None:
        sys.exit('error: lm-eval is not installed; pip install -r requirements-eval.txt, or "mucpt_jax[eval]"')
    # The workdir of the config's name may hold a checkpoint, which would win over the folder.
    folders = [word.partition("=")[2] for word in argv if re.match(r"--?config\.init_from=", word)]
    if folders and not flags.FLAGS.workdir:
        flags.FLAGS.workdir = f"runs/{Path(folders[-1]).name}"
    return rest


def define_flags() -> None:
    for name, (define, meaning) in FLAGS.items():
        define(name, getattr(Settings, name, None), meaning)


def main(argv: list[str]) -> None:
    launch.start("harness", launch.Job("general ability by lm-evaluation-harness"))


def harness(cfg: Config, mesh, workdir: Path) -> None:
    """The job; its settings are the flags."""
    measure(Settings(**{name: flags.FLAGS[name].value for name in FLAGS}), cfg, mesh, workdir)


# The job: jax and lm-eval are loaded here, after the flags are checked


def measure(settings: Settings, cfg: Config, mesh, workdir: Path) -> None:
    """Bad input is refused before the parameters are read, that of all tasks before the first is measured."""
    # Both are read when the libraries are loaded.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a benchmark that changes with the network is none
    os.environ.setdefault("TQDM_DISABLE", "1")  # a bar for each task and step; progress() tells of all
    from mucpt_jax.evaluation import answers, prompts
    from mucpt_jax.exams import adapter, scoring
    from mucpt_jax.run import checkpoint, lineage, tokenizers
    from mucpt_jax.weights import hf

    if wrong := fault(dataclasses.asdict(settings), Settings):
        raise UserError(f"--{wrong}")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    if not any(lineage.saved_config(folder) for folder in lineage.folders(cfg, workdir)):
        cfg = dataclasses.replace(cfg, model=hf.read_config(cfg.init_from))  # whatever model the config file is for
    folder = hf.tokenizer_folder(cfg.tokenizer, cfg.init_from)
    tokenizers.check(folder, lineage.folders(cfg, workdir))
    tokenizer = answers.load_tokenizer(cfg)
    if settings.chat:
        tokenizer.chat_template = prompts.chat_template([folder], "leave --chat away, which base models need not")
    tasks = load(split(settings.tasks), split(settings.data), settings.num_fewshot)
    params = lineage.load_params(cfg, mesh, workdir)
    longest = settings.max_length or cfg.model.max_position_embeddings
    model = adapter.Model(
        scoring.Scorer(params, cfg, mesh, settings.batch_tokens), tokenizer,
        answers.end_ids(tokenizer, cfg, workdir), longest,
    )  # fmt: skip
    about = {
        "model": str(workdir if checkpoint.has_checkpoint(workdir) else cfg.init_from),
        "params_hash": checkpoint.params_hash(params),
        "step": checkpoint.newest_step(workdir),
        "settings": {
            "num_fewshot": settings.num_fewshot,  # None: of each task
            "limit": settings.limit,
            "max_length": longest,
            "chat_template": text_hash(tokenizer.chat_template)[:16] if settings.chat else None,
            "compute_dtype": cfg.train.compute_dtype,
            "head_dtype": "float32",
            "decoding": "greedy",
            "tokenizer": tokenizer_hash(folder)[:16],
            "lm_eval": importlib.metadata.version("lm_eval"),
        },
    }
    measure_missing(tasks, model, settings, Path(settings.output or workdir / "harness"), about)


def split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def measure_missing(tasks: list[Loaded], model, settings: Settings, output: Path, about: dict) -> None:
    """Measures each task that OUTPUT/parts does not have of this model, these settings and these questions."""
    import jax

    keys = {task.name: key_of(task, settings, about) for task in tasks}
    check_same_on_all_hosts(keys)
    there = of_host_0([read_part(output, name, key) is not None for name, key in keys.items()])
    todo = [task for task, known in zip(tasks, there, strict=True) if not known]
    logging.info("%d tasks are to be measured, %d stand in %s", len(todo), len(tasks) - len(todo), output)
    report = progress(sum(questions(task, settings) for task in todo))
    for task in todo:
        part = {"key": keys[task.name]} | measured(task, model, settings, report)
        if jax.process_index() == 0:
            (output / "parts").mkdir(parents=True, exist_ok=True)
            write_json(part_of(output, task.name), part)
    if jax.process_index() == 0:
        parts = {name: read_part(output, name, key) for name, key in keys.items()}
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for part in parts.values() for line in part["lines"]]
        result = about | results.summary({name: part["task"] for name, part in parts.items()})
        write_text(output / "harness.jsonl", "".join(lines))
        write_json(output / "harness.json", result | {"written_by": written_by()})  # last: where it stands, all stands
        print(results.table(result), flush=True)


def of_host_0(values: list[int]) -> list[int]:
    """What host 0 has, on all hosts: they see files at different moments, and must compute the same batches."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(np.array(values, np.int32))).tolist()


def check_same_on_all_hosts(keys: dict[str, str]) -> None:
    numbers = [int(key[:7], 16) for key in keys.values()]
    for name, mine, first in zip(keys, numbers, of_host_0(numbers), strict=True):
        if mine != first:
            raise UserError(f"{name}: this host reads other questions than host 0; give all hosts the same --data")


# A task


def limit_of(settings: Settings) -> int | float | None:
    """As lm-eval reads it: a float below 1 is a share."""
    return int(settings.limit) if settings.limit and settings.limit >= 1 else settings.limit


def questions(task: Loaded, settings: Settings) -> int:
    count, limit = len(task.task.eval_docs), limit_of(settings)
    return count if limit is None else min(count, limit if limit >= 1 else math.ceil(count * limit))


def key_of(task: Loaded, settings: Settings, about: dict) -> str:
    """Of all that a task's result depends on."""
    asked, config = task.task, task.task.config
    docs = [asked.eval_docs[i] for i in range(questions(task, settings))]
    shots = list(asked.fewshot_docs() or []) if config.num_fewshot else []
    texts = [spelled(getattr(config, name)) for name in ASKED]
    return text_hash(repr([about["params_hash"], about["settings"], asked.VERSION, docs, shots, texts]))


def spelled(value: Any) -> Any:
    """With the source of functions, whose repr is another at each start."""
    if isinstance(value, dict):
        return {name: spelled(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [spelled(one) for one in value]
    try:
        return inspect.getsource(value) if inspect.isfunction(value) else str(value)
    except OSError:
        return value.__qualname__


def part_of(output: Path, name: str) -> Path:
    return output / "parts" / f"{bare_name(name, '--tasks')}.json"


def read_part(output: Path, name: str, key: str) -> Part | None:
    """The task's result, if it is of this key; a damaged one is measured again."""
    path = part_of(output, name)
    try:
        part = read_json(path, Part, "the task is measured again") if path.is_file() else None
    except UserError as error:
        logging.warning("%s", error)
        return None
    return part if part and part["key"] == key else None


def measured(task: Loaded, model, settings: Settings, report: Callable[[str, float], None]) -> dict:
    """The task's entry in harness.json and its lines of harness.jsonl."""
    from lm_eval.evaluator import evaluate

    random.seed(SEED)
    np.random.seed(SEED)
    model.cut, count, start = 0, questions(task, settings), time.monotonic()
    model.done = lambda share: report(task.name, count * share)
    result = evaluate(
        model, {"tasks": {task.name: task.task}, "groups": {}}, limit=limit_of(settings), bootstrap_iters=0,
        apply_chat_template=settings.chat, fewshot_as_multiturn=settings.chat,
    )  # fmt: skip
    if model.cut:
        logging.warning("%s: %d requests lost the beginning of their context", task.name, model.cut)
    about = {"group": task.group, "data": task.data, "chat": settings.chat, "version": str(task.task.VERSION)}
    about |= {name: task.task.get_config(name) for name in ("num_fewshot", "target_delimiter")}
    about |= {"truncated": model.cut, "seconds": round(time.monotonic() - start, 3)}
    return results.of_task(task.name, result["samples"][task.name], result["results"][task.name], about)


def progress(total: int) -> Callable[[str, float], None]:
    """Logs how far all tasks are, their rate and the time that is left, every EVERY seconds."""
    start = last = time.monotonic()
    done = 0.0

    def report(name: str, more: float) -> None:
        nonlocal done, last
        done, now = done + more, time.monotonic()
        if now - last < EVERY and done < total - 0.5:
            return
        last, rate = now, done / (now - start)
        logging.info("%s: %s of %s questions, %.1f/s, %.1f min left", name, f"{done:,.0f}", f"{total:,}", rate,
                     max(total - done, 0) / rate / 60)  # fmt: skip

    return report


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
