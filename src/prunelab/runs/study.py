"""What happens around the jobs: values and data are checked before the first, results compared after the last."""

import sys
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from prunelab.__main__ import main as prunelab
from prunelab.runs.check import check_launcher, check_values
from prunelab.runs.folders import refuse_unwritable


class Study(Callback):
    """Ends the command with one line and status 1 when it cannot succeed, before any job and with nothing written.

    Hydra turns exceptions of callbacks into warnings, but lets SystemExit through. It calls on_multirun_end only
    when every job succeeded; the table is due all the same, so it follows the last job.
    """

    def __init__(self) -> None:
        self.left = 0  # jobs of the sweep that have not ended
        self.folders: dict[Path, None] = {}  # that they wrote into, in order

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)  # Hydra does so only later, and interpolations need it
        _check([config], Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)
        jobs = _jobs(config)
        _check(jobs, Path(config.hydra.sweep.dir))
        self.left = len(jobs)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        self.left -= 1
        self.folders[Path(config.hydra.runtime.output_dir).parent] = None
        if self.left == 0:
            self._report()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self.left > 0:  # the jobs ran in other processes
            self.folders[Path(config.hydra.sweep.dir)] = None
            self._report()

    def _report(self) -> None:
        for folder in self.folders:
            prunelab(["report", str(folder)])


def _jobs(config: DictConfig) -> list[DictConfig]:
    """The configurations of a sweep's jobs, composed anew; other sweepers choose theirs as they go."""
    if not config.hydra.sweeper._target_.endswith("BasicSweeper"):
        return [config]
    asked = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*asked, *config.hydra.overrides.task])
    lists = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    return [hydra.compose(config.hydra.job.config_name, list(overrides)) for overrides in lists]


def _check(jobs: list[DictConfig], folder: Path) -> None:
    try:
        refuse_unwritable(folder)
        sources = {}
        for cfg in jobs:
            check_values(cfg)
            check_launcher(cfg, HydraConfig.get())
            sources[OmegaConf.to_yaml(cfg.data, resolve=True, sort_keys=True)] = cfg.data
        for source in sources.values():
            instantiate(source).load()  # downloads and decodes once, for every job
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"train: {error}")
