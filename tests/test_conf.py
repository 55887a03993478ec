"""Every option of conf/ composes; tests/contract runs the methods and their parts."""

from itertools import zip_longest

import pytest
from hydra import compose, initialize_config_dir

from prunelab.job.conf import conf_dir

GROUPS = {str(path.parent.relative_to(conf_dir())) for path in conf_dir().rglob("*.yaml")} - {"."}
OPTIONS = [
    sorted(f"{'+' if group == 'distill' else ''}{group}={path.stem}" for path in (conf_dir() / group).glob("*.yaml"))
    for group in sorted(GROUPS)
    if group.partition("/")[0] != "prune"
]


@pytest.mark.parametrize("options", list(zip_longest(*OPTIONS)), ids=lambda options: " ".join(filter(None, options)))
def test_options_compose_one_of_each_group(options: tuple[str | None, ...]) -> None:
    """A pairing takes less time than each by itself."""
    chosen = [option for option in options if option]
    method = ["prune=finetune"] if any(option.startswith("retrain=") for option in chosen) else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assert compose("train", [*method, *chosen], return_hydra_config=True)
