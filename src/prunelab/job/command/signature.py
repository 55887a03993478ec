"""What a class or function takes, read from its source: to import it may take seconds."""

import ast
import sys
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path


@cache
def takes(target: str) -> tuple[str, ...] | None:
    """The names of the arguments of "package.module.name"; None where the source does not say, or takes any."""
    module, _, name = target.rpartition(".")
    spec = _spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        found = _found(ast.parse(Path(spec.origin).read_bytes()), name)
    except SyntaxError:  # told when it is imported
        return None
    if isinstance(found, ast.ImportFrom):
        return _from_elsewhere(found, name, spec)
    if isinstance(found, ast.FunctionDef) and not found.decorator_list:
        return _arguments(found)
    return _of_class(found, module) if isinstance(found, ast.ClassDef) else None


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is, without its packages being imported."""
    spec, where, path = None, "", sys.path
    for part in module.split("."):
        where = f"{where}.{part}" if where else part
        spec = PathFinder.find_spec(where, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


def _found(tree: ast.Module, name: str) -> ast.stmt | None:
    """The last statement at the top of a file that gives `name` its meaning."""
    return next((node for node in reversed(tree.body) if name in _names(node)), None)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []


def _from_elsewhere(node: ast.ImportFrom, name: str, spec: ModuleSpec) -> tuple[str, ...] | None:
    original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
    package = spec.name if spec.submodule_search_locations else spec.name.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    parts = [package] * bool(node.level) + [node.module] * bool(node.module) + [original]
    return takes(".".join(filter(None, parts)))


def _arguments(function: ast.FunctionDef, bound: int = 0) -> tuple[str, ...] | None:
    """Without the first, if it is `bound`."""
    given = function.args
    if given.kwarg:
        return None
    return tuple(argument.arg for argument in [*given.posonlyargs, *given.args][bound:] + given.kwonlyargs)


def _of_class(node: ast.ClassDef, module: str) -> tuple[str, ...] | None:
    """By its __init__, else by its only base, and its fields if it is a dataclass."""
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    decorators = {ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list}
    bases = [ast.unparse(base) for base in node.bases if ast.unparse(base) != "ABC"]
    if "__new__" in methods or node.keywords or len(bases) > 1 or decorators - {"dataclass"}:
        return None
    if "__init__" in methods:
        return _arguments(methods["__init__"], bound=1)
    inherited = takes(f"{module}.{bases[0]}") if bases else ()
    if inherited is None:
        return None
    return (*inherited, *(field for field in _fields(node) if field not in inherited)) if decorators else inherited


def _fields(dataclass: ast.ClassDef) -> list[str]:
    annotated = [item for item in dataclass.body if isinstance(item, ast.AnnAssign)]
    own = [item.target for item in annotated if not ast.unparse(item.annotation).startswith("ClassVar")]
    return [target.id for target in own if isinstance(target, ast.Name)]
