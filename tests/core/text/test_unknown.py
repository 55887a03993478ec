"""Names that do not exist, and the nearest that do."""

from prunelab.core.text.unknown import MOST, unknown


def test_the_nearest_names_come_first_and_all_are_listed() -> None:
    assert str(unknown("criterion", "tailor", ["taylor", "l1"])) == (
        "criterion='tailor': did you mean taylor? there are: l1, taylor"
    )
    assert str(unknown("criterion", "x", ["taylor", "l1"])) == "criterion='x': there are: l1, taylor"


def test_a_long_list_is_cut() -> None:
    names = [f"name{number:03}" for number in range(MOST + 5)]
    assert str(unknown("name", "name064x", names)).endswith(f"name{MOST - 1:03} and 5 more")
