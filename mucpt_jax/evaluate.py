"""The evaluate job: plain held-out loss per source, and short-answer questions by greedy decoding.

Writes WORKDIR/evaluate.json and WORKDIR/predictions.jsonl; answers stand in WORKDIR/answers.jsonl as they come, and
the same command goes on from there.
"""

import json
import logging
from contextlib import ExitStack, nullcontext
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import answers, cards, prompts
from mucpt_jax.formats.decode import decoded, read_json
from mucpt_jax.formats.files import text_hash, write_json, write_text
from mucpt_jax.formats.questions import Answers, read_questions
from mucpt_jax.formats.results import ASKED, Asked, Evaluated
from mucpt_jax.formats.version import written_by
from mucpt_jax.run import checkpoint, heldout, lineage
from mucpt_jax.run import tokenizers as own_tokenizers
from mucpt_jax.weights import hf, transfer


def evaluate(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    if not cfg.evaluate.rows and not cfg.evaluate.questions:
        raise UserError(
            "the evaluate job needs --config.evaluate.rows=FOLDER (held-out rows) or --config.evaluate.questions=FILE"
        )
    questions = read_questions(cfg.evaluate.questions, answers.WAY_OUT) if cfg.evaluate.questions else []
    before = read_before(workdir)
    for used in (cfg.evaluate.rows, questions and hf.tokenizer_folder(cfg.tokenizer, cfg.init_from)):
        if used:
            own_tokenizers.check(used, lineage.folders(cfg, workdir))
    at = answers.asker(cfg, mesh, workdir, questions) if questions else None
    params = lineage.load_params(cfg, mesh, workdir)
    state = {"params_hash": checkpoint.params_hash(params), "step": checkpoint.newest_step(workdir)}
    result, predictions = state | {"written_by": written_by()}, []
    if cfg.evaluate.rows:
        result |= losses(cfg, mesh, params)
    if at:
        whose = state | {"model": str(workdir), "endpoint": False, "questions": cfg.evaluate.questions}
        known = answers.about(whose, questions, answers.asked(at))
        predictions = answers.graded(questions, answered(at, params, questions, workdir, known))
        result |= {"questions": answers.grade(predictions), "asked": asked(cfg)}
        logging.info("questions: {k}/{n} = {accuracy:.4f} (95% {low:.4f}..{high:.4f})".format(**result["questions"]))
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        result = merged(before, result, workdir / "predictions.jsonl")
        if predictions:
            lines = [json.dumps(p, ensure_ascii=False) + "\n" for p in predictions]
            write_text(workdir / "predictions.jsonl", "".join(lines))
        write_json(workdir / "evaluate.json", result)  # last: where it stands, all stands
        cards.write_card(workdir)


def losses(cfg: Config, mesh: jax.sharding.Mesh, params: dict) -> dict:
    by_source = heldout.evaluator(cfg, mesh)(params)
    for name, s in by_source.items():
        logging.info("held-out %s: %.4f nats a token over %d tokens", name, s["nll"], s["tokens"])
    return {"heldout": by_source, "rows": dict.fromkeys(by_source, cfg.evaluate.rows)}


def asked(cfg: Config) -> Asked:
    """Of ASKED; results without a style are of the first, the only one that there once was."""
    values = {name: getattr(cfg.evaluate, name) for name in ASKED}
    values["stop"] = prompts.stop_of(cfg.evaluate.stop, cfg.evaluate.style)
    return {name: value for name, value in values.items() if (name, value) != ("style", "prompt")}


def answered(at: answers.Asker, params: dict, questions: list[dict], workdir: Path, known: Answers) -> dict[str, str]:
    """{id: prediction}: those that the workdir has, and the rest asked now.  All hosts decode, host 0 has the file."""
    with ExitStack() as stack:
        first = jax.process_index() == 0
        opened = answers.kept(workdir, known) if first else nullcontext(({}, lambda new: None))
        there, keep = transfer.together(lambda: stack.enter_context(opened), "answers")
        there = everywhere(questions, there)
        if there:
            logging.info("answering: %s has %d of %d answers already", workdir, len(there), len(questions))
        for new in answers.ask(at, params, questions, set(there)):
            keep(new)
            there |= {line["id"]: line["prediction"] for line in new}
            logging.info("answering: %d of %d questions are done, grades come at the end", len(there), len(questions))
    return there


def everywhere(questions: list[dict], there: dict) -> dict[str, str]:
    """{id: prediction} of the answers that host 0 has, on all hosts."""
    text = json.dumps({q["id"]: there[q["id"]]["prediction"] for q in questions if q["id"] in there}).encode()
    if jax.process_count() > 1:
        size = int(multihost_utils.broadcast_one_to_all(np.int64(len(text))))
        padded = np.frombuffer(text.ljust(size)[:size], np.uint8)
        text = multihost_utils.broadcast_one_to_all(padded).tobytes()
    return decoded(text, dict[str, str], "the answers of host 0", "start again")


def read_before(workdir: Path) -> Evaluated:
    """What was measured before, read before hours of measuring."""
    path = workdir / "evaluate.json"
    return read_json(path, Evaluated, "move it away and evaluate again") if path.is_file() else {}


def merged(old: Evaluated, result: dict, predictions: Path) -> dict:
    """The result with what evaluate.json has of the same parameters and what was not measured now.

    Answers to another file of questions, or asked in another way, make room: their grades go to `earlier`, their
    predictions to a file beside.
    """
    if old.get("params_hash") != result["params_hash"]:
        return result
    new = {**old, **result}
    for name in ("heldout", "rows"):
        if name in new:
            new[name] = (old.get(name) or {}) | (result.get(name) or {})
    if not result.get("questions"):
        return new
    earlier, before = old.get("earlier") or {}, old.get("asked") or {}
    if old.get("questions") and before != result["asked"]:
        moved = predictions.with_name(f"predictions-{hash_of(before)}.jsonl")
        earlier |= {hash_of(before): {"questions": old["questions"], "asked": before, "predictions": moved.name}}
        if predictions.is_file():
            predictions.replace(moved)
        # A start after a kill must not take the new answers, which are written first, for those of the old grades.
        room = {key: value for key, value in old.items() if key not in ("questions", "asked")} | {"earlier": earlier}
        write_json(predictions.with_name("evaluate.json"), room)
    new["earlier"] = {key: grades for key, grades in earlier.items() if grades["asked"] != result["asked"]}
    return new


def hash_of(asked: Asked) -> str:
    return text_hash(json.dumps(asked, sort_keys=True))[:8]
