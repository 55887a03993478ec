"""How much memory did training take at its peak?"""

from pathlib import Path

import torch

PROC = Path("/proc/self")  # Linux alone tells, and starts again, the peak of a process


def begin(device: torch.device) -> int | None:
    """Starts the peak again; returns what `peak` is to know of it, None where nobody can tell."""
    if device.type == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)
        return 0
    try:
        (PROC / "clear_refs").write_text("5")
        return _status("VmRSS:")
    except OSError:
        return None


def peak(device: torch.device, begun: int | None) -> int | None:
    """Bytes, in this process since `begin`: most allocated on a GPU; else by how much the process grew at most."""
    if begun is None:
        return None
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else _status("VmHWM:") - begun


def _status(key: str) -> int:
    lines = (PROC / "status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))
