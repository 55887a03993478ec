"""Removable residual blocks, which become the identity: the network gets less deep.

Veit et al. 2016 (arXiv:1605.06431) removed single blocks from trained networks; Huang & Wang 2018
(arXiv:1707.01213) learn which.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.nn.modules.batchnorm import _BatchNorm

from prunelab.channels.plan import Plan
from prunelab.channels.tracing.graph import export
from prunelab.channels.units import PrunableStructure
from prunelab.core.granularity import Layout
from prunelab.core.network.preserve import preserve_state
from prunelab.core.network.prunable import PRUNABLE, layer_weights
from prunelab.core.network.temporary import temporary_tensors
from prunelab.core.types import Example, Masks, Scores

log = logging.getLogger(__name__)
aten = torch.ops.aten
ADDS = {aten.add.Tensor, aten.add_.Tensor}
RELUS = {aten.relu.default, aten.relu_.default}


@dataclass(frozen=True)
class Residual:
    """A module that adds something to its own input."""

    path: str
    stand_in: str  # what replaces it: "Identity" or "ReLU"
    outlet: tuple[str, int] | None  # the module that computes the branch, and its channels


@dataclass(frozen=True)
class Block(PrunableStructure):
    """Residual blocks. A score is the mean over the block's prunable weights that are not removed yet.

    Of nested blocks the innermost are units. A block with a skipped weight, or anything frozen, stays.
    """

    whole_layers: ClassVar[bool] = True
    blocks: tuple[Residual, ...] = ()
    weights: tuple[tuple[str, ...], ...] = ()  # the prunable ones of each block
    members: Mapping[str, int] = field(default_factory=dict)  # every parameter of a block -> the block's number
    shapes: Mapping[str, torch.Size] = field(default_factory=dict)  # of the members

    def bind(self, net: nn.Module, params: Mapping[str, Tensor], example: Example | None) -> Self:
        if example is None:
            raise ValueError(
                "pruning blocks takes one forward pass to find skip connections: "
                "set example_input_array on the LightningModule"
            )
        weights = {
            block: tuple(name for name in layer_weights(net) if name.startswith(f"{block.path}."))
            for block in residual_blocks(net, example)
        }
        chosen = {
            block: names
            for block, names in weights.items()
            if names
            and all(name in params for name in names)
            and all(p.requires_grad for p in net.get_submodule(block.path).parameters())
        }
        if not chosen:
            why = f"it has {len(weights)}, and none of them is prunable whole" if weights else "it has none"
            raise ValueError(f"{type(net).__name__}: no residual blocks to prune, {why}")
        shapes = {name: p.shape for name, p in net.named_parameters()}
        members = {n: i for i, block in enumerate(chosen) for n in shapes if n.startswith(f"{block.path}.")}
        return type(self)(tuple(chosen), tuple(chosen.values()), members, {name: shapes[name] for name in members})

    def reduce(self, scores: Scores) -> Scores:
        if unscored := [name for names in self.weights for name in names if name not in scores]:
            raise ValueError(f"this criterion does not score {', '.join(unscored)}: skip them, or choose another")
        return {"blocks": torch.stack([_mean([scores[name] for name in names]) for names in self.weights])}

    def expand(self, keep: Masks) -> Masks:
        removed, device = self._removed(keep), next((kept.device for kept in keep.values()), None)
        return {
            name: torch.zeros(self.shapes[name], dtype=torch.bool, device=device)
            for name, block in self.members.items()
            if block in removed
        }

    def _removed(self, keep: Masks) -> set[int]:
        return set((~keep["blocks"]).nonzero().flatten().tolist()) if "blocks" in keep else set()

    @property
    def numbers(self) -> Mapping[str, Tensor]:
        return {"blocks": torch.arange(len(self.blocks))}

    @property
    def scaling_modules(self) -> Mapping[str, Tensor]:
        return {b.outlet[0]: torch.full((b.outlet[1],), i) for i, b in enumerate(self.blocks) if b.outlet}

    def plan(self, keep: Masks) -> Plan:
        removed = self._removed(keep)
        return Plan(blocks={b.path: b.stand_in for i, b in enumerate(self.blocks) if i in removed})

    def layout(self, net: nn.Module) -> Layout:
        identity = torch.eye(len(self.blocks), dtype=torch.float64)
        per = identity[list(self.members.values())]  # a parameter is one channel of its block
        return Layout(
            {"blocks": torch.arange(len(identity))}, identity.sum(0), list(self.members), per, per.new_zeros(len(per))
        )


def _mean(scores: list[Tensor]) -> Tensor:
    """NaN stays; -inf is of removed weights."""
    flat = torch.cat([score.flatten().float() for score in scores])
    removed = flat == -torch.inf
    mean = flat.masked_fill(removed, 0).sum() / (~removed).sum()
    return mean.masked_fill(removed.all(), -torch.inf)


class _Sum(NamedTuple):
    """A module of an exported program that ends by adding its input to something."""

    path: str
    skip: Node  # its one input
    branch: Node  # what is added to that
    relu: bool  # whether a ReLU follows
    shares: bool  # whether operations elsewhere use its parameters or buffers

    @property
    def stand_in(self) -> str:
        return "ReLU" if self.relu and self.skip.target not in RELUS else "Identity"  # a second ReLU is redundant


def residual_blocks(net: nn.Module, example: Example) -> tuple[Residual, ...]:
    """The residual blocks of `net` on `example` in eval mode, in execution order.

    A block is a module that takes one tensor and returns that tensor plus something, with nothing or a ReLU behind
    the sum; that runs once, shares no parameter, and equals its stand-in when they are all 0. The log names what
    looks like a block and is none, with the reason.
    """
    program = export(net, example, training=False)
    sums = [s for path, nodes in _calls(program).items() if path and (s := _sum(program, path, nodes))]
    sums = [s for s in sums if not any(other.path.startswith(f"{s.path}.") for other in sums)]
    scaling_modules = {s: outlet for s in sums if (outlet := _outlet(net, s.branch))}
    blocks = []
    with preserve_state(net), torch.compiler.set_stance("force_eager"):
        runs = _runs(net, [*(s.path for s in sums), *(path for path, _ in scaling_modules.values())], example)
        for s in sums:
            if why := _objection(net, s, runs[s.path]):
                log.warning("%s is not a removable block: %s", s.path, why)
            else:
                outlet = scaling_modules.get(s)
                blocks.append(Residual(s.path, s.stand_in, outlet if outlet and len(runs[outlet[0]]) == 1 else None))
    return tuple(blocks)


def _calls(program: ExportedProgram) -> dict[str, dict[Node, None]]:
    """The operations in the first run of each module."""
    calls: dict[str, dict[Node, None]] = {}
    for node in program.graph.nodes:
        for run, path in _stack(node):
            if "@" not in run:
                calls.setdefault(path, {})[node] = None
    return calls


def _stack(node: Node) -> list[tuple[str, str]]:
    """(run, path) of the modules around an operation, the innermost last; a second run has "@1" in its key."""
    stack = node.meta.get("nn_module_stack") or {}
    return [(run, path.removeprefix("L['self']").removeprefix(".").split("@")[0]) for run, (path, _) in stack.items()]


def _sum(program: ExportedProgram, path: str, nodes: Mapping[Node, None]) -> _Sum | None:
    outside = {arg for node in nodes for arg in node.all_input_nodes if arg not in nodes}
    constants = {arg for arg in outside if _constant(program, arg)}
    inputs, results = outside - constants, [node for node in nodes if node.users.keys() - nodes.keys()]
    if len(inputs) != 1 or len(results) != 1:
        return None
    (skip,), (result,) = inputs, results
    relu = result.target in RELUS
    add: Any = result.args[0] if relu else result
    if add not in nodes or add.target not in ADDS or add.kwargs or skip not in add.args:
        return None
    branch = add.args[1] if add.args[0] is skip else add.args[0]
    shares = any(node.users.keys() - nodes.keys() for node in constants)
    return _Sum(path, skip, branch, relu, shares) if isinstance(branch, Node) else None


def _constant(program: ExportedProgram, node: Node) -> bool:
    """Whether it is a parameter, buffer or other tensor of the network."""
    return node.op == "get_attr" or (node.op == "placeholder" and node.name not in program.graph_signature.user_inputs)


def _runs(net: nn.Module, paths: Sequence[str], example: Example) -> dict[str, list[bool]]:
    """For each run of each module whether it takes one tensor and returns one."""
    runs: dict[str, list[bool]] = {path: [] for path in paths}
    with ExitStack() as stack:
        for path in paths:

            def note(_: nn.Module, args: Any, kwargs: Any, out: Any, plain: list[bool] = runs[path]) -> None:
                plain.append(len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and isinstance(out, Tensor))

            stack.callback(net.get_submodule(path).register_forward_hook(note, with_kwargs=True).remove)
        device = next(net.parameters()).device
        net(*(x.to(device) for x in (example if isinstance(example, tuple) else (example,))))
    return runs


def _objection(net: nn.Module, block: _Sum, runs: list[bool]) -> str | None:
    module = net.get_submodule(block.path)
    params = {id(p) for p in module.parameters()}
    names = [name for name, p in net.named_parameters(remove_duplicate=False) if id(p) in params]
    if elsewhere := [name for name in names if not name.startswith(f"{block.path}.")]:
        return f"it shares a parameter with {elsewhere[0]}"
    if len(runs) != 1:
        return f"it runs {len(runs)} times"
    if not runs[0]:
        return "it takes more than one tensor, or one by keyword, or does not return one tensor"
    if block.shares:
        return "its parameters or buffers are also used elsewhere"
    return None if _vanishes(module, block) else f"with all its parameters 0 it is no {block.stand_in}"


def _vanishes(module: nn.Module, block: _Sum) -> bool:
    """Tested on noise, as no list of operations would be complete."""
    like = block.skip.meta["val"]
    x = torch.randn(like.shape, dtype=like.dtype, device=like.device)
    x = x.relu() if block.skip.target in RELUS else x
    zeros = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    inputs = x.clone()
    with temporary_tensors(module, zeros):
        out = module(inputs)
    return torch.equal(inputs, x) and torch.equal(out, F.relu(x) if block.stand_in == "ReLU" else x)


def _outlet(net: nn.Module, branch: Node) -> tuple[str, int] | None:
    stack = _stack(branch)
    path = stack[-1][1] if stack else ""
    module = net.get_submodule(path)
    if not isinstance(module, (*PRUNABLE, _BatchNorm, nn.GroupNorm)) or module.weight is None:
        return None
    return path, branch.meta["val"].shape[-1 if isinstance(module, nn.Linear) else 1]
