"""Pruner: composes the parts of a method and owns the masks."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from prunelab.core.allocation import Allocation
from prunelab.core.budget import Budget
from prunelab.core.context import Average, Batch, Context, Draw, Loss, cross_entropy
from prunelab.core.criterion import Criterion
from prunelab.core.granularity import Granularity
from prunelab.core.network.living_norms import take_notice
from prunelab.core.network.masked_parameters import MaskedParameters, check_masks
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.parts import check_kinds, check_parts
from prunelab.core.regrow import Regrow
from prunelab.core.schedule import Schedule
from prunelab.core.scoring import Scoring, mark_pruned
from prunelab.core.time import Progress
from prunelab.core.types import Example, Masks, Scores

log = logging.getLogger(__name__)


class Pruner:
    """A pruning method and its current masks.

    `skip` names weights that stay dense, by pattern ("fc.*"). `seed` is for criteria that draw at random.
    `regrow` exchanges weights at a constant rate. `passes` splits one pruning into as many steps, each scored
    on what the last one left (SynFlow, Tanaka et al. 2020). With a `budget` the rate is a fraction of that
    resource instead of units.

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
        regrow: Regrow | None = None,
        passes: int = 1,
        budget: Budget | None = None,
    ) -> None:
        check_kinds(criterion, granularity, allocation, schedule, skip, budget)
        self.criterion = criterion
        self.granularity = granularity
        self.allocation = allocation
        self.schedule = schedule
        self.skip = tuple(skip)
        self.seed = seed
        self.regrow = regrow
        self.passes = passes
        self.budget = budget
        self._net: nn.Module | None = None
        self._bound_to: list[tuple[str, torch.Size, bool]] = []  # its parameters: name, shape, whether trained
        self._forget()

    def _forget(self) -> None:
        self.rate = 0.0  # that the masks meet now
        self.attained = 0.0  # the same in the budget's resource
        self.rounded: dict[str, tuple[int, int]] = {}  # by group: the units left without rounding, and with it
        self.keep: Masks = {}  # by unit
        self._prunable: dict[str, nn.Parameter] = {}
        self._masked = MaskedParameters({})  # of the whole network: norms and biases may be masked too
        self._scoring = Scoring([self.criterion, *([self.regrow.drop, self.regrow.grow] if self.regrow else [])])
        self.removed = False  # whether surgery has removed what was masked
        self._small: dict[str, torch.Size] = {}  # the parameters' shapes after that
        self._regrown = 0  # the step of the last exchange: one at most per step
        self._generator = derived_generator("pruner", self.seed)

    def attach(
        self,
        net: nn.Module,
        example: Example | None = None,
        draw: Draw | None = None,
        loss: Loss = cross_entropy,
        removed: bool = False,
        average: Average | None = None,
        bound: bool = False,
    ) -> None:
        """Starts afresh on `net`.

        `example` is a batch of inputs, for granularities larger than a weight and for SynFlow; `draw` and `loss`
        are for criteria that use training data; `average`, over the processes of one training, is for their results.
        `removed`: surgery is done, as a state to be loaded says; then nothing is bound. `bound`: the parts are, to
        this network and example, by the last call; they are bound anew only where parameters have been frozen,
        thawed or resized since. Raises ValueError for parts that do not fit together.
        """
        self._forget()
        check_parts(self._scoring.criteria, self.granularity, self.allocation, self.regrow is not None, self.passes)
        self._net = net
        before, self._bound_to = self._bound_to, [(n, p.shape, p.requires_grad) for n, p in net.named_parameters()]
        self._masked = MaskedParameters.of(net, {})
        self._prunable = prunable_weights(net, self.skip)
        self._scoring.context = Context(net, self._prunable, self._generator, example, draw, loss, average=average)
        if not removed and not (bound and before == self._bound_to):
            self.granularity = self.granularity.bind(net, self._prunable, example)
            self.allocation = self.allocation.bind(net, self.granularity)
            self.budget = self.budget.bind(net, self.granularity, example) if self.budget else None
        take_notice(net, self.granularity.norms, {})  # another pruner may have left its own

    @property
    def batches(self) -> int:
        """The most batches of training data that any of the criteria uses."""
        return max(criterion.batches for criterion in self._scoring.criteria)

    @property
    def watches(self) -> bool:
        """Whether some criterion depends on every step of training."""
        return any(criterion.watches for criterion in self._scoring.criteria)

    def update(self, p: Progress) -> bool:
        """Prunes to the rate due at `p` if it is not met yet, or exchanges weights; whether the masks changed.

        Pruned units stay pruned unless `regrow` brings them back. Raises ValueError when scores contain NaN.
        """
        due = self.schedule(p)
        if due is not None and due > self.rate:
            self._prune(due, self.schedule.is_last(p))
            return True
        if not (self.regrow and self.keep) or self._regrown == p.step or (share := self.regrow.due(p)) is None:
            return False
        self._regrown = p.step
        drop, grow = self._scoring(self.regrow.drop), self._scoring(self.regrow.grow)
        self._adopt(self.regrow.exchange(self.keep, drop, grow, share))
        self.apply()
        return True

    def _prune(self, due: float, last: bool) -> None:
        before, after = 1 - self.rate, 1 - due
        for done in range(1, self.passes + 1):  # the same share of what is left each time
            rate = due if done == self.passes else 1 - before * (after / before) ** (done / self.passes)
            units = self.unit_scores()
            keep = self._masks_of(units, rate, last and done == self.passes)
            for name, kept in self.keep.items():  # which may be fewer than `rate` keeps, beside a thawed layer
                keep[name] = keep[name] & kept.to(keep[name].device)
            self._adopt(keep)
            self.apply()
        self.rate = due
        self.attained = self.budget.attained(self.keep) if self.budget else due
        self.rounded = self.budget.rounded(self.allocation, units, due, self.keep) if self.budget else {}

    @torch.no_grad()
    def unit_scores(self) -> Scores:
        """The current score of each unit; -inf for pruned ones."""
        masks = self.keep if self.criterion.of_units else self.masks
        # Before they become units: N:M ranks only those left.
        scores = mark_pruned(self._scoring(self.criterion), masks)
        return scores if self.criterion.of_units else self.granularity.reduce(scores)

    def check_scores(self, batch: Batch | None) -> None:
        """Raises ValueError where scores of `batch` would be refused; None: those that take no training data."""
        self._scoring.check(batch)

    def masks_at(self, rate: float) -> Masks:
        """The units to keep by the scores of now; nothing is pruned."""
        return self._masks_of(self.unit_scores(), rate, last=True)

    def _masks_of(self, units: Scores, rate: float, last: bool) -> Masks:
        with torch.no_grad():
            return self.budget(self.allocation, units, rate, last) if self.budget else self.allocation(units, rate)

    def set_scores(self, scores: Scores) -> None:
        """Passes `scores` found by a callback to the criterion, as its memory."""
        self._scoring.remember(scores)

    def shuffle(self) -> None:
        """Permutes the mask within each layer at random: the control of a lottery ticket."""
        shuffled = {}
        for name, kept in self.keep.items():
            order = torch.randperm(kept.numel(), generator=self._generator)
            shuffled[name] = kept.reshape(-1)[order].view_as(kept)
        self._adopt(shuffled)

    def watch(self) -> None:
        """Passes weights and gradients to the criteria that watch training; call before each step.

        They count once `stepped` is called: a step of gradients that overflow in float16 never happens.
        """
        if self.watches and not self.removed:
            self._scoring.watch(self._prunable)

    def stepped(self) -> None:
        """Call after each step."""
        self._scoring.stepped()

    def _adopt(self, keep: Masks) -> None:
        self.keep = keep
        self._masked.adopt({} if self.removed else self.granularity.expand(keep))
        assert self._net is not None
        take_notice(self._net, self.granularity.norms, self.masks)

    @property
    def masks(self) -> Masks:
        """By weight; derived from `keep`, never saved."""
        return self._masked.masks

    def apply(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Zeroes pruned weights and, given the optimizer, its state for them (momentum, Adam's moments)."""
        self._masked.zero(optimizer)

    def apply_to_copy(self, net: nn.Module) -> None:
        """Masks `net`, a copy of the attached network: zeros in its weights, and its norms know of them."""
        MaskedParameters.of(net, self.masks).zero()
        take_notice(net, self.granularity.norms, self.masks)

    def continues(self, net: nn.Module) -> bool:
        """Whether `net` is the network attached last, and what was pruned is still 0 or removed."""
        if net is not self._net or not self.keep:
            return False
        return _shapes(net) == self._small if self.removed else MaskedParameters.of(net, self.masks).are_zero()

    def revived_in(self, net: nn.Module) -> bool:
        """Whether a weight that is pruned is not 0 in `net`, the attached network or a copy."""
        return MaskedParameters.of(net, self.masks).are_revived()

    def mask_gradients(self) -> None:
        """Zeroes the gradients of pruned weights, so that clipping by norm counts only the others."""
        self._masked.zero_gradients()

    def detach_masks(self) -> None:
        """After surgery: the network is no longer masked, `keep` still says which units were removed."""
        assert self._net is not None
        self.removed = True
        self._scoring.remember({})
        self._small = _shapes(self._net)
        self._masked.adopt({})

    def unit_counts(self) -> dict[str, tuple[int, int]]:
        """(units removed, units) of each layer that has units."""
        if self.keep:
            return {name: (int((~kept).sum()), kept.numel()) for name, kept in self.keep.items()}
        return {name: (0, units.numel()) for name, units in self.units().items()}

    def units(self) -> Scores:
        """The units by group, with placeholder scores."""
        return self.granularity.reduce({name: p.detach() for name, p in self._prunable.items()})

    def state_dict(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "attained": self.attained,
            "rounded": self.rounded,
            "keep": self.keep,
            "removed": self.removed,
            "generator": self._generator.get_state(),
            "memory": self._scoring.memory,
            "regrown": self._regrown,
            "budget": self.budget.state_dict() if self.budget else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a saved state on the attached network. Raises ValueError where a mask does not fit it.

        Units that it does not know, as of a layer thawed since, are all kept until the next pruning, which is due
        anew; what it has masked stays so.
        """
        assert self._net is not None
        units = state["keep"] if state["removed"] else self.units()
        check_masks(state["keep"], units)
        self.rate, self.attained = state["rate"], state["attained"]
        self.rounded = state.get("rounded", {})  # absent until 0.2.0
        self._regrown = state["regrown"]
        if self.budget:
            self.budget.load_state_dict(state.get("budget", {}))  # absent until 0.2.0
        device = next(iter(self._masked.params.values())).device
        self._scoring.remember({name: kept.to(device) for name, kept in state["memory"].items()})
        self._generator.set_state(state["generator"].cpu())
        self.removed = state["removed"]
        self._small = _shapes(self._net) if self.removed else {}
        keep, thawed = dict(state["keep"]), [name for name in units if name not in state["keep"]]
        if keep and thawed:
            log.warning("trained now, and without a mask so far: %s; pruned from now on", ", ".join(thawed))
            keep |= {name: torch.ones_like(units[name], dtype=torch.bool) for name in thawed}
            self.rate = self.attained = 0.0  # which is what all of them meet
        self._adopt(keep)


def _shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in net.named_parameters()}
