"""The data options in conf/data."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from prunelab.data.sources.cache import entry
from prunelab.data.sources.source import Source

FILES = sorted((Path(__file__).parents[2] / "conf" / "data").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_option_is_a_source_and_takes_its_cache_from_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNELAB_CACHE", "/elsewhere")
    source = instantiate(OmegaConf.load(file))
    assert isinstance(source, Source)
    assert entry(source.cache, "x") == Path("/elsewhere/x.safetensors")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_options_equal_the_defaults_of_the_code(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRUNELAB_CACHE", raising=False)
    source = instantiate(OmegaConf.load(file))
    assert source == type(source)(**({"root": None} if hasattr(source, "root") else {}))
