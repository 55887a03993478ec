"""Imports flow one way, and composing a configuration brings neither torch nor Lightning."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import prunelab

SRC = Path(prunelab.__file__).parents[1]
# Lowest first: a file may import from its own room and from those on lines above.
FLOORS = (
    {"core"},
    {"criteria", "measure", "models", "data", "export"},
    {"channels"},
    {"compact", "callbacks"},
    {"oneshot"},
    {"lit"},
    {"store"},
    {"tensorboard"},
    {"report"},
    {"job"},
    {"sweep"},
    {"prunelab", "prunelab.train", "prunelab.__main__", "hydra_plugins"},
    {"train"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# The frameworks that each room imports.
FRAMEWORKS = {
    "core": {"torch", "numpy"},
    "criteria": {"torch"},
    "measure": {"torch", "rich"},
    "models": {"torch", "torchvision", "timm"},
    "data": {"torch", "torchvision", "numpy", "PIL", "safetensors"},
    "export": {"torch", "onnxruntime"},
    "channels": {"torch"},
    "compact": {"torch", "numpy", "safetensors"},
    "oneshot": {"torch", "hydra", "omegaconf", "rich"},
    "callbacks": {"torch", "lightning"},
    "lit": {"torch", "lightning", "torchmetrics"},
    "store": {"torch"},
    "tensorboard": {"torch", "lightning", "tensorboard"},
    "report": {"altair", "vl_convert", "jinja2", "rich", "numpy", "safetensors"},
    "job": {"torch", "lightning", "hydra", "omegaconf", "safetensors"},
    "sweep": {"hydra", "omegaconf", "rich", "submitit", "hydra_plugins", "optuna"},
    "prunelab": set(),
    "prunelab.train": {"hydra", "omegaconf"},
    "prunelab.__main__": {"rich"},
    "hydra_plugins": {"hydra"},
    "train": set(),
}
FILES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SRC.rglob("*.py"))
}


def room(module: str) -> str:
    """The folder of a file: "core" of prunelab.core.numbers.selection; a file outside of folders is its own room."""
    top, *inside = module.split(".")
    if top != "prunelab":
        return top
    return inside[0] if inside and (SRC / top / inside[0]).is_dir() else module


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at any depth; for `from a import b` a.b, if that is a module."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names} & FILES.keys()
            modules |= whole or {node.module or ""}
    return modules


@pytest.mark.parametrize("module", FILES)
def test_a_file_imports_from_the_rooms_below_it_alone(module: str) -> None:
    here = room(module)
    for other in imported(FILES[module]):
        if other in FILES:
            assert room(other) == here or FLOOR[room(other)] < FLOOR[here], f"{module} imports {other}"


def test_no_files_import_each_other_in_a_circle() -> None:
    arrows = {module: imported(path) & FILES.keys() - {module} for module, path in FILES.items()}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_every_room_has_a_floor_and_uses_its_frameworks() -> None:
    used: dict[str, set[str]] = {room(module): set() for module in FILES}
    for module, path in FILES.items():
        tops = {other.partition(".")[0] for other in imported(path) - FILES.keys()}
        used[room(module)] |= tops - sys.stdlib_module_names
    assert used == FRAMEWORKS
    assert set(FLOOR) == set(FRAMEWORKS)


COMPLETE = {"COMP_LINE": "prunelab-train prune=", "COMP_POINT": "21"}


@pytest.mark.parametrize("args", [["--cfg", "job"], ["--help"], ["-sc", "query=bash"]])
def test_composing_does_not_import_torch(args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    code = (
        "import runpy, sys; sys.argv = ['train', *sys.argv[1:]]\n"
        "try: runpy.run_module('train', run_name='__main__')\n"
        "finally: print([m for m in ('torch', 'lightning', 'altair', 'optuna') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout
    assert done.stderr.strip().endswith("[]")
    assert list(tmp_path.iterdir()) == []
