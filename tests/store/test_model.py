"""The network loaded from a job's folder is the one that its result describes."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

import prunelab
from prunelab.__main__ import VALUES, main
from prunelab.compact import quantize
from prunelab.data.normalise import Normalise
from prunelab.store.model import load_run, with_example

Trained = Callable[..., Path]
Compose = Callable[..., Any]
Capture = pytest.CaptureFixture[str]
Change = Callable[[Path], object]
METHODS = (
    "prune=none",
    "prune=usp rate=0.5",
    "prune=sp rate=0.5",
    "prune=binary rate=0.5 prune.binarize.skip=['net.fc.*']",
    "prune=binary prune.binarize.stochastic=true",
    "prune=usp rate=0.5 model=keras_cnn model.dense_dropout=0.1",
)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_has_the_loss_and_accuracy_of_the_result(method: str, trained: Trained, composed: Compose) -> None:
    folder = trained(*method.split())
    last = json.loads((folder / "result.json").read_text())["history"][-1]
    splits = instantiate(composed(*method.split()).data).load()
    x, y = Normalise(splits.mean, splits.std)(splits.test.x), splits.test.y
    net = load_run(folder)
    assert not any(module.training for module in net.modules())
    with torch.no_grad():
        logits = net(x)
    assert F.cross_entropy(logits, y).item() == pytest.approx(last["test_loss"], rel=1e-5)
    assert (logits.argmax(1) == y).float().mean().item() == pytest.approx(last["test_acc"])


def test_images_of_another_size_are_those_of_the_whole_job(trained: Trained) -> None:
    folder = trained("prune=sp", "rate=0.5", "data.size=48")
    result = json.loads((folder / "result.json").read_text())
    assert result["data"]["shape"] == [3, 48, 48]
    assert result["surgery"]["certificate"]
    net, example = with_example(folder)
    assert example.shape == (2, 3, 48, 48)
    head = sum(p.numel() for p in net.fc.parameters()) - len(net.fc.bias)
    square = json.loads((trained("prune=sp", "rate=0.5") / "result.json").read_text())
    assert (result["cost"]["pruned"]["macs"] - head) == (square["cost"]["pruned"]["macs"] - head) * 9 // 4


@pytest.mark.parametrize("shape", [[3, 32], [3, 32, 10**9], [3, 0, 32], "big", [3, 32.0, 32]])
def test_a_result_that_claims_impossible_images_is_refused(shape: Any, trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained("prune=sp", "rate=0.5"), tmp_path / "job")
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    result["data"]["shape"] = shape
    (tmp_path / "job" / "result.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match="its images have the shape .*; expected three sizes"):
        with_example(tmp_path / "job")


@pytest.mark.parametrize(("method", "form"), [("prune=usp", "pt2"), ("prune=sp", "onnx")])
def test_a_job_is_exported_beside_its_result(
    method: str, form: str, trained: Trained, tmp_path: Path, capsys: Capture
) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="ONNX needs onnxruntime: pip install 'prunelab[export]'")
    shutil.copytree(trained(method, "rate=0.5"), tmp_path / "job")
    before = set(tmp_path.rglob("*"))
    assert main(["export", str(tmp_path / "job"), "--to", form]) == 0
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "job" / f"model.{form}"}
    assert capsys.readouterr().out.endswith(f"{tmp_path}/job/model.{form}\n")


def rewritten(**changes: Any) -> Change:
    return lambda job: (job / "result.json").write_text(
        json.dumps(json.loads((job / "result.json").read_text()) | changes)
    )


FAULTS: dict[str, tuple[Change, str]] = {
    "absent": (lambda job: (job / "result.json").unlink(), "result.json: no such file, the job is interrupted: finish"),
    "cut short": (lambda job: (job / "result.json").write_text('{"schema": 1,'), "result.json is damaged (Expecting"),
    "no object": (
        lambda job: (job / "result.json").write_text("[]"),
        "result.json is damaged (expected an object, not list)",
    ),
    "incomplete": (rewritten(cost={}), "result.json is damaged (KeyError('dense')): the command that began the job"),
    "newer": (rewritten(schema=2), "result.json: schema 2 is newer than 1: update prunelab"),
    "no model": (
        lambda job: (job / "model.safetensors").unlink(),
        "model.safetensors: no such file; older jobs have none",
    ),
    "bad model": (
        lambda job: (job / "model.safetensors").write_bytes(b"x"),
        "model.safetensors: not a complete",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_job_that_cannot_be_exported_is_an_error_in_one_line(
    fault: str, trained: Trained, tmp_path: Path, capsys: Capture
) -> None:
    folder = shutil.copytree(trained("prune=none"), tmp_path / "job")
    change, message = FAULTS[fault]
    change(folder)
    before = set(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["export", str(folder), "--to", "pt2"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"prunelab export: {folder}/")
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert set(tmp_path.rglob("*")) == before
    with pytest.raises(ValueError):
        main(["export", str(folder), "--to", "pt2", "--traceback"])


def test_a_failed_job_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "failure.json").write_text('{"reason": "ValueError: lr"}')
    with pytest.raises(ValueError, match=r"the job is failed \(ValueError: lr\): finish it"):
        load_run(tmp_path)
    (tmp_path / "study").mkdir()
    with pytest.raises(ValueError, match=r"study is no job's folder: `python -m prunelab ls` lists"):
        load_run(tmp_path / "study")
    with pytest.raises(ValueError, match=r"nowhere: no such folder; give a finished job's"):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize("values", ["float32", "float16", "int8"])
@pytest.mark.parametrize("method", ["prune=usp", "prune=sp"])
def test_a_job_is_written_again_as_a_compact_file(
    method: str, values: str, trained: Trained, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(trained(method, "rate=0.5"), tmp_path / "job")
    model, path = tmp_path / "job" / "model.safetensors", tmp_path / "job" / f"model-{values}.safetensors"
    assert main(["export", str(tmp_path / "job"), "--to", "compact", "--values", values]) == 0
    size, error = re.search(r"([\d,]+) bytes .* off by (\S+) of the largest\n$", capsys.readouterr().out).groups()
    assert int(size.replace(",", "")) == path.stat().st_size
    net, again = load_run(tmp_path / "job"), prunelab.load(path)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        difference = float((again(x) - net(x)).abs().max() / net(x).abs().max())
    assert (difference == float(error) == 0) if values == "float32" else 0 < difference < 0.1
    assert path.stat().st_size < {"float32": 1.05, "float16": 0.7, "int8": 0.6}[values] * model.stat().st_size
    for name, p in net.named_parameters():
        assert torch.equal(p == 0, again.get_parameter(name) == 0)


def test_the_tested_network_of_a_job_is_not_written_over(
    trained: Trained, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained("prune=none"), job := tmp_path / "job")
    before = (job / "model.safetensors").read_bytes()
    (job / "masks").mkdir(exist_ok=True)
    monkeypatch.chdir(job / "masks")
    for output, message in (
        (job / "model.safetensors", "this is the network that a job has tested; choose another name"),
        (job / "result.json", "expected a name that ends in .safetensors"),
        (job / "Model.SAFETENSORS", "this is the network that a job has tested"),  # the same file on some systems
        (Path("last.safetensors"), "this folder has the masks of a job; choose another one"),
    ):
        assert main(["export", str(job), "--to", "compact", "--values", "int8", "--output", str(output)]) == 2
        assert message in capsys.readouterr().err
    assert (job / "model.safetensors").read_bytes() == before


def test_only_compact_files_take_values(trained: Trained, capsys: Capture) -> None:
    assert main(["export", str(trained("prune=none")), "--to", "pt2", "--values", "int8"]) == 2
    assert "--values int8: only compact files round weights" in capsys.readouterr().err


def test_the_command_knows_the_values_of_compact_files() -> None:
    assert VALUES == quantize.VALUES
