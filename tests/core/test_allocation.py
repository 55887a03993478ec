"""Allocations: exact counts in every layer, and no layer dies."""

import logging
import math
from itertools import product

import pytest
import torch

from prunelab.core.allocation import ERK, Allocation, Explicit, Global, Uniform, UniformPlus, Zeros, erk_counts
from prunelab.core.isomorphic import Isomorphic


def gone(masks: dict[str, torch.Tensor]) -> dict[str, int]:
    return {name: int((~mask).sum()) for name, mask in masks.items()}


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.33, 0.5, 0.8, 0.9])
def test_uniform_removes_round_of_rate_times_n_in_each_layer_also_of_equal_scores(rate: float) -> None:
    units = {"a": torch.ones(7, 3), "b": torch.arange(50.0).view(5, 10), "c": torch.zeros(11)}
    assert gone(Uniform()(units, rate)) == {name: round(rate * u.numel()) for name, u in units.items()}


def test_global_removes_the_smallest_wherever_they_are() -> None:
    units = {"a": torch.tensor([5.0, 1.0, 7.0]), "b": torch.tensor([[2.0, 9.0], [3.0, 8.0]])}
    keep = Global()(units, 3 / 7)
    assert keep["a"].tolist() == [True, False, True]
    assert keep["b"].tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.77])
def test_global_meets_its_rate_exactly_when_all_scores_are_equal(rate: float) -> None:
    units = {"a": torch.ones(13), "b": torch.ones(4, 5), "c": torch.ones(67)}
    assert sum(gone(Global()(units, rate)).values()) == round(rate * 100)


def test_a_global_threshold_that_empties_a_layer_keeps_its_best_unit_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    units = {"weak": torch.tensor([0.1, 0.3, 0.2]), "strong": torch.tensor([5.0, 6.0, 7.0, 8.0])}
    with caplog.at_level(logging.WARNING):
        keep = Global()(units, 4 / 7)
    assert keep["weak"].tolist() == [False, True, False]
    assert keep["strong"].tolist() == [
        False,
        False,
        True,
        True,
    ]  # one more goes here, so that the rate is met
    assert "empties weak" in caplog.text


def test_global_refuses_a_rate_that_leaves_less_than_a_unit_a_layer() -> None:
    with pytest.raises(ValueError, match="would keep 1 units in 2 layers"):
        Global()({"a": torch.ones(5), "b": torch.ones(5)}, 0.9)


def test_uniform_never_removes_the_last_unit_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert Uniform()({"tiny": torch.tensor([1.0, 2.0])}, 0.8)["tiny"].tolist() == [False, True]
    assert "tiny: rate=0.8 would remove all its 2 units" in caplog.text


def test_explicit_rates_hold_for_matching_layers_and_ramp_up_with_the_others() -> None:
    units = {name: torch.arange(10.0) for name in ("conv1.weight", "conv2.weight", "fc.weight")}
    explicit = Explicit({"conv1.*": 0.0, "fc.*": 0.9}, target=0.6)
    assert gone(explicit(units, 0.6)) == {"conv1.weight": 0, "conv2.weight": 6, "fc.weight": 9}
    assert gone(explicit(units, 0.4)) == {"conv1.weight": 0, "conv2.weight": 4, "fc.weight": 6}


def test_an_explicit_rate_for_no_layer_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"rates\['fc2'\] matches no layer; there are: fc1"):
        Explicit({"fc2": 0.5}, target=0.5)({"fc1": torch.ones(3)}, 0.5)


def test_rates_without_effect_are_refused() -> None:
    units = {"conv1.weight": torch.ones(3), "fc.weight": torch.ones(3)}
    with pytest.raises(
        ValueError, match=r"rates\['conv\*'\] matches only layers that one before it matches; there are"
    ):
        Explicit({"*1*": 0.5, "conv*": 0.2}, target=0.5)(units, 0.5)
    for rate in (1.0, -0.1, "half"):
        with pytest.raises(ValueError, match=rf"rates\['fc\*'\]={rate}: expected a fraction"):
            Explicit({"fc*": rate}, target=0.5)(units, 0.5)


