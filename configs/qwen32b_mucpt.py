"""Qwen2.5-32B, 40B tokens x 2 epochs on 256 GPUs: the paper's main run.

    python launch.py --config=configs/qwen32b_mucpt.py --config.init_from=/models/Qwen2.5-32B \\
        --config.data.domain=SCORED_ROWS --config.data.general=GENERAL_ROWS

The same command on every host (Slurm, MPI, Kubernetes are found by themselves).
Paper: MusicSimpleQA 0.7759, 256 H20 GPUs.  Ours: not run yet.
"""

from mucpt_jax import config


def get_config():
    c = config.default("qwen2.5-32b")
    c.loss.kind = "mucpt"
    c.data.sequence_length = 4096
    c.data.batch_rows = 1024  # 4.2M tokens a step; the paper does not name its batch
    c.data.general_fraction = 0.25  # not named in the paper
    c.optimizer.steps = 19_073  # 80e9 / (1024 * 4096)
    c.optimizer.peak_lr, c.optimizer.final_lr, c.optimizer.warmup_fraction = 6e-5, 3e-5, 0.0005
    c.mesh.fsdp = 256
    c.mesh.distributed = True
    c.train.micro_batches = 1  # by --job=plan: 4 rows at once fit 96 GB, and each layer is gathered once a step
    c.train.checkpoint_every = 250
    c.score.batch_rows = c.evaluate.batch_rows = 256
    c.evaluate.style = "few_shot"  # a base model
    return c
