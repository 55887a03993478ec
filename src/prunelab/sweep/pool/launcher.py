"""A sweep on this machine: in turn in this process, or side by side, each job a process on devices of its own."""

import gc
import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from prunelab.store.failure import one_line

log = logging.getLogger(__name__)
OWN = ("hydra.mode", "hydra.run.", "hydra.sweep.", "hydra/sweeper", "hydra.sweeper", "hydra/launcher", "hydra.launcher")


class PoolLauncher(Launcher):
    """`jobs` at a time on each of `devices`: "auto", or a list of GPUs as CUDA_VISIBLE_DEVICES has them.

    Where "auto" comes to one place in all, jobs run in this process, which spares each the seconds of an import.
    """

    def __init__(self, devices: Any = "auto", jobs: int = 1) -> None:
        self.devices, self.jobs = devices, jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        if not isinstance(self.jobs, int) or isinstance(self.jobs, bool) or self.jobs < 1:
            sys.exit(f"train: hydra.launcher.jobs={self.jobs}: expected a whole number of at least 1")
        names = list(map(str, self.devices)) if OmegaConf.is_list(self.devices) else []
        if self.devices != "auto" and (not names or len(set(names)) < len(names)):
            sys.exit(f"train: hydra.launcher.devices={self.devices}: expected auto, or GPUs such as [0,1]")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from prunelab.store.signals import heeded, stoppable
        from prunelab.sweep.pool.devices import DeviceSlots

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        jobs = [list(overrides) for overrides in job_overrides]
        seats = DeviceSlots(self._devices(), self.jobs)
        here = self.devices == "auto" and len(seats) == 1
        alone = not heeded()
        with stoppable() as stop:
            try:
                if here and all(self._needs(job) == 1 for job in jobs):
                    returns = self._in_turn(jobs, initial_job_idx, stop)
                else:
                    returns = self._side_by_side(jobs, seats, stop)
            except KeyboardInterrupt:
                sys.exit(stop.status)
        if stop and alone:  # a sweeper that knows of no signals would go on to other jobs
            sys.exit(stop.status)
        return returns

    def _devices(self) -> list[str]:
        from prunelab.sweep.pool.devices import CPU, visible_gpus

        if self.devices != "auto":
            return list(map(str, self.devices))
        return ([] if self.config.trainer.accelerator == "cpu" else visible_gpus()) or [CPU]

    def _needs(self, job: list[str]) -> int:
        """The devices that a job trains on."""
        asked = [item.partition("=")[2] for item in job if item.lstrip("+").startswith("trainer.devices=")]
        return int(asked[-1] if asked else self.config.trainer.devices)

    def _in_turn(self, jobs: list[list[str]], first: int, stop: Any) -> list[JobReturn]:
        from prunelab.store.lock import Busy, is_held
        from prunelab.sweep.pool.pool import AGAIN

        total = self.config.hydra.sweeper.get("n_trials") or len(jobs)  # a search hands out a few at a time
        returns: dict[int, JobReturn] = {}
        while len(returns) < len(jobs) and not stop:
            before = len(returns)
            for number, overrides in enumerate(jobs):
                if number in returns or stop or is_held(self._folder(overrides).lock):
                    continue
                log.info("#%d of %d: %s", first + number + 1, total, " ".join(filter_overrides(overrides)))
                told = self._run(overrides, first + number)
                if not isinstance(told._return_value, Busy):
                    returns[number] = told
            if len(returns) == before and not stop:  # the jobs that are left are another process's
                time.sleep(AGAIN)
        return [returns.get(number) or _not_begun(overrides) for number, overrides in enumerate(jobs)]

    def _run(self, overrides: list[str], number: int) -> JobReturn:
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(cfg):
            cfg.hydra.job.id = cfg.hydra.job.num = number
        try:
            told = run_job(
                self.task_function, cfg, "hydra.sweep.dir", "hydra.sweep.subdir", hydra_context=self.hydra_context
            )
        except OSError as error:  # its folder cannot be made, or its log not be opened
            told = JobReturn(overrides=overrides, cfg=cfg, status=JobStatus.FAILED, _return_value=error)
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        told.working_dir = str(told.hydra_cfg.hydra.runtime.output_dir) if told.hydra_cfg else None
        if told.status == JobStatus.FAILED:
            log.error("%s", one_line(told._return_value))
            told._return_value = _without_memory(told._return_value)
        return told

    def _side_by_side(self, jobs: list[list[str]], seats: Any, stop: Any) -> list[JobReturn]:
        from prunelab.sweep.pool.pool import Pool, Task
        from prunelab.sweep.pool.progress import SweepProgress

        tasks = [Task(self._command(job), partial(self._folder, job), self._needs(job)) for job in jobs]
        with SweepProgress(len(tasks)) as board:
            try:
                Pool(seats, stop, board).run(tasks)
            except ValueError as error:
                sys.exit(f"train: {error}")
        return [_returned(job, task) for job, task in zip(jobs, tasks, strict=True)]

    def _folder(self, overrides: list[str]) -> Any:
        from prunelab.sweep.plan import composed

        return composed(overrides, self.hydra_context.config_loader, self.config)[1]

    def _command(self, overrides: list[str]) -> Callable[[Any], list[str]]:
        """A fresh `python -m train` of the one job, with the configuration that this process was given."""
        hydra = self.config.hydra
        kept = [item for item in hydra.overrides.hydra if not item.lstrip("+~").startswith(OWN)]
        options = {"main": "--config-path", "command-line": "--config-dir"}
        sources = [source for source in hydra.runtime.config_sources if source.provider in options]
        where = [part for source in sources for part in (options[source.provider], source.path)]
        command = [sys.executable, "-m", "train", *where, "--config-name", hydra.job.config_name, *overrides, *kept]
        return lambda folder: [*command, "hydra.mode=RUN", f"hydra.run.dir={_quoted(str(folder.path))}"]


def _quoted(text: str) -> str:
    """As a value in Hydra's grammar, in which = and , would mean something."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _without_memory(error: BaseException) -> BaseException:
    """The same error; the nets and images in the frames that it went through are let go."""
    link: BaseException | None = error
    while link:
        link.__traceback__, link = None, link.__cause__ or link.__context__
    gc.collect()
    return error


def _not_begun(overrides: list[str]) -> JobReturn:
    from prunelab.store.signals import Interrupted

    return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=Interrupted("stopped before it began"))


def _returned(overrides: list[str], task: Any) -> JobReturn:
    """What a job's folder and its process say: the accuracy, or the reason why there is none."""
    if task.status is None:
        return _not_begun(overrides)
    folder = task.folder
    told = JobReturn(overrides=overrides, working_dir=str(folder.path), status=JobStatus.FAILED)
    result = folder.read("result.json") if task.status == 0 else None
    if result:
        told.status, told.return_value = JobStatus.COMPLETED, float(result["accuracy"])
    else:
        told.return_value = task.problem()
    return told
