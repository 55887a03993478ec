"""Networks that `torch.compile(net)` has wrapped, which renames all that is in them."""

from collections.abc import Iterable

from torch import nn

WRAPPED = "_orig_mod"


def plain(net: nn.Module, names: Iterable[str] = ()) -> nn.Module:
    """The network in a wrapper, unless `names` are of the wrapper's; any other network itself."""
    return net if any(name.startswith(f"{WRAPPED}.") for name in names) else getattr(net, WRAPPED, net)
