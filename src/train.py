"""`python -m train`: one job, or with -m a study of many."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from prunelab.job.conf import conf_dir, register_resolvers
from prunelab.store import signals as lifeline
from prunelab.store.lock import BUSY, Busy
from prunelab.store.signals import Interrupted, stoppable

lifeline.tie()
register_resolvers()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def main(cfg: DictConfig) -> float:
    """The test accuracy after the last epoch, a fraction."""
    from prunelab.job.run import run  # brings torch, which composing a configuration can do without

    with stoppable() as stop:
        try:
            return run(cfg)
        except (Busy, Interrupted) as outcome:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            print(f"train: {outcome}", file=sys.stderr)
            sys.exit(BUSY if isinstance(outcome, Busy) else stop.status)
        except (SystemExit, KeyboardInterrupt):
            if stop:  # Ctrl-C twice, for which Lightning has a status of its own
                sys.exit(stop.status)
            raise


if __name__ == "__main__":
    main()
