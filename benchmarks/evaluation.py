"""Judge calls to a stand-in server on this machine: how long 500 take where a share of them fails.

python -m benchmarks.evaluation
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import facts

LATENCY = 0.3  # seconds of a call
CASES = [  # share of faults, which (None: all kinds of tests/llm_server.py), flags of the command, bar in seconds
    (0.0, ("500",), {}, None),
    (0.05, ("500",), {}, 10),
    (0.3, None, {}, 60),
    (0.3, None, {"timeout": 5.0, "max_retry_after": 2.0}, 60),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="another seed of the faults each")
    parser.add_argument("--output", default="evaluation", help="name of the file in benchmarks/results")
    args = parser.parse_args()
    facts.use("cpu")
    logging.disable(logging.INFO)
    rows = [measured(args, *case) for case in CASES]
    facts.write(args.output, f"{args.questions} judge calls, {LATENCY} s each, 32 at a time; a 429 wishes 70 s, "
                "a silence lasts 20 s", rows)  # fmt: skip


def measured(args, share: float, kinds: tuple | None, flags: dict, bar: float | None) -> dict:
    runs = [once(args.questions, share, kinds, flags, seed) for seed in range(args.rounds)]
    seconds = [run["seconds"] for run in runs]
    row = {
        "faults": f"{share:.0%} {kinds[0] if kinds and share else 'of nine kinds' if share else ''}".strip(),
        "settings": ", ".join(f"{name}={value:g}" for name, value in flags.items()) or "defaults",
        "median_s": facts.median(seconds),
        "slowest_s": max(seconds),
        "calls": facts.median([run["calls"] for run in runs]),
        "lost": sum(run["lost"] for run in runs),
        "asked_again_after_a_reply": sum(run["twice"] for run in runs),
        "second_start_s": facts.median([run["second_s"] for run in runs]),
        "cpu_s": facts.median([run["cpu_s"] for run in runs]),
    }
    return row | ({"bar_s": bar, "bar_holds": max(seconds) < bar and not row["lost"]} if bar else {})


def once(count: int, share: float, kinds: tuple | None, flags: dict, seed: int) -> dict:
    """Judges `count` answers, then again with the same folder; the server's own CPU time is in `cpu_s`."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import llm_server
    import openai  # noqa: F401  a second that is no call's

    from mucpt_jax import judge, llm

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        questions = [{"id": str(i), "question": f"Who wrote song {i}?", "answer": f"Person {i}"} for i in range(count)]
        lines = [{"id": str(i), "prediction": f"Person {i if i % 3 else i + 1}"} for i in range(count)]
        for name, values in {"questions.jsonl": questions, "answers.jsonl": lines}.items():
            (here / name).write_text("".join(json.dumps(value) + "\n" for value in values))
        with llm_server.serving(llm_server.judge, LATENCY, share, kinds or llm_server.FAULTS, seed=seed) as server:
            settings = llm.Settings(server.url, "stand-in", **flags)
            files = str(here / "questions.jsonl"), str(here / "answers.jsonl"), here / "out"
            started, cpu = time.monotonic(), time.process_time()
            result = judge.judge(*files, settings, None)
            seconds, cpu = time.monotonic() - started, time.process_time() - cpu
            calls = len(server.calls)
            started = time.monotonic()
            assert judge.judge(*files, settings, None) == result and len(server.calls) == calls
            assert result["counts"]["CORRECT"] == count - (count + 2) // 3
            return {
                "seconds": seconds, "second_s": time.monotonic() - started, "cpu_s": cpu, "calls": calls,
                "lost": result["counts"]["ERROR"], "twice": sum(n > 1 for n in server.answered.values()),
            }  # fmt: skip


if __name__ == "__main__":
    main()
