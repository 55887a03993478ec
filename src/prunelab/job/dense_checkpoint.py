"""Where does the dense training come from that several jobs begin with? Trained once, kept by its identity."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from prunelab.store.lock import Busy, held, holder, is_held
from prunelab.store.signals import Interrupted

log = logging.getLogger(__name__)


def dense_phase(cfg: DictConfig) -> DictConfig:
    """The configuration of the dense training that a job begins with; what comes after it is left out.

    The checkpoint at its end holds snapshots of step 0 and of step `rewind`, whatever the job will restore.
    """
    parent = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(parent, DictConfig)
    with open_dict(parent):
        parent.rate, parent.rounds, parent.pretrained = 0.0, 1, None
        parent.optim.finetune = 0.0  # comes after it
        parent.logger = None  # it would write into the folder of whichever job comes first
        parent.prune = {
            "rewind": {"_target_": "prunelab.callbacks.rewind.Rewind", "to": cfg.rewind, "control": "reinit"}
        }
    return parent


def shared(
    folder: Path,
    finished: Callable[[], bool],
    train: Callable[[], object],
    job: str = "",
    rank: int = 0,
    asked: Callable[[], bool] = lambda: False,
) -> None:
    """Has `train` called by one `job` at a time, and by none once it is `finished`.

    Where another process is at it, this one waits, and goes on from its checkpoint should it end too early. Of a job
    with several processes the first takes the lock and says in it whose it is; the others train when it does.
    Raises Interrupted where it is `asked` to stop while it waits.
    """
    lock, waited = folder / ".lock", False
    while not finished():
        if rank == 0:
            try:
                with held(lock, job):
                    if not finished():
                        log.info("the dense training that jobs share: %s", folder)
                        train()
                    return
            except Busy as busy:
                if not waited:
                    log.info("waiting for the dense training that this job begins with: %s", busy)
                waited = True
        elif is_held(lock) and holder(lock).get("purpose") == job:
            train()
            return
        if asked():
            raise Interrupted("interrupted before it began")
        time.sleep(0.5)
