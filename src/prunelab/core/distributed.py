"""What do the processes of one training tell each other? Alone, a process tells itself."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from prunelab.core.types import Masks


def world_size() -> int:
    """The processes of this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


@torch.no_grad()
def average(tensors: Sequence[Tensor], dtype: torch.dtype | None = None) -> None:
    """Each becomes its mean over all ranks, in place, by one collective a type; the sums are made in `dtype`.

    All ranks end with the same bits. In float64, what was equal in float32 stays as it was.
    """
    if world_size() == 1:
        return
    for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [tensor for tensor in tensors if tensor.dtype == kind]
        flat = torch.cat([tensor.reshape(-1).to(dtype or kind) for tensor in same])
        dist.all_reduce(flat)
        flat /= world_size()
        for tensor, part in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(part.view(tensor.shape))


def total(numbers: Sequence[int], device: torch.device) -> list[int]:
    """Their sums over all ranks; `device` is the one that is trained on."""
    sums = torch.tensor(numbers, device=device)
    if world_size() > 1:
        dist.all_reduce(sums)
    return [int(number) for number in sums]


def gather(value: Any) -> list[Any]:
    """What each rank has for `value`, in the order of ranks."""
    values = [value] * world_size()
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def check_same(masks: Masks, device: torch.device) -> None:
    """Raises RuntimeError on all ranks, naming the first layer whose mask is not the same on all of them."""
    if world_size() == 1 or not masks:
        return
    sums = torch.stack([checksum(mask.to(device)) for mask in masks.values()])
    extremes = torch.cat([sums, -sums])
    dist.all_reduce(extremes, dist.ReduceOp.MAX)  # the largest, and the smallest negated
    largest, smallest = extremes[: len(sums)], -extremes[len(sums) :]
    for name, differ in zip(masks, (largest != smallest).tolist(), strict=True):
        if differ:
            raise RuntimeError(
                f"{name}: the ranks have different masks, so each would train a net of its own; go on from the last "
                "checkpoint, and let the criterion look at nothing that only one rank has"
            )


def checksum(mask: Tensor) -> Tensor:
    """A whole number () of 62 bits that tells masks apart, by their elements and their places; any shape."""
    place = torch.arange(1, mask.numel() + 1, device=mask.device)
    mixed = place * 0x1E3779B97F4A7C15  # wraps around, on every device alike
    mixed = (mixed ^ (mixed >> 29)) * 0x3F58476D1CE4E5B9
    mixed = mixed ^ (mixed >> 32)
    return (mixed * mask.reshape(-1)).sum() >> 1  # a bit less, so that the number can be negated
