"""Re-estimation of batch-norm statistics after the weights have changed."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def norms(net: nn.Module) -> list[_BatchNorm]:
    """The batch norms that keep running statistics."""
    return [module for module in net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@torch.no_grad()
def reestimate(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Running means and variances become the plain averages over `batches` of inputs (momentum None).

    Only batch norms are in train mode; dropout and all else keep their modes. Modes are restored.
    """
    saved = [(norm, norm.momentum, norm.training) for norm in norms(net)]
    for norm, _, _ in saved:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True
    try:
        with torch.compiler.set_stance("force_eager"):  # compiling once more for each mode would take minutes
            for inputs in batches:
                net(inputs)
    finally:
        for norm, momentum, training in saved:
            norm.momentum, norm.training = momentum, training
