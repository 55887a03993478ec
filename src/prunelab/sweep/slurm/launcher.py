"""`hydra/launcher=slurm`: how do the jobs of a sweep get into Slurm's queue, and back when they lose their node?

Slurm and the jobs' folders know all there is to know, so this process may die, and another take its place.
"""

import json
import logging
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from prunelab.sweep.slurm.queue import Job

try:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit
except ImportError:  # Hydra looks at every plugin, whether or not it is asked for

    class Submitit(Launcher):  # type: ignore[no-redef]
        def __init__(self, **params: Any) -> None:
            sys.exit("train: hydra/launcher=slurm needs submitit: pip install 'prunelab[slurm]'")

        def setup(self, **_: Any) -> None: ...


log = logging.getLogger(__name__)
NO_ANSWER = "train: hydra/launcher=slurm: Slurm does not answer here; start it where `squeue` and `sbatch` do"


class SlurmLauncher(Submitit):
    """Hydra's submitit launcher, but that a job leaves a checkpoint before it is queued again.

    `launch` submits what is not yet in Slurm's queue, waits for all, and reads what became of them from their folders.
    """

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from prunelab.store.signals import heeded, stoppable
        from prunelab.sweep.slurm import queue as slurm

        if not slurm.available():
            sys.exit(NO_ANSWER)
        jobs = [self._job(list(overrides), n) for n, overrides in enumerate(job_overrides, initial_job_idx)]
        alone = not heeded()
        with stoppable() as stop:
            with slurm.submitting(Path(self.config.hydra.sweep.dir)):
                if (known := slurm.active()) is None:
                    sys.exit(NO_ANSWER)
                for job in jobs:
                    ticket = slurm.SlurmJobId.of(job.folder)
                    job.ticket = ticket if ticket and ticket.job in known else None
                before = sum(job.ticket is not None for job in jobs)
                self._submit([job for job in jobs if not job.ticket])
            tickets = {job.ticket: job.folder for job in jobs if job.ticket}
            log.info("%d jobs in Slurm, %d since an earlier command", len(tickets), before)
            left = slurm.wait(tickets, stop)
        if left:
            log.warning(
                "%d jobs stay in Slurm: the same command waits for them, this one cancels them: %s",
                len(left),
                slurm.cancel(left),
            )
            if alone:  # a sweeper that knows of no signals would take these jobs for failed, and submit others
                sys.exit(stop.status)
        return [_outcome(job, job.ticket in left) for job in jobs]

    def _job(self, overrides: list[str], number: int) -> "Job":
        """One job, with the settings of the launcher that its own configuration comes to."""
        from prunelab.store.folder import RunDir
        from prunelab.sweep.slurm.queue import Job

        assert self.hydra_context is not None
        before = HydraConfig.instance().cfg
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        HydraConfig.instance().set_config(cfg)  # interpolations ask it
        try:
            folder = RunDir(Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir))
            params = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
        finally:
            HydraConfig.instance().cfg = before
        assert isinstance(params, dict)
        if params["gpus_per_node"] == "auto":
            params["gpus_per_node"] = None if cfg.trainer.accelerator == "cpu" else cfg.trainer.devices
        return Job(overrides, number, folder, {str(key): value for key, value in params.items()})

    def _submit(self, jobs: Sequence["Job"]) -> None:
        """An array for each kind of job, by what it asks of Slurm."""
        from prunelab.sweep.slurm.queue import SlurmJobId

        alike = defaultdict(list)
        for job in jobs:
            alike[json.dumps(job.params, sort_keys=True)].append(job)
        for array in alike.values():
            state = Singleton.get_state()
            for job in array:
                (job.folder.path / "failure.json").unlink(missing_ok=True)
            asked = zip(*[(job.overrides, job.number, str(job.folder.path), state) for job in array], strict=True)
            try:
                submitted = _executor(array[0].params).map_array(self, *asked)
            except RuntimeError as error:  # submitit has printed what sbatch said
                sys.exit(f"train: sbatch took no jobs: {error}")
            for job, there in zip(array, submitted, strict=True):
                job.ticket = SlurmJobId(there.job_id, str(there.paths.stdout))
                job.ticket.leave(job.folder)

    def __call__(self, overrides: list[str], number: int, folder: str, state: dict[type, Singleton]) -> float:
        """The job itself, in each of its processes, on the node."""
        from submitit import JobEnvironment

        from prunelab.job.conf import register_resolvers
        from prunelab.store.folder import RunDir
        from prunelab.store.lock import Busy
        from prunelab.store.signals import Interrupted, stoppable
        from prunelab.sweep.slurm.preemption import Preemption

        register_resolvers()
        here, slurm = RunDir(Path(folder)), JobEnvironment()
        with stoppable() as stop:
            preemption = Preemption(slurm._usr_sig(), stop, self.params["signal_delay_s"] / 2)
            placed = f"hydra.sweep.subdir='{here.path.name}'"  # as when it was submitted, whatever the time is now
            try:
                done = super().__call__([*overrides, placed], "hydra.sweep.dir", number, str(number), state)
            except SystemExit:
                if stop:
                    preemption.leave()
                raise
            if isinstance(done._return_value, Interrupted):
                preemption.leave()
            failed = done.status == JobStatus.FAILED and not isinstance(done._return_value, Busy)
            if failed and slurm.global_rank == 0 and not here.read("failure.json"):
                here.fail(done._return_value)  # it went wrong before the folder was its own
            return float(done.return_value)


def _executor(params: dict[str, Any]) -> Any:
    """submitit's, which takes the settings that only Slurm has under other names."""
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    asked = {key: value for key, value in params.items() if key != "_target_" and value is not None}
    first = {f"slurm_{key}": asked.pop(key) for key in ("max_num_timeout", "python") if key in asked}
    executor = submitit.AutoExecutor(asked.pop("submitit_folder"), cluster="slurm", **first)
    shared = set(OmegaConf.structured(BaseQueueConf))
    executor.update_parameters(**{key if key in shared else f"slurm_{key}": value for key, value in asked.items()})
    return executor


def _outcome(job: "Job", goes_on: bool) -> JobReturn:
    """From the files alone. Where there are none, the reason is what Slurm says."""
    from prunelab.store.failure import Failed
    from prunelab.sweep.slurm import queue as slurm

    outcome = JobReturn(overrides=job.overrides, working_dir=str(job.folder.path))
    if goes_on or job.ticket is None:
        return outcome
    if not job.folder.read("result.json"):
        slurm.settle(job.ticket, job.folder)
    if there := job.folder.read("result.json"):
        outcome.status, outcome._return_value = JobStatus.COMPLETED, float(there["accuracy"])
    elif there := job.folder.read("failure.json"):
        outcome.status, outcome._return_value = JobStatus.FAILED, Failed(there["reason"])
    return outcome
