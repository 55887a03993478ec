"""Derived generators: equal for the same purpose and seed, different for any other."""

import torch

from prunelab.core.numbers.seeding import derived_generator


def draws(generator: torch.Generator) -> list[float]:
    return torch.rand(4, generator=generator).tolist()


def test_purpose_and_seed_make_the_stream_and_the_global_one_is_another() -> None:
    first = draws(derived_generator("pruner", 0))
    assert draws(derived_generator("pruner", 0)) == first
    others = [derived_generator("pruner", 1), derived_generator("reinit", 0), torch.Generator().manual_seed(0)]
    assert all(draws(other) != first for other in others)
