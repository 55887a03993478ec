"""What a criterion may read of a network and its training data, without leaving a trace."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from prunelab.core.network.activations import input_squares
from prunelab.core.network.preserve import preserve_state
from prunelab.core.types import Example, Scores

Batch = Sequence[Any]  # (inputs, targets)
Draw = Callable[[int, torch.Generator], list[Batch]]  # (count, generator) -> batches of training data
Loss = Callable[[Any, Any], Tensor]  # (outputs, targets) -> mean over the batch
Average = Callable[[Sequence[Tensor]], None]  # in place, over the processes of one training


class Unscorable(ValueError):
    """Scores that are none, or a batch, an output or a loss that gives none."""


def cross_entropy(outputs: Any, targets: Any) -> Tensor:
    """F.cross_entropy, the loss of a classifier. Raises ValueError for what it is not the loss of."""
    remedy = "give the network's own loss=, a function of (outputs, targets)"
    if not isinstance(outputs, Tensor):
        raise Unscorable(f"the network returns a {type(outputs).__name__}, cross-entropy takes a tensor: {remedy}")
    if outputs.dim() < 2 or outputs.shape[1] == 1:
        raise Unscorable(f"outputs {tuple(outputs.shape)} are not those of several classes: {remedy}")
    if targets is None:
        raise Unscorable("no targets for cross-entropy: give batches (inputs, targets), or loss=f(outputs, None)")
    if isinstance(targets, Tensor) and targets.is_floating_point() and not _are_probabilities(targets):
        raise Unscorable(
            f"targets {tuple(targets.shape)} are numbers, neither classes nor their probabilities: {remedy}"
        )
    return F.cross_entropy(outputs, targets)


@dataclass(frozen=True)
class Context:
    """The network and its weights as they are now; training data passes through it in training mode.

    Buffers, random streams, modes and `.grad` are restored.
    """

    net: nn.Module
    params: Mapping[str, nn.Parameter]  # the prunable weights
    generator: torch.Generator  # on the CPU, so that the same seed gives the same masks on any device
    example: Example | None = None
    draw: Draw | None = None
    loss: Loss = cross_entropy
    memory: Mapping[str, Tensor] = field(default_factory=dict)  # what the criterion has kept while it watched training
    average: Average | None = None

    def batches(self, count: int) -> list[Batch]:
        """Batches of training data. Raises ValueError where none can be drawn."""
        if self.draw is None:
            raise ValueError("this criterion uses training data: give Pruner.attach a function to draw= batches")
        return self.draw(count, self.generator)

    def gradients(self, batches: Sequence[Batch], temperature: float = 1.0) -> Scores:
        """The gradient of the mean loss for every weight, pruned ones included; outputs divided by `temperature`."""
        total = {name: torch.zeros_like(p) for name, p in self.params.items()}
        for loss in self._losses(batches, temperature):
            self._add(total, self._derive(loss), len(batches))
        return self.all_reduce_mean(total)

    def curvature(self, vector: Scores, batches: Sequence[Batch], temperature: float = 1.0) -> Scores:
        """The Hessian of the mean loss times `vector`, by differentiating twice (Pearlmutter 1994)."""
        total = {name: torch.zeros_like(p) for name, p in self.params.items()}
        for loss in self._losses(batches, temperature):
            slopes = self._derive(loss, create_graph=True)
            along = sum((slope * vector[name]).sum() for name, slope in slopes.items())
            assert isinstance(along, Tensor)
            self._add(total, self._derive(along), len(batches))
        return self.all_reduce_mean(total)

    def input_norms(self, batches: Sequence[Batch]) -> Scores:
        """The L2 norm of each input channel of each weight's layer, over all of `batches` and positions.

        In shapes that broadcast against the weight: (1, in, 1, ...), with groups (out, in / groups, 1, ...), of a
        transposed convolution (in, 1, 1, ...).
        Raises ValueError for weights whose layers do not run.
        """
        with preserve_state(self.net, training=True), torch.compiler.set_stance("force_eager"):
            squares = input_squares(self.net, self.params, [self._arguments(x) for x, _ in map(_pair, batches)])
        return {name: total.sqrt() for name, total in self.all_reduce_mean(squares).items()}

    def all_reduce_mean(self, slopes: Scores) -> Scores:
        """The mean over the processes of this training, in place: the same bits on all of them.

        For anything that may differ between them, as gradients do even on the same data: GPUs add in any order.
        """
        if self.average is not None:
            self.average(list(slopes.values()))
        return slopes

    def _losses(self, batches: Sequence[Batch], temperature: float) -> Iterator[Tensor]:
        # Neither a compiled network nor fused attention can be differentiated twice, and what they save is not worth it
        # for a few batches.
        with (
            preserve_state(self.net, training=True),
            torch.compiler.set_stance("force_eager"),
            sdpa_kernel(SDPBackend.MATH),
        ):
            for inputs, targets in map(_pair, batches):
                outputs = self.net(*self._arguments(inputs))
                if temperature != 1:
                    outputs = _softened(outputs, temperature)
                yield self.loss(outputs, targets)

    def _arguments(self, inputs: Any) -> tuple[Any, ...]:
        """Those of a call: several where the example has as many."""
        if isinstance(self.example, tuple) and isinstance(inputs, tuple | list) and len(inputs) == len(self.example):
            return tuple(inputs)
        return (inputs,)

    def _derive(self, value: Tensor, create_graph: bool = False) -> Scores:
        trained = {name: p for name, p in self.params.items() if p.requires_grad}
        slopes = torch.autograd.grad(value, list(trained.values()), create_graph=create_graph, allow_unused=True)
        return {name: slope for name, slope in zip(trained, slopes, strict=True) if slope is not None}

    @staticmethod
    def _add(total: Scores, part: Scores, batches: int) -> None:
        for name, value in part.items():
            total[name] += value.detach() / batches


def _are_probabilities(targets: Tensor) -> bool:
    return targets.dim() > 1 and bool((targets.min() >= 0) & ((targets.sum(1) - 1).abs().max() < 1e-2))


def _softened(outputs: Any, temperature: float) -> Tensor:
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise Unscorable(f"the network returns a {kind}, a temperature divides a tensor: choose another criterion")
    return outputs / temperature


def _pair(batch: Any) -> tuple[Any, Any]:
    try:
        if not isinstance(batch, Tensor | Mapping | str):
            inputs, targets = batch
            return inputs, targets
    except (TypeError, ValueError):
        pass
    what = f"{len(batch)} parts" if isinstance(batch, list | tuple) else f"type {type(batch).__name__}"
    raise Unscorable(
        f"a batch of {what}, scoring takes (inputs, targets): give the data module scoring_batches(n, generator)"
    )
