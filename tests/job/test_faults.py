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
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunelab.job.conf import conf_dir
from prunelab.store.folder import RunDir

TRAIN = [sys.executable, "-m", "train"]


@pytest.fixture
def tiny(tiny_images: Path) -> list[str]:
    return [
        "prune=usp", "rate=0.5", "data=image_folder", f"data.root={tiny_images}", "data.val=20",
        f"data.cache={tiny_images}/cache", "model=resnet8", "optim.batch_size=20", "trainer=cpu", "logger=none",
        "epochs=3", "every=1it", "name=study",
    ]  # fmt: skip


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TRAIN, *command], cwd=cwd, capture_output=True, text=True)


def only(root: Path) -> RunDir:
    return RunDir(next(root.glob("outputs/study/prune*")))


def losses(folder: RunDir) -> list[float]:
    result = folder.read("result.json")
    assert result is not None
    return [epoch["test_loss"] for epoch in result["history"]] + [epoch["train_loss"] for epoch in result["history"]]


@pytest.fixture
def undisturbed(tiny: list[str], tmp_path: Path) -> list[float]:
    (tmp_path / "undisturbed").mkdir()
    run(*tiny, cwd=tmp_path / "undisturbed")
    return losses(only(tmp_path / "undisturbed"))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, which a checkpoint and a half fill."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def signalled(number: int, command: list[str], cwd: Path, when: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([*TRAIN, *command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if re.search(when, line):
            process.send_signal(number)
            break
    process.communicate()
    assert re.search(when, output), output
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_job_with_a_checkpoint_and_the_same_command_resumes(
    number: int, status: int, tiny: list[str], undisturbed: list[float], tmp_path: Path
) -> None:
    rarely = [*tiny, "every=1h"]
    assert signalled(number, rarely, tmp_path, "epoch 1/3").returncode == status
    folder = only(tmp_path)
    assert folder.state() == "interrupted"
    assert folder.checkpoint.exists()
    assert run(*rarely, cwd=tmp_path).returncode == 0
    assert losses(folder) == undisturbed


