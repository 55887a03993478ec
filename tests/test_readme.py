"""The README is short, and every Python example of the documentation runs as it stands."""

import doctest
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torchvision
from pages import PAGES, ROOT, snippets
from small_nets import option_b
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import prunelab
import prunelab.core.pruner
from prunelab import Context, Criterion, Progress
from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.compact.file import save
from prunelab.models.resnet import resnet18
from prunelab.models.vgg import vgg11

README = ROOT / "README.md"
DOCS = ROOT / "docs"
WANDA = ROOT / "src" / "prunelab" / "criteria" / "wanda.py"
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]


class Linear(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 10)

    def forward(self, x):
        return self.layer(x)

    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().mean()

    def test_step(self, batch, batch_idx):
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


class RandomData(L.LightningDataModule):
    def scoring_batches(self, count, generator):
        return [(torch.randn(10, 10, generator=generator), torch.zeros(10, dtype=torch.long))] * count

    def test_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(40, 10), torch.randint(10, (40,))), 20)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 125


def test_the_readme_has_a_row_for_every_method() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", README.read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"\w+", row)}
    methods = {path.stem for path in (ROOT / "conf" / "prune").glob("*.yaml")}
    assert named == methods - {"scan", "sensitivity"}  # which are analyses


def test_the_example_of_one_call_prunes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.models, "resnet18", option_b)
    names: dict[str, Any] = {}
    exec(snippets(README)[0], names)
    assert names["small"].conv1.out_channels == 8
    assert "removed 0.5 of units" in capsys.readouterr().out


def test_the_example_of_another_lightning_project_runs_and_prunes() -> None:
    module = Linear()
    loader = DataLoader(TensorDataset(torch.randn(40, 10)), 10)
    exec(snippets(README)[1], {"your_module": module, "your_loader": loader})
    assert module.layer.weight.eq(0).sum() == 80


def test_the_pruners_own_example_holds() -> None:
    assert doctest.testmod(prunelab.core.pruner).failed == 0


def test_the_engineers_script_runs_as_it_stands(tmp_path: Path) -> None:
    script, export, *_ = snippets(DOCS / "engineer.md")
    names: dict[str, Any] = {}
    exec(script, names)
    assert sum(p.numel() for p in names["small"].parameters()) < 0.5 * sum(
        p.numel() for p in names["network"]().parameters()
    )
    pytest.importorskip("onnxruntime", reason="ONNX needs onnxruntime: pip install 'prunelab[export]'")
    exec(export, names)
    assert {path.suffix for path in tmp_path.glob("small.*")} == {".safetensors", ".onnx", ".pt2"}


def test_the_engineers_own_training_loop_prunes() -> None:
    names: dict[str, Any] = {}
    *_, loop, images = snippets(DOCS / "engineer.md")
    exec(loop, names)
    assert names["net"].weight.eq(0).sum() == 80
    exec(images, names)
    assert names["labels"].shape == (100,)


