"""Checks the values and the data of a single job before anything is written."""

import os
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prunelab.core.text.printable import printable
from prunelab.job.check import check_launcher
from prunelab.job.command.ignored import PARTS
from prunelab.job.command.mistakes import end_command, explain
from prunelab.job.conf import job_of
from prunelab.store.folder import RunDir, refuse_unwritable
from prunelab.store.signals import VARIABLE
from prunelab.sweep.params import at_scale, grids_of, remaining
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
                refuse_sweep_settings(config.hydra, config.get("scale"))
                print(f"{printable(config.hydra.run.dir)}{unpruned([job])}", flush=True)  # before seconds of imports
            if not planned and not RunDir(Path(config.hydra.run.dir)).result():
                refuse_impossible([job], config.hydra)
        except (ValueError, OSError, RuntimeError) as error:
            end_command(error)
        except (HydraException, OmegaConfBaseException) as error:
            end_command(explain(error))


def refuse_sweep_settings(hydra: HydraConf, scale: str) -> None:
    """Raises ValueError where the command of a single job asks for what only a sweep has, or lacks what one gives."""
    typed_of_hydra: Any = OmegaConf.to_container(hydra.overrides.hydra)  # with interpolations as they stand
    for typed in typed_of_hydra:
        if typed.lstrip("+~").startswith((*PARTS, "hydra.launcher", "hydra.sweep")):
            raise ValueError(f"{typed}: there is one job, which Hydra runs here; add -m for a sweep, or drop it")
    swept: Any = OmegaConf.to_container(hydra.sweeper)  # interpolations as they stand: a job has no number yet
    shared = at_scale(swept.get("scales"), scale)
    parsed = OverridesParser.create().parse_overrides(list(hydra.overrides.task))
    given = {override.key_or_group: str(override.input_line).partition("=")[2] for override in parsed}
    grids = [remaining({**shared, **grid}, given) for grid in grids_of(swept.get("params"))]
    if left := min(grids, key=len):
        values = " ".join(f"{key}=..." for key in left)
        raise ValueError(f"{', '.join(left)}: a file sweeps over it; add -m, or give one value: {values}")
