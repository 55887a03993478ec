"""Surgery: shrinks parameters, buffers, gradients and optimizer state by a plan."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.padding import _ConstantPadNd
from torch.optim import Optimizer

from prunelab.channels.plan import Plan
from prunelab.channels.slim_attention import slim
from prunelab.core.network.living_norms import call_layers, forget
from prunelab.core.network.optimizers import with_held

# Modules whose sizes surgery updates.
RESIZED = (
    nn.Linear, _ConvNd, _NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.PReLU, nn.Embedding,
    nn.MultiheadAttention,
)  # fmt: skip
STAND_INS = {"Identity": nn.Identity, "ReLU": nn.ReLU}


def shrink(net: nn.Module, plan: Plan, optimizers: Sequence[Optimizer] = ()) -> None:
    """Shrinks `net` by `plan`, in place; parameters keep their identity, modules their mode.

    Gradients and optimizer state (momentum, Adam's moments) are sliced with their parameters; parameters of removed
    blocks are dropped from the optimizers. Raises ValueError, before any change, where the plan does not fit the
    network or an optimizer has state that cannot be sliced.
    """
    _check(net, plan)
    optimizers = [each for optimizer in optimizers for each in with_held(optimizer)]
    tensors = _tensors(net)
    cuts: dict[int, dict[int, Tensor]] = {}
    for (name, axis), kept in plan.keep.items():
        cuts.setdefault(id(tensors[name]), {})[axis] = kept
    for optimizer in optimizers:
        check_state(optimizer, {name: tensor for name, tensor in tensors.items() if id(tensor) in cuts})
    _adjust_modules(net, cuts)
    if plan.keep:
        call_layers(net)
    for path, padding in plan.pads.items():
        net.get_submodule(path).padding = padding  # type: ignore[assignment]
    for (path, name), count in plan.counts.items():
        _set_number(net.get_submodule(path), name, count)
    for tensor in {id(t): t for t in tensors.values() if id(t) in cuts}.values():
        shape = tensor.shape
        for optimizer in optimizers:
            state = optimizer.state.get(tensor, {})
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == shape:
                    state[key] = _cut(value, cuts[id(tensor)])
        if tensor.grad is not None:
            grad, tensor.grad = _cut(tensor.grad, cuts[id(tensor)]), None
            tensor.data = _cut(tensor.data, cuts[id(tensor)])
            tensor.grad = grad
        else:
            tensor.data = _cut(tensor.data, cuts[id(tensor)])
    for path, stand_in in plan.blocks.items():
        _replace(net, path, STAND_INS[stand_in](), optimizers)


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    return {**dict(net.named_parameters(remove_duplicate=False)), **dict(net.named_buffers(remove_duplicate=False))}


def _cut(tensor: Tensor, cuts: dict[int, Tensor]) -> Tensor:
    """The kept part, in the memory format of the tensor."""
    small = tensor
    for axis, kept in cuts.items():
        small = small.index_select(axis, kept.to(tensor.device))
    # By strides: 1x1 filters are contiguous in both formats, and PyTorch chooses kernels by strides.
    last = tensor.dim() == 4 and tensor.stride(1) == 1 and tensor.stride(3) == tensor.shape[1]
    return torch.empty_like(small, memory_format=torch.channels_last if last else torch.contiguous_format).copy_(small)


def _check(net: nn.Module, plan: Plan) -> None:
    tensors, modules = _tensors(net), dict(net.named_modules(remove_duplicate=False))
    cuts: dict[tuple[int, int], Tensor] = {}
    for (name, axis), kept in plan.keep.items():
        if name not in tensors:
            raise ValueError(f"the plan cuts {name}, which {type(net).__name__} does not have")
        shape = tuple(tensors[name].shape)
        size = shape[axis] if 0 <= axis < len(shape) else 0
        if kept.dtype != torch.long or kept.dim() != 1 or not _ascends(kept, size):
            raise ValueError(f"the plan does not fit {name} {shape}: along axis {axis} it keeps {_shown(kept)}")
        if not torch.equal(cuts.setdefault((id(tensors[name]), axis), kept), kept):
            raise ValueError(f"the plan cuts {name} in two ways: it has another name, by which it is cut differently")
        module, attribute = _owner(modules, name)
        if (parts := _parts(module, attribute, axis)) > 1 and not _fits_parts(module, _alive(kept, size, parts)):
            raise ValueError(f"the plan cuts {name} {shape} within a group: {type(module).__name__} has {parts}")
    for (path, name), count in plan.counts.items():
        now = _number(modules[path], name) if path in modules else None
        if type(now) is not int or not 0 < count <= now:
            raise ValueError(f"the plan sets {path}.{name} to {count}, which is {now!r:.60} in {type(net).__name__}")
    for path, padding in plan.pads.items():
        pad = modules.get(path)
        if not isinstance(pad, _ConstantPadNd) or len(padding) != len(pad.padding) or min(padding) < 0:
            raise ValueError(f"the plan pads {path} by {padding}, which {type(net).__name__} cannot")
    for path, stand_in in plan.blocks.items():
        inside = any(path.startswith(f"{other}.") for other in plan.blocks)
        if path not in modules or not path or stand_in not in STAND_INS or inside:
            raise ValueError(f"the plan puts {stand_in} in the place of {path!r}, which {type(net).__name__} cannot")


def _number(module: nn.Module, name: str) -> Any:
    """The number that a module holds under `name`, or in a tuple, under `name.index`."""
    attribute, dot, index = name.partition(".")
    value = vars(module).get(attribute)
    if dot and isinstance(value, tuple):
        return {str(i): size for i, size in enumerate(value)}.get(index)
    return None if dot else value


def _set_number(module: nn.Module, name: str, number: int) -> None:
    attribute, dot, index = name.partition(".")
    sizes = vars(module)[attribute]
    setattr(module, attribute, (*sizes[: int(index)], number, *sizes[int(index) + 1 :]) if dot else number)


def _ascends(kept: Tensor, size: int) -> bool:
    return len(kept) > 0 and int(kept[0]) >= 0 and int(kept[-1]) < size and bool((kept.diff() > 0).all())


def _shown(kept: Tensor) -> str:
    return f"{kept.tolist()!r:.60}" if kept.numel() else "nothing"


def _owner(modules: dict[str, nn.Module], name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return modules[path], attribute


def _parts(module: nn.Module, attribute: str, axis: int) -> int:
    """The number of groups along an axis that a module holds."""
    if attribute == "weight" and axis == 0:
        if isinstance(module, _ConvNd):
            return module.groups
        if isinstance(module, nn.GroupNorm):
            return module.num_groups
    return 1


def _alive(kept: Tensor, size: int, parts: int) -> Tensor:
    """(parts, channels in each), bool."""
    return torch.zeros(size, dtype=torch.bool).index_fill(0, kept.cpu(), True).view(parts, -1)


def _fits_parts(module: nn.Module, alive: Tensor) -> bool:
    """Groups go whole, or all that are left lose the same positions: a norm's only where a single one is left."""
    left = alive[alive.any(1)]
    whole = isinstance(module, nn.GroupNorm) and len(left) > 1
    return bool(left.all() if whole else (left == left[:1]).all())


def check_state(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless the state of these tensors can be sliced with them: it has their shape, or none."""
    for name, tensor in tensors.items():
        for key, value in optimizer.state.get(tensor, {}).items():
            if isinstance(value, Tensor) and value.dim() and value.shape != tensor.shape:
                raise ValueError(
                    f"{type(optimizer).__name__} has state {key} {tuple(value.shape)} for {name} "
                    f"{tuple(tensor.shape)}, which cannot be cut: use SGD or AdamW"
                )


def _adjust_modules(net: nn.Module, cuts: dict[int, dict[int, Tensor]]) -> None:
    """Updates the sizes of modules."""
    for module in net.modules():  # tied weights belong to several
        for tensor, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            for axis, kept in cuts.get(id(value), {}).items():
                _adjust(module, tensor, axis, kept)


def _adjust(module: nn.Module, tensor: str, axis: int, kept: Tensor) -> None:
    count = len(kept)
    if isinstance(module, nn.Linear) and tensor == "weight":
        setattr(module, ("out_features", "in_features")[axis], count)
    elif isinstance(module, _ConvNd) and tensor == "weight":
        _adjust_convolution(module, axis, kept)
    elif isinstance(module, _NormBase):
        module.num_features = count
    elif isinstance(module, nn.GroupNorm) and tensor == "weight":
        forget(module)
        module.num_groups = max(1, module.num_groups * count // module.num_channels)
        module.num_channels = count
    elif isinstance(module, nn.PReLU):
        module.num_parameters = count
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        forget(module)
        module.normalized_shape = (count,)
    elif isinstance(module, nn.Embedding) and axis == 1:
        module.embedding_dim = count
    elif isinstance(module, nn.MultiheadAttention):
        slim(module)


def _adjust_convolution(module: _ConvNd, axis: int, kept: Tensor) -> None:
    """Its weight is (out, in / groups, ...), or transposed (in, out / groups, ...)."""
    first, second = "out_channels", "in_channels"
    if isinstance(module, _ConvTransposeNd):
        first, second = second, first
    if axis == 0:
        alive, width = _alive(kept, getattr(module, first), module.groups), getattr(module, second) // module.groups
        setattr(module, first, len(kept))
        module.groups = int(alive.any(1).sum())
        setattr(module, second, module.groups * width)
    elif axis == 1:
        setattr(module, second, module.groups * len(kept))


def _replace(net: nn.Module, path: str, stand_in: nn.Module, optimizers: Iterable[Optimizer]) -> None:
    """Replaces a module and drops its parameters from the optimizers."""
    parent, _, name = path.rpartition(".")
    removed = {id(p) for p in net.get_submodule(path).parameters()}
    stand_in.train(net.get_submodule(path).training)
    setattr(net.get_submodule(parent), name, stand_in)
    removed -= {id(p) for p in net.parameters()}  # shared with modules that stay
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for param in [p for p in group["params"] if id(p) in removed]:
                optimizer.state.pop(param, None)
            group["params"] = [p for p in group["params"] if id(p) not in removed]
