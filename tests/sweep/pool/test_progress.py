"""The progress of a sweep names jobs by what differs."""

import logging
import re
import sys
from pathlib import Path

import pytest

from prunelab.store.folder import RunDir
from prunelab.store.signals import StopRequest
from prunelab.sweep.pool.devices import DeviceSlots
from prunelab.sweep.pool.launcher import PoolLauncher
from prunelab.sweep.pool.pool import Pool, Task
from prunelab.sweep.pool.progress import SweepProgress


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("raise SystemExit('no luck')", "failed    seed=0  N s: no luck (exit status 1)   [1/1 done, 1 failed]"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "interrupted  seed=0  N s: killed by SIGKILL   [1/1 done, 1 interrupted]",
        ),
    ],
)
def test_without_a_terminal_there_is_a_line_when_a_job_begins_and_one_with_the_reason_when_it_fails(
    program: str, line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = Task(lambda _: [sys.executable, "-c", program], lambda: RunDir(tmp_path), name="seed=0")
    with caplog.at_level(logging.INFO), SweepProgress(1) as progress:
        Pool(DeviceSlots(["cpu"], 1), StopRequest(), progress).run([job])
    assert [re.sub(r"\d+ s:", "N s:", said) for said in caplog.messages] == [
        f"begins    seed=0  {tmp_path}/output.log",
        line,
    ]


def test_a_job_that_ends_is_named_without_what_the_sweep_has_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launcher = PoolLauncher()
    launcher.shared = ["data=shapes", "epochs=1"]
    name = launcher._name(["data=shapes", "rate=0.2", "prune=usp", "epochs=1", "hydra.sweep.subdir=run0"])
    pool = Pool(DeviceSlots(["cpu"], 1), StopRequest())
    pool.done = [Task(lambda _: [], lambda: RunDir(tmp_path), name=name, status=0, seconds=7)]
    with caplog.at_level(logging.INFO):
        SweepProgress(2)(pool)
    assert caplog.messages[0].startswith("finished  prune=usp rate=0.2  7 s   [1/2 done, ")
