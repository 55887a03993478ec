"""2:4 layers are found, and timed on GPUs with sparse tensor cores."""

import pytest
import torch
from torch import nn

from prunelab.measure.semi_structured import semi_structured, two_four


def net(features: int = 128) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, features), nn.Linear(6, 6))
    with torch.no_grad():
        model[0].weight.view(-1, 4)[:, :2] = 0
        model[2].weight.view(-1, 4)[1:, :2] = 0  # one group has four
    return model


def test_only_layers_with_two_of_every_four_are_found() -> None:
    assert list(two_four(net())) == ["0"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_what_it_needs() -> None:
    with pytest.raises(RuntimeError, match="sparse tensor cores"):
        semi_structured(net(), torch.zeros(8, 128))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_compressed_layer_is_timed_beside_the_dense_one() -> None:
    result = semi_structured(net()[:3], torch.randn(64, 128))
    assert result.converted == ("0",)
    assert result.left_dense == ("2",)
    assert result.ratio > 0
