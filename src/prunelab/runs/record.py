"""What stands in a job's folder, and what does it say?"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunelab.core.files import written_whole


@dataclass(frozen=True)
class Folder:
    """job.json from the start, checkpoints/last.ckpt from the first epoch, masks/ by round, result.json last of all."""

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

    def last_checkpoint(self) -> Path | None:
        return self.checkpoint if self.checkpoint.exists() else None

    def result(self, identity: str) -> dict[str, Any] | None:
        """The finished result of that very job, if it is there and whole."""
        there = _read(self.path / "result.json")
        return there if there and there.get("identity") == identity else None

    def refuse_other(self, job: dict[str, Any]) -> None:
        """Raises ValueError when the folder belongs to a job with another identity."""
        there = _read(self.path / "job.json")
        if there and there["identity"] != job["identity"]:
            keys = there["values"].keys() | job["values"].keys()
            differ = [k for k in sorted(keys) if there["values"].get(k) != job["values"].get(k)]
            raise ValueError(f"{self.path} holds another job, with other {', '.join(differ)}: choose another name=")

    def claim(self, job: dict[str, Any]) -> None:
        """Says whose folder it is, and how the job was asked for."""
        write_json(self.path / "job.json", job)

    def finish(self, result: dict[str, Any]) -> None:
        write_json(self.path / "result.json", result)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all. Raises ValueError for a NaN, which JSON does not know."""
    text = json.dumps(value, indent=1, allow_nan=False)
    with written_whole(path) as file:
        file.write(text.encode())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
