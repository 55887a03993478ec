"""Knowledge distillation: a frozen network's softened outputs as targets (Hinton et al. 2015)."""

from dataclasses import dataclass
from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Distillation:
    """Mixes a loss with the divergence of a network's outputs from those of a frozen `teacher`.

    No module registers the teacher, so it is in no checkpoint, in no optimizer and not under DDP; it runs in eval mode.
    Raises ValueError for an impossible temperature or weight.
    """

    teacher: nn.Module
    temperature: float = 4.0
    weight: float = 0.9

    def __post_init__(self) -> None:
        if not (isinstance(self.temperature, int | float) and 0 < self.temperature < inf):
            raise ValueError(f"distill.temperature={self.temperature}: expected a number above 0")
        if not (isinstance(self.weight, int | float) and 0 <= self.weight <= 1):
            raise ValueError(f"distill.weight={self.weight}: expected a fraction in [0, 1]")
        self.teacher.requires_grad_(False).eval()

    def __call__(self, x: Tensor, logits: Tensor, loss: Tensor) -> Tensor:
        """(1 - weight) loss + weight T^2 KL(softmax(teacher(x) / T) || softmax(logits / T)), the mean over the batch.

        T^2 keeps the gradient's size when T changes (section 2.1). `logits` are (n, classes), for the same `x`.
        """
        with torch.no_grad():
            targets = self.teacher(x)
        soft, wanted = (F.log_softmax(z.float() / self.temperature, -1) for z in (logits, targets))
        divergence = F.kl_div(soft, wanted, reduction="batchmean", log_target=True)
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * divergence
