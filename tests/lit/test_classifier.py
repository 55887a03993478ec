"""Metrics of an epoch."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from prunelab.lit.classifier import EpochMetrics


def test_loss_is_the_mean_over_images_not_over_batches() -> None:
    metrics = EpochMetrics()
    logits = torch.zeros(550, 10)
    losses = torch.cat([torch.full((500,), 1.0), torch.full((50,), 3.0)])
    for batch in (slice(0, 500), slice(500, 550)):
        metrics.add(logits[batch], losses[batch], torch.zeros(550, dtype=torch.long)[batch])
    assert metrics.take(torch.device("cpu"))["loss"].item() == pytest.approx(650 / 550)


def batches(sizes: list[int]) -> list[tuple[Tensor, Tensor, Tensor]]:
    g = torch.Generator().manual_seed(0)
    made = [(torch.randn(n, 10, generator=g), torch.randint(0, 10, (n,), generator=g)) for n in sizes]
    return [(logits, F.cross_entropy(logits, y, reduction="none"), y) for logits, y in made]


@pytest.mark.parametrize("mean", [True, False])
def test_means_have_the_bits_of_torchmetrics_also_from_sums_that_0_1_0_saved(mean: bool) -> None:
    ours, loss, acc = EpochMetrics(), MeanMetric(), MulticlassAccuracy(10, average="micro")
    for i, (logits, losses, y) in enumerate(batches([64] * 40 + [17])):
        if i == 20:
            theirs = {"loss": loss, "acc": acc}
            ours = EpochMetrics()
            ours.restore({f"{n}.{key}": getattr(m, key).clone() for n, m in theirs.items() for key in m.metric_state})
        if i == 30:
            ours, before = EpochMetrics(), ours
            ours.restore(before.sums())
        values = losses.mean() if mean else losses
        ours.add(logits, values, y)
        loss.update(values)
        acc.update(logits, y)
    means = ours.take(torch.device("cpu"))
    assert torch.equal(means["loss"], loss.compute())
    assert torch.equal(means["acc"], acc.compute())
    assert ours.take(torch.device("cpu"))["loss"].isnan()  # they are reset
