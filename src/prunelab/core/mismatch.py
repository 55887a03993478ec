"""In what do tensors by name differ from those that a net has?"""

from collections.abc import Mapping

from torch import Tensor, nn

TOLD = 3  # of the differences


def mismatch(net: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """What is missing, unknown or of another shape; "" where `tensors` fit into `net`."""
    own = net.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in own]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    return "; ".join(wrong[:TOLD]) + (f" and {len(wrong) - TOLD} more" if len(wrong) > TOLD else "")
