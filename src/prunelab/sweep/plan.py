"""The jobs of a sweep: which are left to run, and the outcome of each."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from prunelab.core.text.printable import printable
from prunelab.job.check import check_launcher, check_same_sweep, jobs_run_here
from prunelab.job.command.ignored import refuse_choices_of_files
from prunelab.job.command.mistakes import explain, naming_the_job
from prunelab.job.conf import job_of, planned_as, yaml_digest
from prunelab.measure.terminal_table import output
from prunelab.report.publish import publish_if_any
from prunelab.store.failure import one_line
from prunelab.store.folder import RunDir, State, refuse_unwritable
from prunelab.store.identity import flat, overrides_digest, versions
from prunelab.store.job import Job, differing
from prunelab.store.lock import Busy
from prunelab.store.naming import short_name, short_names
from prunelab.store.own_code import own_code
from prunelab.store.signals import Interrupted
from prunelab.store.weights import weights_content
from prunelab.sweep.outcomes import SweepSummary

log = logging.getLogger(__name__)
MANY = 100  # jobs; composing so many takes seconds, so it is logged
OPEN = ("precision", "compile", "pretrained", "data.fingerprint", "trainer.devices")  # a job settles these when it runs


@dataclass
class PlannedJob:
    """One job of a sweep, and its state."""

    overrides: tuple[str, ...]
    folder: RunDir
    job: Job | None = None  # as its folder has it, and not composed, if already finished
    accuracy: float | None = None  # if already finished
    problem: BaseException | None = None  # the error that its launcher reported
    check: str = ""  # the override by which it sees that it is still composed so

    @property
    def state(self) -> State:
        if self.accuracy is not None:
            return "finished"
        state = self.folder.state()
        return "failed" if self.refused and state != "running" else state

    @property
    def refused(self) -> bool:
        """Whether it failed by what its launcher reported, whatever its folder says, which may be another job's."""
        return self.problem is not None and not isinstance(self.problem, Interrupted | Busy)

    @property
    def reason(self) -> str:
        """Why there is no result, in a line, or else what becomes of the job."""
        failure = self.folder.failure() if self.folder.state() == "failed" else None
        return failure or (one_line(self.problem) if self.problem else self.folder.future(self.state))


def plan(lists: Iterable[Sequence[str]], loader: Any, config: DictConfig) -> list[PlannedJob]:
    """Every job once, in order. Raises ValueError or OSError for what cannot succeed, with nothing written."""
    todo = [tuple(overrides) for overrides in lists]
    if len(todo) >= MANY:
        log.info("composing %d jobs", len(todo))
    HydraConfig.instance().set_config(config)  # Hydra does so for a job only, and interpolations need it
    typed_of_hydra: Any = OmegaConf.to_container(config.hydra.overrides.hydra)  # with interpolations as they stand
    for typed in typed_of_hydra:
        if typed.lstrip("+~").startswith("hydra.run."):
            raise ValueError(f"{typed}: that is of a single job; drop -m, or give hydra.sweep.dir=... or name=...")
    if not _numbered(config, 0):
        _ = config.hydra.sweep.subdir  # fixes ${now:} for every job that is composed from this one
    finished, conf = _finished(Path(config.hydra.sweep.dir)), yaml_digest(config.hydra)
    jobs: dict[Path, PlannedJob] = {}
    changed: dict[str, None] = {}
    now = cache(versions)
    for number, overrides in enumerate(todo):
        if before := finished.get(overrides_digest(overrides, conf)):
            (folder, accuracy, job), check = before, ""
            changed |= dict.fromkeys(job.changed(now()))
        else:
            given, overrides, accuracy = overrides, (*overrides, *_numbered(config, number)), None
            with naming_the_job(given, todo):
                job, folder, check = composed(overrides, loader, config)
        planned = PlannedJob(overrides, folder, job, accuracy, check=check)
        other = jobs.setdefault(folder.path, planned)
        if other is not planned:
            _refuse_two(other, planned)
        if accuracy is None:
            _refuse_other(folder, job)
    refuse_unwritable(Path(config.hydra.sweep.dir))
    log.info("%d jobs in %s%s", len(jobs), config.hydra.sweep.dir, unpruned([p.job for p in jobs.values() if p.job]))
    if changed:
        log.warning("%s: changed since jobs finished that are skipped; rerun=true trains anew", ", ".join(changed))
    if share := names(jobs.values())[0]:
        log.info("all with %s", " ".join(share))
    if left := [
        planned.job
        for planned in jobs.values()
        if planned.accuracy is None and planned.job and not _has_result(planned.folder, planned.job)
    ]:
        refuse_impossible(left, config.hydra)
    return list(jobs.values())


