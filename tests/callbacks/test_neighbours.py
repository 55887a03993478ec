"""Finding other callbacks, checking their order, calling their hooks."""

from types import SimpleNamespace

import lightning as L
import pytest

from prunelab.callbacks.neighbours import check_first, check_last, is_last_pruning_ahead, notify, of_kind, only
from prunelab.callbacks.penalize import Penalize
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.rewind import Rewind
from prunelab.channels.penalties import ScaleL1
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm


def pruning(start: float = 0.5) -> Pruning:
    return Pruning(Pruner(Norm(), Weight(), Uniform(), Rounds(rate=0.5, start=start)))


def trainer(*callbacks: L.Callback) -> L.Trainer:
    return SimpleNamespace(callbacks=list(callbacks))


def test_the_one_pruning_is_found_or_none() -> None:
    beside, single = Rewind(), pruning()
    assert only(trainer(beside, single), Pruning, beside) is single
    assert only(trainer(beside), Pruning, beside) is None
    assert of_kind(trainer(single, beside, single), Pruning) == [single, single]


def test_a_second_pruning_is_an_error_that_names_the_callback() -> None:
    beside = Rewind()
    with pytest.raises(ValueError, match="Rewind works beside one Pruning callback, there are 2: leave one of them"):
        only(trainer(pruning(), beside, pruning()), Pruning, beside)


def test_order_is_checked_both_ways() -> None:
    penalize, rewind = Penalize(ScaleL1(0.1)), Rewind()
    both = trainer(penalize, pruning(), rewind)
    check_first(both, penalize, Pruning, why="which is late")
    check_last(both, rewind, Pruning, why="and is early")
    with pytest.raises(ValueError, match="Pruning comes before Rewind, which is late: list Rewind first"):
        check_first(both, rewind, Pruning, why="which is late")
    with pytest.raises(ValueError, match="Rewind comes after Penalize and is early: list Rewind before it"):
        check_last(both, penalize, Rewind, why="and is early")


def test_hooks_are_called_where_there_are_any() -> None:
    calls = []

    class Listener(L.Callback):
        def on_pruned(self, *args: object) -> None:
            calls.append(args)

    all_of_them = trainer(Listener(), pruning(), Listener())
    notify(all_of_them, "on_pruned", 1, 2)
    assert calls == [(all_of_them, 1, 2)] * 2


def test_a_last_pruning_before_any_step_is_refused() -> None:
    start, end = Progress(0, 10, 5), Progress(10, 10, 5)
    pruner = pruning().pruner
    assert is_last_pruning_ahead(pruner, start, "")
    pruner.rate = 0.5
    assert not is_last_pruning_ahead(pruner, end, "")
    with pytest.raises(ValueError, match="pruned to rate=0.5 before the first step, nothing is trained: start the"):
        is_last_pruning_ahead(pruning(start=0.0).pruner, start, "nothing is trained")
