"""Prunable parameters: trained weights of layers, nothing else; what is left out is named."""

import pytest
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from prunelab.core.network.prunable import left_dense, prunable_weights


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


def test_frozen_weights_are_left_out_and_may_be_skipped_all_the_same() -> None:
    half = net()
    half[0].requires_grad_(False)
    assert list(prunable_weights(half)) == ["4.weight"]
    assert list(prunable_weights(half, skip=["0.*"])) == ["4.weight"]
    with pytest.raises(ValueError, match=r"Sequential: nothing to prune, 0.weight is frozen: train it"):
        prunable_weights(half, skip=["4.*"])


def test_weights_of_attention_and_recurrent_layers_are_prunable() -> None:
    assert list(prunable_weights(nn.MultiheadAttention(4, 2))) == ["in_proj_weight", "out_proj.weight"]
    apart = prunable_weights(nn.MultiheadAttention(4, 2, kdim=3, vdim=5))
    assert list(apart) == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]
    lstm = nn.LSTM(3, 4, bidirectional=True)
    assert list(prunable_weights(lstm)) == [name for name, p in lstm.named_parameters() if p.dim() == 2]
    assert list(prunable_weights(nn.GRUCell(3, 4))) == ["weight_ih", "weight_hh"]


def test_what_is_left_dense_is_named_with_its_share() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), weight_norm(nn.Linear(4, 1, bias=False)),
        nn.Linear(7, 1, bias=False), nn.LayerNorm(2),
    )  # fmt: skip
    assert left_dense(model[:2]) == []
    model[0].requires_grad_(False)
    prune.l1_unstructured(model[1], "weight", 0.5)
    assert list(prunable_weights(model)) == ["3.weight"]
    frozen, unknown = left_dense(model)
    assert frozen == "left dense, 33.3 % of all parameters, frozen: 0.weight"  # 16 of 48
    assert unknown.startswith("left dense, 43.8 % of all parameters, in no layer of a kind")  # 16 + 1 + 4 of 48
    assert unknown.endswith(": 1.weight_orig, 2.parametrizations.weight.original0, 2.parametrizations.weight.original1")
