"""An exported model in PyTorch's world: transformers loads it, and its OpenAI-compatible server serves it."""

import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import jax
import pytest
from conftest import one_device_mesh, small_config
from test_evaluate import write_tokenizer
from tokenizers import Tokenizer

from mucpt_jax.evaluation import generate
from mucpt_jax.step import model
from mucpt_jax.weights import transfer
from mucpt_jax.weights.hf_write import About

PROMPT, NEW = "who sang hey jude?\nA:", 40  # characters are tokens here; tokens to add
UP, DOWN, ANSWER = 180, 20, 120  # seconds that a server may take to start, to end, to answer
# What `pip install "transformers[serving]"` brings.
SERVER = ("torch", "accelerate", "fastapi", "openai", "pydantic", "uvicorn")


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    why = f"{', '.join(missing)} not installed: `pip install torch 'transformers[serving]'` for a proof by serving"
    return pytest.mark.skipif(bool(missing), reason=why)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of an exported random model, and what our own greedy decoding adds to PROMPT."""
    folder = tmp_path_factory.mktemp("serving")
    source = write_tokenizer(folder / "tokenizer")
    tokenizer = Tokenizer.from_file(f"{source}/tokenizer.json")
    # Not transformers' own default of rope_theta: an export must tell it.
    cfg = dataclasses.replace(small_config().model, tie_word_embeddings=False, rope_theta=1e6)
    run = small_config(model=cfg)
    params = random_params(cfg, tokenizer.get_vocab_size())
    transfer.to_hf(params, cfg, About(str(folder / "model"), "float32", tokenizer=source))
    prompt, end = tokenizer.encode(PROMPT).ids, tokenizer.token_to_id("<|endoftext|>")
    tokens = generate.greedy(params, [prompt], run, one_device_mesh(), new=NEW, ends=(end,))[0]
    assert len(tokens) == NEW and len(set(tokens)) > 8, "a dull text proves little: take another seed"
    return folder / "model", tokenizer.decode(tokens)


def random_params(cfg, entries):
    """Large enough that every layer counts; the vocabulary's rows beyond the tokenizer's entries never win."""
    params = model.init(cfg, jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [x + 0.2 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    params = jax.tree.unflatten(tree, noisy)
    params["lm_head"]["kernel"] = params["lm_head"]["kernel"].at[:, entries:].set(0)
    return params


@needs("torch")
def test_transformers_loads_an_export_and_writes_the_same_text(exported):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, text = exported
    theirs, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info  # missing, unexpected, mismatched: none
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer(PROMPT, return_tensors="pt")
    tokens = theirs.generate(**prompt, do_sample=False, max_new_tokens=NEW)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(tokens, skip_special_tokens=True) == text


@needs(*SERVER)
def test_an_openai_compatible_server_completes_over_http_what_we_complete(exported, tmp_path):
    folder, text = exported
    body = {"model": str(folder), "prompt": PROMPT, "max_tokens": NEW, "temperature": 0}
    with served(folder, tmp_path) as address:
        answer = post(f"{address}/v1/completions", body)
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == text
    assert answer["usage"]["completion_tokens"] == NEW


@contextmanager
def served(folder: Path, scratch: Path):
    """`transformers serve` on a free loopback port; ends with the block, its log is printed where that fails."""
    log = scratch / "server.log"
    # Port 0: the system gives one that is free, and the log tells which.
    options = ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), *options]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch), "CUDA_VISIBLE_DEVICES": ""}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, start_new_session=True)
    try:
        yield wait_for_address(process, log)
    except BaseException:
        print(log.read_text(errors="replace"))
        raise
    finally:
        end(process)


def wait_for_address(process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + UP
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.1)
    told = f"{UP} s have passed" if process.poll() is None else f"it ended with status {process.poll()}"
    raise AssertionError(f"the server is not up: {told}")


def end(process: subprocess.Popen) -> None:
    """With all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(DOWN)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def post(url: str, body: dict) -> dict:
    """No proxy: the environment's does not know this machine's loopback."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=ANSWER) as answer:
        return json.load(answer)
