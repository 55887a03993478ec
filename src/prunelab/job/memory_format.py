"""The memory format in which a network trains."""

import torch
from torch import Tensor, nn

from prunelab.core.network.preserve import preserve_state


def to_channels_last(net: nn.Module, example: Tensor) -> bool:
    """Whether `net`, contiguous, trains in channels_last on images such as `example`, (2, 3, h, w); if so it is then.

    Code that calls `.view` across channels and pixels cannot.
    """
    try:
        _step(net.to(memory_format=torch.channels_last), example.contiguous(memory_format=torch.channels_last))
    except Exception:  # of any network; preflight says what is wrong with one that takes no images at all
        net.to(memory_format=torch.contiguous_format)
        return False
    return True


def _step(net: nn.Module, images: Tensor) -> None:
    with preserve_state(net):
        net(images)
    with preserve_state(net, training=True):
        outputs, weights = net(images), [weight for weight in net.parameters() if weight.requires_grad]
        if weights:
            torch.autograd.grad(outputs.sum(), weights, allow_unused=True)