def test_a_signal_ends_a_sweep_of_one_slot_and_the_summary_counts_jobs_not_begun(
    tiny: list[str], tmp_path: Path
) -> None:
    sweep = ["-m", *tiny, "seed=0,1,2"]
    process = subprocess.Popen([*TRAIN, *sweep], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 1/3" in line:
            process.send_signal(signal.SIGTERM)
            break
    rest = process.communicate()[0]
    assert process.returncode == 143
    assert "1 interrupted, 2 not begun" in rest
    assert run(*sweep, cwd=tmp_path).returncode == 0


def test_a_full_disk_is_a_failure_with_its_reason_and_the_job_resumes_when_there_is_room(
    tiny: list[str], undisturbed: list[float], mounted: Path
) -> None:
    done = run(*tiny, cwd=mounted)
    assert done.returncode == 1
    folder = only(mounted)
    assert folder.state() == "failed"
    failure = folder.read("failure.json")
    assert failure is not None
    assert "No space left on device" in failure["reason"]
    assert "Traceback" in failure["traceback"]
    subprocess.run(["mount", "-o", "remount,size=100m", mounted], check=True)
    assert run(*tiny, cwd=mounted).returncode == 0
    assert losses(folder) == undisturbed
    assert not (folder.path / "failure.json").exists()


def test_an_output_folder_that_is_read_only_is_refused_before_any_job(tiny: list[str], mounted: Path) -> None:
    (mounted / "outputs").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    for command in (tiny, ["-m", *tiny]):
        done = run(*command, cwd=mounted)
        assert done.returncode == 1
        assert "results cannot be written" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shift", [-7 * 86400, 7 * 86400])
def test_setting_the_clock_changes_nothing(
    shift: int, tiny: list[str], undisturbed: list[float], tmp_path: Path
) -> None:
    """Files a week from the future, or a week old, are those of a job that was killed a moment ago."""
    process = subprocess.Popen(
        [*TRAIN, *tiny], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    next(line for line in process.stdout if "epoch 2/3" in line)
    process.kill()
    process.communicate()
    folder = only(tmp_path)
    for path in [folder.path, *folder.path.rglob("*")]:
        os.utime(path, (time.time() - shift, time.time() - shift))
    assert folder.state() == "interrupted"
    done = run("-m", *tiny, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert losses(folder) == undisturbed


def test_a_truncated_checkpoint_is_skipped_with_a_warning(
    tiny: list[str], undisturbed: list[float], tmp_path: Path
) -> None:
    signalled(signal.SIGKILL, tiny, tmp_path, "epoch 2/3")
    folder = only(tmp_path)
    content = folder.checkpoint.read_bytes()
    folder.checkpoint.write_bytes(content[: len(content) // 2])
    done = run(*tiny, cwd=tmp_path)
    assert done.returncode == 0
    assert "last.ckpt is damaged" in done.stdout
    assert "epoch 1/3" not in done.stdout  # the one before it was taken
    assert losses(folder) == undisturbed


def test_a_truncated_result_is_written_again_without_training(tiny: list[str], tmp_path: Path) -> None:
    run("-m", *tiny, cwd=tmp_path)
    folder = only(tmp_path)
    before, text = losses(folder), (folder.path / "result.json").read_text()
    (folder.path / "result.json").write_text(text[: len(text) // 2])
    assert folder.state() == "interrupted"
    done = run("-m", *tiny, cwd=tmp_path)
    assert done.returncode == 0
    assert "epoch" not in done.stdout.partition("Sparsity attained")[0].replace("epochs", "")
    assert losses(folder) == before


def test_two_sweeps_at_once_in_one_folder_share_the_work(tiny: list[str], tmp_path: Path) -> None:
    command = [*TRAIN, "-m", *tiny, "seed=0,1,2,3", "epochs=10"]
    sweeps = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [sweep.communicate()[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
    assert all("4 jobs: 4 finished" in output for output in outputs)
    for seed in range(4):
        log = next(tmp_path.glob(f"outputs/study/*seed={seed}*/train.log")).read_text()
        assert log.count("epoch 1/10") == 1, log
    trained = ["".join(outputs).count("epoch 10/10")]
    assert trained == [4]


def test_two_configurations_for_one_folder_are_refused_before_any_job(tiny: list[str], tmp_path: Path) -> None:
    run(*tiny, cwd=tmp_path)
    folder = only(tmp_path)
    job = folder.read("job.json")
    assert job is not None
    job["values"]["optim.optimizer.lr"] = 0.5  # as if this folder's name had left something out
    (folder.path / "job.json").write_text(json.dumps(job | {"identity": "0"}))
    (folder.path / "result.json").unlink()
    done = run("-m", *tiny, cwd=tmp_path)
    assert done.returncode == 1
    assert "it holds another job, with other optim.optimizer.lr; choose another name=" in done.stderr


def test_rerun_starts_again_in_a_new_folder(tiny: list[str], tmp_path: Path) -> None:
    run("-m", *tiny, cwd=tmp_path)
    done = run("-m", *tiny, "rerun=true", cwd=tmp_path)
    assert done.returncode == 0
    results = sorted(tmp_path.glob("outputs/study/*/result.json"))
    assert len(results) == 2
    first, again = (json.loads(path.read_text()) for path in results)
    assert first["identity"] == again["identity"]
    assert first["history"][-1]["test_loss"] == again["history"][-1]["test_loss"]
    when = results[1].parent.name.rpartition("rerun=")[2]
    done = run("-m", *tiny, f"rerun={when}", cwd=tmp_path)  # resumes what that command began
    assert done.returncode == 0
    assert "already finished, skipped" in done.stdout
    assert len(list(tmp_path.glob("outputs/study/*/result.json"))) == 2


def test_a_job_that_failed_is_tried_again_by_the_same_command(tiny: list[str], tmp_path: Path) -> None:
    command = ["-m", *tiny, "optim.optimizer.lr=1e30"]
    for _ in range(2):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 1
        assert "1 jobs: 1 failed" in done.stdout
        assert "#1 of 1" in done.stdout  # it was begun
    failure = only(tmp_path).read("failure.json")
    assert failure is not None
    assert "NaN" in failure["reason"] or "diverged" in failure["reason"]


def test_a_second_ctrl_c_ends_a_job_at_once_and_is_no_failure(tiny: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*TRAIN, *tiny, "epochs=1000", "model=resnet110", "optim.batch_size=140", "every=1h"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    next(line for line in process.stdout if "epoch 1/1000" in line)
    process.send_signal(signal.SIGINT)
    next(line for line in process.stdout if "Ctrl-C again to end at once" in line)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
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
    process = subprocess.Popen(
        [*TRAIN, *rarely], cwd=tmp_path, stdin=side, stdout=side, stderr=side, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(side)
    output = b""
    while b"epoch 1/3" not in output:
        output += os.read(terminal, 4096)
    os.close(terminal)
    assert process.wait() == 129
    assert only(tmp_path).state() == "interrupted"
    assert only(tmp_path).checkpoint.exists()
    assert run(*rarely, cwd=tmp_path).returncode == 0
    assert losses(only(tmp_path)) == undisturbed


def test_a_job_that_nohup_started_outlives_its_terminal(tiny: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["nohup", *TRAIN, *tiny], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    next(line for line in process.stdout if "epoch 1/3" in line)
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0


def test_jobs_in_processes_of_their_own_take_the_conf_of_the_command(tiny: list[str], tmp_path: Path) -> None:
    shutil.copytree(conf_dir(), tmp_path / "conf2")
    yaml = tmp_path / "conf2" / "train.yaml"
    yaml.write_text(yaml.read_text().replace("channels_last: true", "channels_last: false"))
    done = run("-m", "--config-path", str(tmp_path / "conf2"), *tiny, "hydra.launcher.jobs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    result = only(tmp_path).read("result.json")
    assert result is not None
    assert result["config"]["channels_last"] is False
    assert (only(tmp_path).path / "output.log").exists()


def test_other_weights_under_the_same_path_are_another_job(tiny: list[str], tmp_path: Path) -> None:
    for seed in (0, 1):
        run(*tiny, f"seed={seed}", "name=weights", cwd=tmp_path)
    first, second = sorted(tmp_path.glob("outputs/weights/*/checkpoints/last.ckpt"))
    shutil.copy(first, tmp_path / "start.ckpt")
    command = ["-m", *tiny, f"pretrained={tmp_path}/start.ckpt"]
    assert run(*command, cwd=tmp_path).returncode == 0
    assert "already finished, skipped" in run(*command, cwd=tmp_path).stdout
    shutil.copy(second, tmp_path / "start.ckpt")
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "already finished, skipped" not in done.stdout
    assert "other pretrained" in " ".join(done.stdout.split())


def test_a_damaged_dense_checkpoint_is_trained_again(tiny: list[str], tmp_path: Path) -> None:
    command = [*tiny, "prune=finetune", "pretrained=auto"]
    assert run(*command, cwd=tmp_path).returncode == 0
    before = losses(only(tmp_path))
    for path in tmp_path.glob("outputs/parents/*/checkpoints/*.ckpt"):
        path.write_bytes(path.read_bytes()[:1000])
    shutil.rmtree(only(tmp_path).path)
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert losses(only(tmp_path)) == before


def test_what_was_logged_before_a_kill_is_kept_and_shown_once(tiny: list[str], tmp_path: Path) -> None:
    for logger in ("csv", "tensorboard"):
        command = [*tiny, f"logger={logger}", "every=7it", f"name={logger}"]
        signalled(signal.SIGKILL, command, tmp_path, "epoch 2/3")
        assert run(*command, cwd=tmp_path).returncode == 0
    rows = [line for path in sorted(tmp_path.rglob("metrics.csv")) for line in path.read_text().splitlines()]
    assert len([row for row in rows if row and row[0].isdigit()]) >= 3
    events = EventAccumulator(str(next(tmp_path.glob("outputs/tensorboard/prune*"))))
    events.Reload()
    steps = [event.step for event in events.Scalars("val/acc")]
    assert steps == sorted(set(steps)) == [1, 2, 3]
