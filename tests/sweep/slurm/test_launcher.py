"""What is submitted to Slurm, and how its jobs end, by commands that stand in for Slurm's."""

import os
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from compose import tiny_job
from forked import Command

pytest.importorskip("submitit", reason="the Slurm launcher needs submitit")
from submitit.core.utils import DelayedSubmission

from prunelab.store.lock import held
from prunelab.sweep.slurm.launcher import _executor

SBATCH = """
env > "$here/environment"
echo >> "$here/calls"; number=$(wc -l < "$here/calls")
[ "$number" -le "${ACCEPTED:-9}" ] || { echo "sbatch: error: too many jobs" >&2; exit 1; }
echo "Submitted batch job $number"
"""


@dataclass
class Pretended:
    """Slurm's commands, of which sbatch only says that it took a job: squeue then has none any more."""

    folder: Path

    def say(self, command: str, script: str) -> None:
        path = self.folder / command
        path.write_text(f"#!/bin/sh\nhere={self.folder}\n{script}\n")
        path.chmod(0o755)

    def train(self, *words: str, **environment: str) -> tuple[int, str]:
        """The exit status and output of a sweep that is handed to it."""
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        before = partial(exec, f"import os; os.environ.update({environment | {'PATH': path}})")
        command = Command("-m", "hydra/launcher=slurm", "name=s", *words, cwd=self.folder, before=before)
        return command.ended(), command.output

    def submitted(self) -> list[list[str]]:
        """The overrides of each job."""
        files = sorted(self.folder.glob("outputs/s/.submitit/*_submitted.pkl"))
        return [DelayedSubmission.load(path).args[0] for path in files]


@pytest.fixture
def pretended(tmp_path: Path) -> Pretended:
    slurm = Pretended(tmp_path)
    for command, script in {"sbatch": SBATCH, "squeue": "", "scontrol": "", "srun": ""}.items():
        slurm.say(command, script)
    return slurm


def test_a_job_has_the_folder_that_the_command_says(pretended: Pretended, tiny_images: Path) -> None:
    pretended.train(*tiny_job(tiny_images), "seed=0,1", "hydra.sweep.subdir='group/${hydra.job.num}'")
    assert [job[-1] for job in pretended.submitted()] == [f"hydra.sweep.subdir='group/{n}'" for n in (0, 1)]


def test_a_job_is_told_what_its_sweep_has_checked(pretended: Pretended, tiny_images: Path) -> None:
    pretended.train(*tiny_job(tiny_images), "seed=0,1")
    first, second = ([word for word in job if "env_set.PRUNELAB_PLANNED=" in word] for job in pretended.submitted())
    assert len(first) == len(second) == 1
    assert first != second


def test_arrays_are_as_long_as_slurm_takes_and_one_that_it_refuses_costs_the_others_nothing(
    pretended: Pretended, tiny_images: Path
) -> None:
    pretended.say("scontrol", "[ $2 != config ] || echo 'MaxArraySize            = 2'")
    status, output = pretended.train(*tiny_job(tiny_images), "seed=0,1,2,3,4", ACCEPTED="2")
    arrays = [path.read_text() for path in pretended.folder.glob("outputs/s/.submitit/*_submission.sh")]
    assert [text.count("--array=0-1%2") for text in arrays] == [1, 1]
    assert "4 jobs in Slurm" in output
    assert "seed=3  Slurm job 2_1" in output
    assert re.search(r"failed +seed=4 +sbatch: error: too many jobs", output)
    assert status == 1


def test_when_sbatch_refuses_all_jobs_the_command_says_why_in_a_line(pretended: Pretended, tiny_images: Path) -> None:
    status, output = pretended.train(*tiny_job(tiny_images), "seed=0,1", ACCEPTED="0")
    assert output.endswith("train: sbatch accepted no jobs: sbatch: error: too many jobs\n")
    assert status == 1


