"""The evaluate job: plain held-out loss per source, and short-answer questions by greedy decoding.

Writes WORKDIR/evaluate.json and WORKDIR/predictions.jsonl.
"""

import json
import logging
from pathlib import Path

import jax

from mucpt_jax.config import Config
from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import alias, cards, generate
from mucpt_jax.formats import tokenizer as tokenizers
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import text_hash, write_json, write_text
from mucpt_jax.formats.questions import read_questions
from mucpt_jax.formats.results import ASKED, Asked, Evaluated
from mucpt_jax.formats.version import written_by
from mucpt_jax.run import checkpoint, heldout, lineage
from mucpt_jax.run import tokenizers as own_tokenizers
from mucpt_jax.weights import hf

WAY_OUT = "mend it, or name another JSONL file by --config.evaluate.questions"


def evaluate(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    if not cfg.evaluate.rows and not cfg.evaluate.questions:
        raise UserError(
            "the evaluate job needs --config.evaluate.rows=FOLDER (held-out rows) or --config.evaluate.questions=FILE"
        )
    questions = read_questions(cfg.evaluate.questions, WAY_OUT) if cfg.evaluate.questions else []
    before = read_before(workdir)
    for used in (cfg.evaluate.rows, questions and hf.tokenizer_folder(cfg.tokenizer, cfg.init_from)):
        if used:
            own_tokenizers.check(used, lineage.folders(cfg, workdir))
    tokenizer = load_tokenizer(cfg) if questions else None
    ends = end_ids(tokenizer, cfg, workdir) if questions else ()
    params = lineage.load_params(cfg, mesh, workdir)
    result = {"params_hash": checkpoint.params_hash(params), "step": checkpoint.newest_step(workdir)}
    result |= {"written_by": written_by()}
    if cfg.evaluate.rows:
        result["heldout"] = heldout.evaluator(cfg, mesh)(params)
        result["rows"] = dict.fromkeys(result["heldout"], cfg.evaluate.rows)
        for name, s in result["heldout"].items():
            logging.info("held-out %s: %.4f nats a token over %d tokens", name, s["nll"], s["tokens"])
    if questions:
        predictions = answer(params, questions, tokenizer, ends, cfg, mesh)
        result["questions"] = grade(predictions)
        result["asked"] = {name: getattr(cfg.evaluate, name) for name in ASKED}
        logging.info("questions: {k}/{n} = {accuracy:.4f} (95% {low:.4f}..{high:.4f})".format(**result["questions"]))
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        result = merged(before, result, workdir / "predictions.jsonl")
        if questions:
            lines = [json.dumps(p, ensure_ascii=False) + "\n" for p in predictions]
            write_text(workdir / "predictions.jsonl", "".join(lines))
        write_json(workdir / "evaluate.json", result)  # last: where it stands, all stands
        cards.write_card(workdir)


def read_before(workdir: Path) -> Evaluated:
    """What was measured before, read before hours of measuring."""
    path = workdir / "evaluate.json"
    return read_json(path, Evaluated, "move it away and evaluate again") if path.is_file() else {}


def merged(old: Evaluated, result: dict, answers: Path) -> dict:
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
        moved = answers.with_name(f"predictions-{hash_of(before)}.jsonl")
        earlier |= {hash_of(before): {"questions": old["questions"], "asked": before, "predictions": moved.name}}
        if answers.is_file():
            answers.replace(moved)
        # A start after a kill must not take the new answers, which are written first, for those of the old grades.
        room = {key: value for key, value in old.items() if key not in ("questions", "asked")} | {"earlier": earlier}
        write_json(answers.with_name("evaluate.json"), room)
    new["earlier"] = {key: grades for key, grades in earlier.items() if grades["asked"] != result["asked"]}
    return new


def hash_of(asked: Asked) -> str:
    return text_hash(json.dumps(asked, sort_keys=True))[:8]


def end_ids(tokenizer, cfg: Config, workdir: Path) -> tuple[int, ...]:
    """Tokens that end an answer: the end of documents, the tokenizer's own, those of the folders the model comes from.

    An instruct model ends with <|im_end|>, and so may what is trained from it.
    """
    folders = dict.fromkeys(filter(None, (cfg.tokenizer, cfg.init_from, *lineage.folders(cfg, workdir))))
    known = [tokenizers.end_of_document(tokenizer), tokenizer.eos_token_id]
    known += [end for folder in folders for end in hf.end_ids(folder)]
    return tuple(dict.fromkeys(end for end in known if end is not None))


def answer(params: dict, questions: list[dict], tokenizer, ends: tuple[int, ...], cfg: Config, mesh) -> list[dict]:
    """The questions with `prediction` (cut at evaluate.stop) and `correct`."""
    settings, answered = cfg.evaluate, []
    for start in range(0, len(questions), settings.batch_questions):
        part = questions[start : start + settings.batch_questions]
        texts = [settings.prompt.replace("{question}", q["question"]) for q in part]
        prompts = tokenizer(texts, add_special_tokens=False)["input_ids"]
        prompts += [prompts[-1]] * (settings.batch_questions - len(part))  # one shape for all batches
        tokens = generate.greedy(params, prompts, cfg, mesh, new=settings.max_new_tokens, ends=ends)
        for question, text in zip(part, tokenizer.batch_decode(tokens), strict=False):
            prediction = cut(text, settings.stop)
            correct = alias.is_correct(prediction, question["answer"], question["aliases"])
            answered.append(question | {"prediction": prediction, "correct": correct})
        logging.info("answering: %d of %d questions are done, grades come at the end", len(answered), len(questions))
    return answered


def cut(text: str, stop: str) -> str:
    """Up to the text `stop`, if there is one; blanks in front do not count as an answer."""
    text = text.lstrip()
    return (text.partition(stop)[0] if stop else text).strip()


def grade(predictions: list[dict]) -> dict:
    k, n = sum(p["correct"] for p in predictions), len(predictions)
    low, high = alias.wilson(k, n)
    return {"k": k, "n": n, "accuracy": k / max(n, 1), "low": low, "high": high}


def load_tokenizer(cfg: Config):
    tokenizer = tokenizers.load_tokenizer(hf.tokenizer_folder(cfg.tokenizer, cfg.init_from))
    if (size := tokenizers.vocab_size(tokenizer)) > cfg.model.vocab_size:
        raise UserError(
            f"the tokenizer {tokenizer.name_or_path} has {size} ids, {cfg.model.name} has vocab_size="
            f"{cfg.model.vocab_size}; name the model's own with --config.tokenizer=FOLDER"
        )
    return tokenizer
