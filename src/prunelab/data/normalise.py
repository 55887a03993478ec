"""How do bytes become what a network is fed?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.data.images import RGB


@dataclass(frozen=True)
class Normalise:
    """(pixel / 255 - mean) / std per channel, in `channels_last` strides where convolutions prefer them."""

    mean: RGB
    std: RGB
    channels_last: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """float32 from uint8, both (n, 3, h, w), on the same device."""
        mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        # In place, and one multiplication: a third of the time of the formula as it is written above.
        return x.float().mul_(1 / (255 * std)).sub_(mean / std)
