"""`hydra/launcher=slurm`: submits the jobs of a sweep as Slurm job arrays, and waits for them.

All state is in Slurm and the jobs' folders, so this process may die, and another take its place.
"""

import json
import logging
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from prunelab.job.conf import register_resolvers
from prunelab.store.failure import Failed
from prunelab.store.folder import RunDir
from prunelab.store.lock import Busy
from prunelab.store.signals import Interrupted, is_handled, stoppable
from prunelab.sweep.interpreter import SAFE, search_path
from prunelab.sweep.slurm import queue
from prunelab.sweep.slurm.preemption import Preemption
from prunelab.sweep.slurm.queue import SlurmJobId, Submission

try:
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit
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

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if not queue.available():
            sys.exit(NO_ANSWER)
        jobs = [self._submission(list(overrides), n) for n, overrides in enumerate(job_overrides, initial_job_idx)]
        outermost = not is_handled()
        with stoppable() as stop:
            with queue.submitting(Path(self.config.hydra.sweep.dir)):
                if (known := queue.active()) is None:
                    sys.exit(NO_ANSWER)
                for job in jobs:
                    earlier = SlurmJobId.of(job.folder)
                    job.id = earlier if earlier and earlier.job in known else None
                before = sum(job.id is not None for job in jobs)
                self._submit([job for job in jobs if not job.id])
            folders = {job.id: job.folder for job in jobs if job.id}
            log.info("%d jobs in Slurm, %d of them from an earlier command", len(folders), before)
            left = queue.wait(folders, stop)
        if left:
            log.warning(
                "%d jobs stay in Slurm: the same command waits for them, this one cancels them: %s",
                len(left),
                queue.cancel(left),
            )
            if outermost:  # a sweeper that handles no signals would count these as failed, and submit others
                sys.exit(stop.status)
        return [_outcome(job, job.id in left) for job in jobs]

    def _submission(self, overrides: list[str], number: int) -> Submission:
        """One job, with the launcher settings of its own configuration."""
        assert self.hydra_context is not None
        before = HydraConfig.instance().cfg
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        HydraConfig.instance().set_config(cfg)  # interpolations read it
        try:
            folder = RunDir(Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir))
            params = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
        finally:
            HydraConfig.instance().cfg = before
        assert isinstance(params, dict)
        if params["gpus_per_node"] == "auto":
            params["gpus_per_node"] = None if cfg.trainer.accelerator == "cpu" else cfg.trainer.devices
        return Submission(overrides, number, folder, {str(key): value for key, value in params.items()})

    def _submit(self, jobs: Sequence[Submission]) -> None:
        """Submits an array for each kind of job, by what it requests of Slurm."""
        alike = defaultdict(list)
        for job in jobs:
            alike[json.dumps(job.params, sort_keys=True)].append(job)
        for array in alike.values():
            state = Singleton.get_state()
            for job in array:
                with suppress(OSError):  # a folder of that name: the job itself will say so
                    job.folder.forget_failures()
            arguments = zip(*[(job.overrides, job.number, str(job.folder.path), state) for job in array], strict=True)
            try:
                submitted = _executor(array[0].params).map_array(self, *arguments)
            except RuntimeError as error:  # submitit has printed sbatch's message
                sys.exit(f"train: sbatch accepted no jobs: {error}")
            for job, handle in zip(array, submitted, strict=True):
                job.id = SlurmJobId(handle.job_id, str(handle.paths.stdout))
                job.id.save(job.folder)

    def __call__(self, overrides: list[str], number: int, path: str, state: dict[type, Singleton]) -> float:
        """The job itself, in each of its processes, on the node."""
        register_resolvers()
        folder, environment = RunDir(Path(path)), submitit.JobEnvironment()
        with stoppable() as stop:
            preemption = Preemption(environment._usr_sig(), stop, self.params["signal_delay_s"] / 2)
            subdir = f"hydra.sweep.subdir='{folder.path.name}'"  # as when it was submitted, whatever the time is now
            try:
                returned = super().__call__([*overrides, subdir], "hydra.sweep.dir", number, str(number), state)
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


def _executor(params: dict[str, Any]) -> Any:
    """submitit's executor, which has other names for the settings that only Slurm has."""
    given = {key: value for key, value in params.items() if key != "_target_" and value is not None}
    python = f"{given.pop('python', shlex.quote(sys.executable))} {SAFE}"
    path = f"export PYTHONPATH={shlex.quote(search_path())}${{PYTHONPATH:+:$PYTHONPATH}}"
    given["setup"] = [*given.get("setup", []), path]
    first = {"slurm_python": python}
    if "max_num_timeout" in given:
        first["slurm_max_num_timeout"] = given.pop("max_num_timeout")
    executor = submitit.AutoExecutor(given.pop("submitit_folder"), cluster="slurm", **first)
    shared = set(OmegaConf.structured(BaseQueueConf))
    executor.update_parameters(**{key if key in shared else f"slurm_{key}": value for key, value in given.items()})
    return executor


def _outcome(job: Submission, in_queue: bool) -> JobReturn:
    """From the files of the job; where there are none, with the reason from Slurm."""
    outcome = JobReturn(overrides=job.overrides, working_dir=str(job.folder.path))
    if in_queue or job.id is None:
        return outcome
    if not job.folder.result():
        queue.record_end(job.id, job.folder)
    if result := job.folder.result():
        outcome.status, outcome._return_value = JobStatus.COMPLETED, result.accuracy
    elif failure := job.folder.failure():
        outcome.status, outcome._return_value = JobStatus.FAILED, Failed(failure)
    return outcome
