"""Memory of a network, of a forward pass at its peak, and of training at its peak."""

import ctypes
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prunelab.core.network.preserve import preserve_state
from prunelab.core.types import Example
from prunelab.measure.latency import suited

METHODS = {  # by device type
    "cuda": "most memory allocated at once (torch.cuda.max_memory_allocated) over that before the pass",
    "cpu": "most bytes at once of tensors that the pass made, without the workspaces of kernels",
}

PROC = Path("/proc/self")  # only Linux reports and resets the peak of a process


def stored(net: nn.Module) -> int:
    """Bytes of parameters, buffers and what is `packed`, as stored."""
    rest = (t for tensors in packed(net).values() for t in tensors)
    return sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers(), *rest))


def packed(net: nn.Module) -> dict[str, list[torch.Tensor]]:
    """The tensors of its state that are neither parameters nor buffers, by key: weights of torch.ao.nn.quantized."""
    known = {
        name for members in (net.named_parameters, net.named_buffers) for name, _ in members(remove_duplicate=False)
    }
    others = {key: tree_leaves(value) for key, value in net.state_dict().items() if key not in known}
    tensors = {key: [t for t in leaves if isinstance(t, torch.Tensor)] for key, leaves in others.items()}
    own = {_place(t) for t in (*net.parameters(), *net.buffers())} if tensors else set()
    rest = {key: [t for t in found if _place(t) not in own] for key, found in tensors.items()}  # hooks rename keys
    return {key: found for key, found in rest.items() if found}


def _place(tensor: torch.Tensor) -> int:
    """Where its values lie; of one that is not strided, as a sparse one, there is no such place, but the object."""
    return tensor.data_ptr() if tensor.layout == torch.strided and tensor.numel() else id(tensor)


def peak(net: nn.Module, example: Example) -> int | None:
    """Bytes besides the network and its input, in eval mode without gradients; None on devices not in `METHODS`.

    On a GPU this resets `torch.cuda.max_memory_allocated`. On the CPU a compiled network is measured uncompiled.
    """
    inputs = suited(net, example)
    measure = {"cuda": _allocated, "cpu": _made}.get(inputs[0].device.type)
    if measure is None:
        return None
    with preserve_state(net):
        return measure(net, inputs)


def _allocated(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    device = inputs[0].device
    net(*inputs)  # allocates workspaces that stay
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    net(*inputs)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _made(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    with torch.compiler.set_stance("force_eager"), LiveBytes() as live:
        net(*inputs)
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Sums the bytes of live tensors that operations made; views add none."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        outputs = [x.untyped_storage() for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        for storage in {id(s): s for s in outputs if id(s) not in inputs}.values():
            self._change(storage.nbytes())
            weakref.finalize(storage, self._change, -storage.nbytes()).atexit = False
        return out

    def _change(self, by: int) -> None:
        self.now += by
        self.peak = max(self.peak, self.now)


def begin_training_peak(device: torch.device) -> int | None:
    """Resets the peak; returns the start for `training_peak`, or None where it cannot be measured."""
    if device.type == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)
        return 0
    try:
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # what was freed before, as by another job of this process, would be used unseen
        (PROC / "clear_refs").write_text("5")
        return _status("VmRSS:")
    except OSError:
        return None


def training_peak(device: torch.device, begun: int | None) -> int | None:
    """Bytes since `begin_training_peak`: most allocated on a GPU, else the largest growth of this process."""
    if begun is None:
        return None
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else _status("VmHWM:") - begun


def _status(key: str) -> int:
    lines = (PROC / "status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))
