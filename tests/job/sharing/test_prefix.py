"""The epochs before the first pruning are trained once for all rates, and methods, that share them."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compose import job_from
from elsewhere import trained_elsewhere
from killed import killed_at
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunelab.job.method import Method
from prunelab.lit.checkpoints import AtomicCheckpointIO
from prunelab.lit.classifier import Classifier
from prunelab.store.lock import held, is_held
from prunelab.store.result import read

SCHEDULE = "prune.pruning.pruner.schedule"
LATE = (f"{SCHEDULE}.start=0.5", f"{SCHEDULE}.end=0.75")
LOGGERS = "logger=[tensorboard,csv]"
EPOCHS, STEPS = 4, 7
PREFIX = 2 * STEPS
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def shared(job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a job in the folder of that name; one whose training may be shared, whatever the checkout."""
    monkeypatch.setattr("prunelab.store.job.versions", lambda: {"torch": "2", "commit": "0123456789ab"})
    return lambda name, *overrides: job("model=resnet8", "rerun=false", *overrides, folder=tmp_path / name)


@pytest.fixture
def late(shared) -> Run:
    """The same for a job of 4 epochs, of which two come before its first pruning."""
    return lambda name, *overrides: shared(name, f"epochs={EPOCHS}", *LATE, *overrides)


