"""64-bit hashes by arithmetic on arrays: the same on every machine, as some of them are written down."""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / the golden ratio; odd, so it has an inverse modulo 2**64


def mix(values: np.ndarray) -> np.ndarray:
    """u8 -> u8, one to one: every bit of a value reaches every bit of its hash (the finish of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def slots(hashes: np.ndarray, bits: int) -> np.ndarray:
    """u8 -> i8: the slot of each in a table of 2**bits; half a mix, enough for products of GOLDEN."""
    mixed = (hashes ^ (hashes >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(64 - bits)).astype(np.int64)


def spread(keys: np.ndarray) -> np.ndarray:
    """u8 -> u8 whose first bits depend on all bits of a key; faster than mix."""
    return keys * GOLDEN
