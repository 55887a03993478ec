"""Which units does training itself switch off? Data-driven sparse structure selection, DSSS (Huang & Wang 2018)."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.hooks import RemovableHandle

from prunelab.callbacks.progress import progress
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.rewind import Rewind
from prunelab.callbacks.shrink import Shrink
from prunelab.channels.units import Removable
from prunelab.core import ranks
from prunelab.core.pruner import Pruner
from prunelab.core.select import PRUNABLE
from prunelab.core.types import Masks, Progress, Scores
from prunelab.criteria.factor import Factor

log = logging.getLogger(__name__)
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

    def __init__(self, net: nn.Module, units: Removable) -> None:
        self.sizes = {group: len(numbers) for group, numbers in units.numbers.items()}
        numbers = torch.cat(list(units.numbers.values()))
        count, device = len(numbers), next(net.parameters()).device
        place = torch.full((int(numbers.max()) + 2,), count)  # the last one, also at -1: no unit, its factor is 1
        place[numbers] = torch.arange(count)
        first = {module: name for name, module in net.named_modules()}  # a module may have several names
        found = {first[net.get_submodule(path)]: place[numbers] for path, numbers in units.outlets.items()}
        _check_folds(net, found)
        self._check_scaled(torch.cat(list(found.values())))
        self.outlets = {path: places.to(device) for path, places in found.items()}  # the place of each channel's factor
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
        modules = {path: net.get_submodule(path) for path in self.outlets}
        return [
            module.register_forward_hook(_scaling(self.values, self.outlets[path], isinstance(module, nn.Linear)))
            for path, module in modules.items()
        ]

    @torch.no_grad()
    def step(self, lr: float, gamma: float, momentum: float) -> None:
        """In place: the hooks hold the values. Without a gradient nothing moves, as in any optimizer."""
        if self.values.grad is not None:
            ranks.average([self.values.grad])  # DDP does so for the parameters alone
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
        params = {p: path for path in self.outlets for p in _weight_and_bias(net.get_submodule(path))}
        for p, path in params.items():
            own = torch.cat([self.values, self.values.new_ones(1)])[self.outlets[path]]
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


def _check_folds(net: nn.Module, outlets: dict[str, Tensor]) -> None:
    owners: dict[nn.Parameter, list[str]] = {}
    for name, module in net.named_modules():
        for p in module.parameters(recurse=False):
            owners.setdefault(p, []).append(name)
    for path, places in outlets.items():
        module = net.get_submodule(path)
        if not isinstance(module, FOLDABLE) or not isinstance(module.weight, nn.Parameter):
            kind = type(module).__name__
            raise ValueError(
                f"{path or 'the net'} ({kind}) has no weight that factors could be folded into: "
                "give a norm affine=True, or skip the layer (prune.pruning.pruner.skip)"
            )
        for other in (name for p in _weight_and_bias(module) for name in owners[p]):
            if other not in outlets or not torch.equal(outlets[other], places):
                raise ValueError(f"{path} shares a parameter with {other}, where other factors act: skip one of them")


class ScalingFactors(L.Callback):
    """Trains a factor for each unit of the Pruning beside it, from 1 towards 0, until the last pruning.

    The factor multiplies the unit's output. After each optimizer step, with the optimizer's present learning rate
    (of its first group; or a constant one, `lr`), follows the factors' own, which pulls at them with `gamma` and makes
    exact zeros. There is no weight decay, and clipping does not see their gradient. The criterion Factor removes the
    units of the smallest factors; after the last pruning the factors are folded into the weights, or at the end of
    a fit that does not come so far. Until then the net needs them to be itself, in evaluation too: checkpoints have
    them beside the net. The state_dict of the net stays as it is. With a rate of 0 nothing happens at all.

    Logs `factors/zero` an epoch: the fraction of factors that are exactly 0.
    Stands before the Pruning, whose units can be cut out. Raises ValueError before training for anything else,
    more than one optimizer, fp16 mixed precision, a Rewind that takes weights back, all pruned
    before the first step, and layers that factors could not be folded into.
    """

    def __init__(self, gamma: float, momentum: float = 0.9, lr: float | None = None) -> None:
        if not gamma >= 0:
            raise ValueError(f"gamma={gamma}: expected a number of at least 0")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum}: expected a number in [0, 1)")
        if lr is not None and not lr > 0:
            raise ValueError(f"lr={lr}: expected a number above 0, or null for the optimizer's")
        self.gamma, self.momentum, self.lr = gamma, momentum, lr
        self._hooks: list[RemovableHandle] = []
        self._loaded: dict[str, Any] | None = None
        self._forget()

    def _forget(self) -> None:
        self.factors: Factors | None = None  # from the start of a fit until they are folded
        self._cut = (0, 0.0)  # removed units whose factor was not 0 yet, and the largest of these

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._loaded = None  # what an earlier run left; Lightning loads a checkpoint after this, in any stage
        self._forget()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not before: a Pruning, which comes later in the list, finds its units in on_fit_start.
        pruner = self._pruner(trainer)
        if not _is_to_come(pruner, progress(trainer, 0)):
            return
        _check_run(trainer)
        assert isinstance(pruner.granularity, Removable)
        self.factors = Factors(pl_module, pruner.granularity)
        self._take_up(self.factors)
        self._hooks = self.factors.hook(pl_module)
        self._hooks.append(trainer.optimizers[0].register_step_post_hook(lambda optimizer, *_: self._step(optimizer)))
        torch.compiler.reset()  # a graph of before, as of the sanity check, would go on without hooks

    def _pruner(self, trainer: L.Trainer) -> Pruner:
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        prunings = [callback for callback in callbacks if isinstance(callback, Pruning)]
        if len(prunings) != 1:
            raise ValueError(f"ScalingFactors works beside one Pruning callback, there are {len(prunings)}")
        for other in callbacks[: callbacks.index(self)]:
            if isinstance(other, Pruning | Shrink):
                name = type(other).__name__
                raise ValueError(f"{name} comes before ScalingFactors, which would be late: list ScalingFactors first")
        pruner = prunings[0].pruner
        if not isinstance(pruner.granularity, Removable):
            kind = type(pruner.granularity).__name__
            raise ValueError(f"factors scale filters, neurons or blocks, not {kind}: use prune/granularity=channels")
        return pruner

    def _take_up(self, factors: Factors) -> None:
        if self._loaded is None or self._loaded["values"] is None:
            return
        with torch.no_grad():
            factors.values.copy_(self._loaded["values"])
        factors.velocity.copy_(self._loaded["velocity"])
        self._cut = tuple(self._loaded["cut"])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.factors is not None and isinstance((pruner := self._pruner(trainer)).criterion, Factor):
            pruner.remember(self.factors.scores())

    def on_before_zero_grad(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self.factors is not None:
            self.factors.values.grad = None

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        assert self.factors is not None
        lr = float(optimizer.param_groups[0]["lr"]) if self.lr is None else self.lr
        self.factors.step(lr, self.gamma, self.momentum)

    def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, pruner: Pruner, run: Progress) -> None:
        """Called by Pruning when it has changed the masks, before the next step."""
        if self.factors is None:
            return
        values, alive = self.factors.values.detach(), self.factors.alive(pruner.keep)
        zeros = int((values == 0).sum()) - self._cut[0]
        self._count_cut(values[~alive])
        if not pruner.schedule.is_last(run):
            self.factors.mask(alive)
            return
        self._report(zeros, alive, useless=int((values[alive] == 0).sum()))
        self._fold(pl_module)
        pruner.apply(trainer.optimizers[0])

    def _count_cut(self, removed: Tensor) -> None:
        """`removed` are the factors of all that is; those of earlier prunings are 0 by now."""
        count, largest = self._cut
        self._cut = count + int((removed > 0).sum()), max([largest, *removed.tolist()])

    def _report(self, zeros: int, alive: Tensor, useless: int) -> None:
        units, removed, (missed, largest) = len(alive), int((~alive).sum()), self._cut
        log.info(
            "factors are folded: %d of %d were exactly 0; pruning removed %d units, the largest factor among them %.3g",
            zeros, units, removed, largest,
        )  # fmt: skip
        if missed:
            log.warning(
                "%d of the %d removed units had factors above 0, up to %.3g, and the net will miss them: for more "
                "zeros raise gamma=%g or epochs, or lower the rate",
                missed, removed, largest, self.gamma,
            )  # fmt: skip
        if useless:
            log.warning(
                "%d kept units have factor 0, do nothing and may never again: lower gamma=%g or raise the rate",
                useless, self.gamma,
            )  # fmt: skip

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.factors is not None:
            pl_module.log("factors/zero", (self.factors.values == 0).float().mean(), rank_zero_only=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not at the end of training: checkpoint callbacks may save then.
        if self.factors is not None:
            self._fold(pl_module)

    def _fold(self, pl_module: L.LightningModule) -> None:
        assert self.factors is not None
        self.factors.fold(pl_module)
        self._forget()
        self._unhook()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._unhook()  # the factors stay: who saves a checkpoint now has to save them

    def _unhook(self) -> None:
        if self._hooks:
            torch.compiler.reset()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def state_dict(self) -> dict[str, Any]:
        """As before any training where there are no factors, as after folding."""
        f = self.factors
        return {
            "values": f.values.detach().clone() if f else None,
            "velocity": f.velocity.clone() if f else None,
            "cut": self._cut,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict


def _is_to_come(pruner: Pruner, run: Progress) -> bool:
    """Whether the last pruning lies ahead. Raises ValueError where it comes before any step."""
    final = pruner.schedule(replace(run, step=run.total)) or 0.0
    if 0 < final <= (pruner.schedule(replace(run, step=0)) or 0.0):
        raise ValueError(
            f"pruned to rate={final} before the first step, no factor is trained by then: "
            "start the schedule later, as with prune.pruning.pruner.schedule.start=0.5"
        )
    return pruner.rate < final


def _check_run(trainer: L.Trainer) -> None:
    if len(trainer.optimizers) != 1:
        raise ValueError(f"ScalingFactors works with one optimizer, there are {len(trainer.optimizers)}")
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise ValueError("precision=16-mixed scales gradients, also those of factors: use bf16-mixed or 32-true")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Rewind) and (callback.parameters or callback.control):
            raise ValueError(
                "Rewind takes weights back to where they had other factors: use retrain=lr_rewind or finetune"
            )
