"""The device of a run, and the precision and compilation that suit it."""

import torch


def expected_device(accelerator: str) -> torch.device:
    """The device that a Lightning accelerator's name selects on this machine."""
    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def check_devices(accelerator: str, devices: int) -> None:
    """Raises ValueError if training is on GPUs and there are fewer than `devices`."""
    if expected_device(accelerator).type == "cuda" and devices > (gpus := torch.cuda.device_count()):
        raise ValueError(f"trainer.devices={devices}: there are {gpus} GPUs; lower it, or set trainer.accelerator=cpu")


def precision_for(device: torch.device) -> str:
    """In Lightning's terms: "bf16-mixed" if tensor cores make it fast, else "32-true"."""
    ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bf16-mixed" if ampere else "32-true"


def compiles_well(device: torch.device) -> bool:
    """Whether torch.compile is worth its minute of compilation: on GPUs that Triton supports."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
