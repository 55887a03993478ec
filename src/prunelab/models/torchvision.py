"""Any classifier of torchvision, by its name there, with new weights."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from prunelab.core.text.unknown import refuse_unknown
from prunelab.models.stem import fit_stem

AUXILIARY = ("googlenet", "inception_v3")  # have more outputs than one in training, unless told


def torchvision(
    num_classes: int = 10, name: str = "resnet18", stem: str = "auto", size: int | None = None
) -> nn.Module:
    """(n, 3, size, size) -> (n, num_classes); `stem` as for `fit_stem`, `size` of None is 32.

    Raises ValueError for a name that torchvision does not have, with the nearest ones.
    """
    from torchvision import models  # only here: it takes seconds

    refuse_unknown("torchvision", name, models.list_models(module=models))
    pixels = size or 32
    own: dict[str, object] = {"aux_logits": False, "init_weights": True} if name in AUXILIARY else {}
    own |= {"image_size": pixels} if name.startswith("vit_") else {}
    own |= {"input_size": (pixels, pixels)} if name.startswith("maxvit") else {}
    try:
        with _CountsOnCPU() if name.startswith("regnet") else nullcontext():
            net: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **own)
    except (AssertionError, ValueError) as error:  # of a size that it cannot have
        raise ValueError(f"model.name={name} at {pixels} pixels: {error}; set data.size") from error
    fit_stem(net, stem, pixels, name)
    return net.to(torch.get_default_device())


class _CountsOnCPU(TorchFunctionMode):
    """RegNet computes its widths with tensors, which have no values on the meta device; no weight is made by these."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        where = {"device": "cpu"} if func in (torch.arange, torch.tensor) else {}
        return func(*args, **{**(kwargs or {}), **where})
