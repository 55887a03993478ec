"""Random generators derived from a purpose and the seed."""

import hashlib

import torch


def derived_generator(purpose: str, seed: int) -> torch.Generator:
    """A generator on the CPU for one purpose.

    Not `manual_seed(seed)`: the initial weights come from the same numbers of the global stream.
    """
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))
