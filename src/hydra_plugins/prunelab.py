"""Hydra plugins: the launchers and sweepers of prunelab.

Hydra scans this file at every start, so a class imports its namesake in `prunelab.sweep` only when it is used.
"""

import sys
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper


class _Plugin:
    """Implements the abstract methods: Hydra skips abstract classes."""

    def setup(self, **_: Any) -> None: ...

    def launch(self, *_: Any) -> Any: ...

    def sweep(self, *_: Any) -> Any: ...


class PoolLauncher(_Plugin, Launcher):
    def __new__(cls, **settings: Any) -> Any:
        from prunelab.sweep.pool.launcher import PoolLauncher

        return PoolLauncher(**settings)


class SlurmLauncher(_Plugin, Launcher):
    def __new__(cls, **settings: Any) -> Any:
        from prunelab.sweep.slurm.launcher import SlurmLauncher

        return SlurmLauncher(**settings)


class GridSweeper(_Plugin, Sweeper):
    def __new__(cls, **settings: Any) -> Any:
        from prunelab.sweep.grid import GridSweeper

        return GridSweeper(**settings)


class OptunaSweeper(_Plugin, Sweeper):
    def __new__(cls, **settings: Any) -> Any:
        try:
            from prunelab.sweep.search.sweeper import OptunaSweeper
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] != "optuna":
                raise
            sys.exit("train: hydra/sweeper=optuna needs Optuna: pip install 'optuna>=4'")
        return OptunaSweeper(**settings)
