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
from mucpt_jax.formats.files import write_json, write_text
from mucpt_jax.formats.version import written_by
from mucpt_jax.run import checkpoint, heldout
from mucpt_jax.run import tokenizers as own_tokenizers
from mucpt_jax.weights import hf


def evaluate(cfg: Config, mesh: jax.sharding.Mesh, workdir: Path) -> None:
    if not cfg.evaluate.rows and not cfg.evaluate.questions:
        raise UserError(
            "the evaluate job needs --config.evaluate.rows=FOLDER (held-out rows) or --config.evaluate.questions=FILE"
        )
    questions = read_questions(cfg.evaluate.questions) if cfg.evaluate.questions else []
    for used in (cfg.evaluate.rows, questions and hf.tokenizer_folder(cfg.tokenizer, cfg.init_from)):
        if used:
            own_tokenizers.check(used, checkpoint.lineage(cfg, workdir))
    tokenizer = load_tokenizer(cfg) if questions else None
    params = checkpoint.load_params(cfg, mesh, workdir)
    result = {"params_hash": checkpoint.params_hash(params), "step": checkpoint.newest_step(workdir)}
    result |= {"written_by": written_by()}
    if cfg.evaluate.rows:
        result["heldout"] = heldout.evaluator(cfg, mesh)(params)
        for name, s in result["heldout"].items():
            logging.info("held-out %s: %.4f nats a token over %d tokens", name, s["nll"], s["tokens"])
    if questions:
        predictions = answer(params, questions, tokenizer, cfg, mesh)
        result["questions"] = grade(predictions)
        logging.info("questions: {k}/{n} = {accuracy:.4f} (95% {low:.4f}..{high:.4f})".format(**result["questions"]))
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        if questions:
            lines = [json.dumps(p, ensure_ascii=False) + "\n" for p in predictions]
            write_text(workdir / "predictions.jsonl", "".join(lines))
        write_json(workdir / "evaluate.json", result)  # last: where it stands, all stands
        cards.write_card(workdir)


def read_questions(path: str) -> list[dict]:
    """JSONL of {id, question, answer, aliases}; other fields are carried along."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # splitlines() would split at U+2028 too
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"evaluate.questions={path} cannot be read ({error}); name a JSONL file of questions"
        ) from error
    questions = [read_question(line, f"{path} line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if len({q["id"] for q in questions}) < len(questions) or not questions:
        problem = "the same id twice" if questions else "no question"
        raise UserError(f"{path} holds {problem}; each needs an id of its own")
    return questions


def read_question(line: str, where: str) -> dict:
    try:
        question = json.loads(line)
        question |= {"id": str(question["id"]), "aliases": question.get("aliases") or []}
        texts = [question["question"], question["answer"], *question["aliases"]]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is no {{id, question, answer}} object; mend or drop it") from error
    if not all(isinstance(t, str) and t for t in texts) or isinstance(question["aliases"], str):
        raise UserError(f"{where}: question, answer and each alias must be text; mend or drop it")
    return question


def answer(params: dict, questions: list[dict], tokenizer, cfg: Config, mesh) -> list[dict]:
    """The questions with `prediction` (cut at evaluate.stop) and `correct`."""
    settings, eod = cfg.evaluate, tokenizers.end_of_document(tokenizer)
    answered = []
    for start in range(0, len(questions), settings.batch_questions):
        part = questions[start : start + settings.batch_questions]
        texts = [settings.prompt.replace("{question}", q["question"]) for q in part]
        prompts = tokenizer(texts, add_special_tokens=False)["input_ids"]
        prompts += [prompts[-1]] * (settings.batch_questions - len(part))  # one shape for all batches
        tokens = generate.greedy(params, prompts, cfg, mesh, new=settings.max_new_tokens, eod=eod)
        for question, text in zip(part, tokenizer.batch_decode(tokens), strict=False):
            prediction = cut(text, settings.stop)
            correct = alias.is_correct(prediction, question["answer"], question["aliases"])
            answered.append(question | {"prediction": prediction, "correct": correct})
        logging.info("answering: %d of %d questions are done, grades come at the end", len(answered), len(questions))
    return answered


def cut(text: str, stop: str) -> str:
    """Up to the first of the characters in `stop`; blanks in front do not count as an answer."""
    text = text.lstrip()
    ends = [text.index(c) for c in stop if c in text]
    return text[: min(ends, default=len(text))].strip()


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
