"""A report opens with sentences that are counted from its results, and say what they do not know."""

from collections.abc import Callable
from pathlib import Path

import pytest

from prunelab.report.confidence import interval
from prunelab.report.groups import group
from prunelab.report.opening import sentences
from prunelab.report.results import load
from prunelab.report.tables.table import rows

Add = Callable[..., Path]


def opened(study: Path) -> list[str]:
    return sentences([(members, rows(members)) for members in group(load(study)[0])])


def test_best_and_most_pruned_are_found_by_their_change(add: Add) -> None:
    for seed, shift in enumerate((0.0, 0.02)):
        add("none", 0.0, seed, accuracy=0.9 + shift)
        add("usp", 0.5, seed, accuracy=0.89 + shift + 0.01 * seed)
        study = add("sp", 0.8, seed, accuracy=0.7 + shift).parent
    [text] = opened(study)
    low, high = interval([-1.0, 0.0]) or pytest.fail("no interval")
    assert text.startswith(
        "sp and usp at 2 rates: keras_cnn on image_folder, 10 epochs, 2 seeds. Without pruning: 91.00 %"
    )
    assert "Best of 2 pruned settings: usp at rate 0.5, which lost 0.50 points (n = 2, " in text
    assert f"95 % interval of the change {low:+.2f} to {high:+.2f})." in text
    assert "Most pruned: sp at rate 0.8, which lost 20.00 points (n = 2," in text


def test_of_a_single_seed_it_says_that_there_is_no_interval(add: Add) -> None:
    add("none", 0.0, accuracy=0.8)
    [text] = opened(add("usp", 0.5, accuracy=0.81).parent)
    assert text.endswith(
        "Without pruning: 80.00 % test accuracy (n = 1, so no interval). "
        "usp at rate 0.5 gained 1.00 points (n = 1, so no interval)."
    )


def test_a_change_from_another_network_than_the_one_named_before_it_says_so(add: Add) -> None:
    """Weights of one bit are binary at rate 0 too."""
    for method, rate, accuracy in (("none", 0.0, 0.8), ("binary", 0.0, 0.7), ("binary", 0.5, 0.6), ("sp", 0.0, 0.8)):
        add(method, rate, accuracy=accuracy)
    [text] = opened(add("sp", 0.8, accuracy=0.5).parent)
    assert "binary at rate 0.5, which lost 10.00 points from its own rate 0 (n = 1" in text
    assert "sp at rate 0.8, which lost 30.00 points (n = 1" in text


def test_without_an_unpruned_network_no_change_is_claimed(add: Add) -> None:
    [text] = opened(add("usp", 0.5, accuracy=0.5).parent)
    assert "no change is known. Best of 1 pruned setting: usp at rate 0.5, 50.00 % (n = 1, so no interval)." in text
    assert "lost" not in text


def test_a_study_that_prunes_nothing_has_its_accuracy_only(add: Add) -> None:
    [text] = opened(add("none", 0.0, accuracy=0.5).parent)
    assert text == (
        "none: keras_cnn on image_folder, 10 epochs, 1 seed. "
        "Without pruning: 50.00 % test accuracy (n = 1, so no interval)."
    )


def test_further_groups_are_counted(add: Add) -> None:
    for i in range(4):
        study = add(folder=f"epochs={i}", comparable=str(i), config={"epochs": i}).parent
    assert len(opened(study)) == 4
    assert opened(study)[-1] == "1 more group: see the tables."


def test_a_change_from_a_network_of_fewer_epochs_says_so(add: Add) -> None:
    add("none", 0.0, accuracy=0.8)
    [text] = opened(add("neuron", 0.5, accuracy=0.81, trained=20).parent)
    assert "neuron at rate 0.5 gained 1.00 points with 20 epochs of training in place of 10 (n = 1" in text
