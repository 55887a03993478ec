"""Which jobs of a sweep are to be run, and what has become of each?"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from prunelab.job.check import check_launcher, check_values
from prunelab.report.publish import publish_if_any
from prunelab.store.failure import one_line
from prunelab.store.folder import RunDir, State
from prunelab.store.identity import asked, config_digest, flat, weights_content
from prunelab.store.naming import refuse_unwritable
from prunelab.store.signals import Interrupted
from prunelab.sweep.outcomes import SweepSummary

log = logging.getLogger(__name__)
MANY = 100  # jobs; to compose so many takes longer than one waits without a word
OPEN = ("precision", "compile", "pretrained")  # values that a job settles when it runs


@dataclass
class Job:
    """One job of a sweep: what was asked of it, and where it stands."""

    overrides: tuple[str, ...]
    folder: RunDir
    values: dict[str, Any] = field(default_factory=dict)  # that can change its result
    accuracy: float | None = None  # where it was finished before, and is not to be looked at again
    problem: BaseException | None = None  # what its launcher said went wrong

    @property
    def state(self) -> State:
        if self.accuracy is not None:
            return "finished"
        state = self.folder.state()
        refused = self.problem is not None and not isinstance(self.problem, Interrupted)
        # A finished folder may be another job's, which this one must not touch.
        return "failed" if refused and state in ("finished", "not begun") else state

    @property
    def reason(self) -> str:
        """Why there is no result, in a line; "" where nothing is known."""
        there = self.folder.read("failure.json") if self.folder.state() == "failed" else None
        return str(there["reason"]) if there else one_line(self.problem) if self.problem else ""


def plan(lists: Iterable[Sequence[str]], loader: Any, config: DictConfig) -> list[Job]:
    """Every job once, in order. Raises ValueError or OSError for what cannot succeed, with nothing written."""
    todo = [tuple(overrides) for overrides in lists]
    if len(todo) >= MANY:
        log.info("looking at %d jobs", len(todo))
    HydraConfig.instance().set_config(config)  # Hydra does so for a job only, and interpolations need it
    _ = config.hydra.sweep.subdir  # fixes ${now:} for every job that is composed from this one
    before, conf = _finished(Path(config.hydra.sweep.dir)), config_digest(config.hydra.runtime.config_sources)
    jobs: dict[Path, Job] = {}
    data: dict[str, DictConfig] = {}
    for overrides in todo:
        if found := before.get(asked(overrides, conf)):
            jobs.setdefault(found[0].path, Job(overrides, found[0], accuracy=found[1]))
            continue
        cfg, folder = composed(overrides, loader, config)
        check_values(cfg)
        check_launcher(cfg, config.hydra)
        job = Job(overrides, folder, flat(cfg))
        if (other := jobs.setdefault(folder.path, job)) is not job:
            _refuse(folder, other.values, job.values, f"{' '.join(other.overrides)} and {' '.join(overrides)} share it")
        if there := folder.read("job.json"):
            _refuse(folder, there["values"], job.values, "it holds another job")
        data[OmegaConf.to_yaml(cfg.data, resolve=True, sort_keys=True)] = cfg.data
    refuse_unwritable(Path(config.hydra.sweep.dir))
    for source in data.values():
        instantiate(source).load()  # downloads and decodes once, for every job
    return list(jobs.values())


def unfinished(jobs: Iterable[Job]) -> list[Job]:
    """The jobs that are left; a line for each of the others."""
    left = []
    for job in jobs:
        if job.accuracy is None:
            left.append(job)
        else:
            log.info("finished before: test %.2f %%  %s", 100 * job.accuracy, job.folder.path.name)
    return left


def record_returns(jobs: Sequence[Job], returns: Sequence[JobReturn]) -> None:
    """Notes what a launcher says of its jobs; it may have ended before all of them began."""
    for job, told in zip(jobs, returns, strict=False):
        if told.status == JobStatus.FAILED:
            job.problem = told._return_value  # the property would raise it
            if job.folder.state() == "not begun" and job.folder.path.is_dir():
                job.folder.fail(job.problem)


def print_summary(jobs: Sequence[Job]) -> bool:
    """Prints the tables of all finished jobs, and what has become of the others; whether there are none of those."""
    for study in dict.fromkeys(job.folder.path.parent for job in jobs):
        if study.is_dir():
            publish_if_any(study)
    outcomes = SweepSummary([(job.folder.path.name, job.state, job.reason) for job in jobs])
    Console().print(outcomes)
    return outcomes.complete


def composed(overrides: Sequence[str], loader: Any, config: DictConfig) -> tuple[DictConfig, RunDir]:
    """The configuration of one job of the sweep `config`, as Hydra composes it, and its folder."""
    cfg: DictConfig = loader.load_sweep_config(config, list(overrides))
    HydraConfig.instance().set_config(cfg)  # interpolations ask it
    folder = RunDir(Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir))
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, folder


def _finished(study: Path) -> dict[str, tuple[RunDir, float]]:
    """The finished jobs of a study and their accuracies, by what was asked of them."""
    jobs, weights = {}, cache(weights_content)
    for path in study.glob("*/result.json"):
        try:
            there = json.loads(path.read_bytes())
            config = there["config"]
            again = config.get("rerun") is True  # which makes one more folder each time it is asked
            if not again and there["values"]["pretrained"] == weights(config["pretrained"]):
                jobs[str(there["asked"])] = RunDir(path.parent), float(there["accuracy"])
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            continue  # damaged, or from an older version
    return jobs


def _refuse(folder: RunDir, there: dict[str, Any], here: dict[str, Any], why: str) -> None:
    differ = [key for key in here if key not in OPEN and there.get(key) != here[key]]
    if differ and there:
        raise ValueError(f"{folder.path}: {why}, with other {', '.join(differ)}; choose another name=")
