"""Measures size, sparsity, MACs, BOPs, memory and latency of a network beside the unpruned one."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from statistics import quantiles

import torch
from torch import nn

from prunelab.core.network.compiled import plain
from prunelab.core.types import Example
from prunelab.measure.latency import alike, conditions, device_name, resized, suited, timings
from prunelab.measure.macs import Use, uses
from prunelab.measure.memory import METHODS, packed, peak, stored
from prunelab.measure.profile import Counts, Layer, NetworkCost, Pass, Profile
from prunelab.measure.uncounted import uncounted

WARMUP = 5  # turns that are not timed


def profile(
    net: nn.Module,
    example: Example,
    dense: nn.Module | None = None,
    batches: Sequence[int] = (1, 128),
    rounds: int = 20,
) -> Profile:
    """Size, sparsity, MACs, BOPs, memory and latency of `net`, beside the unpruned network `dense` where given.

    `example` is a batch of any size, or a tuple of tensors with one. Counts are of its first input; latency and peak
    memory are those of each size in `batches`, which repeat its inputs in turn. `print` shows tables,
    `dataclasses.asdict` gives what JSON takes. Raises ValueError for an example without a batch, for fewer than 2
    rounds, and for networks on two devices.
    """
    nets = [net] if dense is None else [net, dense]
    _check(nets, example, batches, rounds)
    device = suited(net, example)[0].device
    by_batch = [_passes(nets, resized(example, batch), rounds) for batch in batches]
    passes = zip(*by_batch, strict=True)  # of each network
    costs = [replace(network_cost(n, example), passes=p) for n, p in zip(nets, passes, strict=True)]
    return Profile(
        net=costs[0],
        dense=costs[1] if dense is not None else None,
        device=device_name(device),
        threads=torch.get_num_threads(),
        conditions=conditions(nets, example),
        rounds=rounds,
        memory=METHODS.get(device.type, f"not measured: there is no way to on {device.type}"),
    )


def network_cost(net: nn.Module, example: Example) -> NetworkCost:
    """What `profile` counts, without passes: for the first input, in the precision in which `net` is stored."""
    net = plain(net)
    single = suited(net, resized(example, 1))
    calls = uses(net, single)
    rest, layers = uncounted(net, single, calls), _layers(net, calls)
    return NetworkCost(
        name=type(net).__name__,
        **{f.name: sum(getattr(layer, f.name) for layer in layers) for f in fields(Counts)},
        bytes=stored(net),
        footprint_bits=sum(int(p.count_nonzero()) * p.element_size() * 8 for p in net.parameters()),
        layers=tuple(layers),
        uncounted=rest.macs,
        unseen=rest.unseen,
        packed=tuple(name for name, tensors in packed(net).items() if any(t.dim() > 1 for t in tensors)),
    )


def _check(nets: Sequence[nn.Module], example: Example, batches: Sequence[int], rounds: int) -> None:
    inputs = example if isinstance(example, tuple) else (example,)
    sizes = {len(x) if x.dim() else 0 for x in inputs}
    if len(sizes) != 1 or 0 in sizes:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise ValueError(f"example of shape {shapes}: expected a batch, its size (not 0) first and the same in each")
    if rounds < 2:
        raise ValueError(f"rounds={rounds}: quartiles need at least 2")
    if not batches or min(batches) < 1:
        raise ValueError(f"batches={tuple(batches)}: expected one size or more, each at least 1")
    if len(devices := {suited(net, example)[0].device for net in nets}) > 1:
        raise ValueError(f"the networks are on {' and '.join(sorted(map(str, devices)))}: move them to one device")


def _passes(nets: Sequence[nn.Module], example: Example, rounds: int) -> list[Pass]:
    """One for each network."""
    size = len(example[0])
    with alike(nets) as running:
        peaks = [peak(net, example) for net in running]
    spreads = [quantiles(seconds, method="inclusive") for seconds in timings(nets, example, rounds, WARMUP)]
    return [Pass(size, median, lower, upper, most) for (lower, median, upper), most in zip(spreads, peaks, strict=True)]


def _layers(net: nn.Module, calls: Sequence[Use]) -> list[Layer]:
    """In the order of registration."""
    parameters: dict[str, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        parameters.setdefault(name.rpartition(".")[0], []).append(parameter)
    called = {use.layer for use in calls}
    return [
        _layer(name, module, parameters.get(name, []), [use for use in calls if use.layer == name])
        for name, module in net.named_modules()
        if name in parameters or name in called
    ]


def _layer(name: str, module: nn.Module, parameters: Iterable[nn.Parameter], calls: Sequence[Use]) -> Layer:
    return Layer(
        name=name,
        kind=type(module).__name__,
        params=sum(p.numel() for p in parameters),
        nonzero=sum(int(p.count_nonzero()) for p in parameters),
        macs=sum(use.macs for use in calls),
        effective_macs=sum(use.effective_macs for use in calls),
        bops=sum(use.bops for use in calls),
        effective_bops=sum(use.effective_macs * use.bits for use in calls),
        weight_bits=max((use.weight_bits for use in calls), default=None),
        activation_bits=max((use.activation_bits for use in calls), default=None),
    )
