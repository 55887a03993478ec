"""Prunable parameters: weights of convolutions and linear layers, nothing else."""

import pytest
from torch import nn

from prunelab.core.prunable import prunable_weights


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(4, 2))


def test_biases_norms_and_activations_are_never_prunable() -> None:
    assert list(prunable_weights(net())) == ["0.weight", "4.weight"]


def test_a_shared_weight_counts_once() -> None:
    shared = nn.Linear(3, 3)
    assert list(prunable_weights(nn.Sequential(shared, nn.ReLU(), shared))) == ["0.weight"]
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert list(prunable_weights(tied)) == ["0.weight"]


def test_skipped_names_stay_dense() -> None:
    assert list(prunable_weights(net(), skip=["4.*"])) == ["0.weight"]


def test_a_skip_pattern_that_matches_nothing_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"skip='fc\.\*' matches no prunable weight; there are: 0.weight, 4.weight"):
        prunable_weights(net(), skip=["fc.*"])


def test_a_net_with_nothing_to_prune_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Sequential: nothing to prune, it has no convolution"):
        prunable_weights(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(2)))
    with pytest.raises(ValueError, match="every prunable weight is skipped"):
        prunable_weights(net(), skip=["*"])
