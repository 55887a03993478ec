"""Snapshots of a run at one step, and how to restore them."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from prunelab.core.text.printable import printable


@dataclass(frozen=True)
class Snapshot:
    """Copies of parameters, buffers, optimizer state and learning-rate schedule at one step."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    optimizer: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None

    @classmethod
    def capture(
        cls,
        net: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        schedule: LRScheduler | None = None,
    ) -> Self:
        """Copies on the tensors' own devices."""
        return cls(
            {name: p.detach().clone() for name, p in net.named_parameters()},
            {name: b.detach().clone() for name, b in net.named_buffers()},
            copy.deepcopy(optimizer.state_dict()) if optimizer else None,
            copy.deepcopy(schedule.state_dict()) if schedule else None,
        )

    def restore_net(self, net: nn.Module, parameters: bool = True, buffers: bool = True) -> None:
        """Restores parameters and buffers in place; they keep their identity. The caller applies masks.

        Raises ValueError, with the name, for a tensor that is missing or of another shape.
        """
        live = (dict(net.named_parameters()) if parameters else {}) | (dict(net.named_buffers()) if buffers else {})
        saved = (self.parameters if parameters else {}) | (self.buffers if buffers else {})
        for name in dict.fromkeys([*live, *saved]):
            if name not in live or name not in saved or live[name].shape != saved[name].shape:
                raise ValueError(f"{name}: the snapshot was taken of another network")
        with torch.no_grad():
            for name, tensor in live.items():
                tensor.copy_(saved[name])

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Restores momentum and other state; learning rates and options stay, they are the schedule's."""
        if self.optimizer is None:
            raise ValueError("the snapshot holds no optimizer state: capture it with the optimizer")
        options = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": copy.deepcopy(self.optimizer["state"]), "param_groups": options})

    def restore_schedule(self, schedule: LRScheduler) -> None:
        """Restores the learning-rate schedule, and the optimizer's options with it."""
        if self.schedule is None:
            raise ValueError("the snapshot holds no learning-rate schedule: capture it with the schedule")
        schedule.load_state_dict(copy.deepcopy(self.schedule))
        saved = self.optimizer["param_groups"] if self.optimizer else [{"lr": lr} for lr in schedule.get_last_lr()]
        for group, options in zip(schedule.optimizer.param_groups, copy.deepcopy(saved), strict=True):
            group.update({name: value for name, value in options.items() if name != "params"})

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Self:
        return cls(**state)


SHOWN = 3  # differences in a message


def state_dict_mismatch(net: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """What is missing, unknown or of another shape; "" where `tensors` fit into `net`."""
    return shape_mismatch(net, {name: tensor.shape for name, tensor in tensors.items()})


def shape_mismatch(net: nn.Module, shapes: Mapping[str, Sequence[int]]) -> str:
    """The same, for tensors of these shapes."""
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    errors = [f"{name} is missing" for name in expected if name not in shapes]
    errors += [f"{printable(name)} is unknown" for name in shapes if name not in expected]
    errors += [
        f"{name} is {tuple(shapes[name])!r:.80}, expected {shape}"
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    return "; ".join(errors[:SHOWN]) + (f" and {len(errors) - SHOWN} more" if len(errors) > SHOWN else "")
