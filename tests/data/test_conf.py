from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from prunelab.data.sources.source import Source

FILES = sorted((Path(__file__).parents[2] / "conf" / "data").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_makes_a_source_whose_cache_the_environment_can_move(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNELAB_CACHE", "/elsewhere")
    source = instantiate(OmegaConf.load(file))
    assert isinstance(source, Source)
    assert source.cache == "/elsewhere"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_files_repeat_the_defaults_of_the_code(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRUNELAB_CACHE", raising=False)
    source = instantiate(OmegaConf.load(file))
    assert source == type(source)(**({"root": None} if hasattr(source, "root") else {}))
