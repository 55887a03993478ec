"""Coupled channels, which are removed together or not at all: a union-find over single channels."""

from collections.abc import Iterable

import torch
from torch import Tensor

# Reasons why channels stay that every network has.
INPUT, OUTPUT = "the input of the network", "the output of the network"


class Coupling:
    """Channels have ids in the order of their creation; 0 stands for values that no layer produces."""

    def __init__(self) -> None:
        self._parent = [0]
        self._stay: list[tuple[Tensor, str]] = []  # channels, and why they must stay

    def new(self, count: int) -> Tensor:
        """The ids of `count` new channels, uncoupled."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def join(self, a: Tensor, b: Tensor) -> None:
        """Couples the channels of `a` and `b` position by position; they are broadcast."""
        if a is b:
            return
        a, b = torch.broadcast_tensors(a, b)
        for axis in range(a.dim()):  # constant axes are read once
            if a.stride(axis) == 0 and b.stride(axis) == 0:
                a, b = a.narrow(axis, 0, 1), b.narrow(axis, 0, 1)
        self._join(set(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)))

    def join_rows(self, rows: Tensor) -> None:
        """Couples all channels within each row of (rows, channels)."""
        self.join(rows[:, :1], rows)

    def keep(self, channels: Tensor, reason: str) -> None:
        """Marks channels that must stay, with all that is coupled to them."""
        self._stay.append((channels.unique(), reason))

    def _join(self, pairs: Iterable[tuple[int, int]]) -> None:
        for a, b in pairs:
            x, y = self._root(a), self._root(b)
            if x != y:
                self._parent[max(x, y)] = min(x, y)

    def _root(self, channel: int) -> int:
        parent = self._parent
        while parent[channel] != channel:
            parent[channel] = channel = parent[parent[channel]]
        return channel

    def classes(self) -> Tensor:
        """For each channel the smallest id that is coupled to it: (channels,)."""
        return torch.tensor([self._root(channel) for channel in range(len(self._parent))])

    def stays(self) -> dict[int, str]:
        """The smallest id of each class that must stay -> the first reason given."""
        reasons = {0: INPUT}
        for channels, reason in self._stay:
            for channel in channels.tolist():
                reasons.setdefault(self._root(channel), reason)
        return reasons
