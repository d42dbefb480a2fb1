"""Qwen2.5-1.5B with each objective (Table 2 of the paper), or on other domain text for as many tokens (Table 3).

    python launch.py --config=configs/qwen1_5b.py:mucpt --config.init_from=/models/Qwen2.5-1.5B \\
        --config.data.domain=SCORED_ROWS --config.data.general=GENERAL_ROWS

:ntp, :rho1, :mucpt, or :mucpt_literal, the printed formula without normalisation and almost without a floor.
Paper, 7B tokens, MusicSimpleQA: ntp 0.4439, rho1 0.4759, mucpt 0.5259.  Ours: not run yet.

A data recipe is a folder of domain rows, and its name follows the objective: :ntp,wechat reads recipes/wechat (or
the --config.data.domain given with it) and writes runs/qwen1_5b-ntp,wechat.  All else stays, the 7B tokens too: a
folder that holds fewer than its share of them is read again, and the log's last lines tell how often.

    for recipe in wechat matrix; do
        python launch.py --config=configs/qwen1_5b.py:ntp,$recipe --config.init_from=/models/Qwen2.5-1.5B \\
            --config.data.general=GENERAL_ROWS
    done

Table 3 sets music text from WeChat, which is not public, against that of the public Matrix corpus.  Which objective,
budget, share of general text and mixtures of the two it used is not known here; ntp is our choice.  Ours: not run yet.

    --job=evaluate, then  python -m mucpt_jax.compare runs/qwen1_5b-ntp runs/qwen1_5b-rho1 runs/qwen1_5b-mucpt
"""

from mucpt_jax import config


def get_config(argument: str = "mucpt"):
    objective, _, recipe = argument.partition(",")
    c = config.default("qwen2.5-1.5b")
    c.loss.kind = objective
    if objective == "mucpt_literal":
        c.loss.kind, c.loss.rm_floor, c.loss.weight_norm = "mucpt", 1e-3, "none"
    if recipe:
        c.data.domain = f"recipes/{recipe}"
    c.data.sequence_length = 4096
    c.data.batch_rows = 256  # 1M tokens a step
    c.optimizer.steps = 6676  # 7e9 tokens
    c.optimizer.peak_lr, c.optimizer.final_lr, c.optimizer.warmup_fraction = 6e-5, 3e-5, 0.0005
    c.score.batch_rows = c.evaluate.batch_rows = 256
    c.evaluate.style = "few_shot"  # a base model
    return c
