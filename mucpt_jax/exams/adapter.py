"""Our model as lm-eval's LM: what its tasks ask of a model, without torch.

On several hosts every host asks lm-eval for the same requests, and they compute together: world_size is 1 everywhere,
for with more lm-eval would hand each host requests of its own (and import torch to count them).
"""

import functools
import logging
from collections.abc import Callable

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from mucpt_jax.errors import UserError
from mucpt_jax.evaluation import generate
from mucpt_jax.exams import scoring
from mucpt_jax.formats import tokenizer as tokenizers

PROMPTS = 32  # decoded together
NEW = 256  # tokens of an answer, where a task does not say


class Model(TemplateLM):
    """`done(share)` hears what share of a task's requests is answered since it last heard."""

    def __init__(self, scorer: scoring.Scorer, tokenizer, ends: tuple[int, ...], longest: int):
        super().__init__()
        self.scorer, self.tokenizer, self.ends, self.longest = scorer, tokenizer, ends, longest
        self.cut = 0  # requests that lost the beginning of their context
        self.done: Callable[[float], None] = lambda share: None
        # The options of a question come one after another and share their context.
        self.encode = functools.lru_cache(16)(lambda text: tokenizer.encode(text, add_special_tokens=False))

    @property
    def eot_token_id(self) -> int:
        """Also stands before a text without context."""
        known = self.tokenizer.eos_token_id
        return tokenizers.end_of_document(self.tokenizer) if known is None else known

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs) -> list[int]:
        """As text is tokenised for training: no special token is added."""
        return self.encode(string)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: list[tuple], **kwargs) -> list[tuple[float, bool]]:
        asked = [scoring.request(context, continuation, self.longest) for _, context, continuation in requests]
        self.cut += sum(request.cut for request in asked)
        scores = scoring.score(asked, self.scorer, lambda count: self.done(count / len(asked)))
        return [(score.log_p, score.greedy) for score in scores]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """log p of whole texts, each token once, in windows of `longest`."""
        windows, texts = [], []
        for number, request in enumerate(requests):
            for window in get_rolling_token_windows(self.tok_encode(request.args[0]), self.eot_token_id,
                                                    self.longest, 1):  # fmt: skip
                windows.append((None, *make_disjoint_window(window)))
                texts.append(number)
        totals = [0.0] * len(requests)
        for number, (log_p, _) in zip(texts, self._loglikelihood_tokens(windows), strict=True):
            totals[number] += log_p
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Greedy answers, cut before the first of a request's stop texts."""
        answers = [""] * len(requests)
        by_length: dict[int, list[tuple[int, list[int], list[str]]]] = {}
        for number, request in enumerate(requests):
            text, given = request.args[:2]
            asked = normalize_gen_kwargs(given, NEW)
            if asked.get("do_sample"):
                logging.warning("a task asks for sampled answers, they are greedy here; see settings in harness.json")
            new = asked["max_gen_toks"]
            if new >= self.longest:
                raise UserError(
                    f"an answer of {new} tokens leaves no room for a question: the model reads {self.longest}; "
                    "leave the task out, or allow longer rows with --max_length"
                )
            tokens = self.tok_encode(text) or [self.eot_token_id]
            self.cut += len(tokens) > self.longest - new
            by_length.setdefault(new, []).append((number, tokens[new - self.longest :], asked.get("until") or []))
        for new, group in by_length.items():
            group.sort(key=lambda prompt: len(prompt[1]))
            for start in range(0, len(group), PROMPTS):
                part = group[start : start + PROMPTS]
                prompts = [tokens for _, tokens, _ in part]
                prompts += [prompts[-1]] * (PROMPTS - len(part))  # one batch size
                rows = generate.greedy(
                    self.scorer.params, prompts, self.scorer.cfg, self.scorer.mesh, new=new, ends=self.ends
                )
                for (number, _, until), row in zip(part, rows, strict=False):
                    answers[number] = before(self.tokenizer.decode(row, skip_special_tokens=True), until)
                self.done(len(part) / len(requests))
        return answers

    def apply_chat_template(self, chat_history: list[dict], add_generation_prompt: bool = True) -> str:
        return self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )  # fmt: skip


def before(text: str, stops: list[str]) -> str:
    for stop in filter(None, stops):
        text = text.partition(stop)[0]
    return text
