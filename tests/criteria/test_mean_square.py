"""The mean square compares filters of any size."""

import torch
from torch import nn

import prunelab
from prunelab import MeanSquare, Norm
from prunelab.core.context import Context


def test_a_filter_scores_the_mean_square_of_its_weights_by_hand() -> None:
    w = nn.Parameter(torch.tensor([[1.0, -2.0, 2.0], [0.0, 3.0, 0.0]]))
    [scores] = MeanSquare()(Context(nn.Module(), {"w": w}, torch.Generator())).values()
    torch.testing.assert_close(scores.sum(1), torch.tensor([3.0, 3.0]))


def test_under_one_threshold_weak_filters_go_before_small_ones() -> None:
    """A filter of the first layer has 27 weights, one of the second 144, all of 0.1, in eight of these of 0.05."""
    first, second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(16, 2, 3))
    with torch.no_grad():
        first.weight.fill_(0.1)
        second.weight.fill_(0.1)
        second.weight[:8].fill_(0.05)

    def left(criterion: object) -> list[int]:
        small, _ = prunelab.prune(net, torch.zeros(1, 3, 9, 9), rate=0.25, criterion=criterion, allocation="global")
        return [len(weight) for name, weight in small.named_parameters() if name in ("0.weight", "2.weight")]

    assert left(MeanSquare()) == [16, 8]
    assert left(Norm(p=2)) == [8, 16]
