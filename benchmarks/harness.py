"""CMMLU on a random model: options that share a forward pass against a row for each option.

    python -m benchmarks.harness --data=../shared/data/eval [--model=40m] [--share=0.01]

Both sides score the same requests of lm-eval's stock tasks, with a tokenizer of the model's size trained on the
questions, and must agree to 1e-5 in every log p.  A row for an option alone is padded to a multiple of 64.  What is
timed is from texts to log p: tokenising, packing, computing; nothing is compiled then.
The whole of CMMLU takes one command; `full_min` is its time at the rate measured here.
"""

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

from benchmarks import facts
from benchmarks.scoring import of_size
from benchmarks.train_step import SIZES, make_config

BAR = 3.0  # times the plain side's questions/s
QUESTIONS = 11_582  # of CMMLU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder that holds cmmlu/")
    parser.add_argument("--model", default="40m", choices=SIZES)
    parser.add_argument("--share", type=float, default=0.01, help="of the questions of each subject")
    parser.add_argument("--shots", default="0,5", help="numbers of shots, comma-separated")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--output", help="name of the file in benchmarks/results; default harness[_gpu]")
    args = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    facts.use(args.device)
    rows = [compare(int(shots), args) for shots in args.shots.split(",")]
    what = f"CMMLU ({args.share:.0%} of each subject), questions/s by shared rows and by a row an option; bar: {BAR}"
    facts.write(args.output or f"harness{'_gpu' if args.device == 'gpu' else ''}", what, rows)


def compare(shots: int, args) -> dict:
    import jax
    import numpy as np

    from mucpt_jax.exams import adapter, scoring, tasks
    from mucpt_jax.step import model, sharding

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    dtype = "float32" if args.device == "cpu" else "bfloat16"
    cfg = make_config(of_size(args.model), "ntp", 4, 512, dtype, "none", "auto")
    loaded = tasks.load(["cmmlu"], [args.data], shots)
    for task in loaded:
        task.task.build_all_requests(limit=max(round(len(task.task.eval_docs) * args.share), 1))
    requests = [[request for request in task.task.instances] for task in loaded]
    tokenizer = trained_tokenizer([docs for task in loaded for docs in task.task.eval_docs], cfg.model.vocab_size)
    mesh, params = sharding.make_mesh(cfg), model.init(cfg.model, jax.random.key(0))
    scorer = scoring.Scorer(params, cfg, mesh)
    sides, seconds = {}, {}
    with jax.set_mesh(mesh):
        for shared in (True, False):
            for _ in ("warm-up", "timed"):  # the first compiles
                lm = adapter.Model(scorer._replace(shared=shared), tokenizer, (0,), 4096)
                start = time.perf_counter()
                scores = [lm.loglikelihood(of_task) for of_task in requests]
                seconds[shared] = time.perf_counter() - start
            sides[shared] = np.array([log_p for of_task in scores for log_p, _ in of_task])
    apart = float(np.abs(sides[True] - sides[False]).max())
    count = len(sides[True]) // 4
    row = {
        "model": args.model,
        "shots": shots,
        "questions": count,
        "shared_questions/s": count / seconds[True],
        "plain_questions/s": count / seconds[False],
        "shared/plain": seconds[False] / seconds[True],
        "largest_difference_nats": apart,
        "full_min": QUESTIONS * seconds[True] / count / 60,
        "bar_holds": seconds[False] / seconds[True] >= BAR and apart <= 1e-5,
    }
    print(facts.table([row])[-1], flush=True)
    return row


def trained_tokenizer(docs: list[dict], size: int):
    """A byte-level BPE of the questions' own text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from mucpt_jax.formats.tokenizer import load_tokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((" ".join(doc.values()) for doc in docs), trainer)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(str(Path(folder) / "tokenizer.json"))
        (Path(folder) / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
        return load_tokenizer(folder)


if __name__ == "__main__":
    main()
