"""Times as users type them."""

import pytest

from prunelab.core.time import seconds


@pytest.mark.parametrize(
    ("every", "expected"), [("90s", 90), ("5min", 300), ("1.5h", 5400), ("500it", None), ("3ep", None)]
)
def test_every_is_of_time_or_of_steps(every: str, expected: float | None) -> None:
    assert seconds(every) == expected


@pytest.mark.parametrize("every", ["5", "5 min", "-1s", "often", 0.5, "0.5", "0s", "0it"])
def test_every_must_be_one_of_them(every: str) -> None:
    with pytest.raises(ValueError, match=f"every={every}: expected steps"):
        seconds(every)