@pytest.mark.parametrize("size", [pytest.param(224, marks=pytest.mark.slow), 32])
def test_the_page_of_one_call_runs_as_it_stands(
    size: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a smaller network and images in place of ResNet-50 at 224x224, which takes minutes."""
    pytest.importorskip("onnxruntime", reason="ONNX needs onnxruntime: pip install 'prunelab[export]'")
    if size == 32:
        monkeypatch.setattr(torchvision.models, "resnet50", option_b)
    *plain, one_line, methods = snippets(DOCS / "one_call.md")
    names: dict[str, Any] = {}
    for example in plain:
        exec(example.replace("224", str(size)), names)
    assert "Certificate: on 2 inputs" in capsys.readouterr().out
    assert [names[name][0].out_channels for name in ("net", "again")] == [4, 2]  # of 16: a fifth thrice, half, half
    exec(one_line, names)
    assert [type(callback) for callback in names["callbacks"]] == [prunelab.Pruning]
    exec(methods, names)


def test_the_profile_example_prints_tables(capsys: pytest.CaptureFixture[str]) -> None:
    small, dense = nn.Linear(10, 5), nn.Linear(10, 10)
    exec(snippets(DOCS / "profile.md")[0], {"small": small, "dense": dense, "images": torch.randn(2, 10)})
    assert "BOPs" in capsys.readouterr().out


def test_the_export_example_writes_both_files(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs onnxruntime: pip install 'prunelab[export]'")
    exec(snippets(DOCS / "export.md")[0], {"net": nn.Linear(10, 5), "example": torch.randn(2, 10)})
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", "net.pt2"}


def test_the_compact_example_reads_one_tensor() -> None:
    net = vgg11()
    names: dict[str, Any] = {"net": net}
    exec(snippets(DOCS / "compact.md")[0], names)
    assert torch.equal(names["weight"], net.fc.weight)


def test_the_channels_example_loads_the_file_of_a_job() -> None:
    (example,) = snippets(DOCS / "channels.md")
    path = Path(re.search(r'"(.*)"', example)[1])
    path.parent.mkdir(parents=True)
    save(path, resnet18(), Plan(), "resnet.resnet18", {"num_classes": 10})
    names: dict[str, Any] = {}
    exec(example, names)
    assert isinstance(names["net"], nn.Module)


def test_the_rule_and_the_criterion_of_ones_own_prune() -> None:
    names: dict[str, Any] = {}
    for example in snippets(DOCS / "own_parts.md"):
        exec(example, names)
    net, pruner = names["Net"](), names["pruning"].pruner
    pruner.attach(net, torch.randn(2, 3, 8, 8))
    pruner.update(Progress(step=99, total=100, epoch=10))
    assert {name: int(kept.sum()) for name, kept in pruner.keep.items()} == {"first.weight": 8}
    images = torch.randn(2, 3, 8, 8)
    masked = net(images)
    shrink(net, pruner.granularity.plan(pruner.keep))
    assert net.second.weight.shape[1] == 8
    torch.testing.assert_close(net(images), masked)


def test_the_distillation_example_runs() -> None:
    x, net, teacher = torch.randn(4, 10), nn.Linear(10, 5), nn.Linear(10, 5)
    names: dict[str, Any] = {"x": x, "net": net, "teacher": teacher, "y": torch.arange(4)}
    exec(next(code for code in snippets(DOCS / "methods.md") if "Distillation" in code), names)
    assert names["loss"].requires_grad


def test_the_scan_example_finds_a_knee() -> None:
    (example,) = snippets(DOCS / "scan.md")
    names: dict[str, Any] = {"your_module": Linear(), "your_datamodule": RandomData()}
    exec(example, names)
    assert names["scan"].result["n"] == 40


def test_the_contributors_criterion_scores_weights() -> None:
    example, _ = snippets(ROOT / "CONTRIBUTING.md")
    names: dict[str, Any] = {"dataclass": dataclass, "Criterion": Criterion, "Context": Context, "Scores": dict}
    exec(example, names)
    params = {"w": nn.Parameter(torch.tensor([-2.0]))}
    assert names["Norm"]()(Context(nn.Module(), params, torch.Generator()))["w"].tolist() == [2.0]


def test_the_contributors_criterion_of_activations_is_the_one_that_there_is() -> None:
    _, example = snippets(ROOT / "CONTRIBUTING.md")
    shown = [line for line in example.splitlines() if line.strip()]
    assert [line for line in WANDA.read_text().splitlines() if line in shown] == shown


def test_every_example_is_run_by_a_test_above() -> None:
    counts = {page.name: len(snippets(page)) for page in PAGES if snippets(page)}
    # those of your_own.md by tests/test_your_own.py, that of job.md by tests/lit/test_saved_network.py
    once = ("methods.md", "profile.md", "export.md", "compact.md", "channels.md", "scan.md", "job.md")
    several = {"README.md": 2, "CONTRIBUTING.md": 2, "engineer.md": 4, "own_parts.md": 2}
    several |= {"one_call.md": 9, "your_own.md": 2}
    assert counts == several | dict.fromkeys(once, 1)
