"""Grid sweep over every combination of values; the same command finishes one that was killed."""

import logging
import sys
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log, setup_globals
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from prunelab.job.command.mistakes import end_command
from prunelab.store.signals import stoppable
from prunelab.sweep import plan as sweep
from prunelab.sweep.params import at_scale, combinations, grids_of
from prunelab.sweep.pool.launcher import PoolLauncher

log = logging.getLogger(__name__)


class GridSweeper(Sweeper):
    """Hydra's sweeper, which also skips finished jobs, reports mistakes before the first job, and prints a summary.

    `params` are sweeps, as a dictionary, or a list of such, one after the other; `scales` are further values of all, by
    the name that `scale` has in the configuration. What the command line sets goes before both. The launcher gets the
    unfinished jobs. The command ends with status 0 only when every job is finished.
    """

    def __init__(self, params: Any = None, scales: Any = None) -> None:
        self.grids = grids_of(params)
        self.scales = scales

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        HydraConfig.instance().set_config(config)  # Hydra does so for a job only, and the launcher's settings read it
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        try:
            shared = at_scale(self.scales, self.config.get("scale"))
            grids = [{**shared, **grid} for grid in self.grids]
            jobs = sweep.plan(combinations(grids, arguments, parser), self.hydra_context.config_loader, self.config)
        except (ValueError, OSError, RuntimeError) as error:
            end_command(error)
        if isinstance(self.launcher, PoolLauncher):
            self.launcher.shared = sweep.names(jobs)[0]
        todo = sweep.unfinished(jobs)
        if hasattr(self.launcher, "planned"):  # one of ours
            self.launcher.planned = {planned.overrides: planned for planned in todo}
        with stoppable() as stop:
            returns = self.launcher.launch([list(job.overrides) for job in todo], initial_job_idx=0) if todo else []
        sweep.record_returns(todo, returns)
        complete = sweep.print_summary(jobs)
        if not complete:
            sys.exit(stop.status if stop else 1)
