"""What is pruned now? Composes criterion, granularity, allocation and schedule; owns the masks."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.core.allocation import Allocation
from prunelab.core.criterion import Criterion
from prunelab.core.granularity import Granularity
from prunelab.core.partners import Example
from prunelab.core.schedule import Schedule
from prunelab.core.select import prunable_weights
from prunelab.core.types import Context, Masks, Progress


class Pruner:
    """A pruning method, and the masks it has come to.

    `skip` names weights that stay dense, by pattern ("fc.*"). `seed` feeds criteria that draw at random.

    >>> from prunelab.core.allocation import Uniform
    >>> from prunelab.core.granularity import Weight
    >>> from prunelab.core.schedule import Rounds
    >>> from prunelab.criteria.norm import Norm
    >>> net = nn.Linear(4, 1, bias=False)
    >>> net.weight.data = torch.tensor([[0.1, -0.4, 0.3, 0.2]])
    >>> pruner = Pruner(Norm(p=1), Weight(), Uniform(), Rounds(rate=0.5, start=0.0))
    >>> pruner.attach(net)
    >>> pruner.update(Progress(step=0, total=100, epoch=10))
    True
    >>> net.weight.data
    tensor([[ 0.0000, -0.4000,  0.3000,  0.0000]])
    """

    def __init__(
        self,
        criterion: Criterion,
        granularity: Granularity,
        allocation: Allocation,
        schedule: Schedule,
        skip: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.criterion = criterion
        self.granularity = granularity
        self.allocation = allocation
        self.schedule = schedule
        self.skip = tuple(skip)
        self.seed = seed
        self._forget()

    def _forget(self) -> None:
        self.rate = 0.0  # what the masks meet now
        self.keep: Masks = {}  # a verdict per unit
        self.masks: Masks = {}  # the same per weight; derived, never saved
        self._prunable: dict[str, nn.Parameter] = {}
        self._params: dict[str, nn.Parameter] = {}  # all of the net's: norms and biases may be masked too
        self._factors: dict[str, Tensor] = {}  # masks as 0 and 1 in the parameter's own type and place
        # A stream of its own: the global one, seeded alike, has drawn the initial weights from the same numbers.
        own = hashlib.sha256(f"pruner {self.seed}".encode()).digest()
        self._generator = torch.Generator().manual_seed(int.from_bytes(own[:4]))

    def attach(self, net: nn.Module, example: Example | None = None) -> None:
        """Starts afresh on `net`. `example` is a batch of inputs; granularities larger than a weight need it."""
        self._forget()
        self._params = dict(net.named_parameters())
        self._prunable = prunable_weights(net, self.skip)
        self.granularity = self.granularity.bind(net, self._prunable, example)

    def check(self, p: Progress) -> None:
        """Rehearses the last pruning of a run of `p.total` steps; raises ValueError for what would fail in it."""
        self.schedule.check(p)
        final = self.schedule(replace(p, step=p.total))
        scores = {n: torch.linspace(0, 1, w.numel()).view(w.shape) for n, w in self._prunable.items()}
        if final:
            self.allocation(self.granularity.reduce(scores), final)

    def update(self, p: Progress) -> bool:
        """Prunes to the rate that is due at `p`, if it is not met yet; says whether the masks changed.

        What is pruned stays pruned. Raises ValueError when the criterion's scores contain NaN.
        """
        due = self.schedule(p)
        if due is None or due <= self.rate:
            return False
        with torch.no_grad():
            units = self.granularity.reduce(self.criterion(Context(self._prunable, self._generator)))
            for name, kept in self.keep.items():
                units[name] = units[name].masked_fill(~kept.to(units[name].device), -torch.inf)
            self._adopt(self.allocation(units, due))
        self.rate = due
        self.apply()
        return True

    def _adopt(self, keep: Masks) -> None:
        self.keep = keep
        self.masks = self.granularity.expand(keep)
        self._factors = {}

    def apply(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Zeroes pruned weights and, given the optimizer, its state for them (momentum, Adam's moments)."""
        params, factors = self._masked()
        tensors = [p.data for p in params]
        if optimizer is not None:
            for param, factor in zip(params, list(factors), strict=True):
                same = [s for s in optimizer.state.get(param, {}).values() if _like(s, param)]
                tensors += same
                factors += [factor] * len(same)
        _multiply(tensors, factors)

    def mask_gradients(self) -> None:
        """Zeroes the gradients of pruned weights, so that clipping by norm counts the living ones alone."""
        params, factors = self._masked()
        pairs = [(p.grad, f) for p, f in zip(params, factors, strict=True) if p.grad is not None]
        _multiply([grad for grad, _ in pairs], [f for _, f in pairs])

    def _masked(self) -> tuple[list[nn.Parameter], list[Tensor]]:
        params = [self._params[name] for name in self.masks]
        if any(
            name not in self._factors or self._factors[name].device != self._params[name].device for name in self.masks
        ):
            self._factors = {name: _factor(self._params[name], mask) for name, mask in self.masks.items()}
        return params, [self._factors[name] for name in self.masks]

    def unit_counts(self) -> dict[str, tuple[int, int]]:
        """(units removed, units) of each layer that has units."""
        if self.keep:
            return {name: (int((~kept).sum()), kept.numel()) for name, kept in self.keep.items()}
        scores = {name: p.detach() for name, p in self._prunable.items()}
        return {name: (0, units.numel()) for name, units in self.granularity.reduce(scores).items()}

    def state_dict(self) -> dict[str, Any]:
        return {"rate": self.rate, "keep": self.keep, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a saved state on the attached net. Raises ValueError where a mask does not fit it."""
        for name, kept in state["keep"].items():
            if name not in self._prunable or self._prunable[name].shape[: kept.dim()] != kept.shape:
                have = tuple(self._prunable[name].shape) if name in self._prunable else "no such weight"
                raise ValueError(f"mask {name} {tuple(kept.shape)} does not fit this net: {have}")
        self.rate = state["rate"]
        self._generator.set_state(state["generator"].cpu())
        self._adopt(dict(state["keep"]))


def _factor(param: Tensor, mask: Tensor) -> Tensor:
    """0 and 1 in the strides of `param`: in others, each product would take twice as long."""
    return torch.empty_like(param, requires_grad=False).copy_(mask)


def _like(state: object, param: Tensor) -> bool:
    return isinstance(state, Tensor) and state.shape == param.shape


def _multiply(tensors: list[Tensor], factors: list[Tensor]) -> None:
    if tensors:
        with torch.no_grad():
            torch._foreach_mul_(tensors, factors)
