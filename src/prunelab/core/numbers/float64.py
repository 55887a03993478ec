"""Where float64 is computed: on the tensors' own device, or on the CPU for devices that have none, Apple's MPS."""

import torch
from torch import Tensor


def float64_device(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type == "mps" else device


def double(tensor: Tensor) -> Tensor:
    """In float64, on the nearest device that has it."""
    return tensor.to(float64_device(tensor.device)).double()
