"""A built wheel is complete: the command works with it from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pages import ROOT, files


@pytest.mark.slow
def test_a_wheel_contains_the_configuration_and_trains_from_any_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    site = tmp_path / "site"
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    process = subprocess.run(
        [sys.executable, "-m", "train", "--info", "searchpath", "prune=sp", "rate=0.5"],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(site / "prunelab" / "conf") in process.stdout
    named = "import prunelab; print(prunelab.method('rigl', rate=0.9)[0].pruner.schedule.rate, prunelab.__file__)"
    process = subprocess.run(
        [sys.executable, "-c", named],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.split() == ["0.9", str(site / "prunelab" / "__init__.py")]
    for name, content in files(ROOT / "docs" / "your_own.md").items():
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text(content)
    quick = ["hydra.launcher.jobs=2", "trainer=cpu", "logger=none", "precision=32-true"]
    subprocess.run(
        [sys.executable, "-m", "prunelab.train", "-m", "--config-dir", "mine", "experiment=first", *quick],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site), "PRUNELAB_CACHE": str(tmp_path / "cache")},
        check=True,
    )
    assert len(list(elsewhere.glob("outputs/first/*/result.json"))) == 2
    assert (site / "hydra_plugins" / "prunelab.py").exists()
    assert not (site / "hydra_plugins" / "__init__.py").exists()  # other distributions share this namespace
    assert (site / "prunelab" / "conf" / "hydra" / "sweeper" / "optuna.yaml").exists()
    assert all((site / "prunelab" / "report" / "html" / f"page.{part}").exists() for part in ("html", "css", "js"))
    assert sorted(p.name for p in (site / "prunelab" / "conf" / "prune").glob("*.yaml")) == sorted(
        p.name for p in (ROOT / "conf" / "prune").glob("*.yaml")
    )
