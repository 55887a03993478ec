"""Hooks that nobody has written are not called; all others are."""

from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.profilers import SimpleProfiler

from prunelab.lit.idle_hooks import STEP, NoProfiler, skip_idle_hooks

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")


class Counts(L.Callback):
    def __init__(self) -> None:
        self.seen = 0

    def on_before_optimizer_step(self, *_: object) -> None:
        self.seen += 1


class Inherits(Counts):
    pass


def trainer(tmp_path: Path, callbacks: list[L.Callback], **options: object) -> L.Trainer:
    return L.Trainer(
        max_steps=3, limit_val_batches=0, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, callbacks=callbacks,
        **options,
    )  # fmt: skip


def test_a_hook_that_is_written_inherited_or_given_is_called_and_no_other(tmp_path: Path) -> None:
    ended = []
    callbacks = [Counts(), Inherits(), LambdaCallback(on_train_batch_end=lambda *_: ended.append(1)), L.Callback()]
    run = trainer(tmp_path, callbacks, profiler=NoProfiler())
    skip_idle_hooks(run)
    run.fit(BoringModel())
    assert [callback.seen for callback in callbacks[:2]] == [3, 3]
    assert len(ended) == 3
    assert [callable(getattr(callbacks[3], hook)) for hook in STEP] == [False] * len(STEP)
    assert callable(L.Callback().on_train_batch_end)  # other callbacks are as they were


def test_every_hook_of_a_step_that_lightning_calls_is_known(tmp_path: Path) -> None:
    profiler = SimpleProfiler()
    trainer(tmp_path, [L.Callback()], profiler=profiler).fit(BoringModel())
    calls = {name.rpartition(".")[2] for name, durations in profiler.recorded_durations.items() if len(durations) >= 3}
    hooks = {name for name in calls if hasattr(L.Callback, name) and name.startswith("on_")}
    assert hooks == {hook for hook in STEP if "validation" not in hook}
