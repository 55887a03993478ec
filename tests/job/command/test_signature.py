"""What a class takes is read from its source as Python would say it."""

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from prunelab.job.command.signature import takes
from prunelab.job.conf import conf_dir

OWN = """
from abc import ABC
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from torch.optim import AdamW as Adam

@dataclass
class Root(ABC):
    a: int
    shared: ClassVar[int] = 1

@dataclass(frozen=True)
class Leaf(Root):
    b: int = 0

class Late(Leaf):
    def __init__(self, c, *, d=1): ...

class Open:
    def __init__(self, **anything): ...

class Two(Leaf, Open): ...

@cache
def wrapped(a): ...
"""


def targets() -> list[str]:
    found = [re.findall(r"_target_: *(prunelab[\w.]+)", path.read_text()) for path in conf_dir().rglob("*.yaml")]
    return sorted({target for targets in found for target in targets})


@pytest.mark.parametrize("target", [*targets(), "torch.optim.SGD", "torch.optim.lr_scheduler.StepLR"])
def test_what_the_source_says_is_what_python_says(target: str) -> None:
    module, _, name = target.rpartition(".")
    real = inspect.signature(getattr(import_module(module), name)).parameters
    if (known := takes(target)) is not None:
        assert set(known) == set(real)


def test_classes_of_yaml_files_say_what_they_take() -> None:
    silent = [target for target in targets() if takes(target) is None]
    assert silent == ["prunelab.callbacks.soft_pruning.SoftPruning", "prunelab.tensorboard.logger.EpochLogger"]


def test_inheritance_imports_and_what_cannot_be_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts.py").write_text(OWN)
    (tmp_path / "broken_parts.py").write_text("def f(:")
    monkeypatch.syspath_prepend(tmp_path)
    assert takes("own_parts.Leaf") == ("a", "b")
    assert takes("own_parts.Late") == ("c", "d")
    assert "betas" in (takes("own_parts.Adam") or ())
    for name in ("own_parts.Open", "own_parts.Two", "own_parts.wrapped", "own_parts.Nothing", "broken_parts.f", "no.X"):
        assert takes(name) is None, name
    assert "own_parts" not in sys.modules
