"""Any network of timm (Wightman 2019), by its name there, with new weights."""

from typing import Any

from torch import nn

from prunelab.core.text.unknown import refuse_unknown
from prunelab.models.stem import fit_stem


def timm(
    num_classes: int = 10, name: str = "resnet18", stem: str = "auto", size: int | None = None, patch: int | None = None
) -> nn.Module:
    """(n, 3, size, size) -> (n, num_classes); `stem` as for `fit_stem`, `size` of None is 32.

    `patch` are the pixels of a side of a patch, for networks that cut images into patches; None for their own. Raises
    ValueError without timm, for a name that it does not have, with the nearest ones, and for what the network cannot
    have.
    """
    try:
        import timm as library
    except ModuleNotFoundError as error:
        raise ValueError("model=timm needs timm: pip install 'prunelab[timm]'") from error
    refuse_unknown("timm", name, library.list_models())  # of names alone: others would be looked up in a hub
    pixels = size or 32
    own: dict[str, Any] = {}
    if library.models.get_pretrained_cfg_value(name, "fixed_input_size"):  # as of vision transformers
        own["img_size"] = pixels
    if patch:
        own["patch_size"] = patch
    try:
        net: nn.Module = library.create_model(name, pretrained=False, num_classes=num_classes, **own)
    except (AssertionError, TypeError, ValueError) as error:  # of what it cannot have
        raise ValueError(f"model.name={name} at {pixels} pixels: {error}; set data.size, or model.patch") from error
    fit_stem(net, stem, pixels, name)
    return net
