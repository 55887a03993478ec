"""Loads the network that a finished job tested, from its folder."""

from pathlib import Path

import torch
from torch import Tensor, nn

from prunelab.compact import file
from prunelab.export.agreement import difference
from prunelab.lit.classifier import EXAMPLE
from prunelab.store.folder import RunDir
from prunelab.store.result import read

LARGEST = 4096  # pixels of a side, of which 64 images still fit into memory


def load_run(path: Path) -> nn.Module:
    """The network of a job's folder, in eval mode, on the CPU: masked, or small where channels were removed.

    Nothing in the folder is run or unpickled. Raises ValueError, with the path and the remedy, for a result that is
    missing, damaged or a newer version's, for a damaged model file, and for a network that prunelab does not have.
    """
    folder = RunDir(path)
    _check(folder)
    if not folder.model.exists():
        raise ValueError(f"{folder.model}: no such file; older jobs have none: train again with rerun=true")
    return file.load(folder.model)


def save_compact(path: Path, to: Path, values: str) -> str:
    """Writes the network of a job's folder as a compact file, its weights as `values`: float32, float16 or int8.

    Returns a message with its bytes and the error of its outputs on noise. Raises ValueError as `load_run` does, and
    for weights that `values` cannot hold.
    """
    net, model = load_run(path), RunDir(path).model
    origin = file.origin_of(model)
    assert origin is not None
    written = file.save(to, net, *origin, values, signed_zeros=False)
    noise = torch.randn(64, *_shape(path), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = difference(file.load(to)(noise), net(noise))
    dense = sum(t.nbytes for t in net.state_dict().values())
    return f"{written:,} bytes ({written / dense:.1%} of its tensors), outputs off by {error:.1e} of the largest"


def with_example(path: Path) -> tuple[nn.Module, Tensor]:
    """The network of a job's folder, and example images, (2, 3, h, w)."""
    return load_run(path), torch.zeros(2, *_shape(path))


def _shape(path: Path) -> list[int]:
    """Channels, height and width of its images; before 0.2.0 all had those of EXAMPLE, and results say none."""
    shape = read(path).data.get("shape", list(EXAMPLE.shape[1:]))
    if len(shape) != 3 or not all(type(side) is int and 0 < side <= LARGEST for side in shape):
        raise ValueError(f"{path / 'result.json'}: its images have the shape {shape!r:.80}; expected three sizes")
    return shape


def _check(folder: RunDir) -> None:
    """Raises ValueError unless result.json is there and whole."""
    result = folder.path / "result.json"
    if not folder.path.is_dir():
        raise ValueError(f"{folder.path}: no such folder; give a finished job's, such as outputs/demo/prune=...")
    if not result.exists() and folder.state() == "not begun":
        raise ValueError(f"{folder.path} is no job's folder: `python -m prunelab ls` lists those below a folder")
    if not result.exists():
        raise ValueError(
            f"{result}: no such file, the job is {_state(folder)}: finish it with the command that began it"
        )
    try:
        read(folder.path)
    except ValueError as error:
        if "newer" in str(error):
            raise ValueError(f"{result}: {error}") from error
        raise _damaged(result, str(error)) from error
    except Exception as error:  # whatever a damaged file provokes
        raise _damaged(result, repr(error)) from error


def _state(folder: RunDir) -> str:
    state = folder.state()
    return f"failed ({folder.failure()})" if state == "failed" else state


def _damaged(file: Path, why: str) -> ValueError:
    return ValueError(f"{file} is damaged ({why}): the command that began the job writes it again")
