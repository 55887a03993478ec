"""The failures of a sweep end as the table in docs/sweeps.md says."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from compose import tiny_job
from forked import Command, killed, train
from narrow import resnet8
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunelab.store.folder import RunDir


@pytest.fixture(scope="module")
def tiny(tiny_images: Path) -> list[str]:
    return [*tiny_job(tiny_images), "prune=usp", "rate=0.5", "every=1it", "name=study"]


def only(root: Path) -> RunDir:
    return RunDir(next(root.glob("outputs/study/prune*")))


def losses(folder: RunDir) -> list[float]:
    result = folder.read("result.json")
    assert result is not None
    return [epoch["test_loss"] for epoch in result["history"]] + [epoch["train_loss"] for epoch in result["history"]]


@pytest.fixture(scope="module")
def undisturbed(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(*tiny, cwd=folder)
    return losses(only(folder))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system that a checkpoint and a half fill."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_job_with_a_checkpoint_and_the_same_command_resumes(
    number: int, status: int, tiny: list[str], undisturbed: list[float], tmp_path: Path
) -> None:
    rarely = [*tiny, "every=1h"]
    command = Command(*rarely, cwd=tmp_path)
    command.until("epoch 1/3")
    command.send(number)
    assert command.ended() == status
    folder = only(tmp_path)
    assert folder.state() == "interrupted"
    assert folder.checkpoint.exists()
    assert train(*rarely, cwd=tmp_path)[0] == 0
    assert losses(folder) == undisturbed


def test_a_signal_ends_a_sweep_of_one_slot_and_the_summary_counts_jobs_not_begun(
    tiny: list[str], tmp_path: Path
) -> None:
    sweep = ["-m", *tiny, "seed=0,1,2"]
    command = Command(*sweep, cwd=tmp_path)
    command.until("epoch 1/3")
    command.send(signal.SIGTERM)
    assert command.ended() == 143
    assert "1 interrupted, 2 not begun" in command.output
    assert train(*sweep, cwd=tmp_path)[0] == 0


def test_a_full_disk_is_a_failure_with_its_reason_and_the_job_resumes_when_there_is_room(
    tiny: list[str], undisturbed: list[float], mounted: Path
) -> None:
    assert train(*tiny, cwd=mounted)[0] == 1
    folder = only(mounted)
    assert folder.state() == "failed"
    failure = folder.read("failure.json")
    assert failure is not None
    assert "No space left on device" in failure["reason"]
    assert "Traceback" in failure["traceback"]
    subprocess.run(["mount", "-o", "remount,size=100m", mounted], check=True)
    assert train(*tiny, cwd=mounted)[0] == 0
    assert losses(folder) == undisturbed
    assert not (folder.path / "failure.json").exists()


def test_an_output_folder_that_is_read_only_is_refused_before_any_job(tiny: list[str], mounted: Path) -> None:
    (mounted / "outputs").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    for command in (tiny, ["-m", *tiny]):
        status, output = train(*command, cwd=mounted)
        assert status == 1
        assert "results cannot be written" in output
        assert "Traceback" not in output


@pytest.mark.parametrize("shift", [-7 * 86400, 7 * 86400])
def test_setting_the_clock_changes_nothing(
    shift: int, tiny: list[str], undisturbed: list[float], tmp_path: Path
) -> None:
    """Files a week from the future, or a week old, are those of a job that was killed a moment ago."""
    killed(*tiny, cwd=tmp_path, when="epoch 2/3")
    folder = only(tmp_path)
    for path in [folder.path, *folder.path.rglob("*")]:
        os.utime(path, (time.time() - shift, time.time() - shift))
    assert folder.state() == "interrupted"
    status, output = train("-m", *tiny, cwd=tmp_path)
    assert status == 0, output
    assert losses(folder) == undisturbed


def test_a_truncated_checkpoint_is_skipped_with_a_warning(
    tiny: list[str], undisturbed: list[float], tmp_path: Path
) -> None:
    killed(*tiny, cwd=tmp_path, when="epoch 2/3")
    folder = only(tmp_path)
    content = folder.checkpoint.read_bytes()
    folder.checkpoint.write_bytes(content[: len(content) // 2])
    status, output = train(*tiny, cwd=tmp_path)
    assert status == 0
    assert "last.ckpt is damaged" in output
    assert "epoch 1/3" not in output  # the one before it was taken
    assert losses(folder) == undisturbed


def test_a_truncated_result_is_written_again_without_training(tiny: list[str], tmp_path: Path) -> None:
    train("-m", *tiny, cwd=tmp_path)
    folder = only(tmp_path)
    before, text = losses(folder), (folder.path / "result.json").read_text()
    (folder.path / "result.json").write_text(text[: len(text) // 2])
    assert folder.state() == "interrupted"
    status, output = train("-m", *tiny, cwd=tmp_path)
    assert status == 0
    assert not re.search(r"epoch \d/3", output)
    assert losses(folder) == before


def test_two_sweeps_at_once_in_one_folder_share_the_work(tiny: list[str], tmp_path: Path) -> None:
    sweeps = [Command("-m", *tiny, "seed=0,1,2", cwd=tmp_path) for _ in range(2)]
    assert [sweep.ended() for sweep in sweeps] == [0, 0], [sweep.output for sweep in sweeps]
    assert all("3 jobs: 3 finished" in sweep.output for sweep in sweeps)
    for seed in range(3):
        log = next(tmp_path.glob(f"outputs/study/*seed={seed}*/train.log")).read_text()
        assert log.count("epoch 1/3") == 1, log
    assert "".join(sweep.output for sweep in sweeps).count("epoch 3/3") == 3


def test_two_configurations_for_one_folder_are_refused_before_any_job(tiny: list[str], tmp_path: Path) -> None:
    train(*tiny, cwd=tmp_path)
    folder = only(tmp_path)
    job = folder.read("job.json")
    assert job is not None
    job["values"]["optim.optimizer.lr"] = 0.5  # as if this folder's name had left something out
    (folder.path / "job.json").write_text(json.dumps(job | {"identity": "0"}))
    (folder.path / "result.json").unlink()
    status, output = train("-m", *tiny, cwd=tmp_path)
    assert status == 1
    assert "it holds another job, with other optim.optimizer.lr; choose another name=" in output


def test_rerun_starts_again_in_a_new_folder(tiny: list[str], tmp_path: Path) -> None:
    train("-m", *tiny, cwd=tmp_path)
    assert train("-m", *tiny, "rerun=true", cwd=tmp_path)[0] == 0
    results = sorted(tmp_path.glob("outputs/study/*/result.json"))
    assert len(results) == 2
    first, again = (json.loads(path.read_text()) for path in results)
    assert first["identity"] == again["identity"]
    assert first["history"][-1]["test_loss"] == again["history"][-1]["test_loss"]
    when = results[1].parent.name.rpartition("rerun=")[2]
    status, output = train("-m", *tiny, f"rerun={when}", cwd=tmp_path)  # resumes what that command began
    assert status == 0
    assert "already finished, skipped" in output
    assert len(list(tmp_path.glob("outputs/study/*/result.json"))) == 2


def test_a_job_that_failed_is_tried_again_by_the_same_command(tiny: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        status, output = train("-m", *tiny, "optim.optimizer.lr=1e30", cwd=tmp_path)
        assert status == 1
        assert "1 jobs: 1 failed" in output
        assert "#1 of 1" in output  # it was begun
    failure = only(tmp_path).read("failure.json")
    assert failure is not None
    assert "NaN" in failure["reason"] or "diverged" in failure["reason"]


def test_a_second_ctrl_c_ends_a_job_at_once_and_is_no_failure(tiny: list[str], tmp_path: Path) -> None:
    slow = ["epochs=1000", "model=resnet110", "optim.batch_size=140", "every=1h"]  # a step takes a second
    command = Command(*tiny, *slow, cwd=tmp_path)
    command.until("epoch 1/1000")
    command.send(signal.SIGINT)
    command.until("Ctrl-C again to end at once")
    command.send(signal.SIGINT)
    assert command.ended() == 130
    assert only(tmp_path).state() == "interrupted"
    assert not only(tmp_path).checkpoint.exists()  # which the first one alone would have left


@pytest.mark.parametrize("importing", ["hydra", "torch", "lightning"])
def test_ctrl_c_during_the_imports_ends_without_a_traceback(importing: str, tiny: list[str], tmp_path: Path) -> None:
    """Python prints a line after each import."""
    command = [sys.executable, "-X", "importtime", "-m", "train", *tiny]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    next(line for line in process.stdout if re.search(rf"\| +{importing}\.", line))
    process.send_signal(signal.SIGINT)
    rest = process.communicate()[0]
    assert "Traceback" not in rest
    assert "Exception" not in rest
    assert process.returncode == 130
    assert not list(tmp_path.glob("outputs/study/*/checkpoints"))


def test_a_closed_terminal_leaves_a_checkpoint(tiny: list[str], undisturbed: list[float], tmp_path: Path) -> None:
    terminal, side = os.openpty()
    rarely = [*tiny, "every=1h"]
    command = Command(*rarely, cwd=tmp_path, before=partial(_take_terminal, os.ttyname(side)))
    output = b""
    while b"epoch 1/3" not in output:
        output += os.read(terminal, 4096)
    os.close(side)
    os.close(terminal)
    assert command.ended() == 129
    assert only(tmp_path).state() == "interrupted"
    assert only(tmp_path).checkpoint.exists()
    assert train(*rarely, cwd=tmp_path)[0] == 0
    assert losses(only(tmp_path)) == undisturbed


def _take_terminal(name: str) -> None:
    """Makes it the terminal of this process."""
    os.setsid()
    side = os.open(name, os.O_RDWR)
    fcntl.ioctl(side, termios.TIOCSCTTY, 0)
    for stream in range(3):
        os.dup2(side, stream)


def test_a_job_that_nohup_started_outlives_its_terminal(tiny: list[str], tmp_path: Path) -> None:
    command = Command(*tiny, cwd=tmp_path, before=partial(signal.signal, signal.SIGHUP, signal.SIG_IGN))
    command.until("epoch 1/3")
    command.send(signal.SIGHUP)
    assert command.ended() == 0


def test_other_weights_under_the_same_path_are_another_job(tiny: list[str], tmp_path: Path) -> None:
    torch.save(resnet8().state_dict(), tmp_path / "start.pt")
    command = ["-m", *tiny, f"pretrained={tmp_path}/start.pt"]
    assert train(*command, cwd=tmp_path)[0] == 0
    assert "already finished, skipped" in train(*command, cwd=tmp_path)[1]
    torch.save(resnet8().state_dict(), tmp_path / "start.pt")
    status, output = train(*command, cwd=tmp_path)
    assert status == 1
    assert "already finished, skipped" not in output
    assert "other pretrained" in " ".join(output.split())


def test_a_damaged_dense_checkpoint_is_trained_again(tiny: list[str], tmp_path: Path) -> None:
    command = [*tiny, "prune=finetune", "pretrained=auto"]
    assert train(*command, cwd=tmp_path)[0] == 0
    before = losses(only(tmp_path))
    for path in tmp_path.glob("outputs/parents/*/checkpoints/*.ckpt"):
        path.write_bytes(path.read_bytes()[:1000])
    shutil.rmtree(only(tmp_path).path)
    status, output = train(*command, cwd=tmp_path)
    assert status == 0, output
    assert losses(only(tmp_path)) == before


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_what_was_logged_before_a_kill_is_kept_and_shown_once(logger: str, tiny: list[str], tmp_path: Path) -> None:
    command = [*tiny, f"logger={logger}", "every=7it"]
    killed(*command, cwd=tmp_path, when="epoch 2/3")
    assert train(*command, cwd=tmp_path)[0] == 0
    if logger == "csv":
        rows = [line for path in sorted(tmp_path.rglob("metrics.csv")) for line in path.read_text().splitlines()]
        assert len([row for row in rows if row and row[0].isdigit()]) >= 3
    else:
        events = EventAccumulator(str(next(tmp_path.glob("outputs/study/prune*"))))
        events.Reload()
        steps = [event.step for event in events.Scalars("val/acc")]
        assert steps == sorted(set(steps)) == [1, 2, 3]
