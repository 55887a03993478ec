"""What Hydra would ignore without a word: the launcher or the sweeper that a chosen file asks for."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from omegaconf import OmegaConf

PARTS = ("hydra/launcher", "hydra/sweeper")


def refuse_choices_of_files(hydra: HydraConf) -> None:
    """Raises ValueError where a chosen file names another launcher or sweeper than the command.

    Hydra takes that of train.yaml, or of the command line, whatever other files override.
    """
    typed = {override.partition("=")[0] for override in _plain(hydra.overrides.hydra)}
    for group, option in hydra.runtime.choices.items():
        folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
        for part, asked in [found for folder in folders for found in _asked(folder / group.partition("@")[0], option)]:
            if asked != hydra.runtime.choices[part] and part not in typed:
                raise ValueError(
                    f"{group}={option}: Hydra ignores {part}: {asked} of this file; add {part}={asked} to the command"
                )


@cache
def _asked(group: Path, option: str | None) -> list[tuple[str, str]]:
    """The launcher and the sweeper that the defaults list of a file overrides; none if there is no such file."""
    file = group / f"{option}.yaml"
    content = _plain(OmegaConf.load(file)) if file.is_file() else None
    defaults = content.get("defaults", []) if isinstance(content, Mapping) else []
    lines = [line for line in defaults if isinstance(line, Mapping)]
    return [(part, str(line[f"override /{part}"])) for line in lines for part in PARTS if f"override /{part}" in line]


def _plain(node: Any) -> Any:
    """With interpolations as they stand: that of a job's number cannot be resolved yet."""
    return OmegaConf.to_container(node)
