"""Every option of conf/ composes; tests/contract runs the methods and their parts."""

from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir

from prunelab.job.conf import conf_dir

OPTIONS = sorted(
    f"{path.parent.relative_to(conf_dir())}={path.stem}"
    for path in conf_dir().rglob("*.yaml")
    if path.parent != conf_dir() and path.relative_to(conf_dir()).parts[0] != "prune"
)


@pytest.fixture(scope="module", autouse=True)
def configuration() -> Iterator[None]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_composes(option: str) -> None:
    method = ["prune=finetune"] if option.startswith("retrain=") else []
    assert compose("train", [*method, option], return_hydra_config=True)
