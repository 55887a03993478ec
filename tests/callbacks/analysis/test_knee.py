"""Knees of curves drawn by hand, and the rates around them."""

import pytest

from prunelab.callbacks.analysis.knee import finer, grid, knee, window

RATES = [0.0, 0.2, 0.4, 0.6, 0.8]


@pytest.mark.parametrize(
    ("accuracies", "tolerance", "expected"),
    [
        ([0.90, 0.90, 0.90, 0.50, 0.10], 0.01, 0.4),
        ([0.90, 0.50, 0.40, 0.30, 0.10], 0.01, 0.0),  # falls at once
        ([0.90, 0.90, 0.90, 0.90, 0.89], 0.01, None),  # never by more than the tolerance, which is met exactly
        ([0.80, 0.79, 0.79, 0.78, 0.10], 0.01, 0.4),  # where 0.80 - 0.79 is a little more than 0.01
        ([0.90, 0.90, 0.70, 0.90, 0.10], 0.01, 0.2),  # what comes back after a fall does not count
        ([0.90, 0.95, 0.90, 0.88, 0.10], 0.01, 0.4),  # measured from rate 0, not from the best
        ([0.90, 0.88, 0.85, 0.80, 0.10], 0.1, 0.6),
        ([0.90, 0.90, 0.90, 0.90, 0.10], 0.0, 0.6),
    ],
)
def test_the_knee_is_the_last_rate_before_more_than_the_tolerance_is_lost(
    accuracies: list[float], tolerance: float, expected: float | None
) -> None:
    assert knee(RATES, accuracies, tolerance) == expected


def test_a_longer_scan_does_not_move_a_knee() -> None:
    accuracies = [0.9, 0.9, 0.9, 0.5, 0.1]
    assert knee(RATES[:4], accuracies[:4], 0.01) == knee(RATES, accuracies, 0.01)


def test_a_grid_has_equal_steps_or_the_rates_given_and_always_zero() -> None:
    assert grid(4) == [0.0, 0.25, 0.5, 0.75]
    assert grid(100)[83] == 0.83
    assert grid([0.9, 0.5, 0.5]) == [0.0, 0.5, 0.9]


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (1, "rates=1: expected at least 2"),
        (-3, "rates=-3: expected at least 2"),
        ([0.5, 1.0], r"rates: 1.0 is no fraction in \[0, 1\)"),
        ([-0.1], "rates: -0.1 is no fraction"),
        ([50], "rates: 50 is no fraction"),
        ([float("nan")], "rates: nan is no fraction"),
        ([], r"rates=\[\]: expected at least one above 0"),
        ([0], r"rates=\[0\]: expected at least one above 0"),
    ],
)
def test_rates_that_are_none_are_refused(rates, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(rates)


def test_a_window_reaches_to_both_sides_as_far_as_there_are_rates() -> None:
    assert window(RATES, 0.4, 1) == (0.2, 0.6)
    assert window(RATES, 0.0, 2) == (0.0, 0.4)
    assert window(RATES, 0.8, 2) == (0.4, 0.8)


def test_finer_rates_divide_each_step_of_the_window() -> None:
    assert finer(RATES, (0.2, 0.6), 4) == [0.25, 0.3, 0.35, 0.45, 0.5, 0.55]
    assert finer(grid(100), (0.82, 0.83), 5) == [0.822, 0.824, 0.826, 0.828]
    assert finer(RATES, (0.2, 0.6), 1) == []
