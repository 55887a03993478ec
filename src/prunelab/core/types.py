"""What do the parts of a pruning method hand to each other?"""

from dataclasses import dataclass

from torch import Tensor

# Keyed by parameter name. Scores: larger = keep. Masks: bool, True = kept.
Scores = dict[str, Tensor]
Masks = dict[str, Tensor]
Example = Tensor | tuple[Tensor, ...]  # what a net takes


@dataclass(frozen=True)
class Progress:
    """How far training has come, counted in optimizer steps."""

    step: int  # steps done
    total: int  # steps of the whole run
    epoch: int  # steps of one epoch
