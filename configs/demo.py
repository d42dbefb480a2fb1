"""The demo's models: small enough for two CPU cores.  `make demo` runs all of these:

    python launch.py --config=configs/demo.py:base       the general model that everything starts from
    python launch.py --config=configs/demo.py:reference  the reference model, on the clean seed
    python launch.py --config=configs/demo.py:mucpt      continued pretraining; also :ntp and :rho1

and :base,real ... with the Qwen2 tokenizer's 151,936 ids for `make demo DATA=FOLDER`.
demo/run.py names the folders (data.domain, data.general, init_from, tokenizer) on the command line.
"""

from mucpt_jax import config


def get_config(argument: str = "mucpt"):
    stage, _, size = argument.partition(",")
    if size not in ("", "real"):
        raise ValueError(f"configs/demo.py has no variant {argument}; behind the comma stands real or nothing")
    c = config.default("tiny")
    c.model.hidden_size, c.model.intermediate_size, c.model.head_dim = 96, 256, 24
    c.train.compute_dtype = "float32"  # CPUs have no fast bfloat16
    c.train.remat = "none"
    c.train.log_every = 20
    c.train.checkpoint_every = 200
    c.optimizer.peak_lr, c.optimizer.final_lr, c.optimizer.warmup_fraction = 4e-3, 4e-4, 0.05
    c.export.dtype = "float32"
    c.data.sequence_length = 128
    c.optimizer.steps = 250 if stage == "base" else 400
    if stage in ("base", "reference"):
        c.loss.kind = "ntp"
        c.data.general_fraction = 1.0 if stage == "base" else 0.0
    else:
        c.loss.kind = stage
        c.optimizer.peak_lr, c.optimizer.final_lr = 1e-2, 1e-3
    if size == "real":
        c.model.vocab_size = 151_936
        c.data.sequence_length = 256
        c.data.batch_rows = 4  # the head takes nearly all the time: 151,936 ids
        c.optimizer.steps = 240
        c.optimizer.peak_lr, c.optimizer.final_lr = 3e-3, 3e-4
    return c