@pytest.fixture
def first(late) -> Callable[[], None]:
    """Trains those two epochs, and is killed."""

    def trained() -> None:
        with killed_at(PREFIX):
            late("first", "prune=usp", "rate=0.5")

    return trained


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are trained, as they are."""
    done: list[int] = []
    train = Classifier.training_step
    monkeypatch.setattr(
        Classifier, "training_step", lambda self, *a: (done.append(self.global_step), train(self, *a))[1]
    )
    return done


def prefix(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "parents" / "prefix").glob("*.ckpt")
    return path


def plain(state: Any) -> Any:
    """Tensors as lists, without what differs between a job and the same job again."""
    if isinstance(state, dict):
        own = {"seconds", "spent", "cpu_seconds", "cpu_spent", "compile_seconds", "RecordJob", "Prefix", "PeakMemory"}
        return {key: plain(value) for key, value in state.items() if key not in own}
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    return (str(state.dtype), state.tolist()) if isinstance(state, torch.Tensor) else state


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "seconds" not in tag]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def rows(folder: Path) -> set[tuple[Any, ...]]:
    """Each value of the CSV logger, with its name, epoch and step; in float32, as Lightning logs it."""
    with (folder / "metrics" / "version_0" / "metrics.csv").open() as file:
        return {
            (name, torch.tensor(float(value)).item(), row["epoch"], row["step"])
            for row in csv.DictReader(file)
            for name, value in row.items()
            if value and "seconds" not in name
        }


def test_jobs_that_begin_with_it_end_in_the_bits_that_they_have_alone(late, steps, tmp_path: Path) -> None:
    late("first", "prune=usp", "rate=0.5")
    assert len(steps) == EPOCHS * STEPS
    asked = {
        "usp": ("prune=usp", "rate=0.8", "prune/criterion=random", "prune.pruning.pruner.seed=3"),
        "sp": ("prune=sp", "rate=0.5"), "dense": ("prune=sp", "rate=0"),
    }  # fmt: skip
    for name, overrides in asked.items():
        alone = late(f"{name}-alone", *overrides, LOGGERS, "rerun=true")
        steps.clear()
        taken = late(name, *overrides, LOGGERS)
        assert steps == [*range(PREFIX, EPOCHS * STEPS)]
        assert plain(taken["checkpoint"]) == plain(alone["checkpoint"])
        assert plain(taken["history"]) == plain(alone["history"])
        own = {"cost", "seconds", "peak_memory", "history", "state_dict", "checkpoint", "config", "overrides", "asked"}
        assert all(taken[key] == alone[key] for key in alone.keys() - own)
        assert taken["shared_epochs"] == {"in": str(tmp_path / "first"), "epochs": 2}
        assert read(tmp_path / name).shared_epochs == taken["shared_epochs"]
        assert "shared_epochs" not in alone
        assert scalars(tmp_path / name) == scalars(tmp_path / f"{name}-alone")
        assert rows(tmp_path / name) == rows(tmp_path / f"{name}-alone")


def test_methods_that_retrain_share_the_whole_training_before(shared, steps) -> None:
    asked = ("prune=finetune", "epochs=1", "model=keras_cnn", "model.dense_dropout=0.5")  # which draws
    shared("first", *asked, "rate=0.5")
    alone = shared("alone", *asked, "rate=0.8", "rerun=true")
    steps.clear()
    taken = shared("taken", *asked, "rate=0.8")
    assert steps == [*range(STEPS, 2 * STEPS)]
    assert plain(taken["checkpoint"]) == plain(alone["checkpoint"])


def test_a_job_killed_after_it_began_with_it_ends_in_the_same_bits_and_says_who_trained(
    late, steps, first, tmp_path: Path
) -> None:
    asked = ("prune=sp", "rate=0.8", "logger=tensorboard")
    alone = late("alone", *asked, "rerun=true")
    first()
    for step in (PREFIX + 1, PREFIX + STEPS + 1):  # before its first checkpoint, and after it
        with killed_at(step):
            late("taken", *asked)
    steps.clear()
    taken = late("taken", *asked)
    assert steps == [*range(PREFIX + STEPS, EPOCHS * STEPS)]
    assert plain(taken["checkpoint"]) == plain(alone["checkpoint"])
    assert taken["shared_epochs"] == {"in": str(tmp_path / "first"), "epochs": 2}
    assert [step for step, _ in scalars(tmp_path / "taken")["test/acc"]] == [1, 2, 3, 4]  # once


def test_a_job_killed_while_it_trains_them_goes_on_and_hands_them_on(late, steps, tmp_path: Path) -> None:
    with killed_at(PREFIX - 2):
        late("first", "prune=usp", "rate=0.5")
    assert not list((tmp_path / "parents").rglob("*.ckpt"))
    steps.clear()
    assert "shared_epochs" not in late("first", "prune=usp", "rate=0.5")
    assert steps == [*range(STEPS, EPOCHS * STEPS)]
    steps.clear()
    with killed_at(PREFIX):
        late("next", "prune=usp", "rate=0.8")
    assert not steps


def test_others_wait_until_these_epochs_are_trained_and_no_longer(late, steps, first, tmp_path: Path, caplog) -> None:
    first()
    steps.clear()
    with trained_elsewhere(prefix(tmp_path), prefix(tmp_path).read_bytes(), caplog):
        late("next", "prune=usp", "rate=0.8")
    assert len(steps) == EPOCHS * STEPS - PREFIX


def test_the_lock_is_held_while_they_are_trained_and_no_longer(late, tmp_path: Path, monkeypatch) -> None:
    locked: list[bool] = []
    train = Classifier.training_step

    def look(self, *args):
        locked.append(any(is_held(lock) for lock in (tmp_path / "parents" / "prefix").glob("*.lock")))
        return train(self, *args)

    monkeypatch.setattr(Classifier, "training_step", look)
    with killed_at(PREFIX + 1):
        late("first", "prune=usp", "rate=0.5")
    assert locked == [True] * PREFIX + [False]


def test_a_job_that_resumes_waits_for_nobody(late, first, tmp_path: Path) -> None:
    first()
    with held(prefix(tmp_path).with_suffix(".lock")):
        first()


def test_other_epochs_are_not_taken_nor_what_has_no_version_handed_on(late, steps, first, tmp_path: Path) -> None:
    first()
    others = (
        ("seed=1",),
        ("optim.optimizer.lr=0.01",),
        (f"{SCHEDULE}.start=1ep",),
        ("epochs=5", f"{SCHEDULE}.start=2ep"),
    )
    alone = (
        (f"{SCHEDULE}.start=0",),
        ("rerun=true",),
        ("model=narrow",),
        ("prune.pruning.pruner.allocation._target_=toy_parts.Even",),
        ("+prune.more._target_=lightning.pytorch.callbacks.LambdaCallback",),
    )
    for i, overrides in enumerate(others + alone):
        steps.clear()
        with killed_at(PREFIX):
            late(f"other{i}", "prune=usp", "rate=0.8", *overrides)
        assert steps == [*range(PREFIX)], overrides
        assert len([*(tmp_path / "parents").rglob("*.ckpt")]) == 1 + min(i + 1, len(others)), overrides


def test_epochs_of_another_number_of_threads_are_not_taken_as_their_sums_round_otherwise(
    late, steps, first, monkeypatch: pytest.MonkeyPatch
) -> None:
    first()
    threads = torch.get_num_threads() + 1
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    steps.clear()
    with killed_at(PREFIX):
        late("other", "prune=usp", "rate=0.8")
    assert steps == [*range(PREFIX)]


def test_epochs_that_were_trained_on_two_numbers_of_threads_are_not_taken(
    late, steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at(STEPS):
        late("first", "prune=usp", "rate=0.5", "every=1it")
    threads = torch.get_num_threads() + 1
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    with killed_at(PREFIX):
        late("first", "prune=usp", "rate=0.5", "every=1it")
    steps.clear()
    with killed_at(PREFIX):
        late("other", "prune=usp", "rate=0.8")
    assert steps == [*range(PREFIX)]


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (("prune=usp",), 0), (("prune=gmp",), 7), (("prune=usp", f"{SCHEDULE}.start=25it"), 2),
        (("prune=none", "rate=0"), 0),
        (("prune=finetune",), 3), (("prune=finetune", "rate=0"), 0), (("prune=lottery",), 0), (("prune=sfp",), 0),
        (("prune=slimming",), 0), (("prune=dsss",), 0), (("prune=usp", "prune/criterion=movement", *LATE), 0),
    ],
)  # fmt: skip
def test_dense_epochs_end_before_the_first_pruning(overrides: tuple[str, ...], epochs: int, composed) -> None:
    of_job = job_from(composed("rate=0.5", *overrides))
    method = Method.of(of_job)
    run = method.run(30 if overrides == ("prune=gmp",) else 3, 10)
    assert method.dense_epochs(run) == epochs


def test_what_is_damaged_or_of_other_epochs_is_trained_again(late, steps, first, tmp_path: Path) -> None:
    first()
    path = prefix(tmp_path)
    with killed_at(PREFIX):
        late("other", "prune=usp", "rate=0.5", "seed=1")
    (other,) = {*path.parent.glob("*.ckpt")} - {path}
    for i, content in enumerate((path.read_bytes()[:-100], other.read_bytes())):
        path.write_bytes(content)
        steps.clear()
        with killed_at(PREFIX):
            late(f"next{i}", "prune=usp", "rate=0.8")
        assert steps == [*range(PREFIX)]
    steps.clear()
    with killed_at(PREFIX):
        late("last", "prune=usp", "rate=0.8")
    assert not steps


def test_it_is_no_job_s_own_checkpoint(late, first, tmp_path: Path) -> None:
    first()
    (tmp_path / "next" / "checkpoints").mkdir(parents=True)
    shutil.copy(prefix(tmp_path), tmp_path / "next" / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match="is of another job"):
        late("next", "prune=usp", "rate=0.8")


def test_a_full_disk_or_an_unwritable_folder_ends_no_job(late, first, tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "file").touch()
    with killed_at(PREFIX):
        late("alone", "prune=usp", "rate=0.5", f"parents={tmp_path}/file/parents")
    assert "no training is shared" in caplog.text
    save = AtomicCheckpointIO.save_checkpoint

    def full(self, checkpoint, path, **options) -> None:
        if "prefix" in Path(path).parts:
            raise OSError("No space left on device")
        save(self, checkpoint, path, **options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
    first()
    assert "No space left on device" in caplog.text
    assert not list((tmp_path / "parents" / "prefix").glob("*.ckpt"))


def test_a_job_that_another_version_began_leaves_the_shared_epochs_alone(
    late, tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job takes what it would save, and those who may share would train them again."""
    monkeypatch.setattr("prunelab.store.job.versions", lambda: {"torch": "1", "commit": "0123456789ab"})
    with killed_at(STEPS + 1):
        late("old", "prune=usp", "rate=0.5")
    monkeypatch.setattr("prunelab.store.job.versions", lambda: {"torch": "2", "commit": "0123456789ab"})
    late("new", "prune=usp", "rate=0.6")
    late("old", "prune=usp", "rate=0.5")
    steps.clear()
    assert late("newer", "prune=usp", "rate=0.7")["shared_epochs"]["epochs"] == 2
    assert steps[0] == PREFIX
