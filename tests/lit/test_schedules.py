"""Learning-rate schedules over 100 steps, compared with values worked out by hand."""

import pytest
import torch

from prunelab.lit.schedules import cosine, multi_step, one_cycle


def rates(make, steps: int = 100, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 2.0)
    schedule = make(optimizer, steps, **options)
    recorded = []
    for _ in range(steps):
        recorded.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return recorded


def test_one_cycle_rises_during_warmup_and_falls_to_its_end() -> None:
    lrs = rates(one_cycle, warmup=0.2, start=0.1, end=0.01)
    assert lrs[0] == pytest.approx(0.2)
    assert lrs.index(max(lrs)) == 19
    assert max(lrs) == pytest.approx(2.0)
    assert lrs[-1] == pytest.approx(0.02)


def test_cosine_falls_to_zero_after_its_warmup() -> None:
    plain = rates(cosine)
    assert plain[0] == 2.0
    assert plain[50] == pytest.approx(1.0)
    assert plain[-1] < 0.001
    warm = rates(cosine, warmup=0.1)
    assert warm.index(max(warm)) == 10
    assert warm[0] < 0.1


def test_multi_step_decays_at_fractions_of_the_run() -> None:
    lrs = rates(multi_step)
    assert [lrs[i] for i in (0, 49, 50, 74, 75, 99)] == pytest.approx([2.0, 2.0, 0.2, 0.2, 0.02, 0.02])


@pytest.mark.parametrize("make", [one_cycle, cosine])
def test_a_run_may_be_as_short_as_one_step(make) -> None:
    for steps in range(1, 12):
        for warmup in (0.0, 0.1, 0.2, 0.25, 0.5, 0.9):
            assert all(0 <= rate <= 2.0 for rate in rates(make, steps, warmup=warmup)), (steps, warmup)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (one_cycle, {"warmup": 1.5}),
        (one_cycle, {"warmup": 1}),
        (one_cycle, {"start": -0.1}),
        (cosine, {"warmup": 2.0}),
        (multi_step, {"gamma": -0.1}),
        (multi_step, {"milestones": (0.5, 75)}),
    ],
)
def test_a_fraction_that_is_none_is_refused(make, options) -> None:
    with pytest.raises(ValueError, match="expected a fraction"):
        rates(make, **options)
