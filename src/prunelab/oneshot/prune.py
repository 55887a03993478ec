"""Prunes a plain PyTorch network in one call: scores it, cuts a copy, certifies that, and reports."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from prunelab.channels.budget import Budget
from prunelab.channels.equivalence.certificate import Certificate, EquivalenceCheck
from prunelab.channels.equivalence.trial import LEAST, copied, random_inputs
from prunelab.channels.plan import Plan
from prunelab.channels.reasons import stays
from prunelab.channels.surgery import shrink
from prunelab.channels.units import PrunableStructure, prunable_structure
from prunelab.core.allocation import Allocation
from prunelab.core.context import Batch, Loss, cross_entropy
from prunelab.core.criterion import Criterion
from prunelab.core.granularity import Granularity
from prunelab.core.network.compiled import plain
from prunelab.core.network.living_norms import LivingNorm
from prunelab.core.network.prunable import layer_weights
from prunelab.core.numbers.fraction import check_rate
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.text.unknown import unknown
from prunelab.core.time import Progress
from prunelab.core.types import Example
from prunelab.measure.compile_time import drop_graphs
from prunelab.measure.profiler import network_cost
from prunelab.oneshot.batches import check_example, take
from prunelab.oneshot.parts import by_part, part
from prunelab.oneshot.report import Report

IMAGES = 16  # compared, at most


def prune(
    net: nn.Module,
    example: Example,
    rate: float,
    *,
    budget: str | None = None,
    criterion: str | Criterion = "l1",
    granularity: str | Granularity = "filter",
    allocation: str | Allocation = "uniform",
    data: Iterable[Any] | None = None,
    loss: Loss = cross_entropy,
    skip: Sequence[str] = (),
    round_to: int = 1,
    optimizer: Optimizer | None = None,
    inplace: bool = False,
    seed: int = 0,
    **options: Any,
) -> tuple[nn.Module, Report]:
    """A smaller network, which computes what `net` does with the removed units set to 0, and a report to print.

    `example` is a batch of inputs, or a tuple of tensors. `rate`, in [0, 1), is the fraction to remove of the units, or
    of `budget`: "params", "macs", "bops" or "latency". Units are channels with all that is coupled to them.
    `criterion`, `granularity` and `allocation` are objects, or names of files in conf/prune, whose options are written
    as `criterion__batches=4`. `data` is an iterable of batches, (inputs, targets) or inputs, for criteria that score on
    training data; only the first ones are read. Several inputs are a tuple, as in `example`. `loss` is a function of
    (outputs, targets), the mean over a batch. `skip` has patterns of weights whose units stay ("head*"). With
    `round_to` groups keep a multiple of that many channels, as kernels are fast at. `seed` is for criteria that draw at
    random.

    `net` is left as it is, and a copy is cut. With `inplace` the network itself is cut and returned: its parameters
    keep their identity, and the state of `optimizer` (momentum, Adam's moments) is cut with them. Of a network that
    `torch.compile` has wrapped the copy is not compiled, and the names in the report are those inside.

    The small and the masked network are compared on the first batch of `data`, or on random inputs, before anything is
    changed: EquivalenceError, a RuntimeError. Raises ValueError, with the remedy, for what cannot be pruned so.
    """
    rate = check_rate(rate)
    given, net = net, plain(net)
    check_example(net, example)
    _check_optimizer(net, optimizer, inplace)
    parts = {"criterion": criterion, "granularity": granularity, "allocation": allocation}
    pruner = Pruner(
        **_chosen(parts, options, rate),
        schedule=Rounds(rate, start=0.0),
        skip=skip,
        seed=seed,
        budget=Budget(budget or "units", round_to),
    )
    _check_one_call(pruner, parts, data is not None)
    batches = take(data, max(1, pruner.batches), net, example) if data is not None else []
    small = copied(net)
    if small is None:
        raise ValueError(f"{type(net).__name__} cannot be copied, as the log says, and surgery is tried on a copy")
    pruner.attach(small, example, lambda count, _: batches[:count], loss)
    pruner.update(Progress(step=0, total=1, epoch=1))
    plan = _structure(pruner).plan(pruner.keep)
    _check_living(net, plan)
    check = EquivalenceCheck(small, _compared(batches, example))
    shrink(small, plan)
    report = _report(pruner, net, small, example, plan, check.certify(small))
    if not inplace:
        return small, report
    shrink(net, plan, [optimizer] if optimizer else [])
    drop_graphs()  # which torch.compile has made of the large network
    return given, report


def _compared(batches: Sequence[Batch], example: Example) -> Example:
    """Inputs of the first batch; random ones where there are too few."""
    inputs = batches[0][0] if batches else ()
    several = inputs if isinstance(inputs, tuple) else (inputs,)
    if not several or len(several[0]) < LEAST:
        return random_inputs(example)
    return tuple(x[:IMAGES] for x in several)


def _check_living(net: nn.Module, plan: Plan) -> None:
    """Refuses to cut other channels than a Pruner has masked: `net` would be another with them."""
    for path, module in net.named_modules():
        if isinstance(module, LivingNorm):
            living, kept = module.living.nonzero().flatten().tolist(), plan.keep.get((f"{path}.weight", 0))
            if kept is None or kept.tolist() != living:
                raise ValueError(
                    f"{path} knows channels that a Pruner has masked, and others would be cut: prune the same "
                    "granularity at the same rate"
                )


def _check_optimizer(net: nn.Module, optimizer: Optimizer | None, inplace: bool) -> None:
    if optimizer is None:
        return
    if not inplace:
        raise ValueError("optimizer= steps the parameters of net, and a copy is cut: add inplace=True")
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in owned for p in net.parameters()):
        raise ValueError(f"optimizer={type(optimizer).__name__} has no parameter of net: give the one that trains it")


def _chosen(parts: Mapping[str, Any], options: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """The objects of names and options."""
    settings = by_part(options)
    for name in settings.keys() - parts.keys():
        raise unknown("part", name, parts)
    return {name: part(name, chosen, settings.get(name, {}), rate) for name, chosen in parts.items()}


def _check_one_call(pruner: Pruner, parts: Mapping[str, Any], data: bool) -> None:
    """Raises ValueError for what takes a training, or data that is not given."""
    criterion, granularity = parts["criterion"], parts["granularity"]
    if prunable_structure(pruner.granularity) is None:
        raise ValueError(f"granularity={granularity!r}: single weights are not removed; use 'filter', or a Pruner")
    if pruner.watches or pruner.criterion.of_units:
        raise ValueError(f"criterion={criterion!r} comes from training: use a Pruner in a loop, or another criterion")
    if pruner.batches and not data:
        raise ValueError(f"criterion={criterion!r} scores on training data: add data=, batches of (inputs, targets)")


def _structure(pruner: Pruner) -> PrunableStructure:
    structure = prunable_structure(pruner.granularity)
    assert structure is not None
    return structure


def _report(
    pruner: Pruner, net: nn.Module, small: nn.Module, example: Example, plan: Plan, certificate: Certificate
) -> Report:
    left = dict(small.named_parameters())
    assert isinstance(pruner.budget, Budget)
    assert isinstance(pruner.schedule, Rounds)
    return Report(
        rate=pruner.schedule.rate,
        budget=pruner.budget.of,
        attained=pruner.attained,
        units=pruner.unit_counts(),
        shapes={name: (w.shape, left[name].shape if name in left else None) for name, w in layer_weights(net).items()},
        stays=stays(net, _structure(pruner), pruner.skip),
        certificate=certificate,
        before=network_cost(net, example),
        after=network_cost(small, example),
        plan=plan,
    )
