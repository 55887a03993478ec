"""Where do random numbers come from that no other part of a run draws?"""

import hashlib

import torch


def derived_generator(purpose: str, seed: int) -> torch.Generator:
    """A generator on the CPU for one purpose.

    Not `manual_seed(seed)`: the global stream, seeded alike, has drawn the initial weights from the same numbers.
    """
    own = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(own[:4]))
