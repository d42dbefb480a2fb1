"""Texts to tokens: a tokenizer from its folder, and which tokens of a text are no targets."""

import functools
import re

import numpy as np

from data_prep.packing.pack import run_of
from data_prep.private import masking
from mucpt_jax.formats import tokenizer as formats


@functools.cache
def load_tokenizer(folder: str):
    """A tokenizer to which text that spells <|endoftext|> is text: only the shard job ends a document."""
    tokenizer = formats.load_tokenizer(folder)
    tokenizer.backend_tokenizer.encode_special_tokens = True
    return tokenizer


def tokenize(texts: list[str], tokenizer, eod: int, no_loss: str = "") -> list[np.ndarray]:
    """TOKENS[n] with the end-of-document token for each text; TOKENS[0] for a text of no tokens.

    Tokens that share a character with a match of the pattern `no_loss` are marked so.
    """
    encode = tokenizer.backend_tokenizer.encode_batch_fast  # without places of characters
    encodings = encode(texts, add_special_tokens=False)
    runs = [run_of([*encoding.ids, eod] if encoding.ids else []) for encoding in encodings]
    for number, text in enumerate(texts if no_loss else []):
        if spans := [match.span() for match in re.finditer(no_loss, text)]:
            encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
            starts, ends = np.array(encoding.offsets).T
            for start, end in spans:
                runs[number]["no_loss"][:-1] |= (starts < end) & (ends > start)
    return runs


def placeholders(pattern: str) -> str:
    """ "<|{type}|>" -> the regular expression of all placeholders that data_prep.mask writes by it."""
    return "|".join(re.escape(pattern.replace("{type}", kind)) for kind in masking.TYPES) if pattern else ""
