"""Costs of a job's network beside the unpruned one, for result.json."""

import logging
from pathlib import Path
from statistics import quantiles
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from prunelab.channels.plan import Plan
from prunelab.core.network.prunable import layer_weights
from prunelab.core.types import Masks
from prunelab.measure.latency import conditions, device_name, resized, timings_within
from prunelab.measure.profiler import network_cost
from prunelab.store.result import Cost, Quartiles

log = logging.getLogger(__name__)
BATCHES = (1, 128)
SECONDS = 1.0  # of timing for each batch size, roughly
LEAST, MOST = 7, 30  # rounds in any case
TIMED = ("cpu", "cuda")  # devices that can be synchronised


def costs(
    unpruned: nn.Module, net: nn.Module, example: Tensor, file: Path, device: torch.device
) -> tuple[Cost, Cost, dict[str, Any]]:
    """Costs of both networks for one image, and where and how latency was measured.

    All weights of `unpruned` count as non-zero, and its file is dense safetensors; products with zeros of `net` are not
    counted, and its file is `file`. Both are measured in the precision in which they are stored, and are left on the
    CPU. Latency is that of networks that are not compiled, as the unpruned one is not.
    """
    dense, pruned = network_cost(unpruned, example), network_cost(net, example)
    if products := "; ".join(dense.left_out()):
        log.warning("MACs and BOPs are without %s", products)
    before, after, rounds = {}, {}, {}
    nets = [unpruned.to(device), net.to(device)]
    for n in BATCHES if device.type in TIMED else ():
        times = timings_within(nets, resized(example, n), SECONDS, LEAST, MOST)
        rounds[str(n)] = len(times[0])
        before[n], after[n] = map(_quartiles, times)
    timed = {
        "device": device_name(device), "threads": torch.get_num_threads(), "precision": conditions(nets, example),
    }  # fmt: skip
    for model in nets:
        model.to("cpu")
    whole = (dense.params, dense.params, dense.macs, dense.bops)
    counts = (pruned.params, pruned.nonzero, pruned.effective_macs, pruned.effective_bops)
    return (
        Cost(*whole, dense.bytes, _dense_file(unpruned), before, tuple(dense.left_out())),
        Cost(*counts, pruned.bytes, file.stat().st_size, after, tuple(pruned.left_out())),
        timed | {"rounds": rounds},
    )


def _quartiles(seconds: list[float]) -> Quartiles:
    low, middle, high = quantiles(seconds, n=4, method="inclusive")
    return Quartiles(middle, low, high)


def survivor_masks(unpruned: nn.Module, net: nn.Module, plan: Plan) -> Masks:
    """True where a weight of a prunable layer is not 0 in `net`, which `plan` shrank; in the shapes of `unpruned`."""
    small, masks = dict(net.named_parameters()), {}
    for name, weight in layer_weights(unpruned).items():
        masks[name] = torch.zeros(weight.shape, dtype=torch.bool)
        if name in small:  # else it was in a removed block
            kept = [plan.keep.get((name, axis), torch.arange(size)) for axis, size in enumerate(weight.shape)]
            masks[name][torch.meshgrid(*(k.cpu() for k in kept), indexing="ij")] = small[name].detach().cpu() != 0
    return masks


def _dense_file(net: nn.Module) -> int:
    return len(safetensors.torch.save({name: t.contiguous().clone() for name, t in net.state_dict().items()}))
