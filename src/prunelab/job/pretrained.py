"""Loads the weights that a job starts from."""

import logging
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from prunelab.channels.plan import Plan
from prunelab.compact import file
from prunelab.core.files import torch_file
from prunelab.store import foreign
from prunelab.store.weights import path_and_choice, weights_file

log = logging.getLogger(__name__)
REMEDY = "expected weights as torch.save(net.state_dict(), path) or safetensors write them"


def load_weights(net: nn.Module, pretrained: str | Path) -> Plan:
    """Loads the weights in .safetensors, a .pt or .ckpt, whose code is never run, or a job's folder.

    The model.safetensors of a job that removed channels shrinks `net` alike; returns what was removed. Of other files
    `foreign.read` finds the tensors; the log says how. `PATH::NAME` chooses one of several networks. `net` keeps its
    dtypes.
    Raises FileNotFoundError, and ValueError for a file that is damaged, holds code or numbers that are not finite, or
    has tensors that are missing, unknown or of another shape.
    """
    path, (_, which) = weights_file(pretrained), path_and_choice(pretrained)
    if path.suffix == ".safetensors" and not which and (origin := file.origin_of(path)) is not None:
        was_training, dtypes = net.training, {name: t.dtype for name, t in net.state_dict().items()}
        file.load(path, into=net).train(was_training)
        for name, tensor in net.state_dict(keep_vars=True).items():
            tensor.data = tensor.data.to(dtypes[name])
        plan = origin.plan
    else:
        _load_foreign(net, path, which)
        plan = Plan()
    if broken := [name for name, t in net.state_dict().items() if t.is_floating_point() and not t.isfinite().all()]:
        raise ValueError(f"pretrained={path}: {broken[0]} is not finite: its training diverged, choose another file")
    return plan


def _load_foreign(net: nn.Module, path: Path, which: str) -> None:
    saved = _saved(path)
    try:
        tensors, notes = foreign.read(saved, net.state_dict(), which)
    except ValueError as error:
        raise ValueError(f"pretrained={path} cannot be loaded into {type(net).__name__}: {error}") from None
    net.load_state_dict(tensors)
    if notes:
        log.info("pretrained=%s: %s", path, "; ".join(notes))


def _saved(path: Path) -> Any:
    """What a file holds; its tensors are mapped from it, not copied, so that it cannot ask for memory."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch_file.read(path)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged file provokes
        raise ValueError(f"pretrained={path}: {torch_file.fault(path, error)}; {REMEDY}") from None