def test_isomorphic_compares_like_with_like_by_hand() -> None:
    structures = {"a": (("Conv2d", 0),), "b": (("Linear", 0),), "c": (("Conv2d", 0),)}
    units = {
        "a": torch.tensor([1.0, 6.0, 5.0]),
        "b": torch.tensor([[70.0, 90.0], [80.0, 60.0]]),
        "c": torch.tensor([2.0]),
    }
    keep = Isomorphic(structures)(units, 0.25)  # one of 4 in a and c, one of 4 in b, whose scores are larger
    assert {name: kept.tolist() for name, kept in keep.items()} == {
        "a": [False, True, True],
        "b": [[True, True], [True, False]],
        "c": [True],
    }
    assert list(keep) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "allocation", [Uniform(), Global(), Explicit({}, 0.5), ERK(), UniformPlus(), Zeros(), Isomorphic()]
)
def test_nan_scores_are_refused_by_layer(allocation: Allocation) -> None:
    with pytest.raises(ValueError, match="sick: its scores contain NaN"):
        allocation({"well": torch.ones(4), "sick": torch.tensor([1.0, torch.nan]), "last": torch.ones(4)}, 0.5)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1 / 3])
def test_global_compares_scores_that_float32_cannot_tell_apart(scale: float) -> None:
    units = {
        "a": torch.tensor([1.0, 3.0, 1 + 1e-12], dtype=torch.float64) * scale,
        "b": torch.tensor([[2.0, 4.0], [1 + 2e-12, 1 + 3e-12]], dtype=torch.float64) * scale,
    }
    keep = Global()(units, 3 / 7)
    assert keep["a"].tolist() == [False, True, False]
    assert keep["b"].tolist() == [[True, True], [False, True]]


def test_the_best_unit_of_an_emptied_layer_is_found_beyond_float32() -> None:
    units = {
        "weak": torch.tensor([1e100, 3e100, 2e100], dtype=torch.float64),
        "strong": torch.tensor([7e200, 6e200, 5e200, 8e200], dtype=torch.float64),
    }
    keep = Global()(units, 4 / 7)
    assert keep["weak"].tolist() == [False, True, False]
    assert keep["strong"].tolist() == [True, False, False, True]


def test_global_compares_scores_of_several_types() -> None:
    units = {"half": torch.tensor([1.0, 3.0]).half(), "double": torch.tensor([1e300, 2.0], dtype=torch.float64)}
    assert {n: k.tolist() for n, k in Global()(units, 0.5).items()} == {"half": [False, True], "double": [True, False]}


def erk_by_brute_force(shapes: list[tuple[int, ...]], total: int) -> tuple[list[float], list[bool]]:
    """Units kept before rounding, and which layers stay dense: the set for which one epsilon fits all others."""
    sums, sizes = [sum(s) for s in shapes], [math.prod(s) for s in shapes]
    for dense in product([False, True], repeat=len(shapes)):
        rest = sum(s for s, d in zip(sums, dense, strict=True) if not d)
        left = total - sum(n for n, d in zip(sizes, dense, strict=True) if d)
        if not rest or left < 0:
            continue
        epsilon = left / rest
        if all((epsilon * s >= n) == d for s, n, d in zip(sums, sizes, dense, strict=True)):
            counts = [n if d else epsilon * s for s, n, d in zip(sums, sizes, dense, strict=True)]
            return counts, list(dense)
    raise AssertionError("no set of dense layers fits")


NET = [(16, 3, 3, 3), (16, 16, 3, 3), (32, 16, 3, 3), (32, 16, 1, 1), (64, 32, 3, 3), (10, 64)]


def test_erk_by_hand() -> None:
    units = {"small": torch.rand(2, 2), "large": torch.rand(10, 10)}  # sums of dimensions 4 and 20
    assert gone(ERK()(units, 1 - 12 / 104)) == {"small": 4 - 2, "large": 100 - 10}  # epsilon 1/2
    assert gone(ERK()(units, 1 - 52 / 104)) == {"small": 0, "large": 100 - 48}  # epsilon 48/20, small is dense


