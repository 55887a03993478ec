"""Where does the dense training come from that several jobs begin with? Trained once, kept by its identity."""

import fcntl
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

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
    folder: Path, finished: Callable[[], bool], train: Callable[[], object], job: str = "", rank: int = 0
) -> None:
    """Has `train` called by one `job` at a time, and by none once it is `finished`.

    The lock is the kernel's: it goes with the process that holds it, and the next one goes on from the
    checkpoint that is there. Of a job with several processes the first takes the lock and says in it whose it is; the
    others train when it does.
    """
    if finished():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if rank:
        while not finished() and not _is_held_for(job, folder / ".lock"):
            time.sleep(0.2)
        if not finished():
            train()
        return
    with _locked(folder / ".lock", job):
        if not finished():
            log.info("the dense training that jobs share: %s", folder)
            train()


@contextmanager
def _locked(path: Path, job: str) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another job is training the dense net that this one begins with; waiting for %s", path.parent)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(job)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _is_held_for(job: str, path: Path) -> bool:
    """What a process wrote that was killed stays, but not its lock."""
    if not path.exists() or path.read_text() != job:
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
