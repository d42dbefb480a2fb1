"""The language model's part of data_prep.questions: pages that are asked about, its facts, and its second look.

Both times all prompts go through one call of the client (mucpt_jax/llm.py), so that budget, cache and progress are of
the whole run; what the cache holds is not asked again by a run that begins anew.
"""

import hashlib
import heapq
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from data_prep.entities import candidates, pages, written
from data_prep.entities.records import Fact
from mucpt_jax import llm
from mucpt_jax.errors import UserError
from mucpt_jax.formats.decode import read_lines

log = logging.getLogger(__name__)


def rank(seed: int, id: str) -> str:
    return hashlib.sha256(f"{seed}:{id}".encode("utf-8", "replace")).hexdigest()


def pages_of(rows: Iterator[dict], column: str, seed: int, most: int) -> list[dict]:
    """The `most` pages of smallest rank: {rank, id, name, lang, text, size}."""
    named = ((row, pages.page_of(row, column)) for row in rows)
    return heapq.nsmallest(
        most,
        ({"rank": rank(seed, row["id"]), "id": row["id"], "name": page.name, "lang": page.lang, "size": page.size,
          "text": row["text"][: written.PAGE]} for row, page in named if page),
        key=lambda page: page["rank"],
    )  # fmt: skip


def write_facts(work: Path, settings: llm.Settings, most: int) -> dict:
    """Asks about the pages in work/pages-*.jsonl; their facts go to work/facts.jsonl.  Returns counts."""
    listed = heapq.nsmallest(most, (p for f in sorted(work.glob("pages-*.jsonl")) for p in read_lines(f)),
                             key=lambda page: page["rank"])  # fmt: skip
    by_id = {page["id"]: page for page in listed}
    facts: list[Fact] = []

    def done(id: str, reply: llm.Reply) -> None:
        facts.extend(written.facts_of(by_id[id], reply.value or [], settings.model))

    prompts = [(page["id"], written.prompt_of(page["name"], page["text"], page["lang"])) for page in by_id.values()]
    again = "Reply with one JSON list and nothing else. 只回复一个JSON列表。"
    spent = ask(prompts, settings, done, written.items_of, again, "writing questions")
    with open(work / "facts.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps(fact._asdict(), ensure_ascii=False) + "\n" for fact in sorted(facts))
    return counts_of(spent, len(prompts))


def read_facts(work: Path) -> list[Fact]:
    path = work / "facts.jsonl"
    return [Fact(**fields) for fields in read_lines(path)] if path.is_file() else []


def look_again(work: Path, settings: llm.Settings) -> dict:
    """Asks the model's questions again that are left; those that fail get their reason.  Returns counts."""
    asked = [line for line in candidates.lines(work) if "context" in line and not line["reason"]]
    by_id = {line["id"]: line for line in asked}
    reasons = dict.fromkeys(by_id, "not_checked")

    def done(id: str, reply: llm.Reply) -> None:
        reasons[id] = written.reason_of(reply.text, by_id[id])

    prompts = [(line["id"], written.check_prompt(line["question"], line["context"], line["lang"])) for line in asked]
    spent = ask(prompts, settings, done, None, "", "asking again")
    for file in candidates.files(work):
        lines = read_lines(file)
        if any(line["id"] in reasons for line in lines):
            candidates.rewrite(
                file, (line | {"reason": line["reason"] or reasons.get(line["id"], "")} for line in lines)
            )
    return counts_of(spent, len(prompts))


def ask(prompts: list, settings: llm.Settings, done: Callable, parse: Callable | None, again: str, name: str):
    spent = llm.ask(prompts, settings, done, parse, again, name)
    log.info("%s: %s", name, llm.summary(spent))
    if spent.stopped and not spent.answered:
        raise UserError(f"{spent.stopped}; check --endpoint and --model, and start again: replies are kept in --cache")
    if spent.stopped:
        log.warning("%s stopped early (%s): it goes on with what was answered", name, spent.stopped)
    return spent


def counts_of(spent, prompts: int) -> dict:
    return {
        "prompts": prompts, "answered": spent.answered, "cached": spent.cached, "failed": spent.failed,
        "prompt_tokens": spent.prompt_tokens, "completion_tokens": spent.completion_tokens, "cost": spent.cost,
        "stopped": spent.stopped,
    }  # fmt: skip
