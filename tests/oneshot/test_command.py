"""`python -m prunelab prune`: the file is whole or not there, and nothing of others is unpickled."""

import sys
from pathlib import Path

import pytest
import torch

import prunelab
from prunelab.__main__ import main
from prunelab.compact.file import origin_of
from prunelab.models.cifar_resnet import resnet8

MINE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )

class Written(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Conv2d(3, 8, 1), nn.Linear(512, 2)

    def forward(self, x):
        return self.head(self.a(x).view(-1, 512))

def wide(width, *, depth=1):
    return build()

number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a module of the user's own, which other tests do not see."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def command(net: str, *args: str) -> int:
    return main(["prune", net, "--example", "1,3,8,8", "--rate", "0.5", *args])


def test_a_function_of_ones_own_is_pruned_to_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("mine:build", "--budget", "macs", "--to", "safetensors") == 0
    assert capsys.readouterr().out.endswith("\n\nbuild-pruned.safetensors\n")
    from mine import build

    small = prunelab.load(folder / "build-pruned.safetensors", into=build())
    expected, _ = prunelab.prune(build(), torch.zeros(1, 3, 8, 8), rate=0.5, budget="macs")
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(small(x), expected.eval()(x))


def test_the_exported_program_computes_what_the_small_network_does(folder: Path) -> None:
    assert command("mine:build", "--skip", "2.*", "--to", "pt2", "--output", "deep/small.pt2") == 0
    from mine import build

    expected, _ = prunelab.prune(build(), torch.zeros(1, 3, 8, 8), rate=0.5, skip=["2.*"])
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(torch.export.load("deep/small.pt2").module()(x), expected.eval()(x))


def test_a_file_of_prunelab_is_pruned_further_and_still_rebuilds_itself(folder: Path) -> None:
    torch.manual_seed(0)
    net = resnet8()
    small, report = prunelab.prune(net, torch.zeros(1, 3, 32, 32), rate=0.25)
    prunelab.save("model.safetensors", small, report.plan, "cifar_resnet.resnet8", {})
    assert main(["prune", "model.safetensors", "--example", "1,3,32,32", "--rate", "0.5", "--to", "safetensors"]) == 0
    smaller = prunelab.load("model-pruned.safetensors")
    expected, further = prunelab.prune(small, torch.zeros(1, 3, 32, 32), rate=0.5)
    origin = origin_of("model-pruned.safetensors")
    assert origin is not None
    assert origin.plan.to_json() == report.plan.then(further.plan).to_json()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(smaller(x), expected.eval()(x))


WRONG = {
    "mine:bild": "function of mine='bild': did you mean build?",
    "mine:nothere": "function of mine='nothere': there are: Written, build, wide\n",
    "theirs:build": "there is no module theirs in",
    "mine:number": "mine:number is a int: expected a network",
    "mine:wide": "mine:wide takes arguments (missing a required argument: 'width'): name a function that takes none",
    "mine": "expected module:function",
    "net.pt2": "torch.export.load unpickles what such a file holds",
    "absent.safetensors": "absent.safetensors: not a complete safetensors file",
    "mine:Written": "",  # by the certificate, or before
}


@pytest.mark.parametrize(("net", "message"), WRONG.items(), ids=WRONG)
def test_an_error_is_one_line_and_leaves_no_file(
    net: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.pt2").write_bytes(b"")
    before = {path.name for path in folder.iterdir()}
    assert command(net, "--to", "pt2") == 2
    error = capsys.readouterr().err
    assert error.startswith("prunelab prune: ")
    assert message in error
    assert error.count("\n") == 1
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == before


def test_an_impossible_shape_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for shape in ("1,3,x", "1,0,8", "", "1,-3"):
        with pytest.raises(SystemExit):
            main(["prune", "mine:build", "--example", shape, "--rate", "0.5", "--to", "pt2"])
        assert "is no shape: expected sizes such as 1,3,224,224" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("mine.py", "--output mine.py: expected a name that ends in .safetensors"),
        ("own.safetensors", "--output own.safetensors: this is the source itself; choose another name"),
        ("link.safetensors", "--output link.safetensors: this is the source itself; choose another name"),
        ("job/model.safetensors", "--output job/model.safetensors: this is the network that a job has tested; choose"),
    ],
)
def test_no_output_overwrites_the_source_or_a_tested_network(
    output: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prunelab.save("own.safetensors", resnet8(), None, "cifar_resnet.resnet8", {})
    (folder / "link.safetensors").symlink_to("own.safetensors")
    (folder / "job").mkdir()
    for name in ("job.json", "model.safetensors"):
        (folder / "job" / name).write_text("kept")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    arguments = ["--example", "1,3,32,32", "--rate", "0.5", "--to", "safetensors", "--output", output]
    assert main(["prune", "own.safetensors", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"prunelab prune: {message}")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
