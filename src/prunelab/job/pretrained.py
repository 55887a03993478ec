"""Loads the weights that a job starts from."""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from prunelab.channels.plan import Plan
from prunelab.compact import file
from prunelab.core.snapshot import state_dict_mismatch
from prunelab.store.weights import weights_file


def load_weights(net: nn.Module, path: Path) -> Plan:
    """Loads a state_dict from .safetensors, a .pt or .ckpt, whose code is never run, or a job's folder.

    The model.safetensors of a job that removed channels shrinks `net` alike; returns what was removed.
    Raises ValueError, naming them, for tensors that are missing, unknown or of another shape, and FileNotFoundError.
    """
    path = weights_file(path)
    if path.suffix == ".safetensors" and (origin := file.origin_of(path)) is not None:
        was_training = net.training
        file.load(path, into=net).train(was_training)
        return origin.plan
    saved = _read(path)
    if wrong := state_dict_mismatch(net, saved):
        raise ValueError(f"pretrained={path} does not fit {type(net).__name__}: {wrong}")
    net.load_state_dict(saved)
    return Plan()


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if "state_dict" not in saved:
        return dict(saved)
    inside = {name: t for name, t in saved["state_dict"].items() if name.startswith("net.")}
    return {name.removeprefix("net."): tensor for name, tensor in inside.items()}
