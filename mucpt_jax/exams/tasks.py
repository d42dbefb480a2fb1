"""lm-eval's tasks on local files.

Prompts, shots, choices and metrics are those that lm-eval ships, word for word: a task's own file is read, and only
where its data lies is replaced.  Under a data folder stand

    cmmlu/{dev,test}/SUBJECT.csv                     CMMLU as it is published (or the folder itself is such)
    ceval/{dev,val}/SUBJECT_{dev,val}.csv            C-Eval as it is published (or the folder itself is such)
    OWNER/NAME                                       any other data set, as `hf download --repo-type=dataset` writes it

Another task finds its data in Hugging Face's own cache, or is refused.
"""

import csv
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mucpt_jax.errors import UserError, one_line


class Layout(NamedTuple):
    """CSV files of multiple choice, one for each subject and split."""

    folder: str
    files: dict[str, str]  # split -> file
    columns: tuple[str, ...]  # which a task reads; the last holds the answer's letter


LAYOUTS = {  # dataset_path of the task
    "haonan-li/cmmlu": Layout(
        "cmmlu", {"test": "test/{}.csv", "dev": "dev/{}.csv"}, ("Question", "A", "B", "C", "D", "Answer")
    ),
    "ceval/ceval-exam": Layout(
        "ceval", {"val": "val/{}_val.csv", "dev": "dev/{}_dev.csv"}, ("question", "A", "B", "C", "D", "answer")
    ),
}
LETTERS = "ABCD"
FORMATS = ("csv", "json", "parquet", "text", "arrow")  # dataset_path of files that the task names itself


class Loaded(NamedTuple):
    name: str
    group: str | None  # of lm-eval, where the task was named by a group
    task: Any  # lm_eval.api.task.Task
    data: str  # where its questions come from


def load(names: list[str], folders: list[str], num_fewshot: int | None) -> list[Loaded]:
    """The tasks of these names; a name is a task's, a group's, a tag's, or a YAML file of one's own.

    Raises UserError for a name that lm-eval does not know and for data that are not here, or have no answers.
    """
    tasks: dict[str, Loaded] = {}
    for name in names:
        for group, config in configs(name):
            if config["task"] not in tasks:
                tasks[config["task"]] = loaded(group, config, folders, num_fewshot)
    return list(tasks.values())


# Which tasks


def configs(name: str) -> Iterator[tuple[str | None, dict]]:
    """(group, the task's whole YAML file) of each task that the name stands for."""
    from lm_eval.tasks._yaml_loader import load_yaml  # private: tests hold that this lm-eval has it

    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UserError(f"--tasks={name} is no file; name a YAML file of lm-eval's form, or a task")
        yield None, load_yaml(name)
    else:
        yield from members(name, {}, None)


def index_with(name: str) -> dict:
    """lm-eval's index of a folder that knows the name.  That of all its 14,000 files takes 40 s.

    Its cmmlu_arts stands in cmmlu/, ceval-valid in ceval/; for others the files are searched.
    """
    from lm_eval import tasks

    root = Path(tasks.__file__).parent
    words = re.split(r"([-_])", name)
    alike = (root / "".join(words[:count]) for count in range(len(words), 0, -2))
    for folder in itertools.chain(filter(Path.is_dir, alike), naming(root, name)):
        index = tasks.TaskManager(include_path=str(folder), include_defaults=False).task_index
        if name in index:
            return index
    raise UserError(f"lm-eval knows no task {name!r}; `python -m lm_eval ls tasks` names all of them")


def naming(root: Path, name: str) -> Iterator[Path]:
    """Folders with a YAML file in which the name ends a line."""
    pattern = re.compile(rb"(?m)(?:^|[\"\s])" + re.escape(name.encode()) + rb"[\"\s]*$")
    files = (file for file in sorted(root.rglob("*.yaml")) if pattern.search(file.read_bytes()))
    yield from dict.fromkeys(root / file.relative_to(root).parts[0] for file in files)


def members(item: str | dict, index: dict, group: str | None) -> Iterator[tuple[str | None, dict]]:
    """The tasks of a name, or of what stands in a group's list: names, or dicts with changes."""
    from lm_eval.tasks._yaml_loader import load_yaml

    changes = {} if isinstance(item, str) else item
    if isinstance(changes.get("task"), list):  # a group that is written inside another
        for child in changes["task"]:
            yield from members(child, index, changes.get("group", group))
        return
    name = item if isinstance(item, str) else changes.get("task") or changes["group"]
    index = index if name in index else index_with(name)  # a group may take tasks of other folders
    entry = index[name]
    if entry.kind.name == "TAG":
        for child in sorted(entry.tags):
            yield from members(child, index, group)
    elif entry.kind.name == "GROUP":
        for child in load_yaml(entry.yaml_path)["task"]:
            yield from members(child, index, name)
    else:
        yield group, load_yaml(entry.yaml_path) | changes


