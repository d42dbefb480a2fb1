"""Where words and names start in a run of tokens: the units of loss.smooth.  No jax here."""

import functools
import unicodedata
from pathlib import Path

import numpy as np

from mucpt_jax.records import UserError


def load(folder: str):
    from transformers import AutoTokenizer  # a second of imports that training does not need otherwise

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


@functools.cache
def letters(tokenizer_folder: str) -> tuple[np.ndarray, np.ndarray]:
    """bool [ids] each: does a token's text begin, does it end inside a word?

    Letters and digits of scripts with spaces do; so do bytes of a character that no token holds whole.  Where no token
    holds the blank before it, tokens are whole words.
    """
    from transformers import AutoTokenizer  # a second of imports that training does not need otherwise

    tokenizer = AutoTokenizer.from_pretrained(
        tokenizer_folder, trust_remote_code=False, local_files_only=True
    )
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    blanks = any(text.startswith(" ") for text in texts)
    begins = np.array([blanks and bool(text) and in_word(text[0]) for text in texts])
    return begins, np.array([bool(text) and in_word(text[-1]) for text in texts])


def in_word(character: str) -> bool:
    """Han and kana are no letters here: a script without spaces has its words in the tokens, if anywhere.  (Thai, Lao,
    Khmer and Burmese, which have none either, are taken for letters: a phrase of them is one word.)"""
    unspaced = (
        "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or character >= "\U00020000"
    )
    letter = unicodedata.category(character)[0] in "LMN"  # with marks: vowel signs stand inside words
    return character == "\N{REPLACEMENT CHARACTER}" or (letter and not unspaced)


Names = dict[int, list[tuple[int, ...]]]  # first token -> names that begin with it, longest first


@functools.cache
def names(tokenizer_folder: str, file: str) -> Names:
    """A file of names, one a line, as tokens: as they stand at the start of a text and behind a blank."""
    tokenizer = load(tokenizer_folder)
    try:
        lines = {line.strip() for line in Path(file).read_text(encoding="utf-8").split("\n")} - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"loss.smooth_names={file} cannot be read ({error}); name a text file, a name a line"
        ) from error
    texts = sorted(lines) + [f" {line}" for line in sorted(lines)]
    found = {}
    for run in {tuple(run) for run in tokenizer(texts, add_special_tokens=False)["input_ids"]}:
        if len(run) > 1:  # a name of one token is a unit anyway
            found.setdefault(run[0], []).append(run)
    return {first: sorted(runs, key=lambda run: (-len(run), run)) for first, runs in found.items()}


def starts(
    tokens: np.ndarray, begins: np.ndarray, ends: np.ndarray, names: Names | None = None
) -> np.ndarray:
    """i4[N] -> bool [N]: a token goes on a word where it begins inside one and the token before ends inside one.

    A name is one unit, the longest where several begin at a token.
    """
    goes_on = begins[tokens[1:]] & ends[tokens[:-1]]
    found = np.concatenate([[True], ~goes_on])
    run, until = tokens.tolist(), 0
    for i in range(len(run)) if names else ():
        candidates = names.get(run[i], ()) if i >= until else ()
        name = next((name for name in candidates if tuple(run[i : i + len(name)]) == name), None)
        if name:
            until = i + len(name)
            found[i], found[i + 1 : until], found[until : until + 1] = True, False, True
    return found
