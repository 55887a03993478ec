"""When is how much due? Against values worked by hand."""

import pytest

from prunelab.core.schedule import Cubic, Rounds
from prunelab.core.time import to_step
from prunelab.core.types import Progress


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
    rounds = Rounds(rate=0.875, n=3, start=0.1, end=0.7)  # halves what is left, at steps 100, 300 and 500
    assert rounds(at(99)) is None
    assert rounds(at(100)) == rounds(at(299)) == pytest.approx(0.5)
    assert rounds(at(300)) == rounds(at(499)) == pytest.approx(0.75)
    assert rounds(at(500)) == rounds(at(1000)) == 0.875


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
    ("schedule", "told"),
    [
        (Rounds(0.5, n=5, start="8it", end="10it"), "5 rounds .* need 5 steps, but there are 2"),
        (Rounds(0.5, n=0), "n=0"),
        (Rounds(0.5, start=1.0), "need 1 steps, but there are 0"),
        (Cubic(0.5, start=0.5, end=0.5), "0 steps"),
        (Cubic(0.5, start=0.5, end=0.2), "-3 steps"),
        (Cubic(0.5, end="1it", every="5it"), "1 steps, fewer than one update every='5it'"),
        (Cubic(0.5, end="30ep"), "raise epochs"),
        (Cubic(0.5, end=1.0), "end=1.0 is the end of the run"),
    ],
)
def test_a_run_too_short_for_its_schedule_is_refused_with_the_remedy(schedule: Cubic | Rounds, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        schedule.check(at(0, total=10, epoch=1))


def test_schedules_that_fit_pass_their_check() -> None:
    for schedule in (
        Rounds(0.5),
        Rounds(0.5, n=5),
        Cubic(0.5),
        Cubic(0.5, start="1ep", end="4ep", every="1it"),
    ):
        schedule.check(at(0, total=10, epoch=1))
