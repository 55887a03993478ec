"""What happens around the jobs: values and data are checked before the first, results compared after the last."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from prunelab.__main__ import main as report
from prunelab.runs.check import check_values
from prunelab.runs.folders import refuse_unwritable


class Study(Callback):
    """Ends the command with one line and status 1 when it cannot succeed, before any job and with nothing written.

    Hydra turns exceptions of callbacks into warnings, but lets SystemExit through.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)  # Hydra does so only later, and interpolations need it
        _check([config], Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)
        _check(_jobs(config), Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        report(["report", config.hydra.sweep.dir])


def _jobs(config: DictConfig) -> Iterable[DictConfig]:
    """The configurations of a sweep's jobs, composed anew; other sweepers choose theirs as they go."""
    if not config.hydra.sweeper._target_.endswith("BasicSweeper"):
        return [config]
    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    lists = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    name = config.hydra.job.config_name
    return [hydra.compose(name, list(overrides)) for overrides in lists]


def _check(jobs: Iterable[DictConfig], folder: Path) -> None:
    try:
        refuse_unwritable(folder)
        sources = {}
        for cfg in jobs:
            check_values(cfg)
            sources[OmegaConf.to_yaml(cfg.data, resolve=True, sort_keys=True)] = cfg.data
        for source in sources.values():
            instantiate(source).load()  # downloads and decodes once, for every job
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"train: {error}")