def test_jobs_of_a_command_that_is_a_job_itself_inherit_nothing_of_its_allocation(
    pretended: Pretended, tiny_images: Path
) -> None:
    mine = {"SLURM_CONF": "/etc/mine.conf", "SBATCH_ACCOUNT": "mine"}
    pretended.train(*tiny_job(tiny_images), "seed=0,1", SLURM_JOB_ID="3", SLURM_MEM_PER_CPU="100", **mine)
    lines = (pretended.folder / "environment").read_text().splitlines()
    assert {line for line in lines if line.startswith(("SLURM", "SBATCH"))} == {f"{k}={v}" for k, v in mine.items()}


def test_a_folder_that_takes_no_id_costs_the_other_jobs_nothing(pretended: Pretended, tiny_images: Path) -> None:
    study = pretended.folder / "outputs" / "s"
    study.mkdir(parents=True)
    (study / "seed=0").write_text("a file of this name")
    _, output = pretended.train(*tiny_job(tiny_images), "seed=0,1", "hydra.sweep.subdir='seed=${seed}'")
    assert "seed=0: another command would submit job 1_0 again" in output
    assert "2 jobs in Slurm" in output
    assert (study / "seed=1" / ".slurm.json").is_file()


def test_jobs_of_one_sweep_may_have_several_numbers_of_devices(pretended: Pretended, tiny_images: Path) -> None:
    asked = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1,2"]
    _, output = pretended.train(*(word for word in tiny_job(tiny_images) if not word.startswith("trainer")), *asked)
    assert "2 jobs in Slurm" in output
    scripts = [path.read_text() for path in pretended.folder.glob("outputs/s/.submitit/*_submission.sh")]
    tasks = sorted(re.findall(r"--ntasks-per-node=(\d)", "".join(scripts)))
    assert tasks == ["1", "2"]


def test_after_a_stop_nothing_is_submitted(pretended: Pretended, tiny_images: Path) -> None:
    """Here while another command submits."""
    path = f"{pretended.folder}{os.pathsep}{os.environ['PATH']}"
    before = partial(exec, f"import os; os.environ.update({{'PATH': {path!r}}})")
    with held(pretended.folder / "outputs" / "s" / ".submitting.lock"):
        words = ["-m", "hydra/launcher=slurm", "name=s", *tiny_job(tiny_images), "seed=0,1"]
        command = Command(*words, cwd=pretended.folder, before=before)
        command.until("another command is submitting jobs")
        command.send(signal.SIGINT)
        assert command.ended() == 128 + signal.SIGINT
    assert "2 jobs were not submitted" in command.output
    assert not pretended.submitted()


def test_a_search_resumes_trials_that_were_cancelled(pretended: Pretended, tiny_images: Path) -> None:
    pretended.say("scontrol", "[ $2 != job ] && [ $3 != job ] || echo 'JobState=CANCELLED ExitCode=0:15'")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "prune=usp", "rate=interval(0.2,0.9)"]
    for _ in range(2):
        status, output = pretended.train(*tiny_job(tiny_images), *search)
        assert output.endswith("train: 1 jobs were interrupted; the same command resumes them\n")
        assert status == 1
    first, again = pretended.submitted()
    assert first == again


@pytest.mark.skipif(not shutil.which("srun"), reason="Slurm is not installed")
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


@pytest.mark.skipif(not shutil.which("srun"), reason="Slurm is not installed")
def test_srun_is_told_of_no_setting_that_is_null_and_hands_the_environment_on(tmp_path: Path) -> None:
    asked = ["--cpus-per-task=None", "--kill-on-bad-exit=1"]
    parameters = _executor({"submitit_folder": str(tmp_path), "srun_args": asked})._executor.parameters
    assert parameters["srun_args"] == ["--kill-on-bad-exit=1"]
    script = "\n".join([*parameters["setup"], "echo ${SLURM_EXPORT_ENV:-all}"])
    environment = os.environ | {"SLURM_EXPORT_ENV": "NONE"}  # as sbatch sets it where SBATCH_EXPORT=NONE
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "all\n"
