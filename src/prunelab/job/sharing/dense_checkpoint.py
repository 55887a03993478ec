"""Training that several jobs share, as dense pretraining: once, under a lock."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prunelab.core.files.atomic import remove_partial
from prunelab.store.folder import refuse_unwritable
from prunelab.store.lock import Busy, held, holder, is_held
from prunelab.store.signals import Interrupted

log = logging.getLogger(__name__)


def train_once(
    folder: Path,
    finished: Callable[[], bool],
    train: Callable[[], object],
    job: str = "",
    rank: int = 0,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Calls `train` in one `job` at a time, and in none once it is `finished`.

    While another job trains, this one waits; if the other ends too early, this one resumes from its checkpoint. In a
    job of several processes rank 0 takes the lock and writes `job` into it; the other ranks train when it does.
    Raises Interrupted if `stopped` while waiting, and PermissionError as `refuse_foreign`.
    """
    lock = folder / ".lock"
    while not finished():
        if rank == 0:
            refuse_foreign(lock)
            with in_turn(lock, job, stopped):
                if not finished():
                    remove_partial(folder)
                    log.info("dense pretraining, shared by several jobs: %s", folder)
                    train()
            return
        if is_held(lock) and holder(lock).get("purpose") == job:
            train()
            return
        pause(stopped)


@contextmanager
def in_turn(lock: Path, job: str, stopped: Callable[[], bool]) -> Iterator[None]:
    """Holds `lock`, with `job` written into it, as soon as no other does. Raises Interrupted if `stopped` before."""
    waited = False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(lock, job))
                break
            except Busy:
                if not waited:
                    log.info("waiting for the training that is shared with %s", holder(lock).get("purpose"))
                waited = True
            pause(stopped)
        yield


def refuse_foreign(lock: Path) -> None:
    """Raises PermissionError for a lock that this user cannot take: another's, in `parents` that both have."""
    if not lock.exists():
        refuse_unwritable(lock.parent)
    elif not os.access(lock, os.W_OK):
        raise PermissionError(f"{lock}: it cannot be written, as another user's; give parents= a folder of your own")


def pause(stopped: Callable[[], bool]) -> None:
    """Half a second. Raises Interrupted if `stopped`."""
    if stopped():
        raise Interrupted("stopped before it began")
    time.sleep(0.5)
