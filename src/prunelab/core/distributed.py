"""Collectives over the processes of one training; a single process is a group of one."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from prunelab.core.types import Masks


def world_size() -> int:
    """How many processes this training has."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


@torch.no_grad()
def average(tensors: Sequence[Tensor], dtype: torch.dtype | None = None) -> None:
    """Replaces each by its mean over all ranks, in place, with one collective per type; sums are in `dtype`.

    All ranks end with the same bits. Summed in float64, float32 values that were equal do not change.
    """
    if world_size() == 1:
        return
    for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [tensor for tensor in tensors if tensor.dtype == kind]
        flat = torch.cat([tensor.reshape(-1) for tensor in same]).to(dtype or kind)
        dist.all_reduce(flat)
        flat /= world_size()
        parts = flat.to(kind).split([tensor.numel() for tensor in same])
        torch._foreach_copy_(same, [part.view(tensor.shape) for tensor, part in zip(same, parts, strict=True)])


def sums(numbers: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """Each number () summed over all ranks, in float64; `device` is the training device."""
    if world_size() == 1:
        return numbers
    summed = torch.stack([number.to(device, torch.float64) for number in numbers])
    dist.all_reduce(summed)
    return [part.to(number.dtype) for part, number in zip(summed, numbers, strict=True)]


def total(numbers: Sequence[int], device: torch.device) -> list[int]:
    """Sums over all ranks; `device` is the training device."""
    sums = torch.tensor(numbers, device=device)
    if world_size() > 1:
        dist.all_reduce(sums)
    return [int(number) for number in sums]


def host_group() -> Any:
    """A process group of all ranks whose collectives do not wait for GPUs; None for one process."""
    return dist.new_group(backend="gloo") if world_size() > 1 else None


def largest(numbers: Sequence[int], group: Any) -> list[int]:
    """The largest of each over the ranks of a `host_group`."""
    if group is None:
        return list(numbers)
    highest = torch.tensor(numbers)
    dist.all_reduce(highest, dist.ReduceOp.MAX, group=group)
    return [int(number) for number in highest]


def gather(value: Any) -> list[Any]:
    """The `value` of every rank, in order."""
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
                f"{name}: the ranks have different masks, so each would train another network; resume from the last "
                "checkpoint, with a criterion that uses nothing that only one rank has"
            )


def checksum(mask: Tensor) -> Tensor:
    """An integer () of 62 bits that depends on the elements of a mask and their positions."""
    position = torch.arange(1, mask.numel() + 1, device=mask.device)
    mixed = position * 0x1E3779B97F4A7C15  # wraps around, on every device alike
    mixed = (mixed ^ (mixed >> 29)) * 0x3F58476D1CE4E5B9
    mixed = mixed ^ (mixed >> 32)
    return (mixed * mask.reshape(-1)).sum() >> 1  # one bit less, so that it can be negated
