"""Derived generators: equal for the same purpose and seed, different for any other."""

import random

import numpy as np
import torch

from prunelab.core.numbers.seeding import derived_generator, seeded_python


def draws(generator: torch.Generator) -> list[float]:
    return torch.rand(4, generator=generator).tolist()


def test_purpose_and_seed_make_the_stream_and_the_global_one_is_another() -> None:
    first = draws(derived_generator("pruner", 0))
    assert draws(derived_generator("pruner", 0)) == first
    others = [derived_generator("pruner", 1), derived_generator("reinit", 0), torch.Generator().manual_seed(0)]
    assert all(draws(other) != first for other in others)


def test_the_streams_of_python_and_numpy_begin_anew_and_go_on_as_before() -> None:
    random.seed(3)
    np.random.seed(3)
    expected = [random.random(), np.random.rand()]
    random.seed(3)
    np.random.seed(3)
    drawn = []
    for _ in range(2):
        with seeded_python():
            drawn.append([random.random(), np.random.rand()])
    assert drawn[0] == drawn[1]
    assert [random.random(), np.random.rand()] == expected
