"""Checks the values and the data of a single job before anything is written."""

import os
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from prunelab.core.text.printable import printable
from prunelab.job.check import check_launcher
from prunelab.job.command.ignored import refuse_sweep_settings
from prunelab.job.command.mistakes import end_command, explain
from prunelab.job.conf import job_of
from prunelab.store.folder import RunDir, refuse_unwritable
from prunelab.store.signals import VARIABLE
from prunelab.sweep.plan import refuse_impossible, unpruned


class ValidateConfig(Callback):
    """Ends the command with one line and status 1 when it cannot succeed; a sweep's own plan does so for its jobs.

    Hydra turns exceptions of callbacks into warnings, but lets SystemExit through.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)  # Hydra does so only later, and interpolations need it
        try:
            refuse_unwritable(Path(config.hydra.run.dir))
            job = job_of(config, config.hydra)
            check_launcher(job.devices, config.hydra)
            planned = os.environ.get(VARIABLE)  # a job of a pool: its sweep has done this
            if not planned:
                refuse_sweep_settings(config.hydra)
                print(f"{printable(config.hydra.run.dir)}{unpruned([job])}", flush=True)  # before seconds of imports
            if not planned and not RunDir(Path(config.hydra.run.dir)).result():
                refuse_impossible([job], config.hydra)
        except (ValueError, OSError, RuntimeError) as error:
            end_command(error)
        except (HydraException, OmegaConfBaseException) as error:
            end_command(explain(error))
