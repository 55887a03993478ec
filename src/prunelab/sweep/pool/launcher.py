"""The launcher for one machine: jobs one after another in this process, or side by side in processes of their own."""

import gc
import logging
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from prunelab.job.command.mistakes import end_command
from prunelab.store.failure import one_line
from prunelab.store.folder import RunDir
from prunelab.store.lock import Busy, in_use, is_held
from prunelab.store.naming import short_name
from prunelab.store.signals import Interrupted, StopRequest, is_handled, stoppable
from prunelab.sweep.interpreter import SAFE
from prunelab.sweep.plan import PlannedJob, configured, folder_of
from prunelab.sweep.pool.devices import CPU, DeviceSlots, absent, visible_gpus
from prunelab.sweep.pool.pool import AGAIN, Pool, Task
from prunelab.sweep.pool.progress import SweepProgress, time_left

log = logging.getLogger(__name__)
# Overrides of the sweep that are not passed to its jobs.
SWEEP = (
    "hydra.mode", "hydra.run.", "hydra.sweep.", "hydra/sweeper", "hydra.sweeper", "hydra/launcher", "hydra.launcher",
)  # fmt: skip


class PoolLauncher(Launcher):
    """Runs `jobs` at a time on each of `devices`: "auto", or a list of GPUs as CUDA_VISIBLE_DEVICES has them.

    With one slot in all, jobs run one after another in this process, which saves each the seconds of an import.
    """

    def __init__(self, devices: Any = "auto", jobs: int = 1) -> None:
        self.devices, self.jobs = devices, jobs
        self.shared: Collection[str] = ()  # overrides that all jobs share, which the sweeper has said
        self.planned: Mapping[tuple[str, ...], PlannedJob] = {}  # as far as the sweeper has composed them

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        if not isinstance(self.jobs, int) or isinstance(self.jobs, bool) or self.jobs < 1:
            sys.exit(f"train: hydra.launcher.jobs={self.jobs}: expected a whole number of at least 1")
        names = list(map(str, self.devices)) if OmegaConf.is_list(self.devices) else []
        if self.devices != "auto" and (not names or len(set(names)) < len(names)):
            sys.exit(f"train: hydra.launcher.devices={self.devices}: expected auto, or GPUs such as [0,1]")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        jobs = [list(overrides) for overrides in job_overrides]
        trainers = [self._trainer(job) for job in jobs]
        needs = [int(trainer["devices"]) for trainer in trainers]
        slots = DeviceSlots(self._devices([trainer["accelerator"] for trainer in trainers]), self.jobs)
        in_process = self.devices == "auto" and len(slots) == 1 and set(needs) == {1}
        outermost = not is_handled()
        with stoppable() as stop:
            try:
                if in_process:
                    returns = self._in_turn(jobs, initial_job_idx, stop)
                else:
                    returns = self._side_by_side(jobs, needs, slots, stop)
            except KeyboardInterrupt:
                sys.exit(stop.status)
        if stop and outermost:  # a sweeper that handles no signals would start other jobs
            sys.exit(stop.status)
        return returns

    def _devices(self, accelerators: Collection[str]) -> list[str]:
        on_cpu = set(accelerators) == {"cpu"}
        if self.devices == "auto":
            return ([] if on_cpu else visible_gpus()) or [CPU]
        names = list(map(str, self.devices))
        if not on_cpu and names != [CPU] and (missing := absent(names)):  # its jobs would train on the CPU
            gone = f"this machine has no GPU {', '.join(missing)}"
            end_command(f"hydra.launcher.devices={self.devices}: {gone}; name others, or drop it")
        return names

    def _trainer(self, job: list[str]) -> Mapping[str, Any]:
        """The settings of a job's Trainer, which may be a file's."""
        if (planned := self.planned.get(tuple(job))) and planned.job:
            return planned.job.config["trainer"]
        return configured(job, self.hydra_context.config_loader, self.config)["trainer"]

    def _in_turn(self, jobs: list[list[str]], first: int, stop: StopRequest) -> list[JobReturn]:
        total = self.config.hydra.sweeper.get("n_trials") or len(jobs)  # a search hands out a few at a time
        returns, said, began = dict[int, JobReturn](), set[int](), time.monotonic()
        while len(returns) < len(jobs) and not stop:
            before = len(returns)
            for number, overrides in enumerate(jobs):
                if number in returns or stop or is_held(self._folder(overrides).lock):
                    continue
                left = f", about {left} left" if (left := time_left(began, len(returns), total - first)) else ""
                log.info("#%d of %d%s: %s", first + number + 1, total, left, self._name(overrides))
                returned = self._run(overrides, first + number)
                if not isinstance(returned._return_value, Busy):
                    returns[number] = returned
            if len(returns) == before and not stop:  # other processes work on the jobs that are left
                for number in {*range(len(jobs))} - returns.keys() - said:
                    log.info("waiting: %s", in_use(self._folder(jobs[number]).lock))
                    said.add(number)
                time.sleep(AGAIN)
        return [returns.get(number) or _not_begun(overrides) for number, overrides in enumerate(jobs)]

    def _run(self, overrides: list[str], number: int) -> JobReturn:
        told = [*overrides, *checks(overrides, self.planned)]
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, told)
        with open_dict(cfg):
            cfg.hydra.job.id = cfg.hydra.job.num = number
        try:
            returned = run_job(
                self.task_function, cfg, "hydra.sweep.dir", "hydra.sweep.subdir", hydra_context=self.hydra_context
            )
        except OSError as error:  # its folder cannot be made, or its log cannot be opened
            returned = JobReturn(overrides=overrides, cfg=cfg, status=JobStatus.FAILED, _return_value=error)
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        returned.working_dir = str(returned.hydra_cfg.hydra.runtime.output_dir) if returned.hydra_cfg else None
        returned.cfg = returned.hydra_cfg = None  # a thousand objects, until the last job of the sweep has ended
        if returned.status == JobStatus.FAILED:
            log.error("%s", one_line(returned._return_value))
            returned._return_value = _without_memory(returned._return_value)
        return returned

    def _side_by_side(
        self, jobs: list[list[str]], needs: list[int], slots: DeviceSlots, stop: StopRequest
    ) -> list[JobReturn]:
        tasks = [
            Task(self._command(job), partial(self._folder, job), devices, self._name(job))
            for job, devices in zip(jobs, needs, strict=True)
        ]
        with SweepProgress(len(tasks)) as progress:
            try:
                Pool(slots, stop, progress).run(tasks)
            except ValueError as error:
                end_command(error)
        return [_outcome(job, task) for job, task in zip(jobs, tasks, strict=True)]

    def _name(self, overrides: list[str]) -> str:
        return short_name(filter_overrides(overrides), self.shared)

    def _folder(self, overrides: list[str]) -> RunDir:
        return folder_of(overrides, self.hydra_context.config_loader, self.config)

    def _command(self, overrides: list[str]) -> Callable[[RunDir], list[str]]:
        """The command that runs this one job in a process of its own, from the configuration of this process."""
        hydra = self.config.hydra
        typed: Any = OmegaConf.to_container(hydra.overrides.hydra)  # a job's number has no value here
        kept = [item for item in typed if not item.lstrip("+~").startswith(SWEEP)]
        options = {"main": "--config-path", "command-line": "--config-dir"}
        sources = [source for source in hydra.runtime.config_sources if source.provider in options]
        where = [part for source in sources for part in (options[source.provider], source.path)]
        python = [sys.executable, SAFE, "-m", "prunelab.train"]
        started = [*python, *where, "--config-name", hydra.job.config_name]
        command = [*started, *overrides, *kept, *checks(overrides, self.planned)]
        return lambda folder: [*command, "hydra.mode=RUN", f"hydra.run.dir={quoted(str(folder.path))}"]


