"""The device of a run, and the precision and compilation that suit it."""

import torch


def expected_device(accelerator: str) -> torch.device:
    """The device that a Lightning accelerator's name selects on this machine."""
    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def check_devices(accelerator: str, devices: int, precision: str) -> None:
    """Raises ValueError if this machine has no such accelerator or fewer `devices`, or trains in other precision."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if not {"gpu": cuda or mps, "cuda": cuda, "mps": mps}.get(accelerator, True):
        raise ValueError(f"trainer.accelerator={accelerator}: there is none here; use trainer=auto or trainer=cpu")
    if precision == "16-mixed" and (accelerator == "cpu" or not (cuda or mps)):
        raise ValueError("precision=16-mixed on a CPU, where Lightning trains bfloat16 instead: use bf16-mixed")
    if expected_device(accelerator).type == "cuda" and devices > (gpus := torch.cuda.device_count()):
        raise ValueError(f"trainer.devices={devices}: there are {gpus} GPUs; lower it, or set trainer.accelerator=cpu")


def precision_for(device: torch.device) -> str:
    """In Lightning's terms: "bf16-mixed" if tensor cores make it fast, else "32-true"."""
    ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bf16-mixed" if ampere else "32-true"


def compiles_well(device: torch.device) -> bool:
    """Whether torch.compile is worth its minute of compilation: on GPUs that Triton supports."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
