"""The folder of a job: its files, its state, and the lock of the process that works there."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prunelab.core.files.atomic import remove_partial
from prunelab.core.text.printable import printable
from prunelab.store import failure
from prunelab.store.job import Job, NewerSchema, differing
from prunelab.store.json_file import read_json, write_json
from prunelab.store.lock import held, is_held
from prunelab.store.naming import rerun_of
from prunelab.store.result import Result, read, read_without_layers
from prunelab.store.signals import Interrupted, is_stopping

log = logging.getLogger(__name__)
State = Literal["finished", "running", "failed", "interrupted", "not begun"]
MARKS = frozenset({"job.json", "result.json", "failure.json", ".lock"})  # any of them makes a folder a job's
FAILURES = "failure*.json"  # of all ranks
NEXT = {  # what becomes of a job without a result
    "failed": "the same command{} tries again",
    "interrupted": "the same command{} resumes from its checkpoint",
    "running": "another process works on it",
    "not begun": "the same command{} starts it",
}


@dataclass(frozen=True)
class RunDir:
    """job.json at the start, checkpoints/ during training, masks/ by round, result.json or failure.json at the end."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def masks(self) -> Path:
        return self.path / "masks"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    def state(self) -> State:
        """The state by the files, on any machine."""
        if self.result_without_layers() is not None:
            return "finished"
        if is_held(self.lock):
            return "running"
        if self.failure() is not None:
            return "failed"
        begun = self.lock.exists() or (self.path / "job.json").exists()
        return "interrupted" if begun else "not begun"

    def future(self, state: State) -> str:
        """What becomes of it in this state; "" if it is finished."""
        rerun = ((self.read("job.json") or {}).get("config") or {}).get("rerun", True)  # else the name is of a path
        time = rerun_of(self.path.name) if rerun else ""  # the same command would begin another folder
        return NEXT.get(state, "").format(f" with rerun={time}" if time else "")

    def job(self) -> Job | None:
        """The content of job.json; None if it is absent or damaged. Raises NewerSchema for a newer version's."""
        try:
            return Job.from_json(read_json(self.path / "job.json"))
        except NewerSchema as error:
            raise NewerSchema(f"{self.path}: {error}, or choose another name=") from None
        except Exception:  # whatever a damaged file provokes
            return None

    def result(self) -> Result | None:
        """The content of result.json; None if it is absent or damaged."""
        try:
            return read(self.path)
        except Exception:  # whatever a damaged file provokes
            return None

    def result_without_layers(self) -> Result | None:
        """`result`, read faster: without the history of each layer."""
        try:
            return read_without_layers(self.path)
        except Exception:  # whatever a damaged file provokes
            return None

    def failure(self) -> str | None:
        """The reason in failure.json; None if the file is absent or damaged."""
        record = self.failure_record()
        return str(record.get("reason") or "failure.json does not say why") if record else None

    def failure_record(self) -> dict[str, Any]:
        """What failure.json says, or that of another rank, if it failed first: the others fail because it is gone."""
        try:
            first = sorted(self.path.glob(FAILURES), key=lambda path: path.stat().st_mtime_ns)
        except OSError:  # another process begins the job again
            return {}
        return next(filter(None, (self.read(path.name) for path in first)), {})

    def forget_failures(self) -> None:
        for path in self.path.glob(FAILURES):
            path.unlink(missing_ok=True)

    def finished(self, job: Job) -> Result | None:
        """The result of this very job, if it is complete."""
        result = self.result()
        return result if result and result.job.identity == job.identity else None

    def refuse_other(self, job: Job, remedy: str = "rerun=true begins it anew") -> None:
        """Raises ValueError when the folder belongs to a job with another identity; warns where code changed."""
        before = self.job()
        if before and before.identity != job.identity:
            differ = ", ".join(map(printable, differing(before, job))) or "settings"
            raise ValueError(f"{self.path} holds another job, with other {differ}: choose another name=")
        if before and (changed := before.changed(job.versions)):
            log.warning("%s: changed since the job in %s last ran; %s", ", ".join(changed), self.path, remedy)

    def refuse_folders(self) -> None:
        """Raises IsADirectoryError where a folder has the place of a file that the job will write."""
        for name in ("job.json", "result.json", "model.safetensors"):
            if (self.path / name).is_dir():
                raise IsADirectoryError(f"{self.path / name} is a folder, where the job writes a file: remove it")

    @contextmanager
    def attempt(self, rank: int = 0) -> Iterator[None]:
        """Locks the folder, in rank 0; raises Busy if another process has it. Writes failure.json for errors inside."""
        with held(self.lock) if rank == 0 else nullcontext():
            if rank == 0:
                self.forget_failures()
                remove_partial(self.path)
            try:
                self.refuse_folders()
                try:
                    yield
                except SystemExit as error:
                    if is_stopping():  # after a second Ctrl-C Lightning exits
                        raise
                    raise failure.Failed(f"SystemExit: {error}") from error
            except Exception as error:
                if not isinstance(error, Interrupted):
                    self.fail(error, rank)
                raise

    def write_job(self, job: Job) -> None:
        """Writes job.json, by which the folder belongs to `job`."""
        write_json(self.path / "job.json", job.to_json())

    def finish(self, result: Result) -> None:
        write_json(self.path / "result.json", result.to_json())

    def fail(self, error: BaseException | str, rank: int = 0) -> None:
        """Writes failure.json, other ranks than 0 failure-rank1.json; logs the error where that cannot be written."""
        name = f"failure-rank{rank}.json" if rank else "failure.json"
        try:
            write_json(self.path / name, failure.record(error))
        except OSError as problem:
            log.error("%s: no failure.json (%s): %s", self.path, problem, failure.one_line(error))

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of this folder; None if it is absent or damaged."""
        try:
            return read_json(self.path / name)
        except (OSError, ValueError):
            return None


def refuse_unwritable(folder: Path) -> None:
    """Raises PermissionError when files cannot be made in `folder`, which need not exist; writes nothing."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        fault = "is not writable" if nearest.is_dir() else "is not a folder"
        raise PermissionError(f"{folder}: results cannot be written, {nearest} {fault}; choose another name= or folder")
