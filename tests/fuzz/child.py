"""Runs cases of one fuzzer, as python -m tests.fuzz.child FUZZER SEED FIRST END; says each number, then its fault."""

import importlib
import logging
import os
import sys
import tempfile
import traceback
from pathlib import Path
from random import Random

FUZZERS = {"files": "own_files", "commands": "command_lines", "shards": "shards"}  # each module has fuzzer(folder)
LONGEST = 2000  # characters of a sentence


def fault_of(case, rng: Random) -> str | None:
    """What is wrong with how a case ended, in a line; None where nothing is."""
    from mucpt_jax.errors import UserError, one_line

    try:
        case(rng)
        return None
    except (UserError, SystemExit, OSError) as error:  # errors.exiting makes sentences of OSErrors too
        text = one_line(error) if isinstance(error, OSError) else str(error)
        return f"a sentence of {len(text):,} characters: {text[:200]!r}" if len(text) > LONGEST else None
    except BaseException as error:  # a panic of the tokenizer's library is no Exception
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/tests/" not in f.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        return f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:200]}"


def rng_of(fuzzer: str, seed: int, number: int) -> Random:
    return Random(f"{fuzzer} {seed} {number}")


def case_of(fuzzer: str, folder: Path):
    return importlib.import_module(f"tests.fuzz.{FUZZERS[fuzzer]}").fuzzer(folder)


def show(fuzzer: str, seed: int, number: int) -> None:
    """One case with all that it says."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        case_of(fuzzer, Path(folder))(rng_of(fuzzer, seed, number))
    print("it ended well")


def main(fuzzer: str, seed: int, first: int, end: int) -> None:
    said = os.fdopen(os.dup(1), "w", buffering=1)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:
        case = case_of(fuzzer, Path(folder))
        logging.disable()
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
        os.chdir(folder)
        for number in range(first, end):
            print(f"case {number}", file=said)
            if fault := fault_of(case, rng_of(fuzzer, seed, number)):
                print(f"fault {fault}", file=said)
    print("ended", file=said)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
