"""A Hugging Face folder in another dtype or in other files, without a run:

    python -m mucpt_jax.convert IN OUT [--dtype=bfloat16] [--max_shard_bytes=5000000000]

IN stays as it is; nothing is trained and no accelerator is used.
"""

import argparse

import jax

from mucpt_jax.errors import exiting
from mucpt_jax.weights import hf_write
from mucpt_jax.weights.transfer import folder_to_folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("source", metavar="IN", help="Hugging Face folder of a Qwen2 model")
    parser.add_argument("target", metavar="OUT", help="folder to write; replaced only if it is an export too")
    parser.add_argument("--dtype", choices=hf_write.FILE_DTYPES, default="bfloat16")
    parser.add_argument("--max_shard_bytes", type=int, default=5_000_000_000, help="of one file (5e9)")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # shapes are all that is asked of it
    if args.max_shard_bytes < 1:
        parser.error(f"--max_shard_bytes={args.max_shard_bytes} holds no tensor; use 1 or more")
    about = hf_write.About(args.target, args.dtype, args.max_shard_bytes, like=args.source, tokenizer=args.source)
    with exiting():
        folder_to_folder(args.source, about)
    print(f"wrote {args.target}")


if __name__ == "__main__":
    main()
