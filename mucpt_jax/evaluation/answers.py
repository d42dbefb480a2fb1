"""Answers to questions: decoded in batches, kept in answers.jsonl as they come, taken up again after a kill.

FOLDER/answers.jsonl   a line an answer, in any order; the last line of an id counts
FOLDER/answers.json    whose answers, to which questions, put how.  Others begin files of their own; these are moved to
                       answers-HASH.json and .jsonl, and back when they are asked for again.
"""

import fcntl
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import alias, generate, prompts
from mucpt_jax.formats import tokenizer as tokenizers
from mucpt_jax.formats.decode import read_json, read_log
from mucpt_jax.formats.files import text_hash, writable, write_json
from mucpt_jax.formats.questions import Answer, Answers, read_questions, set_hash
from mucpt_jax.formats.version import written_by
from mucpt_jax.run import data, lineage
from mucpt_jax.run import tokenizers as own_tokenizers
from mucpt_jax.weights import hf

BASE = "use --config.evaluate.style=few_shot"
WAY_OUT = "mend it, or name another JSONL file by --config.evaluate.questions"


# The files


def about(whose: dict[str, Any], questions: list[dict], asked: dict[str, Any]) -> Answers:
    """answers.json; whose: model, params_hash, step, endpoint, questions (the file)."""
    named = {"set": set_hash(questions), "n": len(questions), "asked": asked, "asked_hash": hash_of(asked)}
    return {**whose, **named, "written_by": written_by()}


def hash_of(value: dict) -> str:
    return text_hash(json.dumps(value, sort_keys=True, ensure_ascii=False))[:16]


def word(known: Answers) -> str:
    """Of the same model, questions and asking."""
    return hash_of({name: known[name] for name in ("params_hash", "set", "asked_hash")})[:8]


@contextmanager
def kept(folder: Path, known: Answers) -> Iterator[tuple[dict[str, Answer], Callable[[list[Answer]], None]]]:
    """Gives the answers that are there, by id, and keep(answers), after which a kill cannot take them away."""
    with writable(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / "answers.jsonl"
    with one_at_a_time(folder):
        change(folder, known)
        write_json(folder / "answers.json", known)
        there = {line["id"]: line for line in read_log(path, Answer)}
        if path.is_file() and not path.read_bytes().endswith(b"\n"):
            append(path, "\n")  # behind a line that a kill cut off
        yield there, lambda new: append(path, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in new))


