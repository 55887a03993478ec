"""What do the parts of a pruning method hand to each other?"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Keyed by parameter name. Scores: larger = keep. Masks: bool, True = kept.
Scores = dict[str, Tensor]
Masks = dict[str, Tensor]


@dataclass(frozen=True)
class Progress:
    """How far training has come, counted in optimizer steps."""

    step: int  # steps done
    total: int  # steps of the whole run
    epoch: int  # steps of one epoch


@dataclass(frozen=True)
class Context:
    """What a criterion may look at. It changes none of it, except for drawing from `generator`."""

    params: Mapping[str, Tensor]  # the prunable weights
    generator: torch.Generator  # on the CPU, so that the same seed gives the same masks on any device
