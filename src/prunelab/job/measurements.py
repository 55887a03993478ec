"""Costs of a job's network beside the unpruned one, for result.json."""

from pathlib import Path
from statistics import quantiles
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from prunelab.channels.plan import Plan
from prunelab.core.prunable import prunable_weights
from prunelab.core.types import Masks
from prunelab.measure.latency import device_name, suited, timings
from prunelab.measure.profile import Cost
from prunelab.measure.profiler import network_cost

BATCHES = (1, 128)
SECONDS = 1.0  # of timing for each batch size, roughly
LEAST, MOST = 7, 30  # rounds in any case
TIMED = ("cpu", "cuda")  # devices that can be synchronised


def costs(parent: nn.Module, net: nn.Module, example: Tensor, file: Path, device: torch.device) -> dict[str, Any]:
    """Parameters, non-zeros, MACs and BOPs for one image; bytes in memory and on disk; seconds per batch.

    For `parent` all weights count as non-zero, and its file is dense safetensors; for `net` products with zeros are not
    counted, and its file is `file`. Both are measured in the precision in which they are stored, not compiled, and are
    left on the CPU.
    """
    dense, pruned = network_cost(parent, example), network_cost(net, example)
    sides = {
        "dense": _side(dense, dense.params, dense.macs, dense.bops, _dense_file(parent)),
        "pruned": _side(pruned, pruned.nonzero, pruned.effective_macs, pruned.effective_bops, file.stat().st_size),
    }
    nets = {"dense": parent.to(device), "pruned": net.to(device)}
    rounds = {}
    for n in BATCHES if device.type in TIMED else ():
        times = _timed(list(nets.values()), example.expand(n, *example.shape[1:]))
        rounds[str(n)] = len(times[0])
        for side, seconds in zip(nets, times, strict=True):
            low, middle, high = quantiles(seconds, n=4, method="inclusive")
            sides[side]["latency"][str(n)] = {"median": middle, "low": low, "high": high}
    for model in nets.values():
        model.to("cpu")
    precision = f"{str(suited(net, example)[0].dtype).removeprefix('torch.')}, not compiled"
    timed = {"device": device_name(device), "threads": torch.get_num_threads(), "precision": precision}
    return sides | {"timed": timed | {"rounds": rounds}}


def _side(cost: Cost, nonzero: int, macs: int, bops: int, file_bytes: int) -> dict[str, Any]:
    """One network in result.json."""
    counts = {"params": cost.params, "nonzero": nonzero, "macs": macs, "bops": bops}
    return counts | {"memory_bytes": cost.bytes, "file_bytes": file_bytes, "latency": {}}


def survivor_masks(parent: nn.Module, net: nn.Module, plan: Plan) -> Masks:
    """True where a prunable weight is not 0 in `net`, which `plan` shrank; in the shapes of the unpruned `parent`."""
    small, masks = dict(net.named_parameters()), {}
    for name, weight in prunable_weights(parent).items():
        masks[name] = torch.zeros(weight.shape, dtype=torch.bool)
        if name in small:  # else it was in a removed block
            kept = [plan.keep.get((name, axis), torch.arange(size)) for axis, size in enumerate(weight.shape)]
            masks[name][torch.meshgrid(*(k.cpu() for k in kept), indexing="ij")] = small[name].detach().cpu() != 0
    return masks


def _dense_file(net: nn.Module) -> int:
    return len(safetensors.torch.save({name: t.contiguous().clone() for name, t in net.state_dict().items()}))


def _timed(nets: list[nn.Module], batch: Tensor) -> list[list[float]]:
    once = sum(seconds[0] for seconds in timings(nets, batch, rounds=1, warmup=1))
    return timings(nets, batch, rounds=max(LEAST, min(MOST, int(SECONDS / once))), warmup=0)
