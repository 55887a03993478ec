"""Re-estimated running statistics are averages over batches, and nothing else changes."""

import torch
from torch import nn

from prunelab.measure.batch_norm import norms, reestimate


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.9), nn.Linear(3, 3), nn.BatchNorm1d(3))
    layers[1].running_mean += 5  # of earlier training
    layers[1].num_batches_tracked += 100
    return layers.eval()


def test_statistics_become_the_averages_over_batches() -> None:
    layers, batches = net(), [torch.randn(8, 4) for _ in range(3)]
    reestimate(layers, batches)
    outputs = [layers[0](x).detach() for x in batches]
    assert torch.allclose(layers[1].running_mean, torch.stack([z.mean(0) for z in outputs]).mean(0), atol=1e-6)
    assert torch.allclose(layers[1].running_var, torch.stack([z.var(0) for z in outputs]).mean(0), atol=1e-6)


def test_deeper_norms_see_normalised_batches_without_dropout() -> None:
    layers, x = net(), torch.randn(16, 4)
    reestimate(layers, [x])
    z = layers[0](x)
    z = (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(layers[4].running_mean, layers[3](z).mean(0), atol=1e-5)


def test_weights_modes_momentum_and_random_state_are_preserved() -> None:
    layers = net()
    layers[1].train()
    before = {name: p.clone() for name, p in layers.named_parameters()}
    state = torch.get_rng_state()
    reestimate(layers, [torch.ones(4, 4)])
    assert all(torch.equal(p, before[name]) for name, p in layers.named_parameters())
    assert [module.training for module in layers] == [False, True, False, False, False]
    assert [norm.momentum for norm in norms(layers)] == [0.1, 0.1]
    assert torch.equal(torch.get_rng_state(), state)


def test_norms_without_running_statistics_are_ignored() -> None:
    assert norms(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.GroupNorm(1, 3))) == []
