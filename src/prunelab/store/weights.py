"""The file of weights named by `pretrained=`, and its digest."""

from pathlib import Path

from prunelab.store.identity import content


def path_and_choice(pretrained: str | Path) -> tuple[Path, str]:
    """The path in PATH::NAME, and the name, which chooses one of several networks in that file; "" without one."""
    if Path(pretrained).exists():  # its own name may have ::
        return Path(pretrained), ""
    path, _, which = str(pretrained).partition("::")
    return Path(path), which


def weights_file(pretrained: str | Path) -> Path:
    """The file that `pretrained=` names: itself, or the model or last checkpoint in a finished job's folder.

    Raises FileNotFoundError for anything else.
    """
    path, _ = path_and_choice(pretrained)
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
    if pretrained in (None, "auto"):
        return None
    _, which = path_and_choice(pretrained)
    return content(weights_file(pretrained)) + (f"::{which}" if which else "")
