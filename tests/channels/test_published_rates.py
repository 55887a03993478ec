"""The experiments with rates of a paper remove what the paper says."""

from pathlib import Path

import pytest
from compose import compose_job
from hydra.utils import instantiate
from torch import nn

from prunelab.channels.surgery import shrink
from prunelab.job.conf import register_resolvers
from prunelab.lit.classifier import EXAMPLE
from prunelab.measure.macs import uses

register_resolvers()


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "published", "tolerance"), [
    ("li_vgg16", 0.342, 0.001), ("li_resnet56", 0.276, 0.006),  # Li et al. 2017, Table 1: FLOPs removed
])  # fmt: skip
def test_the_rates_of_li_et_al_remove_their_share_of_macs(experiment: str, published: float, tolerance: float) -> None:
    cfg = compose_job([f"experiment={experiment}"], Path("nowhere"))
    net = nn.ModuleDict({"net": instantiate(cfg.model, num_classes=10)})  # named as in a job
    net.forward = net["net"].forward
    pruner = instantiate(cfg.prune.pruning).pruner
    before = sum(use.macs for use in uses(net, EXAMPLE[:1]))
    pruner.attach(net, EXAMPLE)
    shrink(net, pruner.granularity.plan(pruner.masks_at(cfg.rate)))
    assert 1 - sum(use.macs for use in uses(net, EXAMPLE[:1])) / before == pytest.approx(published, abs=tolerance)
