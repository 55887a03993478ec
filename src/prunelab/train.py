"""The commands `python -m train`, `prunelab-train` and `python -m prunelab.train`: one job, or with -m a study."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from prunelab.core.printable import printable
from prunelab.job.conf import conf_dir, register_resolvers
from prunelab.store.lock import BUSY, Busy
from prunelab.store.signals import Interrupted, start_parent_watchdog, stoppable


def main() -> None:
    """Composes the configuration from the command line, and runs it."""
    start_parent_watchdog()
    register_resolvers()
    task()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def task(cfg: DictConfig) -> float:
    """One job; returns the test accuracy after the last epoch, a fraction."""
    from prunelab.job.run import run  # imports torch, which composing does not need

    with stoppable() as stop:
        try:
            return run(cfg)
        except (Busy, Interrupted) as outcome:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            print(f"train: {printable(outcome)}", file=sys.stderr)
            sys.exit(BUSY if isinstance(outcome, Busy) else stop.status)
        except (SystemExit, KeyboardInterrupt):
            if stop:  # a second Ctrl-C, for which Lightning has another status
                sys.exit(stop.status)
            raise


if __name__ == "__main__":
    main()