def names(jobs: Iterable[PlannedJob]) -> tuple[list[str], dict[Path, str]]:
    """What all jobs of a sweep share, and a name of each that leaves it out."""
    return short_names({job.folder.path: filter_overrides(job.overrides) for job in jobs})


def _numbered(config: DictConfig, number: int) -> list[str]:
    """The override that says the folder of a job, where it is named by the job's number in the command.

    A launcher gets the unfinished jobs alone, and would count these.
    """
    hydra: Any = OmegaConf.to_container(config.hydra.sweep)
    subdir = re.sub(r"\$\{hydra[:.]job\.(num|id)\}", str(number), str(hydra["subdir"]))
    return [f"hydra.sweep.subdir={subdir}"] if subdir != hydra["subdir"] else []


def unpruned(jobs: Sequence[Job]) -> str:
    """Says so where there are methods that prune, and nobody typed a rate by which they would; else ""."""
    asked = [job for job in jobs if _wants_rate(job)]
    typed = any(override.startswith("rate=") for job in jobs for override in job.overrides)
    if not asked or typed or any(job.rate for job in jobs):
        return ""
    methods = dict.fromkeys(job.method for job in asked)
    return f"; prune={','.join(methods)} without rate: nothing will be pruned, add rate=0.8"


def _wants_rate(job: Job) -> bool:
    """Whether the method does nothing, because its rate is 0; analyses and binary weights do, and hold has its own."""
    parts = job.config["prune"]
    idle = job.values.get("prune.pruning.pruner.schedule.rate") == 0
    return idle and "binarize" not in parts and ".analysis." not in parts["pruning"]["_target_"]


def refuse_impossible(jobs: Iterable[Job], hydra: HydraConf) -> None:
    """Raises ValueError, OSError or RuntimeError for a job that would fail; writes only the data's cache."""
    from prunelab.job.rehearsal import rehearse  # imports torch, which composing does not need

    try:
        rehearse(jobs, here=jobs_run_here(hydra))
    except InstantiationException as error:  # of a class in `_target_`
        raise ValueError(explain(error)) from error


def unfinished(jobs: Sequence[PlannedJob]) -> list[PlannedJob]:
    """The jobs that are left; logs a line for each of the others."""
    left, (_, name) = [], names(jobs)
    for job in jobs:
        if job.accuracy is None:
            left.append(job)
        else:
            log.info("already finished, skipped: test %.2f %%  %s", 100 * job.accuracy, name[job.folder.path])
    return left


def record_returns(jobs: Sequence[PlannedJob], returns: Sequence[JobReturn]) -> None:
    """Records what a launcher returned; fewer than `jobs` if it ended early."""
    for job, returned in zip(jobs, returns, strict=False):
        if returned.status == JobStatus.FAILED:
            job.problem = returned._return_value  # the property would raise it
            # What ended before it locked its folder has left no failure.json; a begun folder may be another job's.
            if job.refused and job.folder.state() == "not begun" and job.folder.path.is_dir():
                job.folder.fail(job.problem)


