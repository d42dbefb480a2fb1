"""MusicSimpleQA on real text: questions built, asked, judged and compared, beside CMMLU, with the models of a demo.

    python -m demo.musicqa --data=FOLDER [--run=runs/demo]         (make musicqa DATA=FOLDER [RUN=FOLDER])

FOLDER has music/*.jsonl.gz (pages), entities/*.tsv (catalogues), eval/ (SimpleQA, Chinese SimpleQA, CMMLU); RUN is what
`make demo DATA=FOLDER` has left.  The language model that judges is a stand-in on this machine, which shows the road,
not a judgement: with an endpoint of your own, type the judge's command with it.  A second start goes on.
"""

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from demo.run import command, launch
from mucpt_jax.formats.decode import read_json
from mucpt_jax.step.objective import OBJECTIVES

MODELS = ("base", *OBJECTIVES)
SERVER = Path(__file__).parents[1] / "tests" / "llm_server.py"
LIMIT = 20  # questions of each of CMMLU's 67 subjects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of real text, catalogues and published questions")
    parser.add_argument("--run", default="runs/demo", help="folder of a finished demo on real text")
    parser.add_argument("--limit", type=int, default=LIMIT, help="of each subject of CMMLU (default %(default)s)")
    args = parser.parse_args()
    run, data = Path(args.run), Path(args.data)
    if not (run / "results.json").is_file():
        sys.exit(f"error: {run} is no finished demo; make it with: make demo DATA={data} RUN={run}")
    tokenizer = read_json(run / "raw" / "corpus.json")["tokenizer"]
    size = ",real" if read_json(run / "raw" / "corpus.json")["data"] else ""
    out = run / "musicqa"
    sets = build(out, data)
    for name in MODELS:
        answer(run, out, name, size, tokenizer, sets)
    judge(out, sets[-1])
    for name in MODELS:
        general(run, out, name, size, tokenizer, data, args.limit)
    runs = [str(out / name) for name in MODELS]
    command("mucpt_jax.compare", *runs, f"--baseline={out / 'ntp'}", f"--page={out / 'compared'}")
    print(f"\n{out}/questions/report.html   <- the questions\n{out}/compared/index.html   <- the comparison")


def build(out: Path, data: Path) -> list[Path]:
    """Files of questions: without an answer, the music part of published sets, and our own last."""
    own, none, published = out / "questions" / "questions.jsonl", out / "adversarial.jsonl", out / "simpleqa.jsonl"
    if not own.is_file():
        command(
            "data_prep.questions", f"--input={data}/music/*_*.jsonl.gz", f"--output={out / 'questions'}",
            f"--catalogue={data}/entities/*.tsv", f"--catalogue={data}/music/kdconv/*.json",
        )  # fmt: skip
    names = f"--names={data}/entities/meetups_people.tsv"
    command("data_prep.variants", f"--questions={own}", f"--output={none}", names)
    files = [f"{data}/eval/simpleqa/simple_qa_test_set.csv", f"{data}/eval/chinese_simpleqa/chinese_simpleqa.jsonl"]
    command("data_prep.simpleqa", *files, f"--output={published}")
    return [none, published, own]


def answer(run: Path, out: Path, name: str, size: str, tokenizer: str, sets: list[Path]) -> None:
    """In a workdir of its own, so that the demo's results stay: five shots, greedily, and alias accuracy."""
    for file in sets:
        launch(
            out, name, size, "evaluate", f"--config.tokenizer={tokenizer}", f"--config.init_from={run / name}",
            f"--config.evaluate.questions={file}", "--config.evaluate.style=few_shot",
        )  # fmt: skip


def judge(out: Path, questions: Path) -> None:
    """By the stand-in; by aliases the evaluate job has judged them, and the page shows where the two differ."""
    with stand_in() as url:
        for name in MODELS:
            command(
                "mucpt_jax.judge", f"--questions={questions}", f"--answers={out / name}",
                f"--output={out / name / 'stand-in'}", f"--endpoint={url}", "--model=stand-in",
                f"--cache={out / 'replies.sqlite'}",
            )  # fmt: skip


@contextlib.contextmanager
def stand_in() -> Iterator[str]:
    """URL of a server that judges by comparing texts, with a share of failing calls."""
    os.environ.setdefault("OPENAI_API_KEY", "none")  # a server of one's own asks for none
    server = subprocess.Popen(
        [sys.executable, str(SERVER), "--port=0", "--latency=0.05", "--as=judge"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait()


def general(run: Path, out: Path, name: str, size: str, tokenizer: str, data: Path, limit: int) -> None:
    command(
        "mucpt_jax.harness", f"--config=configs/demo.py:{name}{size}", f"--workdir={run / name}",
        f"--config.tokenizer={tokenizer}", "--tasks=cmmlu", f"--data={data / 'eval'}", f"--limit={limit}",
        f"--output={out / name / 'harness'}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
