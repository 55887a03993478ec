"""Trains any LightningModule with binary weights: BinaryConnect (Courbariaux et al. 2015)."""

import math
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from prunelab.callbacks.after_step import AfterStep, only_optimizer
from prunelab.callbacks.averages import refuse_averages
from prunelab.callbacks.neighbours import check_last, of_kind
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.rewind import Rewind
from prunelab.callbacks.scoring import progress
from prunelab.core.network.filters import by_filter, transposed_layers
from prunelab.core.network.prunable import prunable_weights, unskipped_weights
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.time import Progress, Time, to_step
from prunelab.core.types import Masks


def binary(
    w: Tensor, alive: Tensor | None = None, scale: bool = True, generator: torch.Generator | None = None
) -> Tensor:
    """The binary weights of `w` (out, ...): +1 where w >= 0, else -1; 0 where `alive`, of the same shape, is False.

    `scale` multiplies a filter by the mean |w| of its unpruned weights (Rastegari et al. 2016, XNOR-Net, eq. 6).
    With a `generator`, on the CPU, they are +H and -H, H = `drawn_size(w)`, and +H comes with probability
    clip((w / H + 1) / 2, 0, 1) (Courbariaux, eq. 2-3), so that their mean is w, up to H.

    >>> binary(torch.tensor([[0.5, -0.1, 0.0]]))
    tensor([[ 0.2000, -0.2000,  0.2000]])
    """
    size = 1.0 if generator is None else drawn_size(w)
    if generator is None:
        positive = w >= 0
    else:  # drawn in [0, 1), so probabilities need no clip
        positive = torch.rand(w.shape, generator=generator).to(w.device) < (w.float() / size + 1) / 2
    alive = torch.ones_like(positive) if alive is None else alive
    signs = torch.where(positive, size, -size).to(w.dtype) * alive
    if not scale or generator is not None:
        return signs
    filter_dims = tuple(range(1, w.dim()))
    total, count = (w.abs() * alive).sum(filter_dims, keepdim=True), alive.sum(filter_dims, keepdim=True)
    return signs * (total / count.clamp(min=1))


def drawn_size(w: Tensor) -> float:
    """H = sqrt(1.5 / (fan in + fan out)) of weights (out, in, ...): H = "Glorot" of the authors' code.

    Their experiments have H = 1, weights that begin within it, and learning rates larger by 1 / H. Usual weights are
    small beside 1, and both signs as likely; many begin beyond this H, where the sign is certain.
    """
    return math.sqrt(1.5 / ((w.shape[0] + w.shape[1]) * w[0, 0].numel()))


