"""How much memory did training take at its peak?"""

from pathlib import Path

import torch

PROC = Path("/proc/self")  # Linux alone tells, and starts again, the peak of a process


def begin(device: torch.device) -> bool:
    """Starts the peak again; whether that is possible here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        (PROC / "clear_refs").write_text("5")
        return True
    except OSError:
        return False


def peak(device: torch.device) -> int:
    """Bytes since `begin`: allocated on a GPU; else resident of the whole process, Python and libraries with it."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    lines = (PROC / "status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
