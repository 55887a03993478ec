"""The zeros of a network are held, all of them and no other weight."""

import pytest
import torch
from torch import nn

from prunelab.core.dry_run import check_run
from prunelab.core.granularity import Weight
from prunelab.core.held import Held
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm

NOW = Progress(step=0, total=10, epoch=5)


def test_every_zero_is_held_in_a_layer_of_zeros_too() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    net[0].weight.data = torch.tensor([[0.0, -0.5, 1e-30], [-0.0, 2.0, 0.0]])
    net[1].weight.data.zero_()
    pruner = Pruner(Norm(), Weight(), Held(), Rounds(rate=0.5, start=0.0))
    pruner.attach(net)
    check_run(pruner, NOW)
    assert pruner.update(NOW)
    assert pruner.masks["0.weight"].tolist() == [[False, True, True], [False, True, False]]
    assert not pruner.masks["1.weight"].any()
    assert pruner.unit_counts() == {"0.weight": (3, 6), "1.weight": (4, 4)}


def test_a_network_without_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to hold: start from a pruned network, pretrained=PATH"):
        Held()({"a": torch.ones(2)}, 0.5)
