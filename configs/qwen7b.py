"""Qwen2.5-7B with each objective (Table 2 of the paper).

    python launch.py --config=configs/qwen7b.py:mucpt --config.init_from=/models/Qwen2.5-7B \\
        --config.data.domain=SCORED_ROWS --config.data.general=GENERAL_ROWS

:ntp, :rho1, :mucpt, or :mucpt_literal, the printed formula without normalisation and almost without a floor.
Paper, MusicSimpleQA: rho1 +3.6% over ntp, mucpt +7.4% over rho1 (relative); its tokens are not named here.
Ours: not run yet.

    --job=evaluate, then  python -m mucpt_jax.compare runs/qwen7b-ntp runs/qwen7b-rho1 runs/qwen7b-mucpt
"""

from mucpt_jax import config


def get_config(objective: str = "mucpt"):
    c = config.default("qwen2.5-7b")
    c.loss.kind = objective
    if objective == "mucpt_literal":
        c.loss.kind, c.loss.rm_floor, c.loss.weight_norm = "mucpt", 1e-3, "none"
    c.data.sequence_length = 4096
    c.data.batch_rows = 256  # 1M tokens a step
    c.optimizer.steps = 6676  # 7e9 tokens
    c.optimizer.peak_lr, c.optimizer.final_lr, c.optimizer.warmup_fraction = 6e-5, 3e-5, 0.0005
    c.score.batch_rows = c.evaluate.batch_rows = 256
    c.evaluate.style = "few_shot"  # a base model
    return c
