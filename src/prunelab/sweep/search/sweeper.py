"""`hydra/sweeper=optuna`: a search for accuracy at little cost, in place of a grid.

Optuna is imported when a search begins: Hydra imports this file at every start.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig

from prunelab.report.publish import publish_if_any
from prunelab.store.lock import Busy, held
from prunelab.sweep.search.objectives import directions, outcome

if TYPE_CHECKING:
    from prunelab.sweep.search.space import Space
    from prunelab.sweep.search.trials import Begun, Trials

log = logging.getLogger(__name__)


class OptunaSweeper(Sweeper):
    """The settings are those of conf/hydra/sweeper/optuna.yaml, which says what they mean."""

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
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the trials that are missing, and makes the report; a mistake ends the command before any job."""
        folder = Path(self.config.hydra.sweep.dir)
        with ExitStack() as lock:
            with in_one_line():
                space = self._space([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
                lock.enter_context(held(folder / ".search.lock"))
                trials = self._opened(folder / "search.log", space)
            while batch := trials.next(space.searched, self.n_trials, self.jobs, self.seed):
                self._run(batch, space, trials)
            self._conclude(folder, trials, space)

    def _space(self, arguments: list[str]) -> "Space":
        """What is searched over, when its extreme jobs compose and have possible values."""
        if find_spec("optuna") is None:
            raise ValueError("hydra/sweeper=optuna needs Optuna: pip install 'optuna>=4'")
        from prunelab.job.check import check_launcher, check_values
        from prunelab.sweep.plan import composed
        from prunelab.sweep.search.space import parse

        loader = self.hydra_context.config_loader
        for name in ("n_trials", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"hydra.sweeper.{name}={getattr(self, name)}: expected at least 1")
        space = parse(arguments, OverridesParser.create(config_loader=loader))
        for corner in space.corners():
            cfg, _ = composed(corner, loader, self.config)
            check_values(cfg)
            check_launcher(cfg, self.config.hydra)
            instantiate(cfg.data).load()
        return space

    def _opened(self, record: Path, space: "Space") -> "Trials":
        from prunelab.store.naming import changes_result
        from prunelab.sweep.search.trials import Trials

        shared = sorted(o for o in space.fixed if changes_result(o.lstrip("+~").partition("=")[0]))
        asked = {"space": space.described(), "objectives": self.objectives, "fixed overrides": shared}
        return Trials(record, asked, directions(self.objectives))

    def _run(self, batch: "list[Begun]", space: "Space", trials: "Trials") -> None:
        overrides = [space.overrides(params) for _, params in batch]
        from prunelab.store.signals import Interrupted

        different = list(dict.fromkeys(overrides))  # two jobs must not write into one folder at once
        returns = self.launcher.launch([list(job) for job in different], initial_job_idx=batch[0][0])
        ended = dict(zip(different, returns, strict=True))
        for (number, _), asked in zip(batch, overrides, strict=True):
            if not isinstance(ended[asked]._return_value, Interrupted):
                trials.tell(number, self._judged(number, ended[asked]))
        if cut := sum(isinstance(told._return_value, Interrupted) for told in returns):
            sys.exit(f"train: {cut} jobs were interrupted; the same command goes on with them")

    def _judged(self, number: int, job: JobReturn) -> list[float] | None:
        try:
            return outcome(job, self.objectives)
        except Exception as error:  # whatever a job died of, the search goes on without it
            log.warning("trial %d failed: %s: %s", number, type(error).__name__, error)
            return None

    def _conclude(self, folder: Path, trials: "Trials", space: "Space") -> None:
        """Says which trials are the best by validation data, and makes the report."""
        best = sorted(trials.front(), key=lambda trial: trial.values[-1])
        if not best:
            sys.exit(f"train: all {len(trials.begun())} trials failed")
        log.info("Not surpassed in %s (on validation data):", " and ".join(self.objectives))
        for trial in best:
            values = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.objectives, trial.values, strict=True))
            log.info("  %s: %s", " ".join(space.overrides(trial.params)[len(space.fixed) :]), values)
        publish_if_any(folder)


@contextmanager
def in_one_line() -> Iterator[None]:
    """Tells what was asked for wrongly, without the lines of code that found it."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, Busy) as error:
        sys.exit(f"train: {error}")
