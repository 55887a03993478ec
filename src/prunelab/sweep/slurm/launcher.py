"""`hydra/launcher=slurm`: submits the jobs of a sweep as Slurm job arrays, and waits for them.

All state is in Slurm and the jobs' folders, so this process may die, and another take its place.
"""

import json
import logging
import os
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from prunelab.job.command.mistakes import end_command
from prunelab.job.conf import register_resolvers
from prunelab.store.failure import Failed
from prunelab.store.folder import RunDir
from prunelab.store.lock import Busy, is_held
from prunelab.store.signals import Interrupted, is_handled, stoppable
from prunelab.sweep.interpreter import SAFE, search_path
from prunelab.sweep.plan import PlannedJob
from prunelab.sweep.pool.launcher import checks, quoted
from prunelab.sweep.slurm import queue
from prunelab.sweep.slurm.preemption import Preemption
from prunelab.sweep.slurm.queue import SlurmJobId, Submission

try:
    import submitit
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit

    from prunelab.sweep.slurm import settings
except ImportError:

    class Submitit(Launcher):  # type: ignore[no-redef]
        def __init__(self, **params: Any) -> None:
            sys.exit("train: hydra/launcher=slurm needs submitit: pip install 'prunelab[slurm]'")

        def setup(self, **_: Any) -> None: ...


log = logging.getLogger(__name__)
NO_ANSWER = "train: hydra/launcher=slurm: Slurm does not answer here; start it where `squeue` and `sbatch` work"


class SlurmLauncher(Submitit):
    """Hydra's submitit launcher, whose jobs leave a checkpoint before they are queued again.

    `launch` submits what is not yet in Slurm's queue, waits for all, and reads their outcomes from their folders.
    """

    planned: Mapping[tuple[str, ...], PlannedJob] = {}  # as far as the sweeper has composed them

    def setup(self, **context: Any) -> None:
        super().setup(**context)
        try:
            settings.check(self.params)
        except ValueError as error:
            end_command(error)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if not queue.available():
            sys.exit(NO_ANSWER)
        jobs = [self._submission(list(overrides), n) for n, overrides in enumerate(job_overrides, initial_job_idx)]
        self.planned = {}  # each job gets a copy of this launcher
        outermost = not is_handled()
        with stoppable() as stop:
            with queue.submitting(Path(self.config.hydra.sweep.dir), stop):
                if (known := queue.active()) is None:
                    sys.exit(NO_ANSWER)
                for job in jobs:
                    earlier = SlurmJobId.of(job.folder)
                    job.id = earlier if earlier and earlier.job in known else None
                before = sum(job.id is not None for job in jobs)
                self._submit([] if stop else [job for job in jobs if not job.id])
            if all(job.refused for job in jobs):
                sys.exit(f"train: sbatch accepted no jobs: {jobs[0].refused}")
            folders = {job.id: job.folder for job in jobs if job.id}
            log.info("%d jobs in Slurm, %d of them from an earlier command", len(folders), before)
            left = queue.wait(folders, stop)
        if left:
            log.warning(
                "%d jobs stay in Slurm: the same command waits for them, this one cancels them: %s",
                len(left),
                queue.cancel(left),
            )
        if unsent := [job for job in jobs if not job.id and not job.refused]:
            log.warning("%d jobs were not submitted: the same command submits them", len(unsent))
        if (left or unsent) and outermost:  # a sweeper that handles no signals would count these as failed
            sys.exit(stop.status)
        return [_outcome(job, job.id in left or job in unsent) for job in jobs]

    def _submission(self, overrides: list[str], number: int) -> Submission:
        """One job, with the launcher settings of its own configuration."""
        assert self.hydra_context is not None
        before = HydraConfig.instance().cfg
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        HydraConfig.instance().set_config(cfg)  # interpolations read it
        try:
            subdir = str(cfg.hydra.sweep.subdir)
            folder = RunDir(Path(cfg.hydra.sweep.dir) / subdir)
            given = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
        finally:
            HydraConfig.instance().cfg = before
        assert isinstance(given, dict)
        params = {str(key): value for key, value in given.items()}
        settings.check(params)  # a file that is swept over may set them
        if params["gpus_per_node"] == "auto":
            params["gpus_per_node"] = None if cfg.trainer.accelerator == "cpu" else cfg.trainer.devices
        params["name"] = str(params["name"])  # of a study whose name is a number
        fixed = f"hydra.sweep.subdir={quoted(subdir)}"  # as it is now, whatever the time is when the job begins
        return Submission([*overrides, *checks(overrides, self.planned), fixed], number, folder, params)

    def _submit(self, jobs: Sequence[Submission]) -> None:
        """Submits the jobs of each kind, by what they request of Slurm, as arrays as long as Slurm takes."""
        alike = defaultdict(list)
        for job in jobs:
            alike[json.dumps(job.params, sort_keys=True)].append(job)
        limit = queue.array_limit()
        for kind in alike.values():
            for first in range(0, len(kind), limit):
                self._submit_array(kind[first : first + limit])

    def _submit_array(self, jobs: Sequence[Submission]) -> None:
        state = Singleton.get_state()
        for job in jobs:
            with suppress(OSError):  # a folder of that name: the job itself will say so
                job.folder.forget_failures()
        arguments = zip(*[(job.overrides, job.number, str(job.folder.path), state) for job in jobs], strict=True)
        try:
            with _outside_allocation():
                submitted = _executor(jobs[0].params).map_array(self, *arguments)
        except RuntimeError as error:
            for job in jobs:
                job.refused = " ".join(str(error).split()) or "sbatch gave no reason"
            return
        for job, handle in zip(jobs, submitted, strict=True):
            job.id = SlurmJobId(handle.job_id, str(handle.paths.stdout))
            try:
                job.id.save(job.folder)
            except OSError as error:  # the ids of the others are worth all the more
                log.warning("%s: another command would submit job %s again: %s", job.folder.path, job.id.job, error)

    def __call__(self, overrides: list[str], number: int, path: str, state: dict[type, Singleton]) -> float:
        """The job itself, in each of its processes, on the node."""
        register_resolvers()
        folder, environment = RunDir(Path(path)), submitit.JobEnvironment()
        with stoppable() as stop:
            preemption = Preemption(environment._usr_sig(), stop, self.params["signal_delay_s"] / 2)
            try:
                returned = super().__call__(overrides, "hydra.sweep.dir", number, str(number), state)
            except SystemExit:
                if stop:
                    preemption.leave()
                raise
            if isinstance(returned._return_value, Interrupted):
                preemption.leave()
            failed = returned.status == JobStatus.FAILED and not isinstance(returned._return_value, Busy)
            if failed and environment.global_rank == 0 and not folder.failure():
                folder.fail(returned._return_value)  # it failed before it had locked its folder
            return float(returned.return_value)


