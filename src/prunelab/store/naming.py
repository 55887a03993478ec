"""Names of job folders, and where weights lie in them."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

# What cannot change a result is neither part of a job's identity nor of its folder's name. An experiment file
# is a bundle of overrides that names its own study.
NOT_RESULT = (
    "name", "experiment", "logger", "parents", "every", "rerun", "hydra", "data.root", "data.cache", "data.url",
    "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.profiler",
)  # fmt: skip
LONGEST = 180  # of the 255 bytes a file name may have


def changes_result(key: str) -> bool:
    """Whether the configuration value at `key` ("optim.batch_size") can change what a job computes."""
    return not any(key == drop or key.startswith((f"{drop}.", f"{drop}/")) for drop in NOT_RESULT)


def job_folder(
    overrides: Sequence[str], method: str, rate: object, seed: object, rerun: bool | str = False, now: str = ""
) -> str:
    """A folder name made of a job's overrides: "prune=usp,rate=0.2,seed=0,epochs=10".

    The order of the overrides does not matter. With `rerun` it ends in `now`, the time of the command, or in the time
    given, which resumes what that command began.
    """
    given = dict(item.lstrip("+~").partition("=")[::2] for item in overrides)
    for key in ("prune", "rate", "seed"):
        given.pop(key, None)
    lead = [f"prune={method}", f"rate={_plain(rate)}", f"seed={_plain(seed)}"]
    if given.get("trainer.devices") == "1":
        del given["trainer.devices"]
    result = {key for key in given if changes_result(key) and key != "trainer"} | {
        "trainer.devices"
    }  # see job.run.resolve_auto
    rest = [f"{key}={value}" for key, value in sorted(given.items()) if key in result]
    whole = ",".join(lead + rest + ([f"rerun={now if rerun is True else rerun}"] if rerun else []))
    name = re.sub(r"[^\w.,=+\-\[\]{}@]", "_", whole)
    if name == whole and len(name) <= LONGEST:
        return name
    return (
        name[:LONGEST] + "~" + hashlib.sha256(whole.encode()).hexdigest()[:8]
    )  # tells jobs apart that differ in what was cut


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def weights_file(path: str | Path) -> Path:
    """The file that `pretrained=` means: itself, or the model or last checkpoint in a finished job's folder.

    Raises FileNotFoundError for anything else.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"pretrained={path}: no such file; expected one, a job's folder, or auto")
    if not (path / "result.json").is_file():
        inside = sorted(found.parent for found in path.glob("*/result.json"))
        hint = f"""; it contains one, pretrained="'{inside[0]}'\"""" if inside else "; finish it with its command"
        raise FileNotFoundError(f"pretrained={path}: this folder is no finished job's, it has no result.json{hint}")
    for file in ("model.safetensors", "checkpoints/last.ckpt"):
        if (path / file).is_file():
            return path / file
    raise FileNotFoundError(f"pretrained={path}: it has no model.safetensors and no checkpoints/last.ckpt")


def refuse_unwritable(folder: Path) -> None:
    """Raises PermissionError when files cannot be made in `folder`, which need not exist; writes nothing."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        what = "is not writable" if nearest.is_dir() else "is not a folder"
        raise PermissionError(f"{folder}: results cannot be written, {nearest} {what}; choose another name= or folder")


def variant(method: str, overrides: Sequence[str]) -> str:
    """The method with its own settings, where `overrides` give it any: "usp (scope=global)".

    Jobs with other settings of their method are other methods: their mean would describe neither.
    """
    inside = re.compile(r"[+~]*(prune[./](pruning\.pruner\.)?|(?=(retrain|rewind|rounds)=))")
    settings = sorted(inside.sub("", o, count=1) for o in overrides if inside.match(o))
    return f"{method} ({', '.join(settings)})" if settings else method
