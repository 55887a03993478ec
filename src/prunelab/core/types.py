"""Types that the parts of a pruning method exchange."""

from torch import Tensor

from prunelab.core.time import Progress as Progress  # whose first place this was

# Keyed by parameter name. Scores: larger = keep. Masks: bool, True = kept.
Scores = dict[str, Tensor]
Masks = dict[str, Tensor]
Example = Tensor | tuple[Tensor, ...]  # a network's input
