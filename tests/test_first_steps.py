"""The notebook runs from top to bottom, and the outputs that it shows are those of its code, but for numbers."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

NOTEBOOK = ROOT / "docs" / "first_steps.ipynb"


def cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    return "".join(line for output in cell["outputs"] for line in output.get("text", []))


def form(text: str) -> str:
    """Text without its numbers, which differ between machines, and without the layout, which follows the window."""
    return re.sub(r"[+-]?\d[\d.,e%+-]*", "#", " ".join(re.findall(r"[\w.,%+/-]+", text)))


def test_every_cell_was_run_in_order_and_none_failed() -> None:
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    assert not [cell for cell in cells() for output in cell["outputs"] if output["output_type"] == "error"]
    assert [output for cell in cells() for output in cell["outputs"] if "image/png" in output.get("data", {})]


@pytest.mark.slow
def test_it_runs_from_top_to_bottom_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setenv("COLUMNS", "100")
    names: dict[str, Any] = {}
    for cell in cells():
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec("".join(cell["source"]), names)
        assert form(out.getvalue()) == form(printed(cell))