def test_erk_rounds_to_the_nearest() -> None:
    # epsilon 6/41, so 11 and 30 times it are 1.6 and 4.4
    assert erk_counts([torch.Size((5, 6)), torch.Size((14, 16))], 6) == [2, 4]


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8, 0.9, 0.98])
def test_erk_densities_follow_their_closed_form(rate: float) -> None:
    units = {str(i): torch.rand(shape) for i, shape in enumerate(NET)}
    n = sum(u.numel() for u in units.values())
    expected, dense = erk_by_brute_force(NET, n - round(rate * n))
    kept = {name: int(mask.sum()) for name, mask in ERK()(units, rate).items()}
    assert n - sum(kept.values()) == round(rate * n)
    rest = sum(sum(shape) for shape, d in zip(NET, dense, strict=True) if not d)
    for shape, count, exact, d in zip(NET, kept.values(), expected, dense, strict=True):
        # Half a unit of its own, and a share of what rounding the others has moved epsilon by.
        assert abs(count - exact) <= (0 if d else 0.5 + 0.5 * len(NET) * sum(shape) / rest)
    if rate <= 0.8:
        assert any(dense)


def test_erk_keeps_the_best_of_each_layer() -> None:
    torch.manual_seed(0)
    units = {"a": torch.randn(6, 5), "b": torch.randn(4, 3, 3, 3)}
    for name, mask in ERK()(units, 0.7).items():
        assert 0 < mask.sum() < mask.numel()
        assert units[name][mask].min() > units[name][~mask].max()


def random_shapes(seed: int) -> list[torch.Size]:
    g = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=g))

    return [torch.Size(draw(1, 6) for _ in range(draw(1, 5))) for _ in range(draw(1, 8))]


@pytest.mark.parametrize("seed", range(12))
def test_erk_counts_add_up_for_every_total_and_never_rise_as_it_falls(seed: int) -> None:
    shapes = random_shapes(seed)
    sizes = [math.prod(shape) for shape in shapes]
    before = sizes
    for total in range(sum(sizes), len(sizes) - 1, -1):
        counts = erk_counts(shapes, total)
        assert sum(counts) == total
        assert all(1 <= now <= last for now, last in zip(counts, before, strict=True))
        before = counts
    assert before == [1] * len(sizes)


@pytest.mark.parametrize("seed", range(30))
def test_erk_meets_any_rate_exactly(seed: int) -> None:
    g = torch.Generator().manual_seed(100 + seed)
    units = {str(i): torch.randint(3, shape, generator=g).float() for i, shape in enumerate(random_shapes(seed))}
    n = sum(u.numel() for u in units.values())
    for rate in torch.rand(10, generator=g).tolist():
        if n - round(rate * n) < len(units):
            with pytest.raises(ValueError, match=f"would keep {n - round(rate * n)} units in {len(units)} layers"):
                ERK()(units, rate)
        else:
            assert sum(gone(ERK()(units, rate)).values()) == round(rate * n)


def test_equal_layers_share_equally_and_the_first_ones_take_the_rest() -> None:
    shapes = [torch.Size((5, 4))] * 3
    assert erk_counts(shapes, 31) == [11, 10, 10]
    assert erk_counts(shapes, 32) == [11, 11, 10]
    assert erk_counts(shapes, 33) == [11, 11, 11]
    assert erk_counts([torch.Size((5, 4)), torch.Size((2, 2)), torch.Size((4, 5))], 23) == [10, 4, 9]


def test_erk_keeps_a_unit_of_the_smallest_share() -> None:
    shapes = [torch.Size((1, 1, 2)), torch.Size((40, 40))]  # 4 : 80
    assert erk_counts(shapes, 7) == [1, 6]
    assert erk_counts(shapes, 2) == [1, 1]


