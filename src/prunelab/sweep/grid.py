"""Grid sweep over every combination of values; the same command finishes one that was killed."""

import logging
import sys
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import configure_log, setup_globals

from prunelab.core.text.printable import printable
from prunelab.store.signals import stoppable
from prunelab.sweep import plan as sweep
from prunelab.sweep.pool.launcher import PoolLauncher

log = logging.getLogger(__name__)


class GridSweeper(BasicSweeper):
    """Hydra's sweeper, which also skips finished jobs, reports mistakes before the first job, and prints a summary.

    Its launcher gets the unfinished jobs. The command ends with status 0 only when every job is finished.
    """

    def __init__(self, params: Any = None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> None:
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        lists = self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), None)[0]
        try:
            jobs = sweep.plan(lists, self.hydra_context.config_loader, self.config)
        except (ValueError, OSError, RuntimeError) as error:
            sys.exit(f"train: {printable(error, lines=True)}")
        if isinstance(self.launcher, PoolLauncher):
            self.launcher.said = sweep.names(jobs)[0]
        todo = sweep.unfinished(jobs)
        with stoppable() as stop:
            returns = self.launcher.launch([list(job.overrides) for job in todo], initial_job_idx=0) if todo else []
        sweep.record_returns(todo, returns)
        complete = sweep.print_summary(jobs)
        if not complete:
            sys.exit(stop.status if stop else 1)
