"""The Slurm queue and preemption, tested with fake commands; no Slurm is needed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prunelab.job.processes import environments
from prunelab.store.folder import RunDir
from prunelab.store.json_file import write_json
from prunelab.store.lock import held
from prunelab.store.signals import StopRequest
from prunelab.sweep.slurm import queue as slurm
from prunelab.sweep.slurm.preemption import Preemption
from prunelab.sweep.slurm.queue import SlurmJobId

WHOLE = json.loads((Path(__file__).parents[2] / "store" / "result-0.1.0.json").read_text())


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the output of each Slurm command, a line per call, then nothing; at FAIL the call fails."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(slurm, "OFTEN", 0.0)
    for name in ("squeue", "scontrol"):
        script = f"""#!/bin/sh
        line=$(head -n 1 {tmp_path}/{name}.answers); sed -i 1d {tmp_path}/{name}.answers
        [ "$line" != FAIL ] || exit 1
        for word in $line; do echo "$word"; done"""
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
        (tmp_path / f"{name}.answers").touch()
    return tmp_path


def jobs(tmp_path: Path, *names: str) -> dict[SlurmJobId, RunDir]:
    return {SlurmJobId(name, "slurm.out"): RunDir(tmp_path / name) for name in names}


def test_a_job_is_over_when_two_answers_in_a_row_lack_it(answers: Path) -> None:
    (answers / "squeue.answers").write_text("7_0 7_1\n7_1\n7_0\n7_0\nFAIL\nFAIL\n7_0\n\n9\nthe end")
    waiting = jobs(answers, "7_0", "7_1")
    assert slurm.wait(waiting, StopRequest()) == set()
    assert (answers / "squeue.answers").read_text() == "the end"


def test_a_job_with_a_result_is_over_though_it_is_still_in_the_queue(answers: Path) -> None:
    (answers / "squeue.answers").write_text("7 8\n8\n\n\n")
    waiting = jobs(answers, "7")
    write_json(answers / "7" / "result.json", WHOLE)
    assert slurm.wait(waiting, StopRequest()) == set()
    assert (answers / "squeue.answers").read_text() == "8\n\n\n"


def test_a_job_that_squeue_does_not_list_and_scontrol_calls_pending_is_not_over(answers: Path, caplog) -> None:
    (answers / "squeue.answers").write_text("7\n\n\n\nthe end")
    (answers / "scontrol.answers").write_text("JobState=PENDING ExitCode=0:0\nJobState=TIMEOUT ExitCode=0:0\n")
    waiting = jobs(answers, "7")
    assert slurm.wait(waiting, StopRequest()) == set()
    assert (answers / "squeue.answers").read_text() == "the end"
    [failure] = [folder.failure() for folder in waiting.values()]
    assert failure is not None
    assert "TIMEOUT" in failure


def test_squeue_is_asked_for_all_jobs_whatever_the_user_has_set(answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    (answers / "squeue").write_text('#!/bin/sh\n[ -z "$SQUEUE_STATES" ] && [ "$1" = --all ] && echo "7|Priority"')
    assert slurm.active() == {"7": "Priority"}


def test_who_waits_to_submit_ends_at_a_stop(tmp_path: Path) -> None:
    stop = StopRequest()
    stop.request(signal.SIGINT)
    with held(tmp_path / ".submitting.lock"), slurm.submitting(tmp_path, stop):
        pass


def test_a_job_with_a_damaged_result_is_not_over(answers: Path) -> None:
    (answers / "squeue.answers").write_text("7 8\n8\n\nthe end")
    waiting = jobs(answers, "7")
    write_json(answers / "7" / "result.json", {"accuracy": 1})
    assert slurm.wait(waiting, StopRequest()) == set()
    assert (answers / "squeue.answers").read_text() == "the end"


def test_what_squeue_says_of_jobs_that_cannot_start_is_logged_once(answers: Path, caplog) -> None:
    stuck, held = "7_0|BadConstraints 7_1|BadConstraints 7_2|Priority 8|None", "7_1|BadConstraints 7_2|JobHeldUser"
    turn = "7_1|Priority 7_2|Priority"  # as it alternates with a limit of the user's own
    (answers / "squeue.answers").write_text(f"{stuck}\n{stuck}\nFAIL\n{held}\n{turn}\n{held}\n\n\n")
    assert slurm.wait(jobs(answers, "7_0", "7_1", "7_2", "8"), StopRequest()) == set()
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "Slurm does not start '7_[0-1]': BadConstraints",
        "Slurm does not start '7_[2]': JobHeldUser",
    ]


def test_a_job_that_is_over_is_named_by_what_differs_and_with_how_it_ended(answers: Path, caplog) -> None:
    folders = [RunDir(answers / f"prune=usp,rate={rate},data=shapes") for rate in (0, 0.2, 0.8)]
    write_json(folders[0].path / "result.json", WHOLE)
    (answers / "scontrol.answers").write_text("JobState=CANCELLED ExitCode=0:15\nJobState=FAILED ExitCode=1:0\n")
    with caplog.at_level("INFO"):
        slurm.wait({SlurmJobId(f"7_{n}", "slurm.out"): run for n, run in enumerate(folders)}, StopRequest())
    assert caplog.messages == [
        "rate=0  Slurm job 7_0 finished, 2 left",
        "rate=0.2  Slurm job 7_1 was cancelled, 1 left",
        "rate=0.8  Slurm job 7_2 failed, 0 left",
    ]


def test_a_stop_ends_the_wait(answers: Path) -> None:
    stop = StopRequest()
    stop.request(signal.SIGINT)
    waiting = jobs(answers, "7")
    assert slurm.wait(waiting, stop) == set(waiting)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("JobState=OUT_OF_MEMORY ExitCode=0:125 NodeList=n1", "OUT_OF_MEMORY, exit 0:125, on n1; see slurm.out"),
        ("FAIL", "state unknown, exit unknown, on no node"),
        ("JobState=CANCELLED ExitCode=0:15", None),
    ],
)
def test_failure_json_says_how_slurm_ended_a_job(answers: Path, state: str, reason: str | None) -> None:
    (answers / "scontrol.answers").write_text(state)
    job, folder = next(iter(jobs(answers, "7").items()))
    slurm.record_end(job, folder, StopRequest())
    failure = folder.read("failure.json")
    assert (reason in failure["reason"]) if reason and failure else failure is None


@pytest.mark.parametrize(
    ("names", "command"),
    [(["7"], "scancel 7"), (["7", "9_4", "9_1", "9_2", "9_0"], "scancel 7 '9_[0-2,4]'"), (["9_3"], "scancel '9_[3]'")],
)
def test_the_command_cancels_these_jobs_and_no_others(names: list[str], command: str) -> None:
    assert slurm.cancel(SlurmJobId(name, "") for name in names) == command


def test_the_checkpoint_comes_before_the_job_is_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[object] = []
    kept = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGALRM, signal.SIGTERM)}
    monkeypatch.setattr(os, "_exit", order.append)
    monkeypatch.setattr("prunelab.sweep.slurm.preemption.LINGER", 0)
    try:
        signal.signal(signal.SIGUSR2, lambda *_: order.append("queued again"))
        stop = StopRequest()
        preemption = Preemption(signal.SIGUSR2, stop, patience=60)
        assert not stop
        os.kill(os.getpid(), signal.SIGUSR2)
        assert stop
        assert order == []
        order.append("checkpoint")
        preemption.leave()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert order[:3] == ["checkpoint", "queued again", 1]


@pytest.mark.parametrize(("said", "seconds"), [("PreemptTime=None", 60), ("PreemptTime=2026-12-01T14:47:49", 3600)])
def test_after_sigterm_a_preempted_job_waits_for_its_grace_time(
    said: str, seconds: float, answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm queues it again at its end, if it is still there; any other job is killed soon."""
    waited: list[float] = []
    kept = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGALRM)}
    monkeypatch.setattr(os, "_exit", lambda status: None)
    monkeypatch.setattr("prunelab.sweep.slurm.preemption._sleep", lambda seconds, _: waited.append(seconds))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (answers / "scontrol.answers").write_text(f"JobId=7 {said} JobState=RUNNING")
    try:
        Preemption(signal.SIGUSR2, StopRequest(), patience=60).leave()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert waited == [seconds]


