"""Random generators derived from a purpose and the seed, and the streams of Python and NumPy."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_generator(purpose: str, seed: int) -> torch.Generator:
    """A generator on the CPU for one purpose.

    Not `manual_seed(seed)`: the initial weights come from the same numbers of the global stream.
    """
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))


@contextmanager
def seeded_python(seed: int = 0) -> Iterator[None]:
    """Within this block the global streams of Python's `random` and of NumPy begin at `seed`; then as before."""
    before, before_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)
