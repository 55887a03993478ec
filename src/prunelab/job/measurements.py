"""What did a job gain? Its net beside the unpruned parent, each figure measured on the thing itself."""

from dataclasses import asdict
from pathlib import Path
from statistics import quantiles
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from prunelab.channels.plan import Plan
from prunelab.core.prunable import prunable_weights
from prunelab.core.types import Masks
from prunelab.measure.latency import timings
from prunelab.measure.macs import applications, dense_cost, sparse_cost
from prunelab.measure.memory import stored

BATCHES = (1, 128)
SECONDS = 1.0  # about so long each batch size is timed
LEAST, MOST = 7, 30  # rounds all the same
TIMED = ("cpu", "cuda")  # devices that can be waited for


def costs(parent: nn.Module, net: nn.Module, example: Tensor, file: Path, device: torch.device) -> dict[str, Any]:
    """Parameters, non-zeros, MACs and BOPs of one image; bytes in memory and on disk; seconds a batch.

    The parent's file is dense safetensors, that of the net is `file`. Latency is that of float32 nets as they are,
    not compiled, whatever they were trained in. Both nets are left on the CPU.
    """
    sides: dict[str, dict[str, Any]] = {
        "dense": asdict(dense_cost(parent, applications(parent, example))) | {"file_bytes": _dense_file(parent)},
        "pruned": asdict(sparse_cost(net, applications(net, example))) | {"file_bytes": file.stat().st_size},
    }
    nets = {"dense": parent, "pruned": net}
    rounds = {}
    for side, one in nets.items():
        sides[side] |= {"memory_bytes": stored(one), "latency": {}}
        one.to(device)
    for n in BATCHES if device.type in TIMED else ():
        taken = _timed(list(nets.values()), example.expand(n, *example.shape[1:]))
        rounds[str(n)] = len(taken[0])
        for side, seconds in zip(nets, taken, strict=True):
            low, middle, high = quantiles(seconds, n=4, method="inclusive")
            sides[side]["latency"][str(n)] = {"median": middle, "low": low, "high": high}
    for one in nets.values():
        one.to("cpu")
    timed = {"device": _name(device), "threads": torch.get_num_threads(), "precision": "float32, not compiled"}
    return sides | {"timed": timed | {"rounds": rounds}}


def survivor_masks(parent: nn.Module, net: nn.Module, plan: Plan) -> Masks:
    """True where a prunable weight of the parent is not 0 in `net`, which `plan` made small: in the parent's shapes."""
    small, masks = dict(net.named_parameters()), {}
    for name, weight in prunable_weights(parent).items():
        masks[name] = torch.zeros(weight.shape, dtype=torch.bool)
        if name in small:  # else it lay in a block that is gone
            kept = [plan.keep.get((name, axis), torch.arange(size)) for axis, size in enumerate(weight.shape)]
            masks[name][torch.meshgrid(*(k.cpu() for k in kept), indexing="ij")] = small[name].detach().cpu() != 0
    return masks


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _dense_file(net: nn.Module) -> int:
    return len(safetensors.torch.save({name: t.contiguous().clone() for name, t in net.state_dict().items()}))


def _timed(nets: list[nn.Module], batch: Tensor) -> list[list[float]]:
    once = sum(seconds[0] for seconds in timings(nets, batch, rounds=1, warmup=1))
    return timings(nets, batch, rounds=max(LEAST, min(MOST, int(SECONDS / once))), warmup=0)
