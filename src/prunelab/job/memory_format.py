"""The memory format in which a network trains."""

import torch
from torch import Tensor, nn

from prunelab.core.network.preserve import preserve_state
from prunelab.core.network.torch_export import error_summary


def to_channels_last(net: nn.Module, example: Tensor) -> str:
    """Brings `net`, contiguous, to channels_last; where it cannot train so, leaves it and returns why, else "".

    `example` is a batch of images, (2, 3, h, w). Code that calls `.view` across channels and pixels cannot.
    """
    try:
        _step(net.to(memory_format=torch.channels_last), example.contiguous(memory_format=torch.channels_last))
    except Exception as error:  # of any network; preflight says what is wrong with one that takes no images at all
        net.to(memory_format=torch.contiguous_format)
        return error_summary(error)
    return ""


def _step(net: nn.Module, images: Tensor) -> None:
    with preserve_state(net):
        net(images)
    with preserve_state(net, training=True):
        outputs, weights = net(images), [weight for weight in net.parameters() if weight.requires_grad]
        if weights:
            torch.autograd.grad(outputs.sum(), weights, allow_unused=True)
