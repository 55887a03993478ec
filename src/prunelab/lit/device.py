"""The device of a run, and the precision, compilation and optimizer kernels that suit it."""

import logging
import time
from functools import cache

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

log = logging.getLogger(__name__)

COMPILED_STEPS = 60_000  # what compilation takes, a minute, over what it may save, a millisecond a step; estimates
FUSED = (SGD, Adam, AdamW)
SLOW = 3  # times: in software it was 10 (AVX2), with units that gain nothing 1.7


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


def warn_of_slow_bfloat16(accelerator: str, precision: str) -> None:
    """Warns where `precision` has a CPU compute bfloat16 in software, as those without units for it do."""
    other = torch.cuda.is_available() or torch.backends.mps.is_available()
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not other)
    if precision == "bf16-mixed" and on_cpu and (times := _bfloat16_times()) >= SLOW:
        text = "precision=bf16-mixed: a convolution takes %.0f times as long here as with precision=32-true"
        log.warning(text, times)


@cache
def _bfloat16_times() -> float:
    """The time of a convolution in bfloat16 on this CPU over that in float32: the least of three each, 0.1 s in all."""
    least = {}
    for dtype in (torch.float32, torch.bfloat16):
        images = torch.ones(16, 32, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
        kernels = torch.ones(32, 32, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
        spans = []
        for _ in range(4):  # the first also chooses and compiles the kernel
            began = time.perf_counter()
            torch.nn.functional.conv2d(images, kernels, padding=1)
            spans.append(time.perf_counter() - began)
        least[dtype] = min(spans[1:])
    return least[torch.bfloat16] / least[torch.float32]


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
