"""The reference model: a small Qwen2.5 on the clean seed (encyclopaedia pages of singers, songs, albums).

    python launch.py --config=configs/reference.py --config.init_from=/models/Qwen2.5-1.5B \\
        --config.data.domain=SEED_ROWS --config.evaluate.rows=HELD_OUT_SEED_ROWS
    python launch.py --config=configs/reference.py --job=score \\
        --config.score.input=DOMAIN_ROWS --config.score.output=SCORED_ROWS

Training stops when held-out seed documents have had their best loss; the newest checkpoint is the best one, best.json
names its hash, card.md tells what it knows (also by questions, after --job=evaluate).

Evaluations, every 50 steps of 256 rows, are reckoned at 2% of the time where there are 1,000 held-out rows: one pass
over each, against four over a row of training (remat=full).  The log tells what they really take, and the way to 2%.

The paper names neither the size nor the recipe of its reference model; 1.5B adds 1.6% to the cost of a 32B run.
Not run yet.
"""

from mucpt_jax import config


def get_config():
    c = config.default("qwen2.5-1.5b")
    c.loss.kind = "ntp"
    c.data.general_fraction = 0.0
    c.data.sequence_length = 4096
    c.data.batch_rows = 256
    c.optimizer.steps = 1000
    c.optimizer.peak_lr, c.optimizer.final_lr, c.optimizer.warmup_fraction = 2e-5, 2e-6, 0.01
    c.train.keep, c.train.evaluate_every, c.train.patience = "best", 50, 3
    c.score.batch_rows = c.evaluate.batch_rows = 256
    c.evaluate.style = "few_shot"  # a base model
    return c
