"""Writes the golden Qwen2 folders beside this file.  Needs torch and transformers; run by hand:

    python tests/data/make_golden.py

Two tiny random models (tied and untied head, non-zero biases) as Hugging Face folders, each with golden.npz:
tokens [2, 40], float32 logits [2, 40, V], and the 24 tokens that greedy decoding adds to the first 8 of each row.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM


def main() -> None:
    for name, tied in (("qwen2_tied", True), ("qwen2_untied", False)):
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=160,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            rope_theta=10_000.0,
            tie_word_embeddings=tied,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = Qwen2ForCausalLM(config).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.2 * torch.randn_like(p))  # biases and norms away from 0 and 1
        tokens = torch.randint(1, config.vocab_size, (2, 40))
        with torch.no_grad():
            logits = model(tokens).logits.numpy()
            greedy = tokens[:, :8]
            for _ in range(24):  # plain argmax, whole prefix each time
                greedy = torch.cat([greedy, model(greedy).logits[:, -1:].argmax(-1)], 1)
        folder = Path(__file__).parent / name
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        np.savez(folder / "golden.npz", tokens=tokens, logits=logits, greedy=greedy[:, 8:])


if __name__ == "__main__":
    main()