def test_a_job_too_slow_to_leave_a_checkpoint_is_queued_again_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[object] = []
    kept = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGALRM, signal.SIGTERM)}
    monkeypatch.setattr(os, "_exit", order.append)
    monkeypatch.setattr("prunelab.sweep.slurm.preemption.LINGER", 0)
    try:
        signal.signal(signal.SIGUSR2, lambda *_: order.append("queued again"))
        Preemption(signal.SIGUSR2, StopRequest(), patience=0.05)
        os.kill(os.getpid(), signal.SIGUSR2)
        signal.pause()  # until the alarm
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert order == ["queued again", 1]


SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("env", "devices", "kind"),
    [
        ({}, 1, []),
        (SLURM, 1, ["LightningEnvironment"]),  # a shell in an allocation of four tasks
        (SLURM, 2, ["LightningEnvironment"]),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "4"}, 4, ["SLURMEnvironment"]),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "4", "TORCHELASTIC_RUN_ID": "x"}, 4, []),
    ],
)
def test_only_processes_that_srun_started_are_slurms(
    env: dict[str, str], devices: int, kind: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "TORCHELASTIC"))]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    plugins = environments(devices)
    assert [type(environment).__name__ for environment in plugins] == kind
    assert not any(getattr(environment, "auto_requeue", False) for environment in plugins)


@pytest.mark.parametrize("sweeper", ["grid", "optuna"])
@pytest.mark.parametrize(
    ("hidden", "message"),
    [("'hydra_plugins.hydra_submitit_launcher'", "pip install 'prunelab[slurm]'"), ("", "Slurm does not answer here")],
)
def test_a_missing_package_or_slurm_is_reported_in_a_line(
    hidden: str, message: str, sweeper: str, tmp_path: Path
) -> None:
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys([{hidden}])); sys.argv[0] = 'train'\n"
        "runpy.run_module('train', run_name='__main__')"
    )
    args = ["-m", "hydra/launcher=slurm", f"hydra/sweeper={sweeper}", "data=shapes", f"data.cache={tmp_path}/cache"]
    args += ["model=lenet300", "prune=usp", "rate=0.5", "seed=0,1"]
    env = os.environ | {"PATH": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
