"""`hydra/sweeper=optuna`: a multi-objective search for accuracy at low cost, instead of a grid."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig

from prunelab.job.command.mistakes import end_command
from prunelab.report.publish import publish_if_any
from prunelab.store.identity import changes_result, digest
from prunelab.store.job import Job
from prunelab.store.lock import Busy, held
from prunelab.store.signals import Interrupted, Killed
from prunelab.sweep.plan import OPEN, composed, refuse_impossible
from prunelab.sweep.pool.launcher import PoolLauncher
from prunelab.sweep.search.objectives import directions, outcome
from prunelab.sweep.search.space import Space, parse
from prunelab.sweep.search.trials import Begun, Trials

log = logging.getLogger(__name__)


class OptunaSweeper(Sweeper):
    """conf/hydra/sweeper/optuna.yaml documents the settings."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(
        self, n_trials: int, jobs: int, seed: int, objectives: Sequence[str], params: dict[str, Any] | None = None
    ) -> None:
        self.n_trials, self.jobs, self.seed = n_trials, jobs, seed
        self.objectives = list(objectives)
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        HydraConfig.instance().set_config(config)  # Hydra does so for a job only, and the launcher's settings read it
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the missing trials, and makes the report; a mistake ends the command before the first job."""
        folder = Path(self.config.hydra.sweep.dir)
        with ExitStack() as lock:
            with exit_on_error():
                space, values = self._space([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
                lock.enter_context(held(folder / ".search.lock"))
                trials = self._opened(folder / "search.log", space, values)
            if isinstance(self.launcher, PoolLauncher):
                self.launcher.shared = space.fixed
            if space.fixed:
                log.info("all with %s", " ".join(space.fixed))
            while batch := trials.next(space.searched, self.n_trials, self.jobs, self.seed):
                self._run(batch, space, trials)
            self._conclude(folder, trials, space)

    def _space(self, arguments: list[str]) -> tuple[Space, str]:
        """The search space, once the jobs at its ends have been composed and checked, and a digest of their values."""
        loader = self.hydra_context.config_loader
        for name in ("n_trials", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"hydra.sweeper.{name}={getattr(self, name)}: expected at least 1")
        space = parse(arguments, OverridesParser.create(config_loader=loader))
        jobs = [composed(corner, loader, self.config)[0] for corner in space.corners()]
        for job in jobs:
            instantiate(job.config["data"]).load()
        self._refuse_hopeless(jobs)
        values = {str(end): {k: v for k, v in job.values.items() if k not in OPEN} for end, job in enumerate(jobs)}
        return space, digest(values)

    def _refuse_hopeless(self, jobs: list[Job]) -> None:
        """Raises as `refuse_impossible` does where not one of `jobs` could run; a search passes single failures."""
        problems: list[Exception] = []
        for job in jobs:
            try:
                return refuse_impossible([job], self.config.hydra)
            except (ValueError, RuntimeError) as error:
                problems.append(error)
        raise problems[0]

    def _opened(self, record: Path, space: Space, values: str) -> Trials:
        shared = sorted(o for o in space.fixed if changes_result(o.lstrip("+~").partition("=")[0]))
        settings = {"space": space.described(), "objectives": self.objectives, "fixed overrides": shared}
        settings |= {"values in YAML files": values}
        return Trials(record, settings, directions(self.objectives))

    def _run(self, batch: list[Begun], space: Space, trials: Trials) -> None:
        overrides = [space.overrides(params) for _, params in batch]
        distinct = list(dict.fromkeys(overrides))  # two jobs must not write into one folder at once
        ended = self._launched(distinct, batch[0][0])
        if killed := [job for job in distinct if isinstance(ended[job]._return_value, Killed)]:
            log.warning("%d jobs were killed, and are tried once more", len(killed))
            ended |= self._launched(killed, batch[0][0])
        stopped = {job for job in distinct if type(ended[job]._return_value) is Interrupted}
        for (number, _), job in zip(batch, overrides, strict=True):
            if job not in stopped:
                trials.record(number, self._objectives(number, ended[job]))
        if stopped:
            sys.exit(f"train: {len(stopped)} jobs were interrupted; the same command resumes them")

    def _launched(self, jobs: Sequence[tuple[str, ...]], first: int) -> dict[tuple[str, ...], JobReturn]:
        return dict(zip(jobs, self.launcher.launch([list(job) for job in jobs], initial_job_idx=first), strict=True))

    def _objectives(self, number: int, job: JobReturn) -> list[float] | None:
        try:
            return outcome(job, self.objectives)
        except Exception as error:  # whatever it is, the search continues without this job
            log.warning("trial %d failed: %s: %s", number, type(error).__name__, error)
            return None

    def _conclude(self, folder: Path, trials: Trials, space: Space) -> None:
        """Logs the Pareto-optimal trials by validation data, and makes the report."""
        best = sorted(trials.front(), key=lambda trial: trial.values[-1])
        if not best:
            sys.exit(f"train: all {len(trials.begun())} trials failed")
        log.info("Pareto-optimal trials (%s, on validation data):", ", ".join(self.objectives))
        for trial in best:
            values = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.objectives, trial.values, strict=True))
            log.info("  %s: %s", " ".join(space.overrides(trial.params)[len(space.fixed) :]), values)
        publish_if_any(folder)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Ends the command with one line instead of a traceback when the request is impossible."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, Busy) as error:
        end_command(error)
