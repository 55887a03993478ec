"""The pool of jobs: one job a slot, no orphans, and what happens when memory runs out or another sweep runs."""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from prunelab.store.folder import RunDir
from prunelab.store.lock import BUSY, held
from prunelab.store.signals import Killed, StopRequest
from prunelab.sweep.pool.devices import CPU, DeviceSlots
from prunelab.sweep.pool.pool import GRACE, Pool, Task

NOTES = """
import json, os, sys, time
folder = sys.argv[1]
began = time.monotonic()
time.sleep(0.3)
note = {"device": os.environ["CUDA_VISIBLE_DEVICES"], "began": began, "ended": time.monotonic()}
open(folder + "/note.json", "w").write(json.dumps(note))
"""

WHOLE = Path(__file__).parents[2] / "store" / "result-0.1.0.json"


def task(program: str, folder: Path, **more) -> Task:
    return Task(lambda run_dir: [sys.executable, "-c", program, str(run_dir.path)], lambda: RunDir(folder), **more)


def test_eight_jobs_on_four_devices_never_two_on_one(tmp_path: Path) -> None:
    tasks = [task(NOTES, tmp_path / f"job{i}") for i in range(8)]
    pool = Pool(DeviceSlots(["a", "b", "c", "d"], 1), StopRequest())
    pool.run(tasks)
    assert [t.status for t in tasks] == [0] * 8
    notes = [json.loads((tmp_path / f"job{i}" / "note.json").read_text()) for i in range(8)]
    assert {note["device"] for note in notes} == {"a", "b", "c", "d"}
    for device in "abcd":
        spans = sorted((n["began"], n["ended"]) for n in notes if n["device"] == device)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


def test_a_job_that_fails_in_any_way_costs_the_others_nothing_and_is_explained(tmp_path: Path) -> None:
    programs = ["raise SystemExit('no luck')", "import os; os.kill(os.getpid(), 9)", "print('well')"]
    tasks = [task(program, tmp_path / str(i)) for i, program in enumerate(programs)]
    Pool(DeviceSlots([CPU], 1), StopRequest()).run(tasks)
    assert [t.status for t in tasks] == [1, -signal.SIGKILL, 0]
    assert str(tasks[0].problem()) == "no luck (exit status 1)"
    assert isinstance(tasks[1].problem(), Killed)
    assert str(tasks[1].problem()) == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os._exit(3)", "ended without a word (exit status 3)"),
        ("import os; print('no licence', flush=True); os._exit(3)", "no licence (exit status 3)"),
    ],
)
def test_a_job_is_not_explained_by_what_an_earlier_attempt_left(program: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "output.log").write_text("train: interrupted at step 203\n")
    (tmp_path / "failure.json").write_text('{"reason": "out of memory"}')
    Pool(DeviceSlots([CPU], 1), StopRequest()).run([job := task(program, tmp_path)])
    assert str(job.problem()) == reason


