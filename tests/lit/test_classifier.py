"""Metrics of an epoch."""

import pytest
import torch

from prunelab.lit.classifier import EpochMetrics


def test_loss_is_the_mean_over_images_not_over_batches() -> None:
    metrics = EpochMetrics(10)
    logits = torch.zeros(550, 10)
    losses = torch.cat([torch.full((500,), 1.0), torch.full((50,), 3.0)])
    for batch in (slice(0, 500), slice(500, 550)):
        metrics.add(logits[batch], losses[batch], torch.zeros(550, dtype=torch.long)[batch])
    assert metrics.take()["loss"].item() == pytest.approx(650 / 550)
