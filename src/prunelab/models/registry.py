"""Which nets are ours? By name: "cifar_resnet.resnet20" is resnet20 of cifar_resnet.py beside this file."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, get_type_hints

from torch import nn

from prunelab import models

FOLDER = f"{models.__name__}."
SCALARS = (bool, int, float, str, type(None))


def nets() -> dict[str, Callable[..., nn.Module]]:
    """What makes a net without being told anything: public functions and classes, where they are defined.

    What must be told something (a number of blocks, a kind of shortcut) is a part of nets, and has no name here.
    """
    found: dict[str, Callable[..., nn.Module]] = {}
    for file in pkgutil.iter_modules(models.__path__):
        module = importlib.import_module(FOLDER + file.name)
        for name, made in vars(module).items():
            if getattr(made, "__module__", None) == module.__name__ and not name.startswith("_") and _is_net(made):
                found[f"{file.name}.{name}"] = made
    return found


def name_of(target: str) -> str | None:
    """The name of the net that `_target_` makes, "prunelab.models.cifar_resnet.resnet20"; None: not one of ours."""
    name = target.removeprefix(FOLDER)
    return name if name != target and name in nets() else None


def build(name: str, args: Mapping[str, Any]) -> nn.Module:
    """Calls the net of that name, and nothing else. Raises ValueError for other names and for wrong arguments."""
    known = nets()
    if name not in known:
        raise ValueError(f"net={name!r:.80}: expected one of {', '.join(known)}")
    wild = [f"{key}={value!r:.80}" for key, value in args.items() if type(value) not in SCALARS]
    if wild:
        raise ValueError(f"{name} with {wild[0]}: expected a number, a string, true, false or null")
    try:
        return known[name](**args)
    except Exception as error:  # whatever a constructor does with a wrong value
        given = ", ".join(f"{key}={value!r:.80}" for key, value in args.items())
        why, takes = str(error).partition("\n")[0], inspect.signature(known[name])
        raise ValueError(f"{name} cannot be built with {given}: {why}; it takes {takes}") from error


def _is_net(made: Any) -> bool:
    makes = get_type_hints(made).get("return") if isinstance(made, FunctionType) else made
    if not isinstance(makes, type) or not issubclass(makes, nn.Module):
        return False
    return all(p.default is not p.empty for p in inspect.signature(made).parameters.values())
