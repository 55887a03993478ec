"""The description in a compact file, from which a pruned network is rebuilt."""

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.padding import _ConstantPadNd

from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.compact.codec import MOST, inflate
from prunelab.core.network.compiled import plain
from prunelab.core.network.detached import detached_copy
from prunelab.core.network.living_norms import LivingNorm
from prunelab.core.network.snapshot import shape_mismatch
from prunelab.core.numbers.bits import pack_bits, unpack_bits
from prunelab.models import registry

LONGEST = 1 << 22  # characters of a description
Shapes = Mapping[str, Sequence[int]]
Read = Callable[[], dict[str, Tensor]]  # the tensors of a file
FIELDS: dict[str, Any] = {"net": str | None, "args": dict, "channels_last": bool, "plan": dict, "tensors": dict}


def describe(
    net: nn.Module, plan: Plan, name: str | None, args: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description of `net`, which `plan` made small, and its tensors.

    `name` and `args` are those of the unpruned network (models/registry.py), from which it is rebuilt here and
    compared. With None, or more than MOST values, it can only be loaded into a given network, and `args` are left out.
    Values and dtypes are kept, NaN too. Raises ValueError where the rebuilt network differs, and for norms that know of
    masks.
    """
    net = plain(net, [*(name for name, _ in plan.keep), *plan.blocks])
    _refuse_living(net)
    tensors = _tensors(net)
    if sum(tensor.numel() for tensor in tensors.values()) > MOST:
        name = None
    about: dict[str, Any] = {
        "net": name,
        "args": dict(args) if name is not None else {},
        "channels_last": _channels_last(net),
        "plan": pack_plan(plan),
        "versions": {"prunelab": metadata.version("prunelab"), "torch": str(torch.__version__)},
    }
    if name is None:
        _refuse_other_plan(tensors, plan)
    else:
        _compare(_new(about, {name: t.shape for name, t in tensors.items()}, lambda: tensors), net)
    return about, tensors


def _refuse_other_plan(tensors: Mapping[str, Tensor], plan: Plan) -> None:
    """Raises ValueError unless the tensors have as many channels as the plan keeps."""
    for (name, axis), kept in plan.keep.items():
        if name in tensors and tensors[name].shape[axis] != len(kept):
            raise ValueError(
                f"{name} is {tuple(tensors[name].shape)}, and the plan keeps {len(kept)} along axis {axis}: that is of "
                "another network; after two calls of prune it is first.plan.then(second.plan)"
            )


def rebuild(about: Mapping[str, Any], shapes: Shapes, read: Read, into: nn.Module | None) -> nn.Module:
    """The described network in eval mode: a new one on the CPU, or `into`, shrunk and filled in place.

    `read` is called once the shapes fit. If that fails, `into` is unchanged. Raises ValueError where description,
    tensors and network do not match.
    """
    if into is None:
        return _new(about, shapes, read).eval()
    if not isinstance(into, nn.Module) or any(p.is_meta for p in into.parameters()):
        raise ValueError(f"into={into!r:.80}: expected a new, unpruned network that is not on the meta device")
    plan = unpack_plan(about["plan"])
    net = plain(into, shapes)
    trial = _shrink(detached_copy(net), plan, shapes)
    tensors = _in_format(about, read())
    _fill(trial, tensors)  # an error leaves `into` unchanged
    _fill(_shrink(net, plan, shapes), tensors)
    return into.eval()


def _new(about: Mapping[str, Any], shapes: Shapes, read: Read) -> nn.Module:
    """A new network around the tensors, built on the meta device: what does not fit costs no memory."""
    if about["net"] is None:
        raise ValueError("its network is not one of prunelab's: give a new, unpruned one, load(path, into=net)")
    if (values := sum(map(math.prod, shapes.values()))) > MOST:
        raise ValueError(f"its tensors have {values:,} values, expected at most {MOST:,}")
    with torch.device("meta"):
        net = registry.build(about["net"], about["args"])
    whole = sum(tensor.numel() for tensor in net.state_dict().values())
    _shrink(net, unpack_plan(about["plan"]), shapes)
    if _unsaved(net):  # by no file: its constructor computes them, now that its size is known
        if whole > MOST:
            raise ValueError(f"its unpruned network has {whole:,} values, expected at most {MOST:,}")
        with torch.random.fork_rng(devices=[]):
            net = registry.build(about["net"], about["args"])
        _shrink(net, unpack_plan(about["plan"]), shapes)
    net.load_state_dict(_in_format(about, read()), assign=True)
    return net


def _unsaved(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that are not in its state_dict."""
    tensors, saved = dict([*net.named_parameters(), *net.named_buffers()]), net.state_dict()
    return {name: tensor for name, tensor in tensors.items() if name not in saved}


def _in_format(about: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if not about["channels_last"]:
        return tensors
    return {n: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in tensors.items()}


def _shrink(net: nn.Module, plan: Plan, shapes: Shapes) -> nn.Module:
    """Shrinks `net` by `plan`. Raises ValueError unless its tensors then have these shapes."""
    kind, modules = type(net).__name__, dict(net.named_modules())
    for module, padding in plan.pads.items():
        pad = modules.get(module)
        if not isinstance(pad, _ConstantPadNd) or not _within(padding, pad.padding):
            raise ValueError(f"its plan pads {module!r:.80} by {padding}, which a new, unpruned {kind} cannot")
    try:
        shrink(net, plan)
    except Exception as error:  # plans and networks come from users
        raise ValueError(f"its plan does not fit {kind}, which must be new and unpruned: {error}") from error
    if mismatch := shape_mismatch(net, shapes):
        raise ValueError(f"it does not fit {kind}, new and shrunk by its plan: {mismatch}")
    return net


def _within(padding: Sequence[int], whole: Sequence[int]) -> bool:
    return len(padding) == len(whole) and all(0 <= a <= b for a, b in zip(padding, whole, strict=True))


def _fill(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives `net` the values, dtypes and memory formats of `tensors`; tied parameters stay tied."""
    for name, tensor in net.state_dict(keep_vars=True).items():
        tensor.grad = None  # it belongs to other weights, perhaps of another dtype
        tensor.data = tensors[name].to(tensor.device)
    net.load_state_dict(tensors)  # for networks whose hooks keep a tensor in another form


def _refuse_living(net: nn.Module) -> None:
    for path, module in net.named_modules():
        if isinstance(module, LivingNorm):
            raise ValueError(
                f"{path or 'it'} is a {module.plain.__name__} that counts only channels which are not masked; loaded, "
                "it would count all: remove the masked ones first, by prunelab.prune at that rate, or Shrink"
            )


def _compare(rebuilt: nn.Module, net: nn.Module) -> None:
    """Raises ValueError where modules differ in what no tensor shows: padding, stand-ins, groups, dropout."""
    for new, old in zip_longest(str(rebuilt).splitlines(), str(net).splitlines()):
        if new != old:
            raise ValueError(f"name, args and plan give {str(new).strip()} where the network has {str(old).strip()}")
    again = _unsaved(rebuilt)
    for name, tensor in _unsaved(net).items():
        if name not in again or not torch.equal(again[name], tensor.to("cpu")):
            raise ValueError(
                f"{type(net).__name__} has {name}, which is not in its state_dict and differs in a new one: "
                "make it a persistent buffer"
            )


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    """Copies: tensors in safetensors must not share memory."""
    state = net.state_dict()
    if other := [
        f"{name} is a {type(value).__name__}" for name, value in state.items() if not isinstance(value, Tensor)
    ]:
        raise ValueError(f"{other[0]}, but safetensors holds only tensors")
    return {n: t.detach().to("cpu").clone(memory_format=torch.contiguous_format) for n, t in state.items()}


def _channels_last(net: nn.Module) -> bool:
    images = [p for p in net.parameters() if p.dim() == 4 and not p.is_contiguous()]
    return any(p.is_contiguous(memory_format=torch.channels_last) for p in images)


def pack(about: Mapping[str, Any]) -> bytes:
    """The description in a file. Raises ValueError for what is not JSON, or too long."""
    text = json.dumps(about, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > LONGEST:
        raise ValueError(f"its description has {len(text):,} characters, expected at most {LONGEST:,}")
    return zlib.compress(text, 9, -zlib.MAX_WBITS)


def unpack(data: bytes) -> dict[str, Any]:
    """Raises ValueError for anything but a description."""
    try:
        text = inflate(data, LONGEST)
    except ValueError as error:
        raise ValueError(f"its description cannot be read: {error}; save it again") from error
    about = parsed(text)
    if wrong := [key for key, kind in FIELDS.items() if not isinstance(about.get(key, ...), kind)]:
        raise ValueError(
            f"its description has a wrong or missing {wrong[0]}={about.get(wrong[0])!r:.80}: save it again"
        )
    return about


def parsed(text: str | bytes) -> dict[str, Any]:
    """A JSON object; {} for any other value. Raises ValueError for what is not JSON."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its description is not JSON ({error}): save it again") from error
    return found if isinstance(found, dict) else {}


def pack_plan(plan: Plan) -> dict[str, Any]:
    """Kept indices as a bitmap in hexadecimal -> all the axes that keep them.

    Lists of indices would be 22 of 90 KB for a DenseNet-40 at rate 0.9; bitmaps are 10 of 78.
    """
    keep: dict[str, list[tuple[str, int]]] = {}
    for place, kept in plan.keep.items():
        mask = torch.zeros(max(kept.tolist(), default=-1) + 1, dtype=torch.bool)
        mask[kept.cpu()] = True
        keep.setdefault(pack_bits(mask).numpy().tobytes().hex(), []).append(place)
    return {**plan.to_json(), "keep": keep}


def unpack_plan(packed: Mapping[str, Any]) -> Plan:
    plan, keep = Plan.from_json({**packed, "keep": {}}), dict[tuple[str, int], Tensor]()
    try:
        for bits, places in packed["keep"].items():
            numbers = torch.tensor(list(bytes.fromhex(bits)), dtype=torch.uint8)
            kept = unpack_bits(numbers).nonzero().flatten()
            for name, axis in places:
                if type(axis) is not int or (name, axis) in keep:
                    raise ValueError(f"it keeps {name!r:.80} along {axis!r:.80}, twice or wrongly")
                keep[name, axis] = kept
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its plan cannot be read: {error}") from error
    return replace(plan, keep=keep)
