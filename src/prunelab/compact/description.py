"""What does a file say of a small net, so that it can be built and cut again?"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.padding import _ConstantPadNd

from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.core.bits import pack_bits, unpack_bits
from prunelab.core.snapshot import state_dict_mismatch
from prunelab.models import registry

FORMAT = 2
FIELDS: dict[str, Any] = {"net": str | None, "args": dict, "channels_last": bool, "plan": dict, "sha256": str}


def described(
    net: nn.Module, plan: Plan, name: str | None, args: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file says of `net`, which `plan` made small, and its tensors.

    `name` and `args` are those of the unpruned net (models/named.py), from which this one is rebuilt here and compared.
    With None it can only be `built` into another, and `args` are left out. Values and dtypes stay as they are, NaN
    too. Raises ValueError where the rebuilt net is another.
    """
    tensors = _tensors(net)
    about: dict[str, Any] = {
        "format": FORMAT,
        "net": name,
        "args": dict(args) if name is not None else {},
        "channels_last": _channels_last(net),
        "plan": _packed(plan),
        "versions": {"prunelab": metadata.version("prunelab"), "torch": str(torch.__version__)},
    }
    if name is not None:
        _compare(_rebuilt(about, tensors), net)
    return about, tensors


def built(about: Mapping[str, Any], tensors: Mapping[str, Tensor], into: nn.Module | None) -> nn.Module:
    """The net that was `described`, in eval mode; a new one on the CPU, or `into`, cut and filled in place.

    Where that fails, `into` is left as it was. Raises ValueError where the parts do not fit.
    """
    if about["channels_last"]:
        tensors = {n: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in tensors.items()}
    if into is None:
        return _rebuilt(about, tensors).eval()
    if not isinstance(into, nn.Module) or any(p.is_meta for p in into.parameters()):
        raise ValueError(f"into={into!r:.80}: expected a net, new and unpruned, with memory of its own")
    plan = unpacked(about["plan"])
    _fill(_cut(copy.deepcopy(into), plan, tensors), tensors)  # what goes wrong goes wrong with the copy
    return _fill(_cut(into, plan, tensors), tensors).eval()


def _rebuilt(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """A new net around `tensors`. It is drawn on the meta device: no memory for what does not fit them."""
    if about["net"] is None:
        raise ValueError("its net is none of ours: give a new, unpruned one, load(path, into=net)")
    with torch.device("meta"):
        net = registry.build(about["net"], about["args"])
    _cut(net, unpacked(about["plan"]), tensors)
    net.load_state_dict(tensors, assign=True)
    if empty := [name for name, t in [*net.named_parameters(), *net.named_buffers()] if t.is_meta]:
        raise ValueError(f"{about['net']} has {empty[0]}, which is not in its state_dict: make it a persistent buffer")
    return net


def _cut(net: nn.Module, plan: Plan, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Makes `net` small. Raises ValueError unless it is then as small as `tensors`."""
    kind, modules = type(net).__name__, dict(net.named_modules())
    for module, padding in plan.pads.items():
        pad = modules.get(module)
        if not isinstance(pad, _ConstantPadNd) or not _within(padding, pad.padding):
            raise ValueError(f"its plan pads {module!r:.80} by {padding}, which a new, unpruned {kind} cannot")
    try:
        shrink(net, plan)
    except Exception as error:  # a plan from a file may be any, and so may a net
        raise ValueError(f"its plan does not fit {kind}, which must be new and unpruned: {error}") from error
    if wrong := state_dict_mismatch(net, tensors):
        raise ValueError(f"it does not fit {kind}, new and cut by its plan: {wrong}")
    return net


def _within(padding: Sequence[int], whole: Sequence[int]) -> bool:
    return len(padding) == len(whole) and all(0 <= a <= b for a, b in zip(padding, whole, strict=True))


def _fill(net: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Gives `net` values, dtypes and memory formats of `tensors`; tied parameters stay tied."""
    for name, own in net.state_dict(keep_vars=True).items():
        own.grad = None  # of other weights, and maybe of another dtype
        own.data = tensors[name].to(own.device)
    net.load_state_dict(tensors)  # for nets with hooks, which keep a tensor in another form
    return net


def _compare(again: nn.Module, net: nn.Module) -> None:
    """Raises ValueError where modules differ in what no tensor shows: padding, stand-ins, groups, drop-out."""
    for new, own in zip_longest(str(again).splitlines(), str(net).splitlines()):
        if new != own:
            raise ValueError(f"name, args and plan give {str(new).strip()} where the net has {str(own).strip()}")


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    """Copies, which may share no memory in safetensors."""
    state = net.state_dict()
    if odd := [f"{name} is a {type(value).__name__}" for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{odd[0]}, and safetensors holds tensors alone")
    return {n: t.detach().to("cpu").clone(memory_format=torch.contiguous_format) for n, t in state.items()}


def _channels_last(net: nn.Module) -> bool:
    images = [p for p in net.parameters() if p.dim() == 4 and not p.is_contiguous()]
    return any(p.is_contiguous(memory_format=torch.channels_last) for p in images)


def about_of(text: str | None) -> dict[str, Any]:
    """What the header says. Raises ValueError for anything but this format."""
    if text is None:
        raise ValueError("safetensors, but not of a small model: weights alone are read by pretrained=")
    try:
        about = json.loads(text)
    except ValueError as error:
        raise ValueError(f"its description is not JSON ({error}): save it anew") from error
    version = about.get("format") if isinstance(about, dict) else None
    if type(version) is not int or version != FORMAT:
        raise ValueError(f"format={version!r:.80}: expected {FORMAT}; another version of prunelab may read it")
    if wrong := [key for key, kind in FIELDS.items() if not isinstance(about.get(key, ...), kind)]:
        raise ValueError(f"its description has a wrong or missing {wrong[0]}={about.get(wrong[0])!r:.80}: save it anew")
    return about


def _packed(plan: Plan) -> dict[str, Any]:
    """A bit for each index up to the last that is kept, in hexadecimal, and all the axes that keep those.

    Of a DenseNet-40 at rate 0.9 the lists of indices would be 22 of 90 KB; so they are 10 of 78.
    """
    keep: dict[str, list[tuple[str, int]]] = {}
    for place, kept in plan.keep.items():
        mask = torch.zeros(max(kept.tolist(), default=-1) + 1, dtype=torch.bool)
        mask[kept.cpu()] = True
        keep.setdefault(pack_bits(mask).numpy().tobytes().hex(), []).append(place)
    return {**plan.to_json(), "keep": keep}


def unpacked(packed: Mapping[str, Any]) -> Plan:
    plan, keep = Plan.from_json({**packed, "keep": {}}), dict[tuple[str, int], Tensor]()
    try:
        for digits, places in packed["keep"].items():
            numbers = torch.tensor(list(bytes.fromhex(digits)), dtype=torch.uint8)
            kept = unpack_bits(numbers).nonzero().flatten()
            for name, axis in places:
                if type(axis) is not int or (name, axis) in keep:
                    raise ValueError(f"it keeps {name!r:.80} along {axis!r:.80}, again or wrongly")
                keep[name, axis] = kept
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its plan cannot be read: {error}") from error
    return replace(plan, keep=keep)
