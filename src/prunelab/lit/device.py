"""Which precision and which kernels suit the device that a run will be on?"""

import torch


def expected_device(accelerator: str) -> torch.device:
    """The device that a Lightning accelerator's name comes down to here."""
    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def check_devices(accelerator: str, devices: int) -> None:
    """Raises ValueError for more devices than there are GPUs, where these are trained on."""
    if expected_device(accelerator).type == "cuda" and devices > (there := torch.cuda.device_count()):
        raise ValueError(f"trainer.devices={devices}: there are {there} GPUs; lower it, or trainer.accelerator=cpu")


def precision_for(device: torch.device) -> str:
    """Lightning's name: "bf16-mixed" where tensor cores make it fast, else "32-true"."""
    ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bf16-mixed" if ampere else "32-true"


def compiles_well(device: torch.device) -> bool:
    """Whether torch.compile repays its minute: on GPUs that its code generator supports."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
