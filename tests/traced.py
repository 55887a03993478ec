"""Networks alike are traced once: torch.export takes more time than all else of a short training.

For tests of what is done with a channel graph; those of tracing itself are in tests/channels.
"""

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from torch import nn
from torch.utils._pytree import tree_leaves

from prunelab.channels import units
from prunelab.channels.equivalence.proof import unremovable
from prunelab.channels.tracing.graph import ChannelGraph, channel_graph

OF_MODULES = vars(nn.Module()).keys()  # the mode, parameters, hooks and the like, which have their own look
_graphs: dict[Hashable, ChannelGraph] = {}
_refused: dict[Hashable, dict[str, str]] = {}  # what cannot be cut


@contextmanager
def traced_once() -> Iterator[None]:
    def graph(net: nn.Module, example: Any) -> ChannelGraph:
        key = _kind(net, example)
        if key not in _graphs:
            _graphs[key] = channel_graph(net, example)
        return _graphs[key]

    def refused(net: nn.Module, example: Any, groups: Mapping[str, int], *cut: Any) -> dict[str, str]:
        key = (_kind(net, example), *groups)
        if key not in _refused:
            _refused[key] = unremovable(net, example, groups, *cut)
        return _refused[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "channel_graph", graph)
        patch.setattr(units, "unremovable", refused)
        yield


def _kind(net: nn.Module, example: Any) -> Hashable:
    """Whatever a network's forward can depend on: classes, settings, hooks; shapes and sharing of tensors."""
    modules = [(name, type(m), m.extra_repr(), _settings(m), _hooks(m)) for name, m in net.named_modules()]
    tensors = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    sharing = [(name, first.setdefault(id(t), name), t.shape, t.dtype, t.device) for name, t in tensors]
    return (*modules, *sharing, *(x.shape for x in tree_leaves(example)))


def _settings(module: nn.Module) -> tuple[tuple[str, Hashable], ...]:
    plain = (bool, int, float, str, tuple, list, dict, set, type(None))
    return tuple((k, str(v)) for k, v in vars(module).items() if isinstance(v, plain) and k not in OF_MODULES)


def _hooks(module: nn.Module) -> tuple[int, int]:
    return len(module._forward_hooks), len(module._forward_pre_hooks)
