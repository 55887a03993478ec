"""Leaves a checkpoint before a job is queued again, when Slurm preempts it or its time is up.

submitit answers the signal by queueing the job again at once. Here its answer waits until training has ended with a
checkpoint, at most for as long as Slurm waits.
"""

import logging
import os
import signal
import subprocess
import time
from types import FrameType
from typing import NoReturn

from prunelab.store.signals import StopRequest
from prunelab.sweep.slurm import queue

log = logging.getLogger(__name__)
LINGER = 120.0  # seconds that other ranks wait for rank 0 to queue the job again, which ends them
KILL = 60.0  # seconds after SIGTERM in which Slurm kills, twice its default KillWait
GRACE = 3600.0  # seconds in which it queues a preempted job again, or ends it: the partition's GraceTime


class Preemption:
    """Makes `number`, the signal that submitit listens to, request `stop` first.

    If the work has not ended `patience` seconds later, the job is queued again anyway, and resumes from the previous
    checkpoint.
    """

    def __init__(self, number: int, stop: StopRequest, patience: float) -> None:
        self.number, self.stop, self.patience = number, stop, patience
        self.received = False
        self._requeue = signal.getsignal(number)
        signal.signal(number, self._request)
        signal.signal(signal.SIGALRM, self._time_out)

    def leave(self) -> NoReturn:
        """Ends this process: after rank 0 has queued the job again, or at once where Slurm only ends the job."""
        if not self.received:  # the signal may be under way; a job that just ended here could not be queued again
            _sleep(GRACE if queue.is_preempted() else KILL, self)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self.received:
            self._leave_queued()
        os._exit(1)

    def _leave_queued(self) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # with it Slurm ends the processes of a requeued job
        try:
            assert callable(self._requeue)
            self._requeue(self.number, None)  # on rank 0 it does not return
            time.sleep(LINGER)
        except subprocess.CalledProcessError:  # Slurm does so itself where PreemptMode=REQUEUE
            log.warning("scontrol did not queue this job again; if Slurm has not, the same command resumes it")
        except Exception:
            log.exception("not queued again; the same command resumes from the checkpoint")
        finally:
            os._exit(1)  # records no failure, and lets no library wait for other ranks

    def _request(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received = True
            self.stop.request(number)
            signal.setitimer(signal.ITIMER_REAL, self.patience)

    def _time_out(self, number: int, frame: FrameType | None) -> None:
        log.warning("no checkpoint within %.0f s: the job will resume from the previous one", self.patience)
        self._leave_queued()


def _sleep(seconds: float, preemption: Preemption) -> None:
    end = time.monotonic() + seconds
    while not preemption.received and time.monotonic() < end:
        time.sleep(0.1)
