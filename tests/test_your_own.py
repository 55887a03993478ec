"""The repository of docs/your_own.md runs as it is printed there, from a folder that is not prunelab's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compose import compose_job
from pages import ROOT, files

import prunelab
from prunelab.job.run import run

PAGE = ROOT / "docs" / "your_own.md"
QUICK = ["trainer=cpu", "logger=none", "precision=32-true"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its files, in the working folder."""
    for name, content in files(PAGE).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRUNELAB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_page_prints_every_file_of_its_listing() -> None:
    listing = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith(("    own_", "    mine/"))]
    assert list(files(PAGE)) == listing


def test_its_experiment_trains_and_the_small_network_loads_into_a_new_one(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(repository)
    where = f"hydra.searchpath=[{(repository / 'mine').as_uri()}]"
    run(compose_job([where, "experiment=first", "rate=0.5", *QUICK], repository / "job"))
    result = json.loads((repository / "job" / "result.json").read_text())
    assert result["labels"] == {"model": "net", "data": "few", "optim": "sgd"}
    assert result["method"] == "relative"
    assert result["values"]["callbacks.size._target_"] == "own_method.Size"
    assert "own_net.Net" in result["versions"]
    import own_net  # type: ignore[import-not-found]

    small = prunelab.load(repository / "job" / "model.safetensors", into=own_net.Net())
    assert small.layers[0].out_channels == 4
    assert small(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "start", [["-m", "train"], ["-P", "-m", "prunelab.train"]], ids=["python", "installed command"]
)
@pytest.mark.parametrize("where", [["--config-dir", "mine"], ["hydra.searchpath=[file://mine]"]], ids=["dir", "path"])
def test_its_study_runs_in_processes_of_their_own(start: list[str], where: list[str], repository: Path) -> None:
    command = ["-m", *where, "experiment=first", "hydra.launcher.jobs=2", *QUICK]
    subprocess.run([sys.executable, *start, *command], check=True)
    assert len(list(repository.glob("outputs/first/*/result.json"))) == 2
