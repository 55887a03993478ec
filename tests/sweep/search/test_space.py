"""The search space: Hydra's sweep syntax as distributions, and values written short without a change."""

import random

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from prunelab.sweep.search.space import Space, parse, rounded, written


def space(*overrides: str) -> Space:
    return parse(list(overrides), OverridesParser.create())


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("rate=interval(0.2,0.95)", FloatDistribution(0.2, 0.95)),
        ("lr=tag(log,interval(0.01,0.3))", FloatDistribution(0.01, 0.3, log=True)),
        ("rounds=int(interval(1,8))", IntDistribution(1, 8)),
        ("rounds=tag(int,log,interval(1,8))", IntDistribution(1, 8, log=True)),
        ("rounds=range(1,10,2)", IntDistribution(1, 9, step=2)),
        ("rounds=range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("rate=range(0.1,0.9,0.2)", FloatDistribution(0.1, 0.7, step=0.2)),
        ("rate=range(0.0,0.4,0.1)", FloatDistribution(0.0, 0.3, step=0.1)),  # Hydra itself would reach 0.4
        ("prune=usp,sp", CategoricalDistribution(("usp", "sp"))),
        ("prune=choice(usp,sp,usp)", CategoricalDistribution(("usp", "sp"))),
        ("x=shuffle(a,b,c)", CategoricalDistribution(("a", "b", "c"))),
        ("x=null,'b c',[1,2]", CategoricalDistribution(("null", "'b c'", "[1,2]"))),
    ],
)
def test_each_kind_of_sweep_becomes_its_distribution(override: str, distribution: object) -> None:
    [(key, values)] = space(override).searched.items()
    assert (key, values) == (override.partition("=")[0], distribution)


def test_everything_else_passes_through_as_it_was_written() -> None:
    read = space("epochs=2", "+trainer.gradient_clip_val=1.0", "~logger", "rate=0.2,0.4", "epochs=3")
    assert read.fixed == ("epochs=3", "+trainer.gradient_clip_val=1.0", "~logger")
    assert read.overrides({"rate": "0.4"}) == (*read.fixed, "rate=0.4")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rate=0.5", "nothing to search over"),
        ("rate=interval(0.9,0.2)", r"rate=interval\(0.9,0.2\): expected low < high"),
        ("lr=tag(log,interval(0,1))", "both above 0"),
        ("lr=tag(lgo,interval(0.1,1))", "tag lgo is not one of int, log"),
        ("rounds=range(1,2)", "at least two values"),
    ],
)
def test_an_impossible_space_is_refused(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space(override)


def test_corners_cover_both_ends_and_every_choice() -> None:
    corners = space("epochs=1", "rate=interval(0,0.5)", "prune=usp,sp,gmp").corners()
    assert corners == [
        ("epochs=1", "rate=0", "prune=usp"),
        ("epochs=1", "rate=0.5", "prune=sp"),
        ("epochs=1", "rate=0.5", "prune=gmp"),
    ]


@pytest.mark.parametrize(
    ("value", "short"), [(0.5, "0.5"), (1.0, "1"), (1e-05, "1e-05"), (0.1234567, "0.1234567"), (7, "7"), ("sp", "sp")]
)
def test_a_value_is_written_short_and_reads_back_the_same(value: object, short: str) -> None:
    assert written(value) == short  # type: ignore[arg-type]
    assert type(value)(short) == value


@pytest.mark.parametrize(
    ("values", "example", "short"),
    [
        (FloatDistribution(0.2, 0.95), 0.54321987, 0.5432),
        (FloatDistribution(0.999, 0.9999), 0.99912345678, 0.9991235),
        (FloatDistribution(1e-5, 1, log=True), 0.000123456, 0.0001235),
        (FloatDistribution(0.1, 0.7, step=0.2), 0.1 + 2 * 0.2, 0.5),
        (FloatDistribution(0.12344, 0.95), 0.123441, 0.12344),
    ],
)
def test_a_value_is_rounded_and_stays_in_its_range(values: FloatDistribution, example: float, short: float) -> None:
    assert rounded(example, values) == short
    for _ in range(100):
        assert values.low <= rounded(random.uniform(values.low, values.high), values) <= values.high