def loaded(group: str | None, config: dict, folders: list[str], num_fewshot: int | None) -> Loaded:
    """Reads the task's data.  A task whose file says num_fewshot: 0 keeps it, as in lm-eval's own command."""
    from lm_eval import tasks

    source = str(config.get("dataset_path"))
    place = local(source, config.get("dataset_name"), folders)
    # A manager whose index is empty: the config is whole.
    manager = tasks.TaskManager(include_path=[], include_defaults=False)
    try:
        (task,) = manager.load([config | place])["tasks"].values()
    except UserError:
        raise
    except Exception as error:  # whatever datasets, the hub or a task's own code raises
        way_out = f"copy them to FOLDER/{source} and name --data=FOLDER"
        if source in FORMATS:
            way_out = f"mend them, or data_files in the task's YAML file, which are looked for from {Path.cwd()}"
        raise UserError(
            f"{config['task']}: its data ({source}) are not here, or cannot be read ({type(error).__name__}: "
            f"{one_line(error)}); {way_out}"
        ) from error
    for sign, what in (("UNSAFE_CODE", "runs code that the model writes"), ("MULTIMODAL", "shows images or sounds")):
        if getattr(task, sign, False):
            raise UserError(f"{config['task']} {what}, which this command does not; leave it out of --tasks")
    if source in FORMATS and config.get("output_type") == "multiple_choice":
        check_answers(config["task"], task)
    if num_fewshot is not None and task.get_config("num_fewshot") != 0:
        task.set_config("num_fewshot", num_fewshot)
    elif task.get_config("num_fewshot") is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(1234)  # lm-eval's default
    where = place["custom_dataset"].args[0] if "custom_dataset" in place else place.get("dataset_path", source)
    return Loaded(config["task"], group, task, str(where))


def check_answers(name: str, task) -> None:
    """UserError where a question of one's own has none of the options as its answer: lm-eval looks at the first alone,
    and counts the others as wrong."""
    for number, doc in enumerate(task.eval_docs, 1):
        try:
            given, options = task.doc_to_target(doc), task.doc_to_choice(doc)
            known = all(one in (options if isinstance(one, str) else range(len(options)))
                        for one in (given if isinstance(given, list) else [given]))  # fmt: skip
        except Exception as error:  # of the task's own template
            given, known = one_line(error), False
        if not known:
            raise UserError(f"{name}: question {number} has none of its options as answer ({given!r}); mend its files")


# Where their data are


def local(source: str, name: str | None, folders: list[str]) -> dict:
    """What to change in a task's config, so that it reads local files; {} where no folder has them."""
    if layout := LAYOUTS.get(source):
        places = [Path(folder) / own for folder in folders for own in (layout.folder, source, ".")]
        first = next(iter(layout.files.values())).format(name)
        here = [place for place in places if (place / first).is_file()]
        if folders and not here:
            raise UserError(
                f"--data={','.join(folders)} has no {first}, nor {layout.folder}/{first}; name the folder that "
                f"holds {' and '.join(file.format('SUBJECT') for file in layout.files.values())}"
            )
        return {"custom_dataset": functools.partial(read_csvs, here[0], layout, name)} if here else {}
    for place in (Path(folder) / source for folder in folders):
        if place.is_dir():
            own = name and (place / name).is_dir() and not (place / "README.md").is_file()
            return {"dataset_path": str(place / name), "dataset_name": None} if own else {"dataset_path": str(place)}
    return {}


def read_csvs(folder: Path, layout: Layout, name: str, **_) -> Any:
    """datasets.DatasetDict; every cell is the text that stands in the file.  Called by lm-eval with a task's metadata.

    (datasets' own reader would take an option 0.50 for the number 0.5, and None for nothing.)
    """
    import datasets

    tables = {split: read_csv(folder / file.format(name), layout.columns) for split, file in layout.files.items()}
    return datasets.DatasetDict({split: datasets.Dataset.from_dict(table) for split, table in tables.items()})


def read_csv(path: Path, columns: tuple[str, ...]) -> dict[str, list[str]]:
    """{column: cells}; UserError where a column or an answer is missing."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); copy it again") from error
    *asked, answer = columns
    known = set(rows[0]) if rows else set()
    if missing := [column for column in asked if column not in known]:
        raise UserError(f"{path} has no column {missing[0]!r}, or no line; copy it again")
    wrong = [i for i, row in enumerate(rows, 1) if len(row.get(answer) or "") != 1 or row[answer] not in LETTERS]
    if wrong:
        raise UserError(
            f"{path} gives no answer ({answer}: a letter of {LETTERS}) to question {wrong[0]}, and to {len(wrong)} of "
            f"{len(rows)}; a set without answers, as the test sets of exams are, cannot be measured: name one with them"
        )
    return {column: [row[column] or "" for row in rows] for column in columns}
