"""The user's own modules that a job's classes come from: their content, so that a change of them is seen."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prunelab.store.identity import comparable, content

KNOWN = {"prunelab", "torch", "torchvision", "lightning"}  # whose code has a version; yours may change without one


def own_code(values: Mapping[str, Any]) -> dict[str, str]:
    """By file ("mine/net.py"): 16 hexadecimal digits for the module of each `_target_` that is not of KNOWN packages.

    Modules that these import are not looked at.
    """
    targets = {str(value) for key, value in values.items() if key.endswith("_target_")}
    found = dict(file for target in sorted(targets) if (file := _file(target.split("."))))
    return {name: content(path) for name, path in found.items()}


def changed_since(values: Mapping[str, Any], versions: Mapping[str, str | None]) -> list[str]:
    """The files of a job's own code that are no longer those of its `versions`; unknown ones, of before 0.2.0, are."""
    return [name for name, now in own_code(values).items() if versions.get(name, now) != now]


def own_network(values: Mapping[str, Any], versions: Mapping[str, str | None]) -> dict[str, str]:
    """Of a job's own code in its `versions`, what all methods share: jobs that differ in it do not compare."""
    used = [str(value).replace(".", "/") for key, value in comparable(values).items() if key.endswith("_target_")]
    files = {name: version for name, version in versions.items() if version and name.endswith(".py")}
    modules = {name: name.removesuffix(".py").removesuffix("/__init__") + "/" for name in files}
    return {name: v for name, v in files.items() if any(target.startswith(modules[name]) for target in used)}


def _file(target: list[str]) -> tuple[str, Path] | None:
    """The module that a class, or what is in it, is defined in or imported by; found without importing it."""
    try:
        spec = None if target[0] in KNOWN else find_spec(target[0])
    except (ImportError, ValueError):  # it says so when it is made
        return None
    if spec is None or not spec.has_location or not spec.origin:
        return None
    if not spec.submodule_search_locations:
        return f"{target[0]}.py", Path(spec.origin)
    folder, name = Path(spec.origin).parent, target[0]
    for part in target[1:]:
        if (file := folder / f"{part}.py").is_file():
            return f"{name}/{part}.py", file
        if not (folder / part / "__init__.py").is_file():
            break
        folder, name = folder / part, f"{name}/{part}"
    return f"{name}/__init__.py", folder / "__init__.py"
