"""Scaling factors of units: how they act, train and fold into the weights. DSSS (Huang & Wang 2018)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.hooks import RemovableHandle

from prunelab.channels.units import PrunableStructure
from prunelab.core import distributed
from prunelab.core.network.prunable import PRUNABLE
from prunelab.core.types import Masks, Scores

FOLDABLE = (*PRUNABLE, _BatchNorm, _InstanceNorm, nn.GroupNorm)  # linear in weight and bias


def proximal_step(
    factors: Tensor, velocity: Tensor, gradient: Tensor, lr: float, gamma: float, momentum: float
) -> tuple[Tensor, Tensor]:
    """Factors and velocity after a step of accelerated proximal gradient on loss + gamma * sum of factors: (n,) each.

    Huang & Wang 2018, eq. 11-13; the clamp at 0 is their code's.

    >>> proximal_step(torch.tensor([1.0, 0.1]), torch.zeros(2), torch.zeros(2), lr=0.1, gamma=2.0, momentum=0.5)
    (tensor([0.7000, 0.0000]), tensor([-0.2000, -0.1000]))
    """
    moved, threshold = factors - lr * gradient, lr * gamma
    z = moved - moved.clamp(-threshold, threshold)  # S: exactly 0 within the threshold
    velocity = z - factors + momentum * velocity
    return (z + momentum * velocity).clamp(min=0), velocity


class Factors:
    """One factor for each of `units`, in their order; it multiplies their channels in the outputs of scaling modules.

    Raises ValueError for units without such a module, and for modules that factors cannot be folded into.
    """

    def __init__(self, net: nn.Module, units: PrunableStructure) -> None:
        self.sizes = {group: len(numbers) for group, numbers in units.numbers.items()}
        numbers = torch.cat(list(units.numbers.values()))
        count, device = len(numbers), next(net.parameters()).device
        index = torch.full((int(numbers.max()) + 2,), count)  # the last, also at -1, for no unit: factor 1
        index[numbers] = torch.arange(count)
        first = {module: name for name, module in net.named_modules()}  # a module may have several names
        modules = {first[net.get_submodule(path)]: index[numbers] for path, numbers in units.scaling_modules.items()}
        _check_folds(net, modules)
        self._check_scaled(torch.cat(list(modules.values())))
        # The index of each channel's factor.
        self.scaling_modules = {path: indices.to(device) for path, indices in modules.items()}
        self.values = torch.ones(count, device=device).requires_grad_()
        self.velocity = torch.zeros(count, device=device)

    def _check_scaled(self, indices: Tensor) -> None:
        scaled = torch.zeros(sum(self.sizes.values()) + 1, dtype=torch.bool)
        scaled[indices] = True
        bare = [group for group, part in zip(self.sizes, self._split(scaled[:-1]), strict=True) if not part.all()]
        if bare:  # without a gradient they would fall to 0
            raise ValueError(
                f"units of {', '.join(bare)} have no layer whose output factors could scale: skip them "
                "(prune.pruning.pruner.skip), or choose another granularity"
            )

    def _split(self, of_units: Tensor) -> tuple[Tensor, ...]:
        return of_units.split(list(self.sizes.values()))

    def scores(self) -> Scores:
        return dict(zip(self.sizes, self._split(self.values.detach().clone()), strict=True))

    def alive(self, keep: Masks) -> Tensor:
        """`keep` in the order of the factors: (n,), bool."""
        return torch.cat([keep[group] for group in self.sizes]).to(self.values.device)

    def hook(self, net: nn.Module) -> list[RemovableHandle]:
        """Applies the factors in `net`, not in its copies, until the handles are removed."""
        modules = {path: net.get_submodule(path) for path in self.scaling_modules}
        return [
            module.register_forward_hook(_scaling(module, self.values, self.scaling_modules[path]))
            for path, module in modules.items()
        ]

    @torch.no_grad()
    def step(self, lr: float, gamma: float, momentum: float) -> None:
        """In place, as the hooks hold the values. Without a gradient nothing moves, as in any optimizer."""
        if self.values.grad is not None:
            distributed.average([self.values.grad])  # DDP averages only those of parameters
            values, velocity = proximal_step(self.values, self.velocity, self.values.grad, lr, gamma, momentum)
            self.values.copy_(values)
            self.velocity.copy_(velocity)
            self.values.grad = None

    @torch.no_grad()
    def mask(self, alive: Tensor) -> None:
        """Zeroes the others, which stay 0: what they multiply is masked, so their gradient is 0."""
        self.values.mul_(alive)
        self.velocity.mul_(alive)

    @torch.no_grad()
    def fold(self, net: nn.Module) -> None:
        """Folds factors into weights and biases, a shared one once, so that `net` needs no hooks."""
        params = {p: path for path in self.scaling_modules for p in _weight_and_bias(net.get_submodule(path))}
        for p, path in params.items():
            factors = torch.cat([self.values, self.values.new_ones(1)])[self.scaling_modules[path]]
            p.mul_(factors.view(-1, *[1] * (p.dim() - 1)))


def _scaling(module: nn.Module, values: Tensor, indices: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    everywhere, channels_last = bool((indices < len(values)).all()), isinstance(module, nn.Linear)

    def scale(called: nn.Module, _: Any, output: Tensor) -> Tensor:
        if called is not module:  # a copy, which surgery may have made smaller: copying takes hooks along
            return output
        factors = (values if everywhere else torch.cat([values, values.new_ones(1)])).index_select(0, indices)
        trailing = 0 if channels_last else output.dim() - 2  # axes after the channels'
        return output * factors.to(output.dtype).view(-1, *[1] * trailing)  # in its type, for autocast

    return scale


def _weight_and_bias(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in (module.weight, module.bias) if isinstance(p, nn.Parameter)]


def _check_folds(net: nn.Module, scaling_modules: dict[str, Tensor]) -> None:
    owners: dict[nn.Parameter, list[str]] = {}
    for name, module in net.named_modules():
        for p in module.parameters(recurse=False):
            owners.setdefault(p, []).append(name)
    for path, indices in scaling_modules.items():
        module = net.get_submodule(path)
        if not isinstance(module, FOLDABLE) or not isinstance(module.weight, nn.Parameter):
            kind = type(module).__name__
            raise ValueError(
                f"{path or 'the network'} ({kind}) has no weight that factors could be folded into: "
                "give a norm affine=True, or skip the layer (prune.pruning.pruner.skip)"
            )
        for other in (name for p in _weight_and_bias(module) for name in owners[p]):
            if other not in scaling_modules or not torch.equal(scaling_modules[other], indices):
                raise ValueError(f"{path} shares a parameter with {other}, which has other factors: skip one of them")
