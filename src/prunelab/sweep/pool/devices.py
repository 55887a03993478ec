"""Slots for jobs on devices. Each device has the same number; on the CPU a slot is a share of the cores."""

import os
import subprocess
from collections.abc import Sequence

CPU = "cpu"


class DeviceSlots:
    """`jobs` slots on each of `devices`: GPUs by number or UUID, or the CPU alone."""

    def __init__(self, devices: Sequence[str], jobs: int) -> None:
        self.jobs = jobs
        self.free = dict.fromkeys(devices, jobs)
        self.on_cpu = list(devices) == [CPU]

    def __len__(self) -> int:
        return self.jobs * len(self.free)

    @property
    def most(self) -> int:
        """Devices that one job can have; on the CPU each of its processes takes a slot."""
        return self.jobs if self.on_cpu else len(self.free)

    @property
    def too_few(self) -> str:
        """How many slots there are, and how to have more."""
        if self.on_cpu:
            return f"each process takes a slot, and the CPU has hydra.launcher.jobs={self.jobs} of them; give it more"
        return f"only {self.most} available: {', '.join(self.free)}"

    def take(self, devices: int, alone: bool = False) -> list[str] | None:
        """The device of each slot taken, those with most free slots first; None while there are too few."""
        if self.on_cpu:
            taken = [CPU] * (self.jobs if alone else devices)
        else:
            least = self.jobs if alone else 1
            usable = sorted((name for name, free in self.free.items() if free >= least), key=lambda n: -self.free[n])
            taken = [name for name in usable[:devices] for _ in range(least)]
            if len(usable) < devices:
                return None
        if any(self.free[name] < taken.count(name) for name in taken):
            return None
        for name in taken:
            self.free[name] -= 1
        return taken

    def give(self, taken: Sequence[str]) -> None:
        for name in taken:
            self.free[name] += 1

    def environment(self, taken: Sequence[str]) -> dict[str, str]:
        """The variables by which a job sees its own devices alone, and uses its share of the cores."""
        share = max(1, len(os.sched_getaffinity(0)) // len(self)) if hasattr(os, "sched_getaffinity") else 1
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share))}
        if self.on_cpu:
            return threads
        return threads | {"CUDA_VISIBLE_DEVICES": ",".join(dict.fromkeys(taken))}  # numbers in the order they came in


def visible_gpus() -> list[str]:
    """The GPUs that torch would see, without its import, which takes seconds."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    return _uuids()


def absent(gpus: Sequence[str]) -> list[str]:
    """Those of the named GPUs that this machine does not have, as far as can be said."""
    uuids = _uuids()
    if not uuids:  # nvidia-smi need not be there
        from prunelab.lit.device import expected_device  # imports torch

        return list(gpus) if expected_device("auto").type == "cpu" else []
    known = [*map(str, range(len(uuids))), *uuids]
    listed = [name for name in gpus if not name.startswith("MIG-")]  # parts of GPUs are not
    return [name for name in listed if not any(one.startswith(name) for one in known)]


def _uuids() -> list[str]:
    """Of all GPUs of this machine."""
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
