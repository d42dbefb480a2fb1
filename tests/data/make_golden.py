"""Writes the golden Qwen2 folders beside this file.  Needs torch and transformers; run by hand:

    python tests/data/make_golden.py

Three tiny random models as Hugging Face folders, each with golden.npz, all of it by PyTorch in float32:

    tokens    int64 [2, 40], logits float32 [2, 40, V] of them
    greedy    int64 [2, 64]: what greedy decoding adds to the first 8 tokens of each row, every step over all of it
    long      int64 [300], longer than two chunks of attention
    long_nll  float64 [299]: -log p of each token of `long` after the first, nats; logits float32, softmax float64
"""

from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

FOLDERS = {  # what differs from COMMON, and how the parameters are drawn
    "qwen2_tied": ({"tie_word_embeddings": True}, {"seed": 0, "scale": 0.2}),
    "qwen2_untied": ({"tie_word_embeddings": False}, {"seed": 0, "scale": 0.2}),
    "qwen2_zero_bias": (
        {
            "tie_word_embeddings": False,
            "vocab_size": 151,  # divides by nothing
            "num_key_value_heads": 1,
            "head_dim": 16,  # not hidden_size / num_attention_heads
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        },
        {"seed": 3, "scale": 0.15, "zero_bias": True},
    ),
}
COMMON = {
    "vocab_size": 160,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "bos_token_id": 0,
    "eos_token_id": 0,
}
MARGIN = 1e-3  # least distance of the likeliest token from the next: rounding changes no greedy token


@torch.no_grad()
def make(folder: Path, values: dict, draw: dict) -> None:
    model = random_model(Qwen2Config(**COMMON | values), **draw)
    vocab = model.config.vocab_size
    tokens, long = torch.randint(1, vocab, (2, 40)), torch.randint(1, vocab, (300,))
    log_p = model(long[None]).logits[0, :-1].double().log_softmax(-1)
    arrays = {
        "tokens": tokens,
        "logits": model(tokens).logits,
        "greedy": greedy(model, tokens[:, :8], 64),
        "long": long,
        "long_nll": -log_p.gather(1, long[1:, None])[:, 0],
    }
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    np.savez_compressed(folder / "golden.npz", **{name: array.numpy() for name, array in arrays.items()})


@torch.no_grad()
def random_model(config: Qwen2Config, seed: int, scale: float, zero_bias: bool = False) -> Qwen2ForCausalLM:
    """Norms away from 1, matrices large enough that every layer counts, biases likewise or all 0."""
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config).eval()
    for name, p in model.named_parameters():
        p.add_(scale * torch.randn_like(p))
        if zero_bias and name.endswith("bias"):
            p.zero_()
    return model


@torch.no_grad()
def greedy(model: Qwen2ForCausalLM, tokens: torch.Tensor, new: int) -> torch.Tensor:
    """Plain argmax, the whole prefix each time, no cache."""
    prompt = tokens.shape[1]
    for _ in range(new):
        logits = model(tokens).logits[:, -1]
        best = logits.topk(2).values
        assert (best[:, 0] - best[:, 1] > MARGIN).all(), "two tokens are nearly as likely: take another seed"
        tokens = torch.cat([tokens, logits.argmax(-1)[:, None]], 1)
    return tokens[:, prompt:]


if __name__ == "__main__":
    for name, (values, draw) in FOLDERS.items():
        make(Path(__file__).parent / name, values, draw)
