"""Curves over epochs show when units were pruned and when the network became small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from charting import only, svg

from prunelab.report.figures import epochs, events
from prunelab.report.results import load

Add = Callable[..., Path]


def history(*sparsities: float) -> list[dict[str, Any]]:
    """An epoch of ten steps for each."""
    return [{"epoch": e, "step": 10 * e, "test_acc": e / 10, "sparsity": s} for e, s in enumerate(sparsities, start=1)]


@pytest.mark.parametrize(
    ("sparsities", "pruned"),
    [
        ((0.0, 0.0), ()),
        ((0.5, 0.5), (1,)),  # at initialisation
        ((0.0, 0.2, 0.2, 0.4), (2, 4)),  # in rounds
        ((0.2, 0.4, 0.5, 0.5), (1, 2, 3)),  # gradually
        ((0.5, 0.3, 0.4), (1, 3)),  # regrown in between
    ],
)
def test_an_epoch_prunes_if_more_is_removed_at_its_end_than_before(
    sparsities: tuple[float, ...], pruned: tuple[int, ...], add: Add
) -> None:
    [result], _ = load(add(history=history(*sparsities)).parent)
    assert result.pruned_epochs == pruned


@pytest.mark.parametrize(("step", "epoch"), [(0, 1), (9, 1), (10, 2), (19, 2), (30, 3), (None, None)])
def test_surgery_is_in_the_epoch_of_its_step(step: int | None, epoch: int | None, add: Add) -> None:
    [result], _ = load(add(history=history(0.5, 0.5, 0.5), surgery={"certificate": {}, "step": step}).parent)
    assert result.surgery_epoch == epoch  # 30 is after the last step, as on several devices


def test_of_a_stretch_of_epochs_its_ends_are_marked() -> None:
    assert events.ends((1, 2, 3, 7, 9, 10)) == {1, 3, 7, 9, 10}
    assert events.ends(()) == set()


def test_marks_stand_on_the_curve_and_are_explained_where_there_are_some(add: Add) -> None:
    add("none", 0.0, history=history(0, 0, 0))
    job = add("sp", 0.5, history=history(0, 0.5, 0.5), surgery={"certificate": {}, "step": 10})
    drawn = epochs.charts(only(job.parent))
    spec = drawn["accuracy_over_epochs-sp"]()
    assert [(row["event"], row["x"], row["mean"]) for row in spec["datasets"]["events"]] == [
        ("pruned", 2, 20),
        ("surgery", 2, 20),
    ]
    text = svg(spec)
    assert all(note in text for note in events.NOTES.values())
    plain = drawn["accuracy_over_epochs-none"]()
    assert "events" not in plain["datasets"]
    assert not any(note in svg(plain) for note in events.NOTES.values())


def test_a_result_without_the_step_of_its_surgery_is_read(add: Add) -> None:
    [result], _ = load(add(surgery={"certificate": {}}).parent)
    assert result.surgery_epoch is None
