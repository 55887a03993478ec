"""A job of seconds for any method, from what its objects say of themselves."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
import yaml
from compose import compose_job
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from prunelab.callbacks.penalize import Penalize
from prunelab.channels.units import prunable_structure
from prunelab.core.penalty import Reach
from prunelab.core.pruner import Pruner
from prunelab.job.conf import conf_dir, register_resolvers
from prunelab.job.method import Method
from prunelab.lit.classifier import EXAMPLE

register_resolvers()
RATES = (0.6, 0.5)
NETS = ("resnet8", "keras_cnn")  # without linear layers between others; without norms, with drop-out
HOLD = "hold"  # takes its zeros from a pruned network: tests/job/test_hold.py
FEW = 2  # batches: the tiny data have seven


def is_analysis(path: Path) -> bool:
    """Whether a file of conf/prune takes its callback from conf/prune/analysis."""
    return any("analysis" in entry for entry in yaml.safe_load(path.read_text())["defaults"])


def method_names(analyses: bool = False) -> list[str]:
    paths = (conf_dir() / "prune").glob("*.yaml")
    return sorted(path.stem for path in paths if is_analysis(path) == analyses)


@cache
def configuration(*overrides: str) -> DictConfig:
    return compose_job(overrides, Path("nowhere"))


@cache
def built(*overrides: str) -> Method:
    """The callbacks of a job."""
    return _method(configuration(*overrides))


def _method(cfg: DictConfig) -> Method:
    return Method(tuple(instantiate(callback) for callback in (cfg.get("prune") or {}).values()))


def short_job(method: str, *overrides: str, rate: float | None = None) -> list[str]:
    """Overrides for this method, at a rate that it can meet."""
    (pruner,) = built(f"prune={method}", *overrides).pruners
    rate = next(r for r in RATES if _meets(pruner, r)) if rate is None else rate
    short = [f"prune={method}", f"rate={rate}", *overrides, f"model={net_for(NETS, f'prune={method}', *overrides)}"]
    # Rounds of one epoch: of tickets there are five, and a kill in the second epoch falls between two prunings.
    short += ["epochs=1"] if pruner.schedule.in_rounds else []
    short += ["prune.pruning.pruner.passes=5"] if pruner.passes > 5 else []
    criteria = {"criterion": pruner.criterion}
    if pruner.regrow is not None:
        short += ["prune.pruning.pruner.regrow.every=3it"]
        criteria |= {"regrow.drop": pruner.regrow.drop, "regrow.grow": pruner.regrow.grow}
    few = [f"prune.pruning.pruner.{part}.batches={FEW}" for part, c in criteria.items() if c.batches > FEW]
    return short + few


def net_for(nets: Sequence[str], *overrides: str) -> str:
    """The first of `nets` in which the method finds most kinds of units."""
    return max(nets, key=lambda net: _kinds_of_units(net, *overrides))


def _meets(pruner: Pruner, rate: float) -> bool:
    try:
        pruner.granularity.check(rate)
    except ValueError:
        return False
    return True


@cache
def _kinds_of_units(model: str, *overrides: str) -> int:
    """Filters and neurons are two, single weights or blocks one; 0 where the method cannot prune this network."""
    method, net = _method(configuration(*overrides)), _net(model)
    batch = torch.rand(EXAMPLE.shape), torch.arange(len(EXAMPLE))
    makers: set[str] = set()
    try:
        for pruner in method.pruners:
            pruner.attach(net, EXAMPLE, draw=lambda count, _: [batch] * count)
            structure = prunable_structure(pruner.granularity)
            makers |= set(structure.makers if structure else ())
            if not pruner.watches and not pruner.criterion.of_units:  # these have seen no training
                pruner.unit_scores()
        for penalize in (callback for callback in method.others if isinstance(callback, Penalize)):
            penalize.penalty.planned(Reach(1, 1.0, 1.0)).bind(net, method.pruners[0].granularity)
    except ValueError:
        return 0
    return max(1, len({net.get_parameter(name).dim() for name in makers}))


@cache
def _net(model: str) -> nn.Module:
    return instantiate(configuration(f"model={model}").model, num_classes=10)
