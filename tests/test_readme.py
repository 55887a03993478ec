"""What the documentation shows runs as it stands."""

import doctest
import re
from pathlib import Path

import lightning as L
import pytest
import torch
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
