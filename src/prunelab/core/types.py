"""Types that the parts of a pruning method exchange."""

from torch import Tensor

# Keyed by parameter name. Scores: larger = keep. Masks: bool, True = kept.
Scores = dict[str, Tensor]
Masks = dict[str, Tensor]
Example = Tensor | tuple[Tensor, ...]  # a network's input
