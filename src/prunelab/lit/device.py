"""The device of a run, and the precision, compilation and optimizer kernels that suit it."""

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

COMPILED_STEPS = 60_000  # what compilation takes, a minute, over what it may save, a millisecond a step; estimates
FUSED = (SGD, Adam, AdamW)


def expected_device(accelerator: str) -> torch.device:
    """The device that a Lightning accelerator's name selects on this machine."""
    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def arithmetic(accelerator: str) -> dict[str, str | int]:
    """What equal bits need of the machine: the same kind of device, and on a CPU the same number of threads."""
    kind = expected_device(accelerator).type
    return {"device": kind} | ({"threads": torch.get_num_threads()} if kind == "cpu" else {})


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
    """In Lightning's terms: "bf16-mixed" if tensor cores make it fast, else "32-true" (CPUs: docs/devices.md)."""
    ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bf16-mixed" if ampere else "32-true"


def compiles_well(device: torch.device, steps: int) -> bool:
    """Whether so many steps regain what torch.compile takes, on a GPU that Triton supports."""
    triton = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
    return triton and steps >= COMPILED_STEPS


def choose_kernels(device: torch.device) -> None:
    """On a GPU, for this whole process: float32 is multiplied in TF32, and cuDNN times its kernels to choose."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True


def fuse(optimizer: Optimizer) -> None:
    """Has SGD and Adam step in one kernel where their parameters are on a CUDA device, unless they were told how.

    Not by `fused=True` to the constructor: such an optimizer declares that it unscales gradients itself, and Lightning
    then refuses clipping, and our criteria that watch gradients refuse the optimizer.
    """
    for group in optimizer.param_groups if type(optimizer) in FUSED else ():
        chosen = (group["fused"], group["foreach"]) != (None, None) or group["differentiable"]
        if not chosen and all(p.device.type == "cuda" for p in group["params"]):
            group["fused"] = True
