"""An optimizer that holds another: sharpness-aware minimisation (Foret et al. 2021), as users write it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


class Sam(Optimizer):
    """SGD with momentum, with the gradient of a step uphill."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.1, rho: float = 0.05) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr, momentum=0.9)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        for p in self._trained():
            self.state[p]["before"] = p.clone()
            p.add_(p.grad, alpha=self.defaults["rho"])

    @torch.no_grad()
    def second_step(self) -> None:
        for p in self._trained():
            p.copy_(self.state[p]["before"])
        self.base_optimizer.step()

    def _trained(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is not None
        with torch.enable_grad():
            loss = closure()
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()
        return loss