class Binarize(L.Callback):
    """Forward and backward pass use binary weights; their gradient updates the real ones (straight-through).

    The parameters are binary from the start of a batch until its backward pass is done, and in evaluation; at all
    other times, for the optimizer, checkpoints and other callbacks, they are real, clipped to [-1, 1] after every
    step. Pruned weights are 0 in both. After the fit the network keeps the binary weights; the real ones are in
    its checkpoints.

    `stochastic` draws +H or -H, H = `drawn_size`, anew for each batch, clips the real weights to [-H, H], and
    evaluates, and leaves, these (the paper's section 2.6, method 2); it has no `scale`. Otherwise `scale=False` is the
    paper's, for networks with norms. `skip` names weights that stay real, by
    pattern ("fc.*"); `real_ends` adds the first and last layer, in the order of their registration. The paper's
    learning rate of each layer is not implemented. Until `start` weights are real; with 1.0 the network is trained real
    and made binary at the end.

    Outside a fit there may be no masks: a weight that is exactly 0 then stays 0.

    Raises ValueError before training for manual optimization, for a Pruning or Rewind listed after this one (list
    any callback that reads weights at the start of a batch before it), for a weight that two of these would
    binarize, and for a network with nothing to binarize; at the first step for an optimizer that calls its closure
    more than once a step.
    """

    def __init__(
        self,
        stochastic: bool = False,
        scale: bool = True,
        skip: Sequence[str] = (),
        real_ends: bool = False,
        seed: int = 0,
        start: Time = 0.0,
    ) -> None:
        self.stochastic = stochastic
        self.scale = scale
        self.skip = tuple(skip)
        self.real_ends = real_ends
        self.seed = seed
        self.start = start
        self._first = 0  # the step of `start`
        self._weights: dict[str, nn.Parameter] = {}
        self._transposed: dict[str, _ConvTransposeNd] = {}
        self._real: dict[str, Tensor] = {}  # copies, while the parameters show binary weights
        self._hook: AfterStep | None = None
        self._loaded: dict[str, Any] | None = None
        self._forget()

    def _forget(self) -> None:
        self._pruned_by: list[Masks] = []  # the masks that `_alive` was made from
        self._alive: Masks = {}  # their conjunction by weight, on its device
        self._generator = derived_generator(f"binarize {self.skip}", self.seed)

    @property
    def state_key(self) -> str:
        """Distinguishes two of these in one Trainer by what they binarize."""
        return self._generate_state_key(skip=list(self.skip), real_ends=self.real_ends)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._loaded = None  # from an earlier run; Lightning loads a checkpoint after this, in any stage

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not pl_module.automatic_optimization:
            raise ValueError("Binarize needs automatic_optimization=True: it acts between backward pass and step")
        self._forget()
        self._weights = self._choose(pl_module)
        self._check_order(trainer)
        if self._loaded is not None:
            self._generator.set_state(self._loaded["generator"].cpu())

    def _choose(self, net: nn.Module) -> dict[str, nn.Parameter]:
        self._transposed = transposed_layers(net)
        # A network that is frozen as a whole is evaluated, as it was trained.
        choose = prunable_weights if any(p.requires_grad for p in net.parameters()) else unskipped_weights
        weights = choose(net, self.skip)
        if self.real_ends:
            names = list(choose(net, ()))
            weights = {name: w for name, w in weights.items() if name not in (names[0], names[-1])}
        if not weights:
            raise ValueError(f"{type(net).__name__}: nothing to binarize between the first and the last layer")
        return weights

    def _check_order(self, trainer: L.Trainer) -> None:
        check_last(trainer, self, Pruning, Rewind, why="and would see binary weights")
        refuse_averages(trainer, self, "whose copy is not binary when it is evaluated")
        for other in of_kind(trainer, Binarize):
            if other is self:  # those listed after this one have not chosen their weights yet, and will check
                break
            if shared := other._weights.keys() & self._weights.keys():
                raise ValueError(f"two Binarize callbacks have {', '.join(sorted(shared))}: skip them in one of them")

    def check(self, run: Progress) -> int:
        """The step of `start`. Raises ValueError where the run ends before it, or nothing would ever be binary."""
        try:
            first = to_step(self.start, run)
        except ValueError as error:
            raise ValueError(f"binarize.start: {error}") from None
        if self.stochastic and first >= run.total:
            raise ValueError(
                f"binarize.start={self.start} with stochastic=true: no weight would be binary; start earlier"
            )
        return first

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._first = self.check(progress(trainer, step=0))
        self._hook = AfterStep(only_optimizer(trainer, self), lambda _: self._clip(trainer))

    def _has_begun(self, trainer: L.Trainer) -> bool:
        return trainer.global_step >= self._first

    def _clip(self, trainer: L.Trainer) -> None:
        if self._has_begun(trainer):
            for name, w in self._weights.items():
                size = drawn_size(self._filters(name, w.data)) if self.stochastic else 1.0
                w.data.clamp_(-size, size)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._has_begun(trainer):
            self._show_binary(self._unpruned(trainer), self._generator if self.stochastic else None)

    def _unpruned(self, trainer: L.Trainer) -> Masks:
        """True for unpruned weights, where a Pruning has masks; updated when these, or the device, change."""
        current = [pruning.pruner.masks for pruning in of_kind(trainer, Pruning)]
        moved = any(alive.device != self._weights[name].device for name, alive in self._alive.items())
        if moved or list(map(id, current)) != list(map(id, self._pruned_by)):
            self._pruned_by, self._alive = current, {}
            for name, mask in ((n, m) for masks in current for n, m in masks.items() if n in self._weights):
                mask = mask.to(self._weights[name].device)
                self._alive[name] = self._alive[name] & mask if name in self._alive else mask
        return self._alive

    def _show_binary(self, alive: Masks, generator: torch.Generator | None = None) -> None:
        self._show_real()
        with torch.no_grad():
            for name, w in self._weights.items():
                self._real[name] = w.detach().clone()
                mask = self._filters(name, alive[name]) if name in alive else None
                shown = binary(self._filters(name, w), mask, self.scale, generator)
                filters = by_filter(w.data, self._groups(name))
                filters.copy_(shown.view(filters.shape))  # in place, to keep strides

    def _filters(self, name: str, weight: Tensor) -> Tensor:
        """(out, in / groups, ...), of a transposed convolution too."""
        return by_filter(weight, self._groups(name)).flatten(0, 1)

    def _groups(self, name: str) -> int | None:
        """Those of a transposed convolution as they are now: Shrink removes some."""
        return self._transposed[name].groups if name in self._transposed else None

    def _show_real(self) -> None:
        for name, real in self._real.items():
            self._weights[name].data.copy_(real)
        self._real = {}

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        if not self._real and self._has_begun(trainer):
            raise ValueError("Binarize: the optimizer calls its closure more than once a step: use SGD or AdamW")

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any, **__: Any) -> None:
        self._show_real()

    # A batch that the module skips has no backward pass.
    on_before_optimizer_step = on_train_batch_end = on_train_epoch_end = on_after_backward

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.stochastic:
            return
        if trainer.state.fn == TrainerFn.FITTING:
            if self._has_begun(trainer):
                self._show_binary(self._unpruned(trainer))
        else:
            self._weights = self._choose(pl_module)
            self._show_binary({name: w != 0 for name, w in self._weights.items()})

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show_real()

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._unhook()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not at the end of training, when checkpoint callbacks may save.
        if not self.stochastic:
            self._show_binary(self._unpruned(trainer))
            self._real = {}

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._show_real()
        self._unhook()

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Saved while the weights are binary. Under all their names: a module may have two.
        real = {id(self._weights[name]): tensor for name, tensor in self._real.items()}
        names = pl_module.named_parameters(remove_duplicate=False)
        checkpoint["state_dict"] |= {name: real[id(p)] for name, p in names if id(p) in real}

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict
