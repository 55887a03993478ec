"""Masks at many rates from one sort equal those of the allocation at each rate."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from prunelab.core import allocation as allocations
from prunelab.core.allocation import ERK, Allocation, Explicit, Global, Uniform, Zeros
from prunelab.core.types import Masks

RATES = [i / 20 for i in range(20)] + [0.001, 1 / 3, 0.999]


def units(seed: int, values: int) -> dict[str, Tensor]:
    """Layers of several shapes and types; few values make many ties, some units are gone."""
    g = torch.Generator().manual_seed(seed)
    shapes = [(6, 5, 3, 3), (17,), (4, 9), (1,), (30, 2)]
    scores = {str(i): torch.randint(-1, values, shape, generator=g).float() for i, shape in enumerate(shapes)}
    scores["0"].view(-1)[::7] = -torch.inf
    scores["2"] = scores["2"].half()
    scores["4"][0, 0] = -0.0
    return scores


@pytest.mark.parametrize("values", [2, 8, 10**6])
@pytest.mark.parametrize(
    "allocation",
    [Uniform(), Global(), ERK(), Zeros(), Explicit({"1": 0.5}, target=0.9)],
    ids=lambda a: type(a).__name__,
)
def test_masks_are_those_of_the_allocation_at_every_rate(allocation: Allocation, values: int) -> None:
    for seed in range(2):
        scores = units(seed, values)
        at = allocation.masks_at(scores)
        for rate in RATES:
            assert outcome(at, rate) == outcome(lambda r, s=scores: allocation(s, r), rate)


def outcome(masks: Callable[[float], Masks], rate: float) -> object:
    """Every bit of the masks, or why there are none."""
    try:
        return {name: (mask.dtype, mask.tolist()) for name, mask in masks(rate).items()}
    except ValueError as error:
        return str(error)


def test_a_layer_that_one_threshold_would_empty_keeps_its_best_unit_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.arange(10.0, 30.0)}
    at = Global().masks_at(scores)
    with caplog.at_level(logging.WARNING):
        assert outcome(at, 0.5) == outcome(lambda rate: Global()(scores, rate), 0.5)
        assert at(0.5)["a"].tolist() == [False, True]
    assert "a global threshold at rate=0.5 empties a" in caplog.text


def test_every_place_of_a_threshold_among_few_units_is_that_of_the_allocation() -> None:
    scores = {"a": torch.tensor([0.5]), "b": torch.tensor([3.0, 2.0, 1.0, 0.1])}
    at = Global().masks_at(scores)
    for rate in (0.0, 0.2, 0.4, 0.6, 0.8):
        assert outcome(at, rate) == outcome(lambda r: Global()(scores, r), rate)


@pytest.mark.parametrize("allocation", [Uniform(), Global()])
def test_no_rate_selects_a_threshold_of_its_own(allocation: Allocation, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"a": torch.rand(50), "b": torch.rand(5, 10)}
    expected = outcome(lambda rate: allocation(scores, rate), 0.3)
    at = allocation.masks_at(scores)
    monkeypatch.setattr(allocations, "keep_top", lambda *_: pytest.fail("selected once more"))
    monkeypatch.setattr(torch.Tensor, "argsort", lambda *_, **__: pytest.fail("sorted once more"))
    assert outcome(at, 0.3) == expected


@pytest.mark.parametrize("allocation", [Uniform(), Global(), ERK()])
def test_scores_that_are_no_numbers_and_rates_that_are_no_fractions_are_refused(allocation: Allocation) -> None:
    with pytest.raises(ValueError, match="a: its scores contain NaN"):
        allocation.masks_at({"a": torch.tensor([1.0, torch.nan])})(0.5)
    with pytest.raises(ValueError, match="rate=1: expected a fraction"):
        allocation.masks_at({"a": torch.rand(3)})(1)


@pytest.mark.parametrize("parent", [Uniform, Global])
def test_an_allocation_that_derives_from_another_has_its_own_masks_at_every_rate(parent: type) -> None:
    class Half(parent):
        def __call__(self, units, rate):
            return super().__call__(units, rate / 2)

    units = {"a": torch.rand(8), "b": torch.rand(8)}
    masks = Half().masks_at(units)
    for rate in (0.0, 0.25, 0.5):
        assert all(torch.equal(mask, Half()(units, rate)[name]) for name, mask in masks(rate).items())