def checks(overrides: Sequence[str], planned: Mapping[tuple[str, ...], PlannedJob]) -> list[str]:
    """What a job is told besides by its sweep; nothing by a search, which checks no job beforehand."""
    job = planned.get(tuple(overrides))
    return [job.check] if job and job.check else []


def quoted(text: str) -> str:
    """Quoted for Hydra's grammar, in which = and , have meanings."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _without_memory(error: BaseException) -> BaseException:
    """The same error without tracebacks, whose frames keep networks and images alive."""
    link: BaseException | None = error
    while link:
        link.__traceback__, link = None, link.__cause__ or link.__context__
    gc.collect()
    return error


def _not_begun(overrides: list[str]) -> JobReturn:
    return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=Interrupted("stopped before it began"))


def _outcome(overrides: list[str], task: Task) -> JobReturn:
    """The accuracy, from the job's folder, or the reason why there is none."""
    if task.status is None:
        return _not_begun(overrides)
    folder = task.folder
    returned = JobReturn(overrides=overrides, working_dir=str(folder.path), status=JobStatus.FAILED)
    result = folder.result() if task.status == 0 else None
    if result:
        returned.status, returned.return_value = JobStatus.COMPLETED, result.accuracy
    else:
        returned.return_value = task.problem()
    return returned
