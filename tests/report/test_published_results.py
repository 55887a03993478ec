"""The tables beside the pages of studies are those of the results that are published with them."""

import tarfile
from pathlib import Path

import pytest
from pages import ROOT

from prunelab.report.groups import group
from prunelab.report.results import load
from prunelab.report.tables import formats
from prunelab.report.tables.table import rows

STUDIES = ROOT / "docs" / "studies"
PUBLISHED = sorted(path.name.removesuffix(".tar.xz") for path in STUDIES.glob("*.tar.xz"))


@pytest.mark.parametrize("study", PUBLISHED)
def test_the_table_is_of_these_results(study: str, tmp_path: Path) -> None:
    with tarfile.open(STUDIES / f"{study}.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    assert folder.name.removesuffix("-cpu") == study
    assert all((job / "job.json").is_file() for job in folder.iterdir())  # without it other images are not refused
    results, unusable = load(folder)
    tables = [(members, rows(members)) for members in group(results)]
    assert not unusable
    assert formats.comma_separated(tables) == (STUDIES / f"{study}.csv").read_text()
