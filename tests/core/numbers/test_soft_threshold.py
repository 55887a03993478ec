"""The soft threshold, against values worked out by hand."""

import pytest
import torch
from torch import Tensor

from prunelab.core.numbers.soft_threshold import soft_threshold_


@pytest.mark.parametrize("by", [0.25, [torch.full((4,), 0.25), torch.full((2,), 0.25)]])
def test_each_element_moves_towards_0_and_stops_there(by: float | list[Tensor]) -> None:
    tensors = [torch.tensor([1.0, -1.0, 0.25, -0.125]), torch.tensor([0.0, 0.5])]
    soft_threshold_(tensors, by)
    assert [t.tolist() for t in tensors] == [[0.75, -0.75, 0.0, 0.0], [0.0, 0.25]]
    assert not torch.signbit(tensors[0][2:]).any()


def test_nothing_to_move_is_no_error() -> None:
    soft_threshold_([], 0.25)
