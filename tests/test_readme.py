"""What the documentation shows runs as it stands."""

import doctest
import re
import shlex
from pathlib import Path

import lightning as L
import pytest
import torch
from compose import compose_job
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from torch.utils.data import DataLoader, TensorDataset

import prunelab.core.pruner

README = Path(__file__).parents[1] / "README.md"


class Stranger(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(10, 10)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*")
def test_the_example_of_another_lightning_project_runs_and_prunes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert example
    module = Stranger()
    exec(example[1], {"your_module": module, "your_loader": DataLoader(TensorDataset(torch.randn(40, 10)), 10)})
    assert module.layer.weight.eq(0).sum() == 80


def test_the_pruners_own_example_holds() -> None:
    assert doctest.testmod(prunelab.core.pruner).failed == 0


def test_the_readme_names_every_option_of_every_group() -> None:
    text = README.read_text()
    conf = README.parent / "conf"
    for group in ("prune", "retrain", "data", "optim", "optim/schedule", "trainer", "logger"):
        for option in (conf / group).glob("*.yaml"):
            assert f"`{option.stem}`" in text or f"={option.stem}`" in text, f"{group}={option.stem}"


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*")
def test_the_engineers_script_runs_as_it_stands(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    script, export = re.findall(r"```python\n(.*?)```", (README.parent / "docs" / "engineer.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(script, names)
    assert sum(p.numel() for p in names["small"].parameters()) < 0.5 * sum(
        p.numel() for p in names["network"]().parameters()
    )
    pytest.importorskip("onnxruntime", reason="ONNX needs onnxruntime: pip install 'prunelab[export]'")
    exec(export, names)
    assert {path.suffix for path in tmp_path.glob("small.*")} == {".safetensors", ".onnx", ".pt2"}


PAGES = [README, README.parent / "CONTRIBUTING.md", *sorted((README.parent / "docs").glob("*.md"))]
PLACES = re.compile(r"\b(DIR|PATH|FILE|RUN|<method>|<part>)\b|<\w+>")


def commands(page: Path) -> list[list[str]]:
    """The words after `python -m train` in each line of code, without those that stand for something else."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^ {4}python -m train (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines if "--" not in line and not PLACES.search(line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_documentation_composes(page: Path, tmp_path: Path) -> None:
    for words in commands(page):
        asked = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
        first = [f"{o.input_line.split('=')[0]}={one(o)}" for o in asked if not o.key_or_group.startswith("hydra")]
        compose_job(first, tmp_path)


def one(override: Override) -> str:
    """The first value of a sweep, else what was asked."""
    if not override.is_sweep_override():
        return override.input_line.partition("=")[2]
    return str(next(iter(override.sweep_string_iterator()))) if not override.is_interval_sweep() else "0.5"
