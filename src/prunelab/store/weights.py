"""The file of weights named by `pretrained=`, and its digest."""

from pathlib import Path

from prunelab.store.identity import content


def weights_file(path: str | Path) -> Path:
    """The file that `pretrained=` names: itself, or the model or last checkpoint in a finished job's folder.

    Raises FileNotFoundError for anything else.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"pretrained={path}: no such file; expected weights, a job's folder, or auto")
    if not (path / "result.json").is_file():
        inside = sorted(result.parent for result in path.glob("*/result.json"))
        hint = f"""; it contains one, pretrained="'{inside[0]}'\"""" if inside else "; finish it with its command"
        raise FileNotFoundError(f"pretrained={path}: not the folder of a finished job, it has no result.json{hint}")
    for file in ("model.safetensors", "checkpoints/last.ckpt"):
        if (path / file).is_file():
            return path / file
    raise FileNotFoundError(f"pretrained={path}: it has no model.safetensors and no checkpoints/last.ckpt")


def weights_content(pretrained: str | None) -> str | None:
    """A digest of the weights; None for "auto" too, which trains the same bits, only shared by several jobs."""
    return None if pretrained in (None, "auto") else content(weights_file(pretrained))