def append(path: Path, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """A lock of its own: the run may be training meanwhile."""
    with open(folder / "answers.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}/answers.jsonl is being written by another run; wait for its end or name another folder"
            ) from None
        except OSError as error:  # a file system without locks
            logging.warning("%s cannot be locked (%s): start no second run into it", folder, error)
        yield


def change(folder: Path, known: Answers) -> None:
    """Moves answers of another model, set or asking away, and those that are asked for back."""
    pair, path = ("answers.jsonl", "answers.json"), folder / "answers.json"
    there = word(read_json(path, Answers, "move it and answers.jsonl away")) if path.is_file() else None
    if there is None and (folder / "answers.jsonl").is_file():
        raise UserError(f"{folder}/answers.jsonl has no answers.json, which says whose answers it holds; move it away")
    if there == word(known):
        return
    if there:
        for name in pair:  # answers.json last: it says whose the other is
            if (folder / name).is_file():
                (folder / name).replace(beside(folder / name, there))
    for name in reversed(pair):
        if beside(folder / name, word(known)).is_file():
            beside(folder / name, word(known)).replace(folder / name)


def beside(path: Path, name: str) -> Path:
    return path.with_name(f"answers-{name}{path.suffix}")


# Asking a model of ours


class Asker(NamedTuple):
    """What is needed to put questions, beside the parameters."""

    cfg: Config
    mesh: Any
    tokenizer: Any
    template: str | None  # in style chat
    ends: tuple[int, ...]


def asker(cfg: Config, mesh, workdir: Path, questions: list[dict]) -> Asker:
    tokenizer = load_tokenizer(cfg)
    prompts.check_shots(questions, cfg.evaluate.style)
    template = prompts.chat_template(folders(cfg, workdir), BASE) if cfg.evaluate.style == "chat" else None
    return Asker(cfg, mesh, tokenizer, template, end_ids(tokenizer, cfg, workdir))


def folders(cfg: Config, workdir: Path) -> list[str]:
    return list(dict.fromkeys(filter(None, (cfg.tokenizer, cfg.init_from, *lineage.folders(cfg, workdir)))))


def end_ids(tokenizer, cfg: Config, workdir: Path) -> tuple[int, ...]:
    """Tokens that end an answer: the end of documents, the tokenizer's own, those of the folders the model comes from.

    An instruct model ends with <|im_end|>, and so may what is trained from it.
    """
    known = [tokenizers.end_of_document(tokenizer), tokenizer.eos_token_id]
    known += [end for folder in folders(cfg, workdir) for end in hf.end_ids(folder)]
    return tuple(dict.fromkeys(end for end in known if end is not None))


def load_tokenizer(cfg: Config):
    tokenizer = tokenizers.load_tokenizer(hf.tokenizer_folder(cfg.tokenizer, cfg.init_from))
    if (size := tokenizers.vocab_size(tokenizer)) > cfg.model.vocab_size:
        raise UserError(
            f"the tokenizer {tokenizer.name_or_path} has {size} ids, {cfg.model.name} has vocab_size="
            f"{cfg.model.vocab_size}; name the model's own with --config.tokenizer=FOLDER"
        )
    return tokenizer


def asked(at: Asker) -> dict[str, Any]:
    """How the questions are put: of answers.json.  With another of these an answer may be another."""
    ask = at.cfg.evaluate
    more = {"template": text_hash(at.template)[:16]} if at.template else {}
    more |= {"max_new_tokens": ask.max_new_tokens, "ends": list(at.ends), "dtype": at.cfg.train.compute_dtype}
    return prompts.described(ask.style, ask.prompt, ask.stop) | more


def ask(at: Asker, params: dict, questions: list[dict], known: set[str] = frozenset()) -> Iterator[list[Answer]]:
    """Answers of one batch after another; batches of nothing but known ids are left out.

    Questions of one length stand together.  A batch holds the same questions at each start, the known ones too, so
    that a run that was cut off gives the very tokens of one that was not.
    """
    tokens = tokens_of(at, questions)
    order = sorted(range(len(questions)), key=lambda i: len(tokens[i]))
    size = min(at.cfg.evaluate.batch_questions, len(questions))
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        if new := [i for i in batch if questions[i]["id"] not in known]:
            answers = dict(zip(batch, answer(at, params, [tokens[i] for i in batch], size), strict=True))
            yield [{"id": questions[i]["id"], **answers[i]} for i in new]


def tokens_of(at: Asker, questions: list[dict]) -> list[list[int]]:
    ask = at.cfg.evaluate
    texts = [prompts.text_of(question, ask.style, ask.prompt) for question in questions]
    if at.template:
        texts = [prompts.in_template(text, at.tokenizer, at.template) for text in texts]
    tokens = at.tokenizer(texts, add_special_tokens=False)["input_ids"]
    limit = at.cfg.model.max_position_embeddings - ask.max_new_tokens
    for question, row in zip(questions, tokens, strict=True):
        if len(row) > limit:
            raise UserError(
                f"question {question['id']} has {len(row)} tokens with its prompt, {at.cfg.model.name} has room for "
                f"{limit} beside evaluate.max_new_tokens={ask.max_new_tokens}; shorten it"
            )
    return tokens


def answer(at: Asker, params: dict, rows: list[list[int]], size: int) -> list[dict]:
    """{prediction, ended} of prompts that are decoded together, filled up to `size`."""
    ask, decode = at.cfg.evaluate, at.tokenizer.batch_decode
    stops = prompts.stops(ask.stop, ask.style)
    tokens = generate.greedy(
        params, rows, at.cfg, at.mesh, new=ask.max_new_tokens, ends=at.ends, rows=size,
        stopped=(lambda rows: [prompts.is_cut(text, stops) for text in decode(rows)]) if stops else None,
    )  # fmt: skip
    return [
        {"prediction": prompts.cut(text, stops), "ended": len(row) < ask.max_new_tokens or prompts.is_cut(text, stops)}
        for row, text in zip(tokens, decode(tokens), strict=True)
    ]


# Grading by alias


def graded(questions: list[dict], predictions: dict[str, str]) -> list[dict]:
    """The questions with `prediction` and `correct`."""
    together = [question | {"prediction": predictions[question["id"]]} for question in questions]
    return [q | {"correct": alias.verdict(q, q["prediction"]) == "CORRECT"} for q in together]


def grade(predictions: list[dict]) -> dict:
    return alias.grades(sum(p["correct"] for p in predictions), len(predictions))


def while_training(cfg: Config, mesh, workdir: Path) -> Callable[[dict], dict] | None:
    """Gives params -> grades on train.evaluate_questions of the questions, the same ones at each step and start."""
    if not cfg.train.evaluate_questions:
        return None
    questions = read_questions(cfg.evaluate.questions, WAY_OUT)
    some = sorted(questions, key=lambda q: text_hash(f"{cfg.seed} {q['id']}"))[: cfg.train.evaluate_questions]
    folder = hf.tokenizer_folder(cfg.tokenizer, cfg.init_from)
    tokenizers.check_same_tokenizer(data.folders(cfg)[0], folder)
    own_tokenizers.check(folder, lineage.folders(cfg, workdir))
    at = asker(cfg, mesh, workdir, some)

    def grades(params: dict) -> dict:
        answers = [line for batch in ask(at, params, some) for line in batch]
        result = grade(graded(some, {line["id"]: line["prediction"] for line in answers}))
        logging.info("questions while training: {k}/{n} right (95% {low:.3f}..{high:.3f})".format(**result))
        return result

    return grades
