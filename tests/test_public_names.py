"""Public names of `prunelab`: lazy, and the same at run time and for type checkers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import prunelab


@pytest.mark.parametrize("name", prunelab.HOMES)
def test_a_public_name_is_defined_in_its_home_module(name: str) -> None:
    assert getattr(prunelab, name).__module__ == prunelab.HOMES[name]


def test_a_type_checker_sees_the_same_names() -> None:
    tree = ast.parse(Path(prunelab.__file__).read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in typed.body if isinstance(node, ast.ImportFrom)]
    assert {alias.asname: node.module for node in imports for alias in node.names} == prunelab.HOMES


def test_importing_the_package_brings_no_framework() -> None:
    code = "import sys, prunelab; print([m for m in ('torch', 'lightning', 'rich') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Prunning'"):
        prunelab.Prunning  # noqa: B018
