"""Which net did a finished job test last? Built again from the files in its folder."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunelab.callbacks.binarize import Binarize
from prunelab.channels import artefact
from prunelab.lit.checkpoints import is_whole
from prunelab.lit.classifier import EXAMPLE
from prunelab.models import named
from prunelab.report.record import read
from prunelab.runs.record import Folder
from prunelab.runs.weights import load_weights


def net_of(path: Path) -> nn.Module:
    """The net of a job's folder, in eval mode, on the CPU: masked, or small where channels were cut out.

    Nothing in the folder is run or unpickled. Raises ValueError, with the path and what to do, where there is no
    result or a damaged one, a newer version's, or no whole weights, and for a net that is none of ours.
    """
    folder = Folder(path)
    result = _result(folder)
    if folder.model.exists():
        return artefact.load(folder.model)
    if not folder.checkpoint.exists():
        raise ValueError(f"{folder.checkpoint}: no such file, and the weights were in it: train again with rerun=true")
    if not is_whole(folder.checkpoint):
        raise ValueError(f"{folder.checkpoint} is damaged: copy it again, or train again with rerun=true")
    try:
        net = _unpruned(folder, result)
        load_weights(net, folder.checkpoint)
        for callback in (result["config"].get("prune") or {}).values():
            _binarize(net, callback)
    except (LookupError, TypeError, AttributeError) as error:
        raise _damaged(folder.path / "result.json", repr(error)) from error
    return net.eval()


def with_example(path: Path) -> tuple[nn.Module, Tensor]:
    """The net of a job's folder, and images of the shape that it takes, (2, 3, 32, 32)."""
    return net_of(path), EXAMPLE


def _result(folder: Folder) -> dict[str, Any]:
    """result.json, of which every entry that reports use has been read."""
    file = folder.path / "result.json"
    if not folder.path.is_dir():
        raise ValueError(f"{folder.path}: no such folder; give a finished job's, such as outputs/demo/prune=...")
    if not file.exists() and folder.state() == "not begun":
        raise ValueError(f"{folder.path} is no job's folder: `python -m prunelab ls` lists those below a folder")
    if not file.exists():
        raise ValueError(f"{file}: no such file, the job is {_told(folder)}: finish it with the command that began it")
    try:
        read(folder.path)
        return dict(json.loads(file.read_bytes()))
    except ValueError as error:
        if "newer" in str(error):
            raise ValueError(f"{file}: {error}") from error
        raise _damaged(file, str(error)) from error
    except Exception as error:  # whatever a damaged file provokes
        raise _damaged(file, repr(error)) from error


def _told(folder: Folder) -> str:
    there = (folder.read("failure.json") or {}) if (state := folder.state()) == "failed" else {}
    return f"failed ({there['reason']})" if there.get("reason") else state


def _damaged(file: Path, why: str) -> ValueError:
    return ValueError(f"{file} is damaged ({why}): the command that began the job writes it again")


def _unpruned(folder: Folder, result: dict[str, Any]) -> nn.Module:
    """The net of result.json's configuration, whose `_target_` may be anything: ours alone are built."""
    args = dict(result["config"]["model"])
    target = str(args.pop("_target_", None))
    if (name := named.name_of(target)) is None:
        raise ValueError(
            f"{folder.path}: its net {target} is none of prunelab's: load the weights into one of your own, and call "
            "prunelab.export.onnx(net, example, path)"
        )
    return named.build(name, args | {"num_classes": result["data"]["classes"]})


def _binarize(net: nn.Module, callback: dict[str, Any]) -> None:
    """A checkpoint has the real weights of a net that was trained and tested with binary ones."""
    if callback.get("_target_") == f"{Binarize.__module__}.{Binarize.__qualname__}":
        module = nn.ModuleDict({"net": net})  # `skip` has the names of the trained module
        Binarize(**{key: value for key, value in callback.items() if key != "_target_"}).leave_binary(module)
