"""Who pays? Exact counts in every layer, and no layer dies."""

import logging

import pytest
import torch

from prunelab.core.allocation import Explicit, Global, Uniform


def gone(masks: dict[str, torch.Tensor]) -> dict[str, int]:
    return {name: int((~mask).sum()) for name, mask in masks.items()}


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.33, 0.5, 0.8, 0.9])
def test_uniform_removes_round_of_rate_times_n_in_each_layer_also_of_equal_scores(rate: float) -> None:
    units = {"a": torch.ones(7, 3), "b": torch.arange(50.0).view(5, 10), "c": torch.zeros(11)}
    assert gone(Uniform()(units, rate)) == {name: round(rate * u.numel()) for name, u in units.items()}


def test_global_removes_the_smallest_wherever_they_are() -> None:
    units = {"a": torch.tensor([5.0, 1.0, 7.0]), "b": torch.tensor([[2.0, 9.0], [3.0, 8.0]])}
    keep = Global()(units, 3 / 7)
    assert keep["a"].tolist() == [True, False, True]
    assert keep["b"].tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.77])
def test_global_meets_its_rate_exactly_when_all_scores_are_equal(rate: float) -> None:
    units = {"a": torch.ones(13), "b": torch.ones(4, 5), "c": torch.ones(67)}
    assert sum(gone(Global()(units, rate)).values()) == round(rate * 100)


def test_a_global_threshold_that_empties_a_layer_keeps_its_best_unit_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    units = {"weak": torch.tensor([0.1, 0.3, 0.2]), "strong": torch.tensor([5.0, 6.0, 7.0, 8.0])}
    with caplog.at_level(logging.WARNING):
        keep = Global()(units, 4 / 7)
    assert keep["weak"].tolist() == [False, True, False]
    assert keep["strong"].tolist() == [
        False,
        False,
        True,
        True,
    ]  # one more goes here, so that the rate is met
    assert "empties weak" in caplog.text


def test_global_refuses_a_rate_that_leaves_less_than_a_unit_a_layer() -> None:
    with pytest.raises(ValueError, match="would keep 1 units in 2 layers"):
        Global()({"a": torch.ones(5), "b": torch.ones(5)}, 0.9)


def test_uniform_never_removes_the_last_unit_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert Uniform()({"tiny": torch.tensor([1.0, 2.0])}, 0.8)["tiny"].tolist() == [False, True]
    assert "tiny: rate=0.8 would remove all its 2 units" in caplog.text


def test_explicit_rates_hold_for_matching_layers_and_ramp_up_with_the_others() -> None:
    units = {name: torch.arange(10.0) for name in ("conv1.weight", "conv2.weight", "fc.weight")}
    explicit = Explicit({"conv1.*": 0.0, "fc.*": 0.9}, target=0.6)
    assert gone(explicit(units, 0.6)) == {"conv1.weight": 0, "conv2.weight": 6, "fc.weight": 9}
    assert gone(explicit(units, 0.4)) == {"conv1.weight": 0, "conv2.weight": 4, "fc.weight": 6}


def test_an_explicit_rate_for_no_layer_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"rates\['fc2'\] matches no layer; there are: fc1"):
        Explicit({"fc2": 0.5}, target=0.5)({"fc1": torch.ones(3)}, 0.5)


@pytest.mark.parametrize("allocation", [Uniform(), Global(), Explicit({}, 0.5)])
def test_nan_scores_are_refused_by_layer(allocation: Uniform | Global | Explicit) -> None:
    with pytest.raises(ValueError, match="sick: its scores contain NaN"):
        allocation({"well": torch.ones(4), "sick": torch.tensor([1.0, torch.nan])}, 0.5)