def print_summary(jobs: Sequence[PlannedJob]) -> bool:
    """Prints the tables of all finished jobs and the state of the others; returns whether all are finished."""
    studies = [study for study in dict.fromkeys(job.folder.path.parent for job in jobs) if study.is_dir()]
    pages = [publish_if_any(study) for study in studies]
    share, name = names(jobs)
    summary = SweepSummary([(name[job.folder.path], job.state, job.reason) for job in jobs], share)
    output().print(summary)
    for page in filter(None, pages):
        print(f"Open {printable(page)}")
    return summary.complete


def composed(overrides: Sequence[str], loader: Any, config: DictConfig) -> tuple[Job, RunDir, str]:
    """One job of the sweep `config`, as Hydra composes it, its folder, and its `check`. Raises as `job_of` does."""
    cfg = configured(overrides, loader, config)
    refuse_choices_of_files(cfg.hydra)
    check_same_sweep(config.hydra, cfg.hydra)
    job = job_of(cfg, cfg.hydra)
    check_launcher(job.devices, cfg.hydra)
    own_code(job.values)  # as it is now, before a job in this process imports it
    folder = _run_dir(cfg)
    return job, folder, planned_as(cfg, folder.path)


def folder_of(overrides: Sequence[str], loader: Any, config: DictConfig) -> RunDir:
    """The folder of one job of the sweep `config`, whose values may be impossible."""
    return _run_dir(configured(overrides, loader, config))


def configured(overrides: Sequence[str], loader: Any, config: DictConfig) -> DictConfig:
    """The configuration of one job of the sweep `config`, whose values may be impossible."""
    cfg: DictConfig = loader.load_sweep_config(config, list(overrides))
    HydraConfig.instance().set_config(cfg)  # interpolations read it
    return cfg


def _run_dir(cfg: DictConfig) -> RunDir:
    return RunDir(Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir))


def _finished(study: Path) -> dict[str, tuple[RunDir, float, Job]]:
    """The finished jobs of a study: folder, accuracy and specification, by `Job.asked`."""
    jobs, weights = {}, cache(weights_content)
    for path in study.glob("*/result.json"):
        if (result := RunDir(path.parent).result_without_layers()) is None:
            continue  # damaged, or from a newer version
        job = result.job
        rerun = job.config.get("rerun") is True  # makes a new folder each time
        try:
            if not rerun and job.values["pretrained"] == weights(job.pretrained):
                jobs[job.asked] = RunDir(path.parent), result.accuracy, job
        except (OSError, LookupError, TypeError, ValueError):
            continue  # its pretrained weights are gone, or it names none that can be read
    return jobs


def _has_result(folder: RunDir, job: Job) -> bool:
    """Whether the job is finished, as far as can be said before it is settled; typed otherwise or with other YAML."""
    result = folder.result_without_layers()
    return result is not None and not differing(result.job, job, but=OPEN)


def _refuse_other(folder: RunDir, job: Job) -> None:
    """Raises ValueError where another job lies in the folder, as far as can be said before `job` is settled."""
    before = folder.job()
    if before and (differ := differing(before, job, but=OPEN)):
        raise ValueError(f"{folder.path}: it holds another job, with other {', '.join(differ)}; choose another name=")


def _refuse_two(one: PlannedJob, other: PlannedJob) -> None:
    """Raises ValueError where two jobs of one sweep, which differ, have one folder."""
    assert one.job
    assert other.job
    if differ := differing(_as_asked(one.job), _as_asked(other.job)):
        both = [short_name(a.overrides, b.overrides) for a, b in ((one, other), (other, one))]
        raise ValueError(
            f"{one.folder.path}: {' and '.join(both)} share this folder, whose name does not show in what they differ, "
            f"{', '.join(differ)}; run each by itself, with its own name="
        )


def _as_asked(job: Job) -> Job:
    """With all that its configuration says, whatever the job has settled."""
    asked = {"pretrained": weights_content(job.pretrained), "trainer.devices": job.devices}
    return replace(job, values=flat(job.config) | asked | {"data.root": job.config["data"].get("root")})
