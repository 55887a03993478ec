"""Imports flow one way, and composing a configuration brings neither torch nor Lightning."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import prunelab

ROOT = Path(prunelab.__file__).parent
# For each folder: what its files may import of prunelab, besides themselves, and of the frameworks.
MAY = {
    "core": (set(), {"torch"}),
    "criteria": ({"core"}, {"torch"}),
    "measure": ({"core"}, {"torch", "rich"}),
    "channels": ({"core", "measure"}, {"torch"}),
    "compact": ({"core", "channels", "models"}, {"torch", "numpy", "safetensors"}),
    "models": ({"core"}, {"torch"}),
    "data": ({"core"}, {"torch", "torchvision", "numpy", "PIL", "safetensors", "tqdm"}),
    "callbacks": ({"core", "criteria", "channels", "measure"}, {"torch", "lightning"}),
    "lit": ({"core", "data", "measure"}, {"torch", "lightning", "torchmetrics"}),
    "export": ({"core"}, {"torch", "onnx", "onnxscript", "onnxruntime"}),
    "report": ({"core"}, {"altair", "vl_convert", "rich", "numpy", "safetensors"}),
    "runs": (
        {"core", "channels", "compact", "data", "measure", "models", "callbacks", "lit", "report", "__main__"},
        {"torch", "lightning", "hydra", "omegaconf", "safetensors", "rich", "tensorboard", "google"},
    ),
}
FILES = sorted(path for folder in MAY for path in (ROOT / folder).glob("*.py"))


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_file_imports_only_what_its_folder_may(path: Path) -> None:
    ours, theirs = MAY[path.parent.name]
    for module in imported(path):
        top, _, rest = module.partition(".")
        if top == "prunelab":
            assert rest == "" or rest.split(".")[0] in ours | {path.parent.name}, module
        elif top not in sys.stdlib_module_names:
            assert top in theirs, module


def test_every_folder_is_in_the_table() -> None:
    assert {path.parent.name for path in ROOT.glob("*/*.py")} == set(MAY)


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