@contextmanager
def _outside_allocation() -> Iterator[None]:
    """Hides what Slurm has set where this command is itself a job: its jobs would inherit that beside their own."""
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    mine = ("SLURM_CONF", "SBATCH_", "MASTER_")  # which a user sets
    kept = {name: value for name, value in os.environ.items() if name.startswith(mine)}
    with submitit.helpers.clean_env():
        os.environ.update(kept)
        yield


def _executor(params: dict[str, Any]) -> Any:
    """submitit's executor, which has other names for the settings that only Slurm has."""
    given = {key: value for key, value in params.items() if key != "_target_" and value is not None}
    python = f"{given.pop('python', shlex.quote(sys.executable))} {SAFE}"
    path = f"export PYTHONPATH={shlex.quote(search_path())}${{PYTHONPATH:+:$PYTHONPATH}}"
    given["setup"] = [*given.get("setup", []), "unset SLURM_EXPORT_ENV", path]  # srun hands on what is set here
    if "srun_args" in given:
        given["srun_args"] = [arg for arg in given["srun_args"] if not arg.endswith("=None")]  # null
    first = {"slurm_python": python}
    if "max_num_timeout" in given:
        first["slurm_max_num_timeout"] = given.pop("max_num_timeout")
    executor = submitit.AutoExecutor(given.pop("submitit_folder"), cluster="slurm", **first)
    executor.update_parameters(
        **{key if key in settings.SHARED else f"slurm_{key}": value for key, value in given.items()}
    )
    return executor


def _outcome(job: Submission, in_queue: bool) -> JobReturn:
    """From the files of the job, which has none where it was cancelled, or where the disk is full."""
    outcome = JobReturn(overrides=job.overrides, working_dir=str(job.folder.path))
    if in_queue:
        return outcome
    outcome.status = JobStatus.FAILED
    if job.refused:
        outcome._return_value = Failed(job.refused)
    elif result := job.folder.result():
        outcome.status, outcome._return_value = JobStatus.COMPLETED, result.accuracy
    elif failure := job.folder.failure():
        outcome._return_value = Failed(failure)
    elif is_held(job.folder.lock):
        outcome._return_value = Busy("another process works on it")
    else:
        outcome._return_value = Interrupted("ended in Slurm without a result, as when it is cancelled")
    return outcome
