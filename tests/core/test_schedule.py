"""Schedules against values worked out by hand."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from prunelab.core.schedule import Cubic, Rounds
from prunelab.core.time import Progress, to_step


def at(step: int, total: int = 1000, epoch: int = 100) -> Progress:
    return Progress(step, total, epoch)


@pytest.mark.parametrize(
    ("when", "step"), [("3ep", 300), ("0.5ep", 50), ("70it", 70), (0.25, 250), (0, 0), (1.0, 1000)]
)
def test_times_are_epochs_steps_or_fractions(when: str | float, step: int) -> None:
    assert to_step(when, at(0)) == step


@pytest.mark.parametrize("when", ["3", "ep", "-1ep", 1.5, -0.1, True, "1e2it"])
def test_other_times_are_refused_by_value(when: str | float) -> None:
    with pytest.raises(ValueError, match=r"expected .*3ep"):
        to_step(when, at(0))


def test_a_time_after_the_end_says_so_and_how_long_the_run_is() -> None:
    with pytest.raises(ValueError, match=r"'30ep' is step 3000, but the run ends at step 1000 \(10 epochs\)"):
        to_step("30ep", at(0))


def test_one_shot_is_due_from_its_start_on() -> None:
    once = Rounds(rate=0.8, start=0.5)
    assert [once(at(s)) for s in (0, 499, 500, 501, 1000)] == [None, None, 0.8, 0.8, 0.8]


def test_rounds_remove_the_same_share_of_what_is_left_and_meet_the_rate_exactly() -> None:
    rounds = Rounds(rate=0.875, n=3, start=0.1)  # halves what is left, at steps 100, 400 and 700
    assert rounds(at(99)) is None
    assert rounds(at(100)) == rounds(at(399)) == pytest.approx(0.5)
    assert rounds(at(400)) == rounds(at(699)) == pytest.approx(0.75)
    assert rounds(at(700)) == rounds(at(1000)) == 0.875


def test_tickets_lose_a_fifth_of_what_is_left_until_the_last_round_meets_the_rate() -> None:
    tickets = Rounds(rate=0.5, n=None, start="2ep", training="2ep", rewind="1ep")  # 0.2, 0.36, 0.488, then 0.5
    assert tickets.rounds == 4
    assert tickets.length(epoch=100) == 600
    due = [tickets(at(s, total=600)) for s in (199, 200, 299, 300, 400, 499, 500, 600)]
    assert due == [None, *map(pytest.approx, (0.2, 0.2, 0.36, 0.488, 0.488)), 0.5, 0.5]


@pytest.mark.parametrize(
    ("rate", "share", "rounds"), [(0, 0.2, 0), (0.2, 0.2, 1), (0.488, 0.2, 3), (0.4881, 0.2, 4), (0.875, 0.5, 3)]
)
def test_the_number_of_rounds_follows_from_the_share(rate: float, share: float, rounds: int) -> None:
    assert Rounds(rate=rate, n=None, share=share).rounds == rounds


def test_a_retraining_from_an_odd_step_lasts_whole_epochs() -> None:
    """A training of 5 epochs from step 130 on: 370 steps are left of it, 3 epochs of them are trained."""
    assert Rounds(rate=0.5, n=2, start="5ep", training="5ep", rewind="130it").length(epoch=100) == 500 + 2 * 300


def test_at_rate_zero_no_round_lengthens_the_run() -> None:
    none = Rounds(rate=0.0, n=2, start="5ep", training="5ep")
    assert none.length(epoch=100) is None
    assert none(at(1000)) is None


def test_on_given_weights_the_first_pruning_is_at_once() -> None:
    assert Rounds(rate=0.5, n=2, start="0ep", training="5ep").length(epoch=100) == 1000


@pytest.mark.parametrize(
    ("rewind", "message"),
    [
        ("6ep", r"rewind='6ep' is step 60, but the run ends at step 50 \(5 epochs\)"),
        ("45it", "rewind='45it' leaves 5 steps of a training of '5ep', less than one epoch"),
        (0.1, 'rewind=0.1: expected 0, "500it" or "3ep"'),
        ("soon", "rewind='soon': expected"),
    ],
)
def test_a_rewind_that_leaves_nothing_to_train_is_refused(rewind: str | float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rounds(rate=0.5, start="5ep", training="5ep", rewind=rewind).length(epoch=10)


def test_cubic_follows_equation_1_between_its_updates() -> None:
    ramp = Cubic(rate=0.8, start=0.1, end=0.5, every="100it")
    assert ramp(at(99)) is None
    assert ramp(at(100)) == 0.0
    assert ramp(at(299)) == pytest.approx(0.8 * (1 - 0.75**3))  # the update of step 200, a quarter of the way
    assert ramp(at(300)) == pytest.approx(0.8 * (1 - 0.5**3))
    assert ramp(at(500)) == ramp(at(1000)) == 0.8


def test_cubic_ends_at_the_rate_when_updates_do_not_divide_the_ramp() -> None:
    assert Cubic(rate=0.3, start=0, end="7it", every="3it")(at(7)) == 0.3


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Rounds(0.5, n=5, start="8it"), "5 rounds .* need 5 steps, but there are 2"),
        (Rounds(0.5, n=2, start="6it", training="3it"), "2 rounds .* need 6 steps, but there are 4: raise epochs"),
        (Rounds(0.5, n=None, share=1.0), "share=1.0: expected a fraction"),
        (Rounds(0.5, n=0), "n=0"),
        (Rounds(0.5, start=1.0), "need 1 steps, but there are 0"),
        (Cubic(0.5, start=0.5, end=0.5), "0 steps"),
        (Cubic(0.5, start=0.5, end=0.2), "-3 steps"),
        (Cubic(0.5, end="1it", every="5it"), "1 steps, fewer than one update every='5it'"),
        (Cubic(0.5, end="30ep"), "raise epochs"),
        (Cubic(0.5, end=1.0), "end=1.0 is the end of the run, 10 steps.*raise epochs"),
    ],
)
def test_a_run_too_short_for_its_schedule_is_refused_with_the_remedy(schedule: Cubic | Rounds, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule.check(at(0, total=10, epoch=1))


def test_schedules_that_fit_pass_their_check() -> None:
    for schedule in (
        Rounds(0.5),
        Rounds(0.5, n=5),
        Cubic(0.5),
        Cubic(0.5, start="1ep", end="4ep", every="1it"),
    ):
        schedule.check(at(0, total=10, epoch=1))


@pytest.mark.parametrize("schedule", [Cubic, Rounds])
@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (80, "rate=80: .*; for 80 % write rate=0.8"),
        (-1, r"rate=-1: expected a fraction in \[0, 1\)"),
        (1.0, "rate=1.0: expected a fraction"),
        ("0.5", "rate=0.5: .*; write the number 0.5, not text"),
        (None, "rate=None: expected a fraction"),
        (True, "rate=True: expected a fraction"),
        (10**400, "rate=10.*: expected a fraction"),
        (b"0.5", "rate=b'0.5': expected a fraction"),
        (torch.tensor([0.5, 0.6]), "rate=tensor.*: expected a fraction"),
    ],
)
def test_a_rate_that_is_none_is_told_when_the_schedule_is_made(schedule: Any, rate: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(rate)


@pytest.mark.parametrize("rate", [np.float32(0.5), torch.tensor(0.5), Fraction(1, 2)], ids=["numpy", "torch", "exact"])
def test_a_rate_may_be_any_number(rate: Any) -> None:
    """Of Python's own in the end: a checkpoint with one of another kind cannot be read."""
    for schedule in (Cubic(rate), Rounds(rate)):
        assert (schedule.rate, type(schedule.rate)) == (0.5, float)
