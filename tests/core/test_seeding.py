"""A stream of one's own: the same again for the same purpose and seed, another for any other."""

import torch

from prunelab.core.seeding import own_stream


def draws(generator: torch.Generator) -> list[float]:
    return torch.rand(4, generator=generator).tolist()


def test_purpose_and_seed_make_the_stream_and_the_global_one_is_another() -> None:
    first = draws(own_stream("pruner", 0))
    assert draws(own_stream("pruner", 0)) == first
    others = [own_stream("pruner", 1), own_stream("reinit", 0), torch.Generator().manual_seed(0)]
    assert all(draws(other) != first for other in others)