def test_zeros_go_and_nothing_else_whatever_the_rate() -> None:
    units = {
        "a": torch.tensor([0.0, 1e-30, -2.0, -0.0]),
        "b": torch.tensor([[3.0, -torch.inf], [0.0, 4.0]]),
        "c": torch.tensor([5.0, 6.0]),
    }
    for rate in (0.1, 0.9):
        keep = Zeros()(units, rate)
        assert keep["a"].tolist() == [False, True, True, False]
        assert keep["b"].tolist() == [[True, False], [False, True]]
        assert keep["c"].all()


def test_zeros_at_rate_0_are_switched_off() -> None:
    assert all(mask.all() for mask in Zeros()({"a": torch.zeros(3)}, 0.0).values())
    with pytest.raises(ValueError, match="rate=1: expected a fraction"):
        Zeros()({"a": torch.zeros(3)}, 1)


def test_zeros_leave_the_best_unit_of_a_layer_that_is_zero_altogether(caplog: pytest.LogCaptureFixture) -> None:
    keep = Zeros()({"a": torch.tensor([-torch.inf, 0.0, 0.0]), "b": torch.tensor([1.0, 2.0])}, 0.5)
    assert keep["a"].tolist() == [False, True, False]
    assert "all units of a score 0: the best is kept" in caplog.text


def test_it_is_said_where_nothing_is_zero(caplog: pytest.LogCaptureFixture) -> None:
    assert all(mask.all() for mask in Zeros()({"a": torch.ones(3)}, 0.5).values())
    assert "no unit scores 0, so nothing is removed" in caplog.text


def test_sparing_one_layer_empties_no_other() -> None:
    units = {"a": torch.tensor([10.0, 9.0, 8.0]), "b": torch.tensor([1.0]), "c": torch.tensor([0.0])}
    keep = Global()(units, 0.2)
    assert {name: mask.tolist() for name, mask in keep.items()} == {"a": [True, True, False], "b": [True], "c": [True]}


def layers(*sizes: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {name: torch.rand(n, generator=g) for name, n in zip("abcd", sizes, strict=False)}


def test_erk_can_leave_the_first_layer_whole_and_meets_the_rate_all_the_same() -> None:
    units = {"a": torch.rand(4, 3, 3, 3), "b": torch.rand(8, 4, 3, 3), "c": torch.rand(10, 8)}
    masks = ERK(dense_first=True)(units, 0.7)
    assert masks["a"].all()
    rest = erk_counts([units["b"].shape, units["c"].shape], 476 - round(0.7 * 476) - 108)
    assert [int(masks[name].sum()) for name in "bc"] == rest
    assert sum(gone(masks).values()) == round(0.7 * 476)
    with pytest.raises(ValueError, match=r"rate=0.8: would keep 95 units, the first layer alone has 108; lower"):
        ERK(dense_first=True)(units, 0.8)


def test_uniform_plus_by_hand() -> None:
    """Of 10 + 100 + 200 + 90 units 85 % are 340: 72 of the last, as 80 % are the most, and 268 of 300 in between."""
    assert gone(UniformPlus()(layers(10, 100, 200, 90), 0.85)) == {"a": 0, "b": 89, "c": 179, "d": 72}
    assert gone(UniformPlus()(layers(10, 100, 200, 90), 0.39)) == {
        "a": 0,
        "b": 40,
        "c": 80,
        "d": 36,
    }  # 40 % of the rest
    with pytest.raises(
        ValueError, match=r"rate=0.95: with the first layer dense and the last at most 0.8, at most 0.92"
    ):
        UniformPlus()(layers(10, 100, 200, 90), 0.95)
    with pytest.raises(ValueError, match="there are 2: use uniform"):
        UniformPlus()(layers(4, 4), 0.5)


@pytest.mark.parametrize("allocation", [UniformPlus(), ERK(dense_first=True)])
def test_a_layer_never_gets_weights_back_as_the_rate_rises(allocation: Allocation) -> None:
    units, before = layers(7, 61, 133, 29), dict.fromkeys("abcd", 0)
    for removed in range(0, 190):
        now = gone(allocation(units, removed / 230))
        assert sum(now.values()) == removed
        assert all(now[name] >= before[name] for name in "abcd")
        before = now
