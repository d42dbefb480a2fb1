"""Moved to data_prep.agree: it is offline, needs no jax and reads a list of names."""

import sys

if __name__ == "__main__":
    sys.exit("error: python -m mucpt_jax.agreement is now python -m data_prep.agree, with the same arguments")
