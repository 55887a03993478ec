"""What do the parts of a pruning method hand to each other?"""

from torch import Tensor

# Keyed by parameter name. Scores: larger = keep. Masks: bool, True = kept.
Scores = dict[str, Tensor]
Masks = dict[str, Tensor]
Example = Tensor | tuple[Tensor, ...]  # what a net takes
