"""How is a channel followed through operations that only move values? By moving its number in the same way."""

import torch
from torch import Tensor

# A label tensor has the shape of a value and holds, at each position, the number of the channel that stands there.
# Axes along which it does not vary have stride 0, so that it costs no more than its channels.


def along(channels: Tensor, axis: int, shape: torch.Size) -> Tensor:
    """Labels of a value of `shape` whose `axis` holds `channels`."""
    return channels.view([-1 if i == axis % len(shape) else 1 for i in range(len(shape))]).expand(shape)


def thin(labels: Tensor) -> Tensor:
    """The same, with stride 0 along every axis where nothing varies."""
    shape = labels.shape
    for axis in range(labels.dim()):
        if labels.shape[axis] > 1 and labels.stride(axis) != 0:
            first = labels.narrow(axis, 0, 1)
            if torch.equal(labels, first.expand_as(labels)):
                labels = first
        elif labels.stride(axis) == 0:
            labels = labels.narrow(axis, 0, 1)
    return labels.expand(shape)


def varying(labels: Tensor) -> list[int]:
    """The axes along which thin labels vary."""
    return [axis for axis in range(labels.dim()) if labels.shape[axis] > 1 and labels.stride(axis) != 0]


def channels_of(labels: Tensor, axis: int) -> Tensor | None:
    """The channels along `axis`, or None where another axis holds channels too."""
    axis %= labels.dim()
    if any(other != axis for other in varying(labels)):
        return None
    for other in range(labels.dim()):
        if other != axis:
            labels = labels.narrow(other, 0, 1)
    return labels.flatten()


def concatenate(parts: list[Tensor], axis: int) -> Tensor:
    """torch.cat of labels, without filling in what does not vary."""
    axis %= parts[0].dim()
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    for other in range(len(shape)):
        if other != axis and all(part.stride(other) == 0 for part in parts):
            parts = [part.narrow(other, 0, 1) for part in parts]
    return torch.cat(parts, axis).expand(shape)
