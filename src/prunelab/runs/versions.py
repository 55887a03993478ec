"""Which versions of what did a result come from?"""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).parents[3] / "conf"


def versions() -> dict[str, str | None]:
    """Of Python and the libraries; `commit` is that of a checkout, with + when it was changed since."""
    names = ("prunelab", "torch", "torchvision", "lightning", "hydra-core")
    return {
        "python": platform.python_version(),
        **{n: metadata.version(n) for n in names},
        "commit": _commit(),
    }


def _commit() -> str | None:
    if not CHECKOUT.is_dir():  # installed: the repository around it, if any, is somebody else's
        return None
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty=+",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
