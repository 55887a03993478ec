"""Names and defaults of parts have one home, the YAML files."""

import pytest

from prunelab.core.allocation import Explicit
from prunelab.core.files.conf_dir import conf_dir
from prunelab.criteria.wanda import Wanda
from prunelab.oneshot.parts import by_part, names, part


@pytest.mark.parametrize("group", ["criterion", "granularity", "allocation"])
def test_every_name_has_an_object(group: str) -> None:
    for name in names(f"prune/{group}"):
        chosen = part(group, name, {}, rate=0.5)
        target = next(
            line
            for line in (conf_dir() / "prune" / group / f"{name}.yaml").read_text().splitlines()
            if "_target_" in line
        )
        assert f"{type(chosen).__module__}.{type(chosen).__name__}" == target.split()[1]


def test_defaults_are_those_of_the_file_and_options_replace_them() -> None:
    assert part("criterion", "wanda", {}, rate=0.5) == Wanda(batches=10)
    assert part("criterion", "wanda", {"batches": 2}, rate=0.5) == Wanda(batches=2)
    assert part("allocation", "explicit", {"rates": {"a.*": 0.2}}, rate=0.5) == Explicit({"a.*": 0.2}, target=0.5)


def test_an_object_is_itself() -> None:
    own = Wanda()
    assert part("criterion", own, {}, rate=0.5) is own


def test_options_are_written_with_two_underscores() -> None:
    assert by_part({"criterion__batches": 2, "criterion__p": 1, "scaling_factors__lr": 0.1}) == {
        "criterion": {"batches": 2, "p": 1},
        "scaling_factors": {"lr": 0.1},
    }
    for key in ("batches", "__batches", "criterion__"):
        with pytest.raises(ValueError, match=f"{key}=2: no such argument"):
            by_part({key: 2})
