"""Registry of networks by name: "cifar_resnet.resnet20" is resnet20 in cifar_resnet.py of this folder."""

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
    """Public functions and classes that build a network without arguments, by name.

    Those with required arguments (a number of blocks, a kind of shortcut) are parts of networks and are left out.
    """
    builders: dict[str, Callable[..., nn.Module]] = {}
    for file in pkgutil.iter_modules(models.__path__):
        module = importlib.import_module(FOLDER + file.name)
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_") and _is_net(value):
                builders[f"{file.name}.{name}"] = value
    return builders


def name_of(target: str) -> str | None:
    """The name of a `_target_` such as "prunelab.models.cifar_resnet.resnet20"; None for one that is not listed."""
    name = target.removeprefix(FOLDER)
    return name if name != target and name in nets() else None


def build(name: str, args: Mapping[str, Any]) -> nn.Module:
    """Builds the network of that name. Raises ValueError for other names, before any call, and for wrong arguments."""
    known = nets()
    if name not in known:
        raise ValueError(f"net={name!r:.80}: expected one of {', '.join(known)}")
    wrong = [f"{key}={value!r:.80}" for key, value in args.items() if type(value) not in SCALARS]
    if wrong:
        raise ValueError(f"{name} with {wrong[0]}: expected a number, a string, true, false or null")
    try:
        return known[name](**args)
    except Exception as error:  # a constructor may raise anything
        arguments = ", ".join(f"{key}={value!r:.80}" for key, value in args.items())
        reason, takes = str(error).partition("\n")[0], inspect.signature(known[name])
        raise ValueError(f"{name} cannot be built with {arguments}: {reason}; it takes {takes}") from error


def _is_net(value: Any) -> bool:
    kind = get_type_hints(value).get("return") if isinstance(value, FunctionType) else value
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        return False
    return all(p.default is not p.empty for p in inspect.signature(value).parameters.values())
