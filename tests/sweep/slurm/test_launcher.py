"""The batch script of a Slurm job."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="the Slurm launcher needs submitit")
from prunelab.sweep.slurm.launcher import _executor

pytestmark = pytest.mark.skipif(not shutil.which("srun"), reason="Slurm is not installed")


def test_a_job_finds_modules_where_the_command_does_and_then_where_the_setup_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "it's here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", "/mine")
    executor = _executor({"submitit_folder": str(tmp_path / "jobs"), "setup": ["export PYTHONPATH=/modules"]})
    setup = executor._executor.parameters["setup"]
    script = "\n".join([*setup, "echo $PYTHONPATH"])
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip().split(os.pathsep) == ["/mine", str(here), "/modules"]
    assert shlex.split(executor._executor.python)[1:] == ["-P"]
