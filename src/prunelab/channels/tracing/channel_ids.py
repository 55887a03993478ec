"""Tensors of channel ids, by which channels are followed through operations that only move values."""

import torch
from torch import Tensor

# A tensor of ids has the shape of a value and holds at each position the id of the channel to which it belongs.
# Axes along which it is constant have stride 0, so that it takes no more memory than its channels.


def along(channels: Tensor, axis: int, shape: torch.Size) -> Tensor:
    """The ids of a value of `shape` with `channels` along `axis`."""
    return channels.view([-1 if i == axis % len(shape) else 1 for i in range(len(shape))]).expand(shape)


def thin(ids: Tensor) -> Tensor:
    """The same ids, with stride 0 along every axis where they are constant."""
    shape = ids.shape
    if not ids.numel():
        return ids
    for axis in range(ids.dim()):
        if ids.shape[axis] > 1 and ids.stride(axis) != 0:
            first = ids.narrow(axis, 0, 1)
            if torch.equal(ids, first.expand_as(ids)):
                ids = first
        elif ids.stride(axis) == 0:
            ids = ids.narrow(axis, 0, 1)
    return ids.expand(shape)


def varying(ids: Tensor) -> list[int]:
    """The axes along which ids that were made `thin` vary."""
    return [axis for axis in range(ids.dim()) if ids.shape[axis] > 1 and ids.stride(axis) != 0]


def narrowed(ids: Tensor, shape: torch.Size) -> Tensor:
    """The part of `ids` that a tensor of `shape` meets, which is broadcast to theirs."""
    for _ in range(ids.dim() - len(shape)):
        ids = ids.select(0, 0)
    for axis, size in enumerate(shape):
        if size == 1:
            ids = ids.narrow(axis, 0, 1)
    return ids


def channels_of(ids: Tensor, axis: int) -> Tensor | None:
    """The channels along `axis`, or None where they vary along another axis too."""
    axis %= ids.dim()
    if any(other != axis for other in varying(ids)):
        return None
    for other in range(ids.dim()):
        if other != axis:
            ids = ids.narrow(other, 0, 1)
    return ids.flatten()


def concatenate(parts: list[Tensor], axis: int) -> Tensor:
    """torch.cat of ids that keeps stride 0 where they are constant."""
    axis %= parts[0].dim()
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    for other in range(len(shape)):
        if other != axis and all(part.stride(other) == 0 for part in parts):
            parts = [part.narrow(other, 0, 1) for part in parts]
    return torch.cat(parts, axis).expand(shape)
