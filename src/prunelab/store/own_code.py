"""The user's own modules that a job's classes come from: their content, so that a change of them is seen."""

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prunelab.store.identity import content

KNOWN = {"prunelab", "torch", "torchvision", "lightning"}  # whose code has a version; yours may change without one


def own_code(values: Mapping[str, Any]) -> dict[str, str]:
    """By `_target_` ("mine.nets.Net"): 16 hexadecimal digits for its module, where that is of no KNOWN package.

    Taken once by each process, which imports a module once; call it before that. Modules that it imports are not
    looked at.
    """
    found = {target: _content(target) for target in sorted(set(targets(values)))}
    return {target: digest for target, digest in found.items() if digest}


def is_own(target: str) -> bool:
    """Whether a `_target_` is of no package whose version is kept, nor of Python."""
    return target.partition(".")[0] not in KNOWN | sys.stdlib_module_names | {"__main__"}


def targets(node: Any, key: str = "") -> Iterator[str]:
    """Every `_target_` in a configuration, plain or by dotted key."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from targets(child, str(name))
    elif isinstance(node, list):
        for child in node:
            yield from targets(child)
    elif key.endswith("_target_"):
        yield str(node)


@cache
def _content(target: str) -> str | None:
    """Of the module that `target` is defined in or imported by; found without importing it."""
    top, *rest = parts = target.split(".")
    if not is_own(target) or not all(map(str.isidentifier, parts)):
        return None
    try:
        spec = find_spec(top)
        if spec is None:
            return None
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        file = Path(spec.origin) if spec.has_location and spec.origin else None
        for part in rest:
            if here := next((folder / f"{part}.py" for folder in folders if (folder / f"{part}.py").is_file()), None):
                return content(here)
            folders = [folder / part for folder in folders if (folder / part).is_dir()]
            inits = [folder / "__init__.py" for folder in folders if (folder / "__init__.py").is_file()]
            file = inits[0] if inits else file
        return content(file) if file else None
    except (ImportError, ValueError, OSError):  # whoever makes the object says so
        return None
