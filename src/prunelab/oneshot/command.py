"""The command `python -m prunelab prune NET`: which network it is given, and which file it leaves."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from prunelab.channels.equivalence.certificate import EquivalenceError
from prunelab.channels.plan import Plan
from prunelab.compact import file
from prunelab.compact.file import Origin
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.text.unknown import unknown
from prunelab.export import FORMATS
from prunelab.oneshot.prune import prune
from prunelab.oneshot.report import Report

SAFETENSORS = "safetensors"


class Source(NamedTuple):
    """A network, and what it was made from."""

    net: nn.Module
    origin: Origin
    stem: str  # of the files that are made from it


def run(
    source: str, sizes: Sequence[int], to: str, output: Path | None, settings: Mapping[str, Any]
) -> tuple[Report, Path]:
    """Prunes, and writes the file whole or not at all. `settings` are arguments of `prune`."""
    net, origin, stem = load(source)
    example = torch.rand(sizes, generator=derived_generator("example", 0))
    try:
        small, report = prune(net, example, **settings)
    except EquivalenceError as error:
        raise ValueError(str(error)) from error
    path = output or Path(f"{stem}-pruned.{to}")
    if to == SAFETENSORS:
        file.save(path, small, origin.plan.then(report.plan), origin.name, origin.args)
    else:
        FORMATS[to](small, example, path)
    return report, path


def load(source: str) -> Source:
    """`module:function` of the user's own, which is called without arguments, or a model.safetensors of prunelab.

    Raises ValueError, with the remedy, for anything else; what the user's own code raises comes as it is.
    """
    if source.endswith(".pt2"):
        raise ValueError(
            f"{source}: torch.export.load unpickles what such a file holds, which can run any code, so prunelab does "
            "not read it: name the function that builds the network, as in module:function"
        )
    if source.endswith(f".{SAFETENSORS}"):
        net, origin = file.load(source), file.origin_of(source)
        assert origin is not None
        return Source(net, origin, Path(source).stem)
    module, separator, name = source.partition(":")
    if not (module and separator and name):
        raise ValueError(f"{source}: expected module:function, as torchvision.models:resnet18, or a model.safetensors")
    made = _attribute(module, name)
    net = made if isinstance(made, nn.Module) or not callable(made) else _called(source, made)
    if not isinstance(net, nn.Module):
        raise ValueError(f"{source} is a {type(net).__name__}: expected a network, or a function that returns one")
    return Source(net, Origin(Plan(), None, {}), name)


def _called(source: str, function: Callable[[], Any]) -> Any:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise ValueError(
            f"{source} takes arguments ({error}): name a function that takes none, as one of yours that calls it"
        ) from None
    return function()


def _attribute(module: str, name: str) -> Any:
    sys.path.insert(0, os.getcwd())  # where the user's own modules are
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):  # one that the user's module imports
            raise
        raise ValueError(f"{module}:{name}: there is no module {error.name} in {os.getcwd()}, nor installed") from None
    if not hasattr(found, name):
        functions = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
        raise unknown(f"function of {module}", name, functions)
    return getattr(found, name)
