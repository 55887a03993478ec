"""The folder of YAML files, each of which names an object and its arguments; needs no torch."""

from pathlib import Path


def conf_dir() -> Path:
    """Inside an installed wheel, or beside `src` in a checkout."""
    package = Path(__file__).parents[2]
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"
