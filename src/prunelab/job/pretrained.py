"""Loads the weights that a job starts from."""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from prunelab.channels.plan import Plan
from prunelab.compact import file
from prunelab.core.network.snapshot import state_dict_mismatch
from prunelab.store.weights import weights_file

REMEDY = "expected weights as torch.save(net.state_dict(), path) or safetensors write them"


def load_weights(net: nn.Module, path: Path) -> Plan:
    """Loads a state_dict from .safetensors, a .pt or .ckpt, whose code is never run, or a job's folder.

    The model.safetensors of a job that removed channels shrinks `net` alike; returns what was removed.
    Raises FileNotFoundError, and ValueError for a file that is damaged, holds anything but a state_dict of finite
    numbers, or has tensors that are missing, unknown or of another shape.
    """
    path = weights_file(path)
    if path.suffix == ".safetensors" and (origin := file.origin_of(path)) is not None:
        was_training = net.training
        file.load(path, into=net).train(was_training)
        plan = origin.plan
    else:
        saved, plan = _read(path), Plan()
        if wrong := state_dict_mismatch(net, saved):
            raise ValueError(f"pretrained={path} does not fit {type(net).__name__}: {wrong}")
        net.load_state_dict(saved)
    if broken := [name for name, t in net.state_dict().items() if t.is_floating_point() and not t.isfinite().all()]:
        raise ValueError(f"pretrained={path}: {broken[0]} is not finite: its training diverged, choose another file")
    return plan


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # A damaged file provokes any error in torch, which advises to run the code of one that holds objects.
    except Exception as error:
        raise ValueError(f"pretrained={path}: {_fault(path, error)}; {REMEDY}") from None
    if isinstance(saved, dict) and isinstance(nested := saved.get("state_dict"), dict):  # a training's checkpoint
        inside = {name.removeprefix("net."): t for name, t in nested.items() if str(name).startswith("net.")}
        saved = inside or nested
    if not isinstance(saved, dict) or not all(isinstance(k, str) and isinstance(t, Tensor) for k, t in saved.items()):
        raise ValueError(f"pretrained={path}: it holds no state_dict; {REMEDY}")
    return saved


def _fault(path: Path, error: Exception) -> str:
    if path.stat().st_size == 0:
        return "the file is empty"
    if any(word in str(error) for word in ("GLOBAL", "TorchScript")):
        return "it holds Python objects beside tensors, whose code is never run"
    return "the file is damaged, or no file of weights"
