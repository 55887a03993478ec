"""What to cite is what is released, and every declared Python is one that is checked."""

import re
import tomllib

from pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_has_the_name_version_and_licence_of_the_project() -> None:
    lines = dict(line.split(": ", 1) for line in (ROOT / "CITATION.cff").read_text().splitlines() if ": " in line)
    assert (lines["title"], lines["version"], lines["license"]) == tuple(
        PROJECT[key] for key in ("name", "version", "license")
    )
    assert lines["abstract"].strip('"') == PROJECT["description"]


def test_the_declared_pythons_are_those_of_the_workflow() -> None:
    declared = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.findall(r'"(3\.\d+)"', workflow.split("matrix:")[1].split("steps:")[0]) == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"
