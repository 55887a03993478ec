"""How does a factor on each unit act in a net, move, and become part of its weights? DSSS (Huang & Wang 2018)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.hooks import RemovableHandle

from prunelab.channels.units import PrunableStructure
from prunelab.core import distributed
from prunelab.core.prunable import PRUNABLE
from prunelab.core.types import Masks, Scores

FOLDABLE = (*PRUNABLE, _BatchNorm, _InstanceNorm, nn.GroupNorm)  # what is linear in its weight and bias


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
    """One factor for each of `units`, in their order; it multiplies their channels in the outputs of their outlets.

    Raises ValueError for units without an outlet, and for outlets that the factors could not be folded into.
    """

    def __init__(self, net: nn.Module, units: PrunableStructure) -> None:
        self.sizes = {group: len(numbers) for group, numbers in units.numbers.items()}
        numbers = torch.cat(list(units.numbers.values()))
        count, device = len(numbers), next(net.parameters()).device
        place = torch.full((int(numbers.max()) + 2,), count)  # the last one, also at -1: no unit, its factor is 1
        place[numbers] = torch.arange(count)
        first = {module: name for name, module in net.named_modules()}  # a module may have several names
        found = {first[net.get_submodule(path)]: place[numbers] for path, numbers in units.scaling_modules.items()}
        _check_folds(net, found)
        self._check_scaled(torch.cat(list(found.values())))
        self.scaling_modules = {
            path: places.to(device) for path, places in found.items()
        }  # the place of each channel's factor
        self.values = torch.ones(count, device=device).requires_grad_()
        self.velocity = torch.zeros(count, device=device)

    def _check_scaled(self, places: Tensor) -> None:
        scaled = torch.zeros(sum(self.sizes.values()) + 1, dtype=torch.bool)
        scaled[places] = True
        bare = [group for group, own in zip(self.sizes, self._split(scaled[:-1]), strict=True) if not own.all()]
        if bare:  # without a gradient they would all fall to 0
            raise ValueError(
                f"units of {', '.join(bare)} have no layer whose output they could scale: skip them "
                "(prune.pruning.pruner.skip), or choose another granularity"
            )

    def _split(self, of_units: Tensor) -> tuple[Tensor, ...]:
        return of_units.split(list(self.sizes.values()))

    def scores(self) -> Scores:
        return dict(zip(self.sizes, self._split(self.values.detach().clone()), strict=True))

    def alive(self, keep: Masks) -> Tensor:
        """What `keep` says of each unit: (n,), bool."""
        return torch.cat([keep[group] for group in self.sizes]).to(self.values.device)

    def hook(self, net: nn.Module) -> list[RemovableHandle]:
        """Lets the factors act on `net`, until the handles are removed."""
        modules = {path: net.get_submodule(path) for path in self.scaling_modules}
        return [
            module.register_forward_hook(
                _scaling(self.values, self.scaling_modules[path], isinstance(module, nn.Linear))
            )
            for path, module in modules.items()
        ]

    @torch.no_grad()
    def step(self, lr: float, gamma: float, momentum: float) -> None:
        """In place: the hooks hold the values. Without a gradient nothing moves, as in any optimizer."""
        if self.values.grad is not None:
            distributed.average([self.values.grad])  # DDP does so for the parameters alone
            values, velocity = proximal_step(self.values, self.velocity, self.values.grad, lr, gamma, momentum)
            self.values.copy_(values)
            self.velocity.copy_(velocity)
            self.values.grad = None

    @torch.no_grad()
    def mask(self, alive: Tensor) -> None:
        """The others are 0, and stay so: what they multiply is masked, so their gradient is 0."""
        self.values.mul_(alive)
        self.velocity.mul_(alive)

    @torch.no_grad()
    def fold(self, net: nn.Module) -> None:
        """Into weights and biases, a shared one once: `net` computes without hooks what it did with them."""
        params = {p: path for path in self.scaling_modules for p in _weight_and_bias(net.get_submodule(path))}
        for p, path in params.items():
            own = torch.cat([self.values, self.values.new_ones(1)])[self.scaling_modules[path]]
            p.mul_(own.view(-1, *[1] * (p.dim() - 1)))


def _scaling(values: Tensor, places: Tensor, channels_last: bool) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    everywhere = bool((places < len(values)).all())

    def scale(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        own = (values if everywhere else torch.cat([values, values.new_ones(1)])).index_select(0, places)
        behind = 0 if channels_last else output.dim() - 2  # axes after the channels'
        return output * own.to(output.dtype).view(-1, *[1] * behind)  # in its type: autocast goes on as it was

    return scale


def _weight_and_bias(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in (module.weight, module.bias) if isinstance(p, nn.Parameter)]


def _check_folds(net: nn.Module, scaling_modules: dict[str, Tensor]) -> None:
    owners: dict[nn.Parameter, list[str]] = {}
    for name, module in net.named_modules():
        for p in module.parameters(recurse=False):
            owners.setdefault(p, []).append(name)
    for path, places in scaling_modules.items():
        module = net.get_submodule(path)
        if not isinstance(module, FOLDABLE) or not isinstance(module.weight, nn.Parameter):
            kind = type(module).__name__
            raise ValueError(
                f"{path or 'the net'} ({kind}) has no weight that factors could be folded into: "
                "give a norm affine=True, or skip the layer (prune.pruning.pruner.skip)"
            )
        for other in (name for p in _weight_and_bias(module) for name in owners[p]):
            if other not in scaling_modules or not torch.equal(scaling_modules[other], places):
                raise ValueError(f"{path} shares a parameter with {other}, where other factors act: skip one of them")
