"""Writes files.tar.gz beside this file by the code of before FORMAT 2 (commit 4a70686), for later code to read:

    cd CHECKOUT_OF_4a70686 && PYTHONPATH=.:tests python HERE/make.py

domain, general   rows                    heldout   rows of the same tokens as the domain's: its loss falls
tokenizer         of these rows
rm                a reference model: train.evaluate_every meant that only the best state is kept
scored            domain, with the scores of rm
run               mucpt on scored, cut off after step 4 of 8; trace.json has the losses of all 8
"""

# ruff: noqa: I001 (sorted as in that version)
import dataclasses
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from conftest import one_device_mesh, small_config, write_rows
from test_evaluate import write_tokenizer

from mucpt_jax import score, train
from mucpt_jax.records import tokenizer_hash

os.chdir(tempfile.mkdtemp())
known = tokenizer_hash(write_tokenizer(Path("tokenizer")))
for name, sources in {"domain": {"songs": 12}, "heldout": {"songs": 4}, "general": {"web": 8}}.items():
    write_rows(Path(name), sources, tokenizer_hash=known)
small = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
cfg = small_config(
    tokenizer="tokenizer",
    model=small | {"num_key_value_heads": 1},
    data={"domain": "scored", "general": "general"},
    optimizer={"steps": 8},
    train={"checkpoint_every": 4},
    score={"input": "domain", "output": "scored"},
)
rm = dataclasses.replace(
    cfg,
    seed=1,
    loss=dataclasses.replace(cfg.loss, kind="ntp"),
    data=dataclasses.replace(cfg.data, domain="domain", general=None, general_fraction=0.0),
    train=dataclasses.replace(cfg.train, evaluate_every=2, patience=2, keep_checkpoints=1),
    evaluate=dataclasses.replace(cfg.evaluate, rows="heldout", batch_rows=8),
)
train.train(rm, one_device_mesh(), Path("rm"))
score.score(rm, one_device_mesh(), Path("rm"))
train.train(cfg, one_device_mesh(), Path("run"))
lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
Path("trace.json").write_text(json.dumps({line["step"]: line["loss"] for line in lines}) + "\n")
shutil.rmtree("run/checkpoints/8")
for folder in ("rm", "run"):
    shutil.rmtree(f"{folder}/tensorboard")
    Path(folder, "goodput.jsonl").unlink()
with tarfile.open(Path(__file__).with_name("files.tar.gz"), "w:gz") as tar:
    tar.add(".")
