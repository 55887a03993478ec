"""Parts of a method by their names in conf/prune, with options by keyword: the YAML files are the only registry."""

import inspect
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from prunelab.core.files.conf_dir import conf_dir
from prunelab.core.text.unknown import unknown


def names(group: str) -> list[str]:
    """The files of a folder below conf: "prune/criterion" -> ["bn_scale", "factor", ...]."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def part(group: str, chosen: Any, options: Mapping[str, Any], rate: float) -> Any:
    """The object of a name; an object is returned as it is.

    `options` are arguments beside those of the file, which may refer to `rate`. Raises ValueError for a name and an
    option that do not exist, with the nearest that do, and for options of an object.
    """
    if not isinstance(chosen, str):
        if options:
            raise ValueError(
                f"{group}__{next(iter(options))}: {group} is an object, which has its own options; drop it"
            )
        return chosen
    if chosen not in (known := names(f"prune/{group}")):
        raise unknown(group, chosen, known)
    file = OmegaConf.load(conf_dir() / "prune" / group / f"{chosen}.yaml")
    settings: Any = OmegaConf.to_container(OmegaConf.create({"rate": rate, "part": file}).part, resolve=True)
    for option in options:
        check_option(group, settings["_target_"], option)
    return instantiate({**settings, **options}, _convert_="all")


def check_option(part: str, target: str, option: str) -> None:
    """Raises ValueError unless the class or function `target` has an argument of this name."""
    known = [name for name in inspect.signature(get_object(target)).parameters if name != "self"]
    if option not in known:
        raise unknown(f"option of {part}", option, known)


def by_part(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{"criterion__batches": 4} -> {"criterion": {"batches": 4}}. Raises ValueError for a name without "__"."""
    parts: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        part, separator, option = key.partition("__")
        if not (part and separator and option):
            raise ValueError(f"{key}={value!r}: no such argument; options of parts are written as criterion__batches=4")
        parts.setdefault(part, {})[option] = value
    return parts
