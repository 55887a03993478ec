"""Law 1: exactly k, the largest, ties by position."""

import pytest
import torch

from prunelab.core.numbers.selection import keep_top, pruned_count


def by_sorting(scores: torch.Tensor, k: int) -> torch.Tensor:
    flat = scores.flatten().tolist()
    kept = sorted(range(len(flat)), key=lambda i: (-flat[i], i))[:k]
    mask = torch.zeros(len(flat), dtype=torch.bool)
    mask[kept] = True
    return mask.view_as(scores)


@pytest.mark.parametrize("seed", range(5))
def test_keep_top_equals_a_stable_sort_also_among_many_ties(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    scores = torch.randint(-3, 4, (7, 5, 2), generator=g).float()
    for k in range(scores.numel() + 1):
        assert torch.equal(keep_top(scores, k), by_sorting(scores, k))


def test_equal_scores_lose_their_last_positions_first() -> None:
    assert keep_top(torch.ones(5), 2).tolist() == [True, True, False, False, False]


def test_minus_infinity_is_kept_only_when_nothing_else_is_left() -> None:
    scores = torch.tensor([-torch.inf, 0.0, -torch.inf, -5.0])
    assert keep_top(scores, 2).tolist() == [False, True, False, True]
    assert keep_top(scores, 3).tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("n", "rate", "gone"), [(10, 0.0, 0), (10, 0.2, 2), (64, 0.8, 51), (3, 0.5, 2), (864, 0.999, 863)]
)
def test_pruned_count_is_round_of_rate_times_n(n: int, rate: float, gone: int) -> None:
    assert pruned_count(n, rate) == gone


@pytest.mark.parametrize("rate", [-0.1, 1.0, 20, float("nan")])
def test_a_rate_that_is_no_fraction_is_refused_by_value(rate: float) -> None:
    with pytest.raises(ValueError, match=f"rate={rate}"):
        pruned_count(10, rate)
