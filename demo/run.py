"""The whole road on a small corpus: raw text in, three domain models and a report out.

    python -m demo.run [--data=FOLDER] [--run=runs/demo]        (make demo [DATA=FOLDER] [RUN=FOLDER])

Every step is a command that is printed and can be typed by hand.  A second start goes on where the first was stopped:
offline steps whose output is there are skipped, training goes on from its checkpoints, scoring from its shards.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from demo import report, results
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.step.objective import OBJECTIVES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folder of real text; default: a corpus made here")
    parser.add_argument("--run", default="runs/demo", help="everything is written below this folder")
    args = parser.parse_args()
    run, started = Path(args.run), time.monotonic()
    run.mkdir(parents=True, exist_ok=True)

    corpus = prepare(run, args.data)
    train_and_score(run, corpus["tokenizer"], ",real" if args.data else "")
    seconds = spent(run, time.monotonic() - started)
    audit(run, corpus["tokenizer"])
    compare(run)
    table = results.collect(run, corpus, tuple(OBJECTIVES), seconds)
    report.write(run, table)
    print(results.as_text(table))
    print(f"\n{run}/results.json\n{run}/report.html   <- open this in a browser ({seconds / 60:.1f} minutes)")


def prepare(run: Path, data: str) -> dict:
    """Raw text -> rows of each role.  Returns what sample_corpus says about the corpus."""
    raw, length = run / "raw", 256 if data else 128
    if not (raw / "corpus.json").is_file():
        command("data_prep.sample_corpus", f"--output={raw}", *([f"--data={data}"] if data else []))
    corpus = read_json(raw / "corpus.json")
    refuse_other_data(run, corpus, data)
    for role in results.ROLES:
        if not (run / "data" / role / "counts.json").is_file():
            command(
                "data_prep.pipeline", f"--input={raw / role}", f"--output={run / 'data' / role}",
                "--config=configs/curation.py:plain", f"--config.shard.tokenizer={corpus['tokenizer']}",
                f"--config.shard.sequence_length={length}",
            )  # fmt: skip
    return corpus


def refuse_other_data(run: Path, corpus: dict, data: str) -> None:
    """One RUN folder holds one corpus; half of each would give a table of nonsense."""
    if corpus["data"] != (str(Path(data).resolve()) if data else ""):
        made = corpus["data"] or "the invented corpus"
        sys.exit(f"error: {run} was made from {made}; choose another RUN=folder, or delete this one")


def spent(run: Path, seconds: float) -> float:
    """Seconds of all starts together; a finished demo that is started again adds nothing worth telling."""
    note = run / "seconds.json"
    before = read_json(note)["seconds"] if note.is_file() else 0.0
    write_json(note, {"seconds": before + seconds})
    return before + seconds


def train_and_score(run: Path, tokenizer: str, size: str) -> None:
    """Base model, reference model, scores, and continued pretraining from the same start with each objective."""
    rows = {role: f"{run}/data/{role}/rows" for role in results.ROLES}
    scored, base = f"{run}/data/domain/scored", f"{run}/base/hf"
    common = [f"--config.tokenizer={tokenizer}"]
    general, start = f"--config.data.general={rows['general']}", f"--config.init_from={base}"

    launch(run, "base", size, "train", *common, general)
    launch(run, "base", size, "export", *common)
    launch(run, "reference", size, "train", *common, start, f"--config.data.domain={rows['seed']}")
    source = f"--config.score.input={rows['domain']}"
    launch(run, "reference", size, "score", *common, source, f"--config.score.output={scored}")
    # The start model's loss on the same rows: what rho1 selects by at step 0, for the report.
    launch(run, "base", size, "score", *common, source, f"--config.score.output={scored}_base")
    for objective in OBJECTIVES:
        domain = f"--config.data.domain={scored}"
        launch(run, objective, size, "train", *common, start, domain, general)
    for name in ("base", "reference", *OBJECTIVES):
        questions = f"--config.evaluate.questions={run}/raw/questions.jsonl"
        heldout = f"--config.evaluate.rows={rows['heldout']}"
        launch(run, name, size, "evaluate", *common, heldout, questions)


def compare(run: Path) -> None:
    """The questions, with intervals and paired tests against ntp: RUN/compared."""
    runs = [str(run / name) for name in ("base", "reference", *OBJECTIVES)]
    command("mucpt_jax.compare", *runs, f"--baseline={run / 'ntp'}", f"--page={run / 'compared'}")


def audit(run: Path, tokenizer: str) -> None:
    scored = run / "data" / "domain" / "scored"
    command(
        "mucpt_jax.audit",
        str(scored),
        f"--base={scored}_base",
        f"--tokenizer={tokenizer}",
        f"--output={run}/audit.html",
    )


def launch(run: Path, stage: str, size: str, job: str, *overrides: str) -> None:
    call("launch.py", f"--config=configs/demo.py:{stage}{size}", f"--job={job}", f"--workdir={run / stage}", *overrides)


def command(module: str, *arguments: str) -> None:
    call("-m", module, *arguments)


def call(*arguments: str) -> None:
    print(f"\n$ {os.path.relpath(sys.executable)}", *arguments, flush=True)
    started = time.monotonic()
    code = subprocess.run([sys.executable, *arguments]).returncode
    if code:
        sys.exit(f"error: the command above ended with code {code}; mend its cause and start the demo again to go on")
    print(f"  ({time.monotonic() - started:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
