"""A job of a second for any method, from what its objects say of themselves."""

from functools import cache
from pathlib import Path

import yaml
from compose import compose_job
from hydra.utils import instantiate

from prunelab.core.pruner import Pruner
from prunelab.job.conf import conf_dir, register_resolvers
from prunelab.job.method import Method

register_resolvers()
RATES = (0.6, 0.5)
HOLD = "hold"  # takes its zeros from a pruned network: tests/job/test_hold.py
FEW = 2  # batches: the tiny data have seven


def is_analysis(path: Path) -> bool:
    """Whether a file of conf/prune takes its callback from conf/prune/analysis."""
    return any("analysis" in entry for entry in yaml.safe_load(path.read_text())["defaults"])


def method_names(analyses: bool = False) -> list[str]:
    paths = (conf_dir() / "prune").glob("*.yaml")
    return sorted(path.stem for path in paths if is_analysis(path) == analyses)


@cache
def built(*overrides: str) -> Method:
    """The callbacks of a job."""
    prune = compose_job(overrides, Path("nowhere")).get("prune") or {}
    return Method(tuple(instantiate(callback) for callback in prune.values()))


def short_job(method: str, *overrides: str, rate: float | None = None) -> list[str]:
    """Overrides for this method, at a rate that it can meet."""
    (pruner,) = built(f"prune={method}", *overrides).pruners
    rate = next(r for r in RATES if _meets(pruner, r)) if rate is None else rate
    short = [f"prune={method}", f"rate={rate}", *overrides]
    # Rounds of one epoch: of tickets there are five, and a kill in the second epoch falls between two prunings.
    short += ["epochs=1"] if pruner.schedule.in_rounds else []
    short += ["prune.pruning.pruner.passes=5"] if pruner.passes > 5 else []
    criteria = {"criterion": pruner.criterion}
    if pruner.regrow is not None:
        short += ["prune.pruning.pruner.regrow.every=3it"]
        criteria |= {"regrow.drop": pruner.regrow.drop, "regrow.grow": pruner.regrow.grow}
    few = [f"prune.pruning.pruner.{part}.batches={FEW}" for part, c in criteria.items() if c.batches > FEW]
    return short + few


def _meets(pruner: Pruner, rate: float) -> bool:
    try:
        pruner.granularity.check(rate)
    except ValueError:
        return False
    return True