def test_while_all_slots_are_busy_no_file_of_a_waiting_job_is_opened(tmp_path: Path, monkeypatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("prunelab.sweep.pool.pool.is_held", asked.append)
    jobs = [task("import time; time.sleep(0.5)", tmp_path / name) for name in "ab"]
    Pool(DeviceSlots([CPU], 1), StopRequest()).run(jobs)
    assert asked == [tmp_path / name / ".lock" for name in "ab"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux has /proc")
def test_what_is_left_of_a_job_ends_with_it(tmp_path: Path) -> None:
    """As another rank that hangs, and would keep its device."""
    program = "import subprocess as s, sys; open(sys.argv[1] + '/pid', 'w').write(str(s.Popen(['sleep', '60']).pid))"
    Pool(DeviceSlots([CPU], 1), StopRequest()).run([job := task(program, tmp_path)])
    assert job.status == 0
    stat, until = Path("/proc") / (tmp_path / "pid").read_text() / "stat", time.monotonic() + 10
    with suppress(FileNotFoundError, ProcessLookupError):  # once it is gone
        while " Z " not in stat.read_text():
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_job_that_ran_out_of_memory_beside_others_runs_once_more_alone(tmp_path: Path) -> None:
    """The first attempt runs out of memory; the second notes what runs beside it."""
    hungry = """
import json, os, sys, time
folder = sys.argv[1]
if not os.path.exists(folder + "/again"):
    open(folder + "/again", "w").close()
    open(folder + "/failure.json", "w").write(json.dumps({"memory": True, "reason": "OutOfMemoryError"}))
    sys.exit(1)
beside = [name for name in os.listdir(folder + "/..") if os.path.exists(folder + "/../" + name + "/here")]
open(folder + "/beside", "w").write(",".join(beside))
if "always" in folder:
    sys.exit(1)
"""
    quiet = """
import os, sys, time
open(sys.argv[1] + "/here", "w").close(); time.sleep(0.5); os.remove(sys.argv[1] + "/here")
"""
    tasks = [task(hungry, tmp_path / "hungry"), *(task(quiet, tmp_path / f"quiet{i}") for i in range(3))]
    tasks.append(task(hungry, tmp_path / "always"))
    Pool(DeviceSlots(["0"], 2), StopRequest()).run(tasks)
    assert [t.status for t in tasks] == [0, 0, 0, 0, 1]
    assert (tmp_path / "hungry" / "beside").read_text() == ""


def test_a_job_that_ran_out_of_memory_alone_is_not_repeated(tmp_path: Path) -> None:
    count = """
import sys
open(sys.argv[1] + "/failure.json", "w").write('{"memory": true, "reason": "x"}')
open(sys.argv[1] + "/count", "a").write("1"); sys.exit(1)
"""
    job = task(count, tmp_path / "job")
    Pool(DeviceSlots(["0"], 1), StopRequest()).run([job])
    assert (tmp_path / "job" / "count").read_text() == "1"


def test_a_job_of_another_process_is_waited_for_and_taken_over_when_that_dies(tmp_path: Path) -> None:
    job = task("open(__import__('sys').argv[1] + '/ran', 'w')", tmp_path / "job")
    order: list[str] = []

    def hold() -> None:
        with held(tmp_path / "job" / ".lock"):
            time.sleep(1)
            order.append("released")

    thread = threading.Thread(target=hold)
    thread.start()
    time.sleep(0.2)
    free = task("pass", tmp_path / "free")
    pool = Pool(DeviceSlots([CPU], 1), StopRequest())
    pool.run([job, free])
    thread.join()
    assert pool.done == [free, job]
    assert (tmp_path / "job" / "ran").exists()
    assert order == ["released"]


def test_a_job_that_finds_its_folder_locked_is_run_again(tmp_path: Path) -> None:
    once = f"""
import os, sys
path = sys.argv[1] + "/again"
if not os.path.exists(path):
    open(path, "w").close(); sys.exit({BUSY})
"""
    job = task(once, tmp_path / "job")
    Pool(DeviceSlots([CPU], 1), StopRequest()).run([job])
    assert job.status == 0


def test_a_job_that_another_sweep_has_finished_meanwhile_is_not_begun(tmp_path: Path) -> None:
    finish = f"""
import sys, os, shutil
for name in ("second", "third"): os.makedirs(os.path.join(sys.argv[1], "..", name))
shutil.copyfile({str(WHOLE)!r}, sys.argv[1] + "/../second/result.json")
open(sys.argv[1] + "/../third/result.json", "w").write('{{"accuracy": 0.5}}')  # damaged
"""
    others = [task("open(__import__('sys').argv[1] + '/ran', 'w')", tmp_path / name) for name in ("second", "third")]
    Pool(DeviceSlots([CPU], 1), StopRequest()).run([task(finish, tmp_path / "first"), *others])
    assert [other.status for other in others] == [0, 0]
    assert [(tmp_path / name / "ran").exists() for name in ("second", "third")] == [False, True]


@pytest.mark.parametrize("content", ["{}", '{"reason": null}', "5", '{"a":' * 200_000, None])
def test_a_damaged_failure_costs_the_others_nothing(tmp_path: Path, content: str | None) -> None:
    failure = tmp_path / "failure.json"
    failure.mkdir() if content is None else failure.write_text(content)
    copy = f"__import__('os').system('cp -r {failure} ' + __import__('sys').argv[1])"
    program = f"{copy}; print('no luck'); raise SystemExit(1)"
    tasks = [task(program, tmp_path / "a"), task("print('well')", tmp_path / "b")]
    Pool(DeviceSlots([CPU], 1), StopRequest()).run(tasks)
    assert [t.status for t in tasks] == [1, 0]
    assert str(tasks[0].problem()) in ("no luck (exit status 1)", "failure.json does not say why")


def test_a_stop_is_passed_on_and_starts_nothing_more(tmp_path: Path) -> None:
    stops = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *a: sys.exit(143))
open(sys.argv[1] + "/ready", "w").close()
time.sleep(60)
"""
    stop = StopRequest()
    tasks = [task(stops, tmp_path / str(i)) for i in range(2)]

    def watch(pool: Pool) -> None:
        if (tmp_path / "0" / "ready").exists():
            stop.signal = signal.SIGTERM

    Pool(DeviceSlots([CPU], 1), stop, watch).run(tasks)
    assert [t.status for t in tasks] == [143, None]
    assert str(tasks[0].problem()) == "stopped"


def test_a_folder_that_cannot_be_made_costs_the_others_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tasks = [task("pass", tmp_path / "file"), task("pass", tmp_path / "folder")]
    Pool(DeviceSlots([CPU], 1), StopRequest()).run(tasks)
    assert tasks[0].status
    assert isinstance(tasks[0].problem(), FileExistsError)
    assert tasks[1].status == 0


@pytest.mark.parametrize(
    ("slots", "message"),
    [(DeviceSlots([CPU], 1), "hydra.launcher.jobs=1"), (DeviceSlots(["0"], 2), "only 1 available: 0")],
)
def test_more_devices_than_there_are_are_refused_before_any_job(
    slots: DeviceSlots, message: str, tmp_path: Path
) -> None:
    tasks = [task("pass", tmp_path / "one"), task("pass", tmp_path / "two", devices=2)]
    with pytest.raises(ValueError, match=f"trainer.devices=2: .*{message}"):
        Pool(slots, StopRequest()).run(tasks)
    assert list(tmp_path.iterdir()) == []


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    deaf = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1] + "/ready", "w").close()
time.sleep(600)
"""
    job, stop = task(deaf, tmp_path / "job"), StopRequest()

    def watch(pool: Pool) -> None:
        if stop:
            raise KeyboardInterrupt
        if (tmp_path / "job" / "ready").exists():
            stop.signal = signal.SIGINT

    began = time.monotonic()
    pool = Pool(DeviceSlots([CPU], 1), stop, watch)
    with pytest.raises(KeyboardInterrupt):
        pool.run([job])
    assert not pool.running
    assert job.status == -signal.SIGKILL
    assert time.monotonic() - began < GRACE / 2


LAUNCHER = """
import sys
from pathlib import Path
from prunelab.sweep.pool.pool import GRACE, Pool, Task
from prunelab.store.folder import RunDir
from prunelab.sweep.pool.devices import DeviceSlots
from prunelab.store.signals import StopRequest
child = '''
import os, sys, time
from prunelab.store.signals import start_parent_watchdog
start_parent_watchdog()
open(sys.argv[1] + "/pid", "w").write(str(os.getpid()))
time.sleep(600)
'''
folders = [Path(sys.argv[1]) / str(i) for i in range(2)]
command = lambda run_dir: [sys.executable, "-c", child, str(run_dir.path)]
Pool(DeviceSlots(["cpu"], 2), StopRequest()).run([Task(command, lambda f=f: RunDir(f)) for f in folders])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_job_outlives_the_process_that_started_it(number: int, tmp_path: Path) -> None:
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path)])
    notes = [tmp_path / str(i) / "pid" for i in range(2)]
    until = time.monotonic() + 60
    while not all(note.exists() and note.read_text() for note in notes):
        assert time.monotonic() < until
        time.sleep(0.05)
    pids = [int(note.read_text()) for note in notes]
    launcher.send_signal(number)
    launcher.wait()
    while any(Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text() for pid in pids):
        assert time.monotonic() < until + 60, pids
        time.sleep(0.05)
