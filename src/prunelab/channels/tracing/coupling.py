"""Which channels must live or die together? A union-find over single channels."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Coupling:
    """Channels are numbered as they are made; number 0 stands for values that no layer makes."""

    def __init__(self) -> None:
        self._parent = [0]
        self._stay: list[tuple[Tensor, str]] = []  # channels, and why they must not go

    def new(self, count: int) -> Tensor:
        """The numbers of `count` new channels, each on its own."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def join(self, a: Tensor, b: Tensor) -> None:
        """Couples the channels of `a` and `b`, which broadcast, position by position."""
        if a is b:
            return
        a, b = torch.broadcast_tensors(a, b)
        for axis in range(a.dim()):  # what does not vary is looked at once
            if a.stride(axis) == 0 and b.stride(axis) == 0:
                a, b = a.narrow(axis, 0, 1), b.narrow(axis, 0, 1)
        self._join(set(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)))

    def join_rows(self, rows: Tensor) -> None:
        """Couples all channels of a row with each other, in each row of (rows, channels)."""
        self.join(rows[:, :1], rows)

    def keep(self, channels: Tensor, reason: str) -> None:
        """These must stay, with all that is coupled to them."""
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
        """For each channel the smallest number in its class: (channels,)."""
        return torch.tensor([self._root(channel) for channel in range(len(self._parent))])

    def stays(self) -> dict[int, str]:
        """Why a class must stay, by its smallest number; the first reason given."""
        found = {0: "the input of the net"}
        for channels, reason in self._stay:
            for channel in channels.tolist():
                found.setdefault(self._root(channel), reason)
        return found
