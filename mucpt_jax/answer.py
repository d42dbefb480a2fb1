"""Answers of a model behind an OpenAI-compatible endpoint, to questions put as the evaluate job puts them to ours.

    python -m mucpt_jax.answer --questions=questions.jsonl --output=OUT --endpoint=https://host/v1 --model=NAME

Writes OUT/answers.jsonl as the answers come, and OUT/answers.json: whose they are and how they were asked for.  The
same command goes on where it was stopped, and asks again what failed.  Then  python -m mucpt_jax.judge.
"""

import argparse
import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any

from mucpt_jax import config, llm
from mucpt_jax.errors import TRY_AGAIN, UserError, exiting
from mucpt_jax.evaluation import answers, prompts
from mucpt_jax.formats.questions import read_questions

STYLES = "a request for the answer (chat), five questions with answers before it (few_shot), or --prompt; %(default)s"
APIS = "the text is a user's message (chat) or is continued (completions); %(default)s"
MOST_STOPS = 4  # that endpoints take; with more the reply is cut here all the same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", required=True, metavar="FILE")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--style", choices=config.choices()["evaluate.style"], default="chat", help=STYLES)
    parser.add_argument("--prompt", default=config.Evaluate.prompt, help="of --style=prompt; {question} stands in it")
    parser.add_argument(
        "--stop", help="text, or JSON list of texts, that ends an answer; default as in the evaluate job"
    )
    parser.add_argument("--api", choices=("chat", "completions"), default="chat", help=APIS)
    llm.add_options(parser)
    flags = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with exiting():
        settings = llm.settings_of(flags)
        if settings is None:
            raise UserError(
                "name a model by --endpoint=URL and --model=NAME; a model of ours answers by --job=evaluate"
            )
        if flags.style == "prompt" and "{question}" not in flags.prompt:
            raise UserError(f"--prompt={flags.prompt!r} must hold {{question}}")
        missing, spent = answer(settings, flags)
        llm.end(spent, "answering")
        if missing:
            print(f"error: {missing} questions have no answer; the same command asks them again", file=sys.stderr)
            sys.exit(TRY_AGAIN)


def answer(settings: llm.Settings, flags: argparse.Namespace) -> tuple[int, llm.Spent]:
    """Asks what has no answer yet -> (questions that failed, what was spent)."""
    questions = read_questions(flags.questions)
    prompts.check_shots(questions, flags.style)
    stops = prompts.stops(flags.stop, flags.style)
    if stops and len(stops) <= MOST_STOPS:
        settings = dataclasses.replace(settings, extra={"stop": list(stops)} | settings.extra)
    whose = {"model": settings.model, "params_hash": None, "step": None, "endpoint": True, "questions": flags.questions}
    failed: dict[str, str] = {}
    with answers.kept(flags.output, answers.about(whose, questions, asked(settings, flags))) as (there, keep):

        def done(name: str, reply: llm.Reply) -> None:
            if reply.error is not None:
                failed[name] = reply.error
                return
            text = prompts.cut(reply.text, stops)
            keep([{"id": name, "prediction": text, "ended": reply.ended or prompts.is_cut(reply.text, stops)}])

        left = [q for q in questions if q["id"] not in there]
        logging.info("%d of %d questions are answered in %s", len(questions) - len(left), len(questions), flags.output)
        texts = [(q["id"], prompts.text_of(q, flags.style, flags.prompt)) for q in left]
        chat = [(name, [{"role": "user", "content": text}]) for name, text in texts]
        spent = llm.ask(chat if flags.api == "chat" else texts, settings, done, name="answering")
    for name, error in list(failed.items())[:5]:
        logging.warning("question %s: %s", name, error)
    return len(failed), spent


def asked(settings: llm.Settings, flags: argparse.Namespace) -> dict[str, Any]:
    """How: with another of these an answer may be another."""
    named = ("endpoint", "model", "temperature", "max_tokens", "extra")
    how = {name: getattr(settings, name) for name in named} | {"api": flags.api}
    return prompts.described(flags.style, flags.prompt, flags.stop) | how


if __name__ == "__main__":
    main()
